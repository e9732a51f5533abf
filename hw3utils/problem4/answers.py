"""What the results of Problem 4 say, in sentences whose numbers and verdicts are computed.

Verdicts follow the intervals of `comparisons`: one that holds zero is called "cannot be told". In
brackets stand these intervals, in percentage points. The last line says which runs diverged.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hw3utils.problem4 import comparisons
from hw3utils.problem4.comparisons import (
    LARGE,
    LATER_PAIRS,
    SMALL,
    STUDENT_PAIRS,
    Pair,
    difference,
)
from hw3utils.problem4.label_answers import noise_answer, resampling_answer
from hw3utils.problem4.recipes import Stage
from hw3utils.problem4.tables import ONE_GARMENT, THE_TEACHER, TWO_GARMENTS
from hw3utils.problem4.teaching import (
    ALONE,
    CEILING,
    HARD,
    ONE_CLASS,
    RANDOM_TRUE,
    SELECTED,
    TUNED,
    with_p,
)
from hw3utils.problem4.wording import DIVERGED, diverged, in_points, mean, verdict
from hw3utils.settings import Problem4


def students_answer(found: pd.DataFrame, table: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Return what unlabelled images bring a student, from `comparisons.students`."""
    small, large = (table[table["network"] == network] for network in (SMALL, LARGE))
    later = comparisons.students_later(table)
    points = _points(found, STUDENT_PAIRS) | _points(later, LATER_PAIRS)
    signs = [difference(found, *STUDENT_PAIRS[name]).sign for name in ("top K", "all of U")]
    top, everything = ({1: "a gain", -1: "a loss", 0: "no clear gain"}[sign] for sign in signs)
    lines = [
        f"**Against LeNet-5 on D alone, tuned, the paper's top K (here {settings['k']:,} of each "
        f"class) brings {top}, {'and' if top == everything else 'but'} a teacher's labels on all "
        f"of U bring {everything}**: {points['top K']} and {points['all of U']} points against "
        f"{_arm(small, TUNED)}. (Other K: 4.3d.) The top K that LeNet-5 labelled itself: "
        f"{points['its own top K']}. Against “D alone” with the same settings top K differs by "
        f"{points['same settings']}. The teacher has {_arm(table, THE_TEACHER)}.",
        f"Selection: top K against as many images at random {points['ranking']}, against all of U "
        f"{points['selection']}. Soft labels against hard ones {points['soft labels']}. True "
        f"labels for all of U, which nobody has, against the teacher's {points['true labels']}: "
        f"that student has {_arm(small, CEILING)}.",
        f"The teacher's network as a student of its own labels, against itself on D alone "
        f"({_arm(large, ALONE)}): top K {points['top K, large']}, all of U "
        f"{points['all of U, large']}. {_by_itself(found)}",
        _the_labeller(later, points, settings),
    ]
    named = table.assign(arm=table["network"] + ", " + table["arm"])
    return "\n".join(lines) + diverged(named, "arm")


def _by_itself(found: pd.DataFrame) -> str:
    """Say whether unlabelled images help a network that labels them itself."""
    signs = {
        name: difference(found, *STUDENT_PAIRS[name]).sign
        for name in ("all of U", "top K", "its own top K", "top K, large", "all of U, large")
    }
    taught = [signs.pop(name) == 1 for name in ("all of U", "top K")]
    if 1 in signs.values():
        return "So unlabelled images can help even a network that labels them itself."
    if any(taught):
        return (
            "In these pairs a gain shows only where another network gave the labels: that can be "
            "the teacher's architecture at second hand. (LeNet-5 labelling all of U itself was not "
            "tried.)"
        )
    return "So no network shows a clear gain from unlabelled images."


def _the_labeller(
    later: pd.DataFrame, points: Mapping[str, str], settings: Mapping[str, Any]
) -> str:
    """Say whether the network that labels is as good as the one with which it is compared."""
    signs = [difference(later, *LATER_PAIRS[name]).sign for name in LATER_PAIRS][1:]
    updates = settings["student_updates"] + settings["finetune_updates"]
    told = {
        1: "so that student learned from a network that is worse than the one it should beat",
        -1: "so that student learned from a network that is better than the one it should beat",
        0: "so the two cannot be told apart",
    }[signs[0]]
    more = signs == [1, 1] and updates > settings["teacher_updates"]
    why = ", which its additional updates alone may explain" if more else ""
    return (
        f"The labeller there is the teacher, with {settings['teacher_updates']:,} updates on D; "
        f"the same network on D alone had {updates:,} and differs from it by {points['longer']}, "
        f"{told}. Against the teacher itself all of U differs by {points['all of U, labeller']}"
        f"{why}. (These pairs, and “D alone” with the same settings, were added after the results; "
        "their intervals are as wide as the others.)"
    )


def p_answer(found: pd.DataFrame, table: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Return what P > 1 does for rare classes, from `comparisons.rare` and its table."""
    low, high = settings["judged_ps"]
    lines = []
    for images in (ONE_GARMENT, TWO_GARMENTS):
        rows = table[table["images"] == images]
        few, many = (rows[rows["arm"] == with_p(p)].mean(numeric_only=True) for p in (low, high))
        pairs = comparisons.rare_pairs(images, settings["judged_ps"])
        points = _points(found, pairs)
        filled = difference(found, *pairs["filled"])
        told = verdict(
            filled,
            f"with P = {high} rare classes get more right labels than with P = {low}",
            f"with P = {high} rare classes get fewer right labels than with P = {low}",
            f"it cannot be told whether rare classes get more right labels with P = {high} than "
            f"with P = {low}",
        )
        lines.append(
            f"**{images.capitalize()} on each image: {told}**, {many['rare_right']:,.0f} instead "
            f"of {few['rare_right']:,.0f}; {many['precision']:.0%} instead of "
            f"{few['precision']:.0%} of what they get is right. The student's accuracy on rare "
            f"classes before the fine-tuning: {points['before']} points (against all of U "
            f"{points['selection']}). "
            f"After a fine-tuning on the long-tailed D: {points['after']}; after one that draws "
            f"D's classes equally often: {points['balanced']}."
        )
    named = table.assign(arm=table["images"] + ", " + table["arm"])
    return "\n".join(lines) + diverged(named, "arm")


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
    pairs = comparisons.mechanism_pairs(settings["judged_ks"])
    points = _points(found, pairs)
    rise, fall = (
        verdict(difference(found, *pairs[step]), "rises", "falls", "does not measurably change")
        for step in ("rise", "fall")
    )
    purity = table[table["arm"] == SELECTED].groupby("k")["precision"].mean()
    steps = 100 * comparisons.contributions(table).groupby("k").mean().loc[[middle, high]]
    change = {
        name: " to ".join(f"{value:+.1f}".replace("-", "−") for value in steps[name])
        for name in ("wrong labels", "kind of error")
    }
    lines = [
        f"**From K = {low:,} to K = {middle:,} the student's accuracy {rise}, from there to "
        f"K = {high:,} it {fall}**: {points['rise']} and {points['fall']} points. The share of "
        f"pseudo-labels that are right: {purity[low]:.0%}, {purity[middle]:.0%}, "
        f"{purity[high]:.0%}.",
        _one_class_answer(found, table, settings),
        f"The left side. Quantity: the same step in K with random images and true labels brings "
        f"{points['quantity']}. Ease: at K = {low:,} the best-ranked images differ from random "
        f"ones, both with true labels, by {points['ease']}. And random images with the teacher's "
        f"labels differ from its best-ranked ones by {points['few or easy']}.",
        f"The right side. At K = {high:,} as many wrong labels as D̂ has, but drawn at random, "
        f"change the accuracy by {points['wrong labels']} against true labels; that the errors "
        f"are the teacher's own changes it by another {points['kind of error']}.",
    ]
    if np.isfinite(steps.to_numpy()).all():
        lines[-1] += (
            f" From K = {middle:,} to K = {high:,}, on average, the first goes from "
            f"{change['wrong labels']} points and the second from {change['kind of error']}."
        )
    names = list(map(comparisons.at, table["arm"], table["k"]))
    return "\n".join(lines) + diverged(table.assign(arm=names), "arm")


def _one_class_answer(found: pd.DataFrame, table: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Say whether the fall is there with P = 1 too, where no class takes worse candidates."""
    _, middle, high = settings["judged_ks"]
    pairs = comparisons.mechanism_pairs(settings["judged_ks"])
    step = comparisons.one_class_step(table, settings["judged_ks"])
    precision = table[(table["arm"] == ONE_CLASS) & (table["k"] == high)]["precision"].mean()
    told = verdict(
        step, ": the accuracy rises there",
        ": it is there as well, so forced labels are not all of it", ": no fall shows",
    )  # fmt: skip
    if difference(found, *pairs["fall"]).sign == -1:
        asked = f" If forced labels make the fall, it must vanish there{told}."
    else:
        asked = " (There is no clear fall for it to explain.)"
    return (
        f"With P = 1 a class runs out of candidates instead of taking worse ones, and "
        f"{precision:.0%} of the labels are right at K = {high:,}.{asked} From K = {middle:,} to "
        f"K = {high:,} that student changes by {in_points(step)}; "
        f"at K = {high:,} it differs from the one with P = {settings['p']} by "
        f"{in_points(difference(found, *pairs['one class']))}. (The first of these two pairs was "
        "added after the results.)"
    )


def few_images_answer(
    table: pd.DataFrame, students: pd.DataFrame, settings: Mapping[str, Any]
) -> str:
    """Return at which K a student is told from D alone, and how often it sees its few images."""
    found = comparisons.against_alone(table, students)
    kinds = {-1: "is worse", 1: "is better", 0: "cannot be told from it"}
    parts = [
        f"{kind} at K = {', '.join(f'{k:,}' for k in ks)}"
        for sign, kind in kinds.items()
        if (ks := [k for k, each in found.items() if each.sign == sign])
    ]
    paper = table[table["arm"] == SELECTED].groupby("k")[["accuracy", "rows"]].mean()
    k, (accuracy, rows) = int(paper.index[0]), paper.iloc[0]
    shown = settings["student_updates"] * Stage.batch_size / rows
    true = table[(table["arm"] == RANDOM_TRUE) & (table["k"] == k)]["accuracy"].mean()
    return (
        f"Against LeNet-5 on D alone, tuned ({levels(students)[TUNED]:.1%}), the student "
        f"{'; '.join(parts)} (these {len(found)} intervals hold together). Every student has the "
        f"same number of updates, so at K = {k:,} it sees each of its {rows:,.0f} labels "
        f"{shown:,.0f} times: {accuracy:.1%}. As many random images with true labels give "
        f"{true:.1%}."
    )


def _points(found: pd.DataFrame, pairs: Mapping[str, Pair]) -> dict[str, str]:
    """Return the differences of named pairs as text."""
    return {name: in_points(difference(found, *pair)) for name, pair in pairs.items()}


def _arm(table: pd.DataFrame, arm: str) -> str:
    return mean(table[table["arm"] == arm], "test_accuracy")


def record(settings: Problem4, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return what Problem 4 found, each table as a list of rows, ready for `files.save_json`."""
    return {
        "profile": settings.profile,
        "settings": dataclasses.asdict(settings),
        **{name: table.to_dict("records") for name, table in tables.items()},
    }


def answers(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the answer of each question from what `record` put together."""
    names = ("noise", "noise_controls", "resampling", "teacher_student", "rare", "mechanism")
    noise, controls, resampling, students, rare, mechanism = (
        pd.DataFrame(found[name]) for name in names
    )
    rows = pd.DataFrame(found["differences"])
    by = dict(iter(rows.groupby("question")))
    counts = pd.DataFrame(found["several_labels"]).set_index("labels")["images"]
    return {
        "4.2a": noise_answer(by["4.2a"], noise, controls),
        "4.2b": resampling_answer(by["4.2b"], resampling),
        "4.3a": students_answer(by["4.3a"], students, found["settings"]),
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
        short = lines[:1] + [line for line in lines[1:] if line.startswith(DIVERGED)]
        rows.append((question, marks, words + " ".join(short), question))
    return rows


def levels(table: pd.DataFrame) -> dict[str, float]:
    """Return the mean test accuracies beside which a student of 4.3d is judged, by name."""
    small = table[table["network"] == SMALL].groupby("arm")["test_accuracy"].mean()
    teacher = table.loc[table["arm"] == THE_TEACHER, "test_accuracy"].mean()
    return {"the teacher": teacher, HARD: small[HARD], TUNED: small[TUNED]}
