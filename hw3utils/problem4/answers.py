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
from hw3utils.problem4.recipes import STUDENT, TEACHER, Stage
from hw3utils.problem4.tables import NETWORKS, ONE_GARMENT, THE_TEACHER, TWO_GARMENTS
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
from hw3utils.problem4.wording import DIVERGED, diverged, in_points, mean, verdict
from hw3utils.settings import Problem4
from hw3utils.training.intervals import Interval

SMALL, LARGE = NETWORKS[STUDENT], NETWORKS[TEACHER]


def noise_answer(found: pd.DataFrame, noise: pd.DataFrame, controls: pd.DataFrame) -> str:
    """Return what label noise costs, from `comparisons.noise` and the tables behind it."""
    judges = {
        comparisons.LINEAR: ("linear_accuracy", "A linear classifier on the frozen features"),
        comparisons.OWN: ("own_accuracy", "The network's own last layer"),
    }
    lines = []
    for judge, (column, name) in judges.items():
        costs = {
            rate: difference(found, judge, comparisons.noisy(rate), comparisons.noisy(0))
            for rate in NOISE_RATES[1:]
        }
        told = verdict(costs[0.25], "gains from", "loses by", "shows no effect that can be told of")
        said = ", ".join(f"{rate:.0%} noise {in_points(cost)}" for rate, cost in costs.items())
        level = mean(noise[noise["noise"] == 0.0], column)
        lines.append(f"**{name} {told} 25% noise**: against {level} without noise, {said} points.")
    longer = difference(found, comparisons.LOSS, LONGER, comparisons.USUAL)
    told = verdict(
        longer, "costs the features more", "costs the features less",
        "cannot be told to cost the features more or less",
    )  # fmt: skip
    lines.append(
        f"Trained for longer, 25% noise {told}: the cost changes by {in_points(longer)} points."
    )
    many, one = comparisons.noisy(0.5), comparisons.noisy(0.5, ONE_WRONG)
    own, features = (
        difference(found, judge, one, many) for judge in (comparisons.OWN, comparisons.LINEAR)
    )
    levels = [
        mean(table[table["noise"] == 0.5], "own_accuracy")
        for table in (controls[controls["control"] == ONE_WRONG], noise)
    ]
    lines.append(
        f"The kind of noise: where all wrong labels of a class name the same other class, 50% "
        f"noise leaves the own last layer {levels[0]} instead of {levels[1]}, {in_points(own)} "
        f"points; for the features the difference is {in_points(features)}."
    )
    trained = noise[noise["noise"] != RANDOM].astype({"noise": float})
    return "\n".join(lines) + diverged(trained, "noise", "{:.0%} noise")


def resampling_answer(found: pd.DataFrame, table: pd.DataFrame) -> str:
    """Return what resampling wins over natural sampling, from `comparisons.resampling`."""
    before, after = comparisons.BEFORE, comparisons.AFTER
    exponent = f"{table['exponent'].iloc[0]:g}"
    measures = {
        f"All classes (exponent {exponent})": comparisons.transfer(after, "all"),
        "Before the transfer, classes of the tail": comparisons.transfer(before, "tail"),
        "Before the transfer, classes of the head": comparisons.transfer(before, "head"),
        f"After the transfer, with Zipf's exponent, {ZIPF:g}": comparisons.transfer(
            after, "all", ZIPF
        ),
    }
    rules = list(RESAMPLING_RULES)[1:]
    lines = []
    for said, measure in measures.items():
        by = [difference(found, measure, rule, "natural") for rule in rules]
        parts = [f"{rule} {in_points(gain)}" for rule, gain in zip(rules, by, strict=True)]
        lines.append(f"{said}: {', '.join(parts)} points against natural sampling.")
    gains = [difference(found, comparisons.transfer(after, "all"), rule, "natural").sign
             for rule in rules]  # fmt: skip
    won = [rule for rule, sign in zip(rules, gains, strict=True) if sign == 1]
    told = f"{' and '.join(won)} sampling" if won else "neither rule"
    lines[0] = f"**After the transfer a gain can be told for {told}.** {lines[0]}"
    return "\n".join(lines) + diverged(table, "rule")


def students_answer(found: pd.DataFrame, table: pd.DataFrame) -> str:
    """Return what unlabelled images bring a student, from `comparisons.students`."""
    small, large = (table[table["network"] == network] for network in (SMALL, LARGE))
    taught, itself, everything = (
        difference(found, SMALL, arm, TUNED) for arm in (SELECTED, TAUGHT_ITSELF, HARD)
    )
    told = verdict(everything, "better", "worse", "not demonstrably better or worse")
    lines = [
        f"**With a teacher's labels on all of U the student is {told} than LeNet-5 on D alone, "
        f"tuned** ({_arm(small, TUNED)}): {in_points(everything)} points. With the teacher's top K "
        f"alone: {in_points(taught)}; with the top K that LeNet-5 labelled itself: "
        f"{in_points(itself)}. The teacher has {_arm(table, THE_TEACHER)}."
    ]
    ranked, selected, soft, ceiling = (
        difference(found, SMALL, *pair)
        for pair in ((SELECTED, RANDOM_IMAGES), (SELECTED, HARD), (SOFT, HARD), (CEILING, HARD))
    )
    lines.append(
        f"Selection: top K against as many images at random {in_points(ranked)}, against all of U "
        f"{in_points(selected)}. Soft labels against hard ones {in_points(soft)}. True labels for "
        f"all of U, which nobody has, against the teacher's {in_points(ceiling)}: that student "
        f"has {_arm(small, CEILING)}."
    )
    own, all_own = (difference(found, LARGE, arm, ALONE) for arm in (SELECTED, HARD))
    lines.append(
        f"The teacher's network as a student of its own labels, against itself on D alone "
        f"({_arm(large, ALONE)}): top K {in_points(own)}, all of U {in_points(all_own)}."
    )
    named = table.assign(arm=table["network"] + ", " + table["arm"])
    return "\n".join(lines) + diverged(named, "arm")


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
        told = verdict(filled, "more", "fewer", "not demonstrably more")
        lines.append(
            f"**{images.capitalize()} on each image: with P = {high} rare classes get {told} right "
            f"labels than with P = {low}**, {many['rare_right']:,.0f} instead of "
            f"{few['rare_right']:,.0f}; {many['precision']:.0%} instead of {few['precision']:.0%} "
            f"of what they get is right. The student's accuracy on rare classes before the "
            f"fine-tuning: {in_points(before)} points (against all of U {in_points(choice)}). "
            f"After a fine-tuning on the long-tailed D: {in_points(after)}; after one that draws "
            f"D's classes equally often: {in_points(even)}."
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

    def by(first: str, k: int, second: str, other: int) -> Interval:
        pair = (comparisons.at(first, k), comparisons.at(second, other))
        return difference(found, SMALL, *pair)

    rise, fall = by(SELECTED, middle, SELECTED, low), by(SELECTED, high, SELECTED, middle)
    purity = table[table["arm"] == SELECTED].groupby("k")["precision"].mean()
    one_class = by(ONE_CLASS, high, SELECTED, high)
    said = {1: "rises", -1: "falls", 0: "cannot be told to change"}
    quantity, ease = (
        by(RANDOM_TRUE, middle, RANDOM_TRUE, low), by(TOP_TRUE, low, RANDOM_TRUE, low)
    )  # fmt: skip
    taught = by(RANDOM_IMAGES, low, SELECTED, low)
    wrong = by(TOP_CORRUPTED, high, TOP_TRUE, high)
    kind = by(SELECTED, high, TOP_CORRUPTED, high)
    lines = [
        f"**From K = {low:,} to K = {middle:,} the student's accuracy {said[rise.sign]}, from "
        f"there to K = {high:,} it {said[fall.sign]}**: {in_points(rise)} and {in_points(fall)} "
        f"points. The share of pseudo-labels that are right: {purity[low]:.0%}, "
        f"{purity[middle]:.0%}, {purity[high]:.0%}.",
        f"With P = 1 a class runs out of candidates instead of taking worse ones: at "
        f"K = {high:,} that student differs from the one with P = {settings['p']} by "
        f"{in_points(one_class)}.",
        f"The left side. Quantity: the same step in K with random images and true labels brings "
        f"{in_points(quantity)}. Ease: at K = {low:,} the best-ranked images differ from random "
        f"ones, both with true labels, by {in_points(ease)}. And random images with the teacher's "
        f"labels differ from its best-ranked ones by {in_points(taught)}.",
        f"The right side. At K = {high:,} as many wrong labels as D̂ has, but drawn at random, "
        f"change the accuracy by {in_points(wrong)} against true labels; that the errors are the "
        f"teacher's own changes it by another {in_points(kind)}.",
    ]
    names = [comparisons.at(*row) for row in table[["arm", "k"]].itertuples(index=False)]
    return "\n".join(lines) + diverged(table.assign(arm=names), "arm")


def few_images_answer(
    table: pd.DataFrame, students: pd.DataFrame, settings: Mapping[str, Any]
) -> str:
    """Return at which K a student lies below D alone, and how often it sees its few images."""
    alone = levels(students)[TUNED]
    paper = table[table["arm"] == SELECTED].groupby("k")[["accuracy", "rows"]].mean()
    below = paper[paper["accuracy"] < alone]
    if below.empty:
        return f"No K gives a student below LeNet-5 on D alone, tuned ({alone:.1%})."
    k, rows = int(below.index[0]), below["rows"].iloc[0]
    shown = settings["student_updates"] * Stage.batch_size / rows
    true = table[(table["arm"] == RANDOM_TRUE) & (table["k"] == k)]["accuracy"].mean()
    names = ", ".join(f"{k:,}" for k in below.index)
    return (
        f"In the mean the student lies below LeNet-5 on D alone, tuned ({alone:.1%}), at K = "
        f"{names}. Every student has the same number of updates, so at K = {k:,} it sees each of "
        f"its {rows:,.0f} labels {shown:,.0f} times: {below['accuracy'].iloc[0]:.1%}. As many "
        f"random images with true labels give {true:.1%}."
    )


def _arm(table: pd.DataFrame, arm: str) -> str:
    return mean(table[table["arm"] == arm], "test_accuracy")


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
        short = lines[:1] + [line for line in lines[1:] if line.startswith(DIVERGED)]
        rows.append((question, marks, words + " ".join(short), question))
    return rows


def levels(table: pd.DataFrame) -> dict[str, float]:
    """Return the mean test accuracies beside which a student of 4.3d is judged, by name."""
    small = table[table["network"] == SMALL].groupby("arm")["test_accuracy"].mean()
    teacher = table.loc[table["arm"] == THE_TEACHER, "test_accuracy"].mean()
    return {"the teacher": teacher, HARD: small[HARD], TUNED: small[TUNED]}
