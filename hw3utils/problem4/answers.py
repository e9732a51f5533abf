"""What the tables of Problem 4 say, in sentences whose numbers and verdicts are computed.

Differences between arms are paired by seed and given as mean ± standard deviation over seeds, in
percentage points. Where runs diverged, an answer's last line says which.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from hw3utils.problem4.experiments import ALONE, BANDS, NOISE_RATES, RANDOM
from hw3utils.problem4.labels import RESAMPLING_RULES
from hw3utils.problem4.tables import count_diverged
from hw3utils.settings import Problem4
from hw3utils.text import differences, points

_DIVERGED = "Diverged, and left out of the means:"


def change(table: pd.DataFrame, column: str, by: str, one: object, other: object) -> str:
    """Return in words how much larger ``column`` is where ``by`` is ``one`` than for ``other``."""
    return points(*differences(table, column, by, one, other))


def noise_answer(table: pd.DataFrame) -> str:
    """Return what label noise costs, with both judges, from `tables.noise_table`."""
    trained = table[table["noise"] != RANDOM].astype({"noise": float})
    lines = []
    for column, judge in (
        ("linear_accuracy", "a linear classifier on the frozen features"),
        ("own_accuracy", "the network's own last layer"),
    ):
        parts = [
            f"{rate:.0%} noise {change(trained, column, 'noise', rate, 0.0)}"
            for rate in NOISE_RATES[1:]
        ]
        lines.append(f"Judged by {judge}: {', '.join(parts)} points.")
    return "\n".join(lines) + _diverged(trained, "noise", "{:.0%} noise")


def resampling_answer(table: pd.DataFrame) -> str:
    """Return what resampling wins over natural sampling, from `tables.resampling_table`."""
    lines = []
    for column, when in (("own_accuracy", "Before"), ("linear_accuracy", "After")):
        for rule in list(RESAMPLING_RULES)[1:]:
            parts = [
                f"{band} {change(table[table['band'] == band], column, 'rule', rule, 'natural')}"
                for band in (*BANDS, "all")
            ]
            lines.append(f"{when} the transfer, {rule} minus natural: {', '.join(parts)} points.")
    return "\n".join(lines) + _diverged(table, "rule")


def students_answer(table: pd.DataFrame) -> str:
    """Return how each arm does against D alone, from `tables.students_table`."""
    means = table.groupby("arm", sort=False)["test_accuracy"].mean()
    level = "unknown" if pd.isna(means[ALONE]) else f"{means[ALONE]:.1%}"
    others = [arm for arm in means.index if arm not in ("teacher", ALONE)]
    parts = [f"{arm} {change(table, 'test_accuracy', 'arm', arm, ALONE)}" for arm in others]
    beaten = [arm for arm in others if means[arm] > means["teacher"]]
    above = f"above it: {', '.join(beaten)}" if beaten else "no student is above it"
    return (
        f"Against {ALONE} ({level}): {'; '.join(parts)} points.\n"
        f"The teacher has {means['teacher']:.1%}; {above}."
    ) + _diverged(table, "arm")


def p_answer(table: pd.DataFrame) -> str:
    """Return what the largest P changes against P = 1, from `tables.p_table`."""
    means = table.groupby("p").mean(numeric_only=True)
    first, last = means.iloc[0], means.iloc[-1]
    low, high = means.index[0], means.index[-1]
    rare, others = (
        change(table, f"{classes}_accuracy", "p", high, low) for classes in ("rare", "other")
    )
    return (
        f"From P = {low} to P = {high} the rare classes get {last['rare_rows']:.0f} labels instead "
        f"of {first['rare_rows']:.0f}; {last['rare_right']:.0f} instead of "
        f"{first['rare_right']:.0f} of them are right. Recall goes from {first['rare_recall']:.1%} "
        f"to {last['rare_recall']:.1%}, precision from {first['rare_precision']:.1%} to "
        f"{last['rare_precision']:.1%}.\n"
        f"The student's accuracy changes by {rare} points on rare classes and by {others} on the "
        "others."
    ) + _diverged(table, "p", "P = {}")


def several_labels_answer(counts: pd.Series) -> str:
    """Return how many images of D̂ carry several labels, from `tables.label_counts`."""
    selected = int(counts[counts.index > 0].sum())
    several = int(counts[counts.index > 1].sum())
    return (
        f"{several:,} of the {selected:,} images of D̂ ({several / selected:.1%}) stand in it under "
        f"more than one label; {int(counts.get(0, 0)):,} images of the pool are not in it at all."
    )


def k_answer(table: pd.DataFrame) -> str:
    """Return the rise and the fall with K, from `tables.k_table`.

    The best K is chosen on validation images; rise and fall are then read on the test set.
    """
    diverged = _diverged(table, "k", "K = {:,}")
    if table["validation_accuracy"].isna().all():
        return f"There is no student to judge.{diverged}"
    means = table.groupby("k")[["validation_accuracy", "precision"]].mean()
    best, low, high = means["validation_accuracy"].idxmax(), means.index[0], means.index[-1]
    rise = differences(table, "test_accuracy", "k", best, low)
    fall = differences(table, "test_accuracy", "k", high, best)
    if pd.isna(rise[0]) or pd.isna(fall[0]):
        verdict = "Whether there is a rise and a fall cannot be told: too many diverged."
    elif rise[0] > 0 > fall[0]:
        verdict = "Both the rise and the fall of Figure 5 are there."
    elif rise[0] > 0:
        verdict = "The rise is there, the fall is not."
    else:
        verdict = "There is no rise: the smallest K is the best."
    purity = means["precision"]
    return (
        f"{verdict} K = {best:,} is best on validation images. On the test set accuracy rises by "
        f"{points(*rise)} points from K = {low:,} to there, and changes by {points(*fall)} from "
        f"there to K = {high:,}.\n"
        f"Meanwhile the pseudo-labels' precision goes from {purity[low]:.1%} over "
        f"{purity[best]:.1%} to {purity[high]:.1%}."
    ) + diverged


def _diverged(table: pd.DataFrame, by: str, name: str = "{}") -> str:
    """Return a line on the arms that diverged, with how many of their seeds; none, no line."""
    counts = count_diverged(table, [by])
    parts = [
        f"{name.format(arm)} with {row['diverged']} of {row['seeds']} seeds"
        for arm, row in counts[counts["diverged"] > 0].iterrows()
    ]
    return f"\n{_DIVERGED} {'; '.join(parts)}." if parts else ""


def record(settings: Problem4, tables: Mapping[str, pd.DataFrame], **more: Any) -> dict[str, Any]:
    """Return everything that Problem 4 found, ready for `files.save_json`.

    Each table becomes a list of rows; ``seconds`` in ``more`` is the training time of all runs on
    one core each, added up.
    """
    rows = {name: table.to_dict("records") for name, table in tables.items()}
    return {"profile": settings.profile, "settings": dataclasses.asdict(settings), **rows, **more}


def report_rows(found: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    """Return question, points, answer and the start of its heading: the report's first page."""
    names = ("noise", "resampling", "teacher_student", "k", "p", "several_labels")
    noise, resampling, students, k, p, counts = (pd.DataFrame(found[name]) for name in names)
    answers = [
        ("4.1", 2, "One learns from the labels that images happen to carry, the other from "
         "a model's labels; a collection with its hashtags serves the first, without them the "
         "second."),
        ("4.2a", 2, "Largely robust. Here: " + _line(noise_answer(noise), 0)),
        ("4.2b", 2, "It shifts the training distribution towards the target's. Here: "
         + _line(resampling_answer(resampling), 2)),
        ("4.3a", 4, "The teacher labels what nobody has labelled, and the student learns from the "
         "best of it: distillation. Here: " + students_answer(students)),
        ("4.3b", 4, "K images for each class, from the P best classes of each image. Here: "
         + _line(p_answer(p), 0)),
        ("4.3c", 4, "The K best-scored images of each class, so an image may stand under several. "
         "Here: " + several_labels_answer(counts.set_index("labels")["images"])),
        ("4.3d", 2, "More images help until wrong labels outweigh them. Here: " + k_answer(k)),
    ]  # fmt: skip
    return [
        (question, marks, answer.replace("\n", " "), question)
        for question, marks, answer in answers
    ]


def _line(answer: str, number: int) -> str:
    """Return one line of an answer, and the last one where that is on diverged runs."""
    lines = answer.splitlines()
    return "\n".join([lines[number], *(line for line in lines if line.startswith(_DIVERGED))])
