"""What the results of Problem 4 say, in sentences whose numbers and verdicts are computed.

Verdicts follow the intervals of `comparisons`: one that holds zero is called "cannot be told". In
brackets stand these intervals, in percentage points. The last line says which runs diverged.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from hw3utils.problem4 import comparisons, methods
from hw3utils.problem4.comparisons import difference
from hw3utils.problem4.experiments import LONGER, NOISE_RATES, ONE_WRONG, RANDOM, ZIPF
from hw3utils.problem4.labels import RESAMPLING_RULES
from hw3utils.problem4.recipes import STUDENT, TEACHER
from hw3utils.problem4.tables import (
    NETWORKS,
    ONE_GARMENT,
    THE_TEACHER,
    TWO_GARMENTS,
    count_diverged,
)
from hw3utils.problem4.teaching import (
    ALONE,
    CEILING,
    HARD,
    ONE_CLASS,
    RANDOM_IMAGES,
    RANDOM_TRUE,
    SELECTED,
    SOFT,
    TAUGHT_ITSELF,
    TOP_CORRUPTED,
    TOP_TRUE,
    TUNED,
    balanced,
    with_p,
)
from hw3utils.settings import Problem4
from hw3utils.training.intervals import Interval

SMALL, LARGE = NETWORKS[STUDENT], NETWORKS[TEACHER]
MOST_POINTS = 100
_DIVERGED = "Diverged, and left out of the means:"


def in_points(found: Interval) -> str:
    """Return a difference in percentage points, with its interval where that says anything.

    With two seeds it can be wider than all that is possible, and is left out.
    """
    if pd.isna(found.mean):
        return "unknown"
    text = f"{found.mean:+.1f}"
    if found.high - found.low < MOST_POINTS:
        text += f" ({found.low:+.1f} to {found.high:+.1f})"
    return text.replace("-", "−")


def verdict(found: Interval, more: str, less: str, unknown: str) -> str:
    """Return ``more``, ``less`` or, where the interval holds zero or is not known, ``unknown``."""
    return {1: more, -1: less, 0: unknown}[found.sign]


def noise_answer(found: pd.DataFrame, noise: pd.DataFrame, controls: pd.DataFrame) -> str:
    """Return what label noise costs, from `comparisons.noise` and the tables behind it."""
    lines = []
    for judge in (comparisons.LINEAR, comparisons.OWN):
        costs = {
            rate: difference(found, judge, comparisons.noisy(rate), comparisons.noisy(0))
            for rate in NOISE_RATES[1:]
        }
        told = verdict(
            costs[0.25], "does not lower the accuracy, it raises it", "costs accuracy",
            "costs nothing that can be told from chance",
        )  # fmt: skip
        said = ", ".join(f"{rate:.0%} noise {in_points(cost)}" for rate, cost in costs.items())
        lines.append(f"Judged by the {judge}, 25% noise {told}: {said} points.")
    longer = difference(found, comparisons.LOSS, LONGER, comparisons.USUAL)
    told = verdict(longer, "more", "less", "not demonstrably more or less")
    lines.append(
        f"Trained for longer, 25% noise costs the features {told}: by {in_points(longer)} points."
    )
    many, one = comparisons.noisy(0.5), comparisons.noisy(0.5, ONE_WRONG)
    own, features = (
        difference(found, judge, one, many) for judge in (comparisons.OWN, comparisons.LINEAR)
    )
    told = verdict(
        own, "hurts the own last layer less", "hurts the own last layer more",
        "cannot be told from that",
    )  # fmt: skip
    levels = [
        _mean(table[table["noise"] == 0.5], "own_accuracy")
        for table in (controls[controls["control"] == ONE_WRONG], noise)
    ]
    lines.append(
        f"Where all wrong labels of a class name the same other class, 50% noise {told}: accuracy "
        f"{levels[0]} against {levels[1]}, a difference of {in_points(own)} points; for the "
        f"features it is {in_points(features)}."
    )
    trained = noise[noise["noise"] != RANDOM].astype({"noise": float})
    return "\n".join(lines) + _diverged(trained, "noise", "{:.0%} noise")


def resampling_answer(found: pd.DataFrame, table: pd.DataFrame) -> str:
    """Return what resampling wins over natural sampling, from `comparisons.resampling`."""
    before, after = comparisons.BEFORE, comparisons.AFTER
    exponent = f"{table['exponent'].iloc[0]:g}"
    measures = {
        "Before the transfer, on the tail": comparisons.transfer(before, "tail"),
        "Before the transfer, on the head": comparisons.transfer(before, "head"),
        f"After the transfer, on all classes (exponent {exponent})": comparisons.transfer(
            after, "all"
        ),
        f"After it, with Zipf's exponent {ZIPF:g}": comparisons.transfer(after, "all", ZIPF),
    }
    lines = []
    for said, measure in measures.items():
        parts = []
        for rule in list(RESAMPLING_RULES)[1:]:
            by = difference(found, measure, rule, "natural")
            told = verdict(by, "gains", "loses", "cannot be told from natural sampling,")
            parts.append(f"{rule} sampling {told} {in_points(by)}")
        lines.append(f"{said}, {'; '.join(parts)} points.")
    return "\n".join(lines) + _diverged(table, "rule")


def students_answer(found: pd.DataFrame, table: pd.DataFrame) -> str:
    """Return what unlabelled images bring a student, from `comparisons.students`."""
    small = table[table["network"] == SMALL]
    taught, itself, everything = (
        difference(found, SMALL, arm, TUNED) for arm in (SELECTED, TAUGHT_ITSELF, HARD)
    )
    better, worse, unknown = "makes a better student", "makes a worse one", "cannot be told"
    lines = [
        f"Against {TUNED} ({_arm(small, TUNED)}), the teacher's {SELECTED} "
        f"{verdict(taught, better, worse, unknown)}: {in_points(taught)} points; all of U with "
        f"the teacher's labels {verdict(everything, better, worse, unknown)}: "
        f"{in_points(everything)}; with its own labels instead of a teacher's LeNet-5 "
        f"{verdict(itself, 'gains as well', 'loses', 'gains nothing that can be told')}: "
        f"{in_points(itself)}. The teacher has {_arm(table, THE_TEACHER)}."
    ]
    ranked, selected, soft, ceiling = (
        difference(found, SMALL, *pair)
        for pair in ((SELECTED, RANDOM_IMAGES), (SELECTED, HARD), (SOFT, HARD), (CEILING, HARD))
    )
    lines.append(
        f"The {SELECTED} {_than(ranked)} as many images at random ({in_points(ranked)}), and "
        f"{_than(selected)} all of U ({in_points(selected)}). Soft labels {_are(soft)} than hard "
        f"ones ({in_points(soft)}). True labels for all of U, which nobody has, "
        f"{_are(ceiling)} than the teacher's ({in_points(ceiling)}): {_arm(small, CEILING)}."
    )
    own, all_own = (difference(found, LARGE, arm, ALONE) for arm in (SELECTED, HARD))
    large = table[table["network"] == LARGE]
    lines.append(
        f"The teacher's network as its own student, against itself on D alone "
        f"({_arm(large, ALONE)}): {SELECTED} {in_points(own)}, all of U {in_points(all_own)}; "
        + verdict(own, "it gains as well.", "it loses.", "whether it gains cannot be told.")
    )
    named = table.assign(arm=table["network"] + ", " + table["arm"])
    return "\n".join(lines) + _diverged(named, "arm")


def p_answer(found: pd.DataFrame, table: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Return what P > 1 does for rare classes, from `comparisons.rare` and its table."""
    low, high = settings["judged_ps"]
    lines = []
    for images in (ONE_GARMENT, TWO_GARMENTS):
        rows = table[table["images"] == images]
        few, many = (rows[rows["arm"] == with_p(p)].mean(numeric_only=True) for p in (low, high))

        def by(measure: str, first: str, second: str, images: str = images) -> Interval:
            return difference(found, comparisons.of_images(images, measure), first, second)

        filled = by(comparisons.FILLED, with_p(high), with_p(low))
        before, after = (
            by(measure, with_p(high), with_p(low))
            for measure in (comparisons.BEFORE_D, comparisons.AFTER_D)
        )
        even = by(comparisons.AFTER_D, balanced(high), balanced(low))
        choice = by(comparisons.BEFORE_D, with_p(high), HARD)
        told = verdict(filled, "finds more", "finds fewer", "cannot be told to find more or fewer")
        lines.append(
            f"With {images} on each image, P = {high} {told} right labels of rare classes than "
            f"P = {low}: {many['rare_right']:,.0f} against {few['rare_right']:,.0f}, which are "
            f"{many['precision']:.0%} against {few['precision']:.0%} of those given. "
            f"Before the fine-tuning the student's accuracy on rare classes "
            f"{_changes(before)} ({in_points(before)} points; against all of U "
            f"{in_points(choice)}); after a fine-tuning on the long-tailed D it "
            f"{_changes(after)} ({in_points(after)}), after one that draws D's classes equally "
            f"often it {_changes(even)} ({in_points(even)})."
        )
    named = table.assign(arm=table["images"] + ", " + table["arm"])
    return "\n".join(lines) + _diverged(named, "arm")


def several_labels_answer(counts: pd.Series) -> str:
    """Return how many images of D̂ carry several labels, from `tables.label_counts`."""
    selected = int(counts[counts.index > 0].sum())
    several = int(counts[counts.index > 1].sum())
    return (
        f"{several:,} of the {selected:,} images of D̂ ({several / selected:.1%}) stand in it under "
        f"more than one label; {int(counts.get(0, 0)):,} images of the pool are not in it at all."
    )


def k_answer(found: pd.DataFrame, table: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Return the rise and the fall with K and what makes them, from `comparisons.mechanism`."""
    low, middle, high = settings["judged_ks"]

    def by(first: str, k: int, second: str, other: int) -> Interval:
        pair = (comparisons.at(first, k), comparisons.at(second, other))
        return difference(found, "LeNet-5", *pair)

    rise, fall = by(SELECTED, middle, SELECTED, low), by(SELECTED, high, SELECTED, middle)
    purity = table[table["arm"] == SELECTED].groupby("k")["precision"].mean()
    one_class = by(ONE_CLASS, high, SELECTED, high)
    lines = [
        f"From K = {low:,} to K = {middle:,} the student's accuracy "
        f"{verdict(rise, 'rises', 'falls', 'cannot be told to change')} ({in_points(rise)} "
        f"points), from there to K = {high:,} it "
        f"{verdict(fall, 'rises', 'falls', 'cannot be told to change')} ({in_points(fall)}), "
        f"while the pseudo-labels' precision goes from {purity[low]:.0%} over "
        f"{purity[middle]:.0%} to {purity[high]:.0%}.",
        f"With P = 1 a class runs out of candidates instead: at K = {high:,} the student "
        f"{_than(one_class)} one with P = {settings['p']} ({in_points(one_class)}).",
    ]
    quantity, ease = (
        by(RANDOM_TRUE, middle, RANDOM_TRUE, low), by(TOP_TRUE, low, RANDOM_TRUE, low)
    )  # fmt: skip
    taught = by(RANDOM_IMAGES, low, SELECTED, low)
    lines.append(
        f"The left side. Quantity: with true labels on random images the same step in K "
        f"{verdict(quantity, 'gains', 'loses', 'changes nothing that can be told,')} "
        f"{in_points(quantity)}. Ease: at K = {low:,} the best-ranked images, with true labels "
        f"too, {_are(ease)} than random ones ({in_points(ease)}). Random images with the "
        f"teacher's labels {_are(taught)} than its best-ranked ones ({in_points(taught)})."
    )
    wrong = by(TOP_CORRUPTED, high, TOP_TRUE, high)
    kind = by(SELECTED, high, TOP_CORRUPTED, high)
    lines.append(
        f"The right side. Wrong labels, as many as there are at K = {high:,} but at random, "
        f"{verdict(wrong, 'gain', 'cost', 'change nothing that can be told,')} "
        f"{in_points(wrong)} against true ones. The teacher's own errors {_are(kind)} than as "
        f"many random ones ({in_points(kind)})."
    )
    return "\n".join(lines) + _diverged(table, "arm")


def _than(found: Interval) -> str:
    return verdict(found, "does better than", "does worse than", "cannot be told apart from")


def _are(found: Interval) -> str:
    return verdict(found, "are better", "are worse", "are not demonstrably better or worse")


def _changes(found: Interval) -> str:
    return verdict(found, "is higher", "is lower", "cannot be told to differ")


def _arm(table: pd.DataFrame, arm: str) -> str:
    return _mean(table[table["arm"] == arm], "test_accuracy")


def _mean(rows: pd.DataFrame, column: str) -> str:
    """Return the mean of an accuracy as text; unknown where all runs diverged."""
    mean = rows[column].mean()
    return "unknown" if pd.isna(mean) else f"{mean:.1%}"


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
    return {
        "profile": settings.profile, "settings": dataclasses.asdict(settings), **rows,
        "methods": methods.lines(settings), **more,
    }  # fmt: skip


def answers(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the answer of each question from what `record` put together."""
    names = ("noise", "noise_controls", "resampling", "teacher_student", "rare", "mechanism")
    noise, controls, resampling, students, rare, mechanism = (
        pd.DataFrame(found[name]) for name in names
    )
    rows = pd.DataFrame(found["differences"])
    by = {question: part for question, part in rows.groupby("question")}
    counts = pd.DataFrame(found["several_labels"]).set_index("labels")["images"]
    return {
        "4.2a": noise_answer(by["4.2a"], noise, controls),
        "4.2b": resampling_answer(by["4.2b"], resampling),
        "4.3a": students_answer(by["4.3a"], students),
        "4.3b": p_answer(by["4.3b"], rare, found["settings"]),
        "4.3c": several_labels_answer(counts),
        "4.3d": k_answer(by["4.3d"], mechanism, found["settings"]),
    }


_IN_WORDS = {
    "4.1": (2, "One learns from the labels that images happen to carry, the other from a model's "
            "labels; a collection with its hashtags serves the first, without them the second."),
    "4.2a": (2, "Largely robust. Here: "),
    "4.2b": (2, "It shifts the training distribution towards the target's. Here: "),
    "4.3a": (4, "The teacher labels what nobody has labelled, and the student learns from the "
             "best of it: distillation. Here: "),
    "4.3b": (4, "K images for each class, from the P best classes of each image. Here: "),
    "4.3c": (4, "The K best-scored images of each class, so an image may stand under several. "
             "Here: "),
    "4.3d": (2, "More and harder images help until wrong labels outweigh them. Here: "),
}  # fmt: skip


def report_rows(found: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    """Return question, points, answer and the start of its heading: the report's first page."""
    here = answers(found)
    rows = []
    for question, (marks, words) in _IN_WORDS.items():
        lines = here.get(question, "").splitlines()
        short = lines[:1] + [line for line in lines[1:] if line.startswith(_DIVERGED)]
        rows.append((question, marks, words + " ".join(short), question))
    return rows
