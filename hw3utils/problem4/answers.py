"""What the results of Problem 4 say, in sentences whose numbers and verdicts are computed.

Verdicts follow the intervals of `comparisons`: one that holds zero is called "cannot be told". In
brackets stand these intervals, in percentage points. The last line says which runs diverged.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hw3utils.problem4 import comparisons, methods
from hw3utils.problem4.comparisons import LARGE, SMALL, STUDENT_PAIRS, Pair, difference
from hw3utils.problem4.experiments import LONGER, NOISE_RATES, ONE_WRONG, RANDOM, ZIPF
from hw3utils.problem4.labels import RESAMPLING_RULES
from hw3utils.problem4.recipes import Stage
from hw3utils.problem4.tables import ONE_GARMENT, THE_TEACHER, TWO_GARMENTS
from hw3utils.problem4.teaching import ALONE, CEILING, HARD, RANDOM_TRUE, SELECTED, TUNED, with_p
from hw3utils.problem4.wording import DIVERGED, diverged, in_points, mean, verdict
from hw3utils.settings import Problem4


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
        told = verdict(
            costs[0.25], "gains accuracy at 25% noise", "loses accuracy at 25% noise",
            "shows no clear effect of 25% noise",
        )  # fmt: skip
        lost = [f"{rate:.0%}" for rate, cost in costs.items() if cost.sign == -1]
        if lost[:2] == ["10%", "25%"]:
            told += ", and already at 10%"
        elif lost and costs[0.25].sign == 0:
            told += f", though it loses at {' and '.join(lost)}"
        said = ", ".join(f"{rate:.0%} noise {in_points(cost)}" for rate, cost in costs.items())
        level = mean(noise[noise["noise"] == 0.0], column)
        lines.append(f"**{name} {told}**: against {level} without noise, {said} points.")
    longer = difference(found, comparisons.LOSS, LONGER, comparisons.USUAL)
    told = verdict(
        longer, "25% noise costs the features more", "25% noise costs the features less",
        "it cannot be told whether 25% noise costs the features more or less",
    )  # fmt: skip
    lines.append(f"Trained for longer, {told}: the cost changes by {in_points(longer)} points.")
    kinds = comparisons.noisy(0.5, ONE_WRONG), comparisons.noisy(0.5)
    own, features = (
        difference(found, judge, *kinds) for judge in (comparisons.OWN, comparisons.LINEAR)
    )
    many = noise[noise["noise"] == 0.5]
    one = controls[(controls["control"] == ONE_WRONG) & (controls["noise"] == 0.5)]
    lines.append(
        f"The kind of noise: where all wrong labels of a class name the same other class, 50% "
        f"noise leaves the own last layer {mean(one, 'own_accuracy')} instead of "
        f"{mean(many, 'own_accuracy')}, {in_points(own)} points; for the features the difference "
        f"is {in_points(features)}."
    )
    trained = noise[noise["noise"] != RANDOM].astype({"noise": float})
    return "\n".join(lines) + diverged(trained, "noise", "{:.0%} noise")


def resampling_answer(found: pd.DataFrame, table: pd.DataFrame) -> str:
    """Return what resampling wins over natural sampling, from `comparisons.resampling`."""
    before, after = comparisons.BEFORE, comparisons.AFTER
    measures = {
        f"All classes (exponent {table['exponent'].iloc[0]:g})": comparisons.transfer(after, "all"),
        "Before the transfer, classes of the tail": comparisons.transfer(before, "tail"),
        "Before the transfer, classes of the head": comparisons.transfer(before, "head"),
        f"After the transfer, with Zipf's exponent, {ZIPF:g}": comparisons.transfer(
            after, "all", ZIPF
        ),
    }
    rules = list(RESAMPLING_RULES)[1:]
    lines = []
    for said, measure in measures.items():
        gains = [in_points(difference(found, measure, rule, "natural")) for rule in rules]
        parts = [f"{rule} {gain}" for rule, gain in zip(rules, gains, strict=True)]
        lines.append(f"{said}: {', '.join(parts)} points against natural sampling.")
    judged = comparisons.transfer(after, "all")
    won = [rule for rule in rules if difference(found, judged, rule, "natural").sign == 1]
    told = f"{' and '.join(won)} sampling shows" if won else "neither rule shows"
    lines[0] = f"**After the transfer {told} a clear gain.** {lines[0]}"
    return "\n".join(lines) + diverged(table, "rule")


def students_answer(found: pd.DataFrame, table: pd.DataFrame) -> str:
    """Return what unlabelled images bring a student, from `comparisons.students`."""
    small, large = (table[table["network"] == network] for network in (SMALL, LARGE))
    points = _points(found, STUDENT_PAIRS)
    everything = difference(found, *STUDENT_PAIRS["all of U"])
    told = verdict(everything, "better", "worse", "neither demonstrably better nor worse")
    lines = [
        f"**With a teacher's labels on all of U the student is {told} than LeNet-5 on D alone, "
        f"tuned** ({_arm(small, TUNED)}): {points['all of U']} points. With the teacher's top K "
        f"alone: {points['top K']}; with the top K that LeNet-5 labelled itself: "
        f"{points['its own top K']}. The teacher has {_arm(table, THE_TEACHER)}.",
        f"Selection: top K against as many images at random {points['ranking']}, against all of U "
        f"{points['selection']}. Soft labels against hard ones {points['soft labels']}. True "
        f"labels for all of U, which nobody has, against the teacher's {points['true labels']}: "
        f"that student has {_arm(small, CEILING)}.",
        f"The teacher's network as a student of its own labels, against itself on D alone "
        f"({_arm(large, ALONE)}): top K {points['top K, large']}, all of U "
        f"{points['all of U, large']}. {_by_itself(found)}",
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
            "A gain shows only where another network gave the labels: that can be the teacher's "
            "architecture at second hand. (LeNet-5 labelling all of U itself was not tried.)"
        )
    return "So no network shows a clear gain from unlabelled images."


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
        f"With P = 1 a class runs out of candidates instead of taking worse ones: at "
        f"K = {high:,} that student differs from the one with P = {settings['p']} by "
        f"{points['one class']}.",
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
        f"On average the student lies below LeNet-5 on D alone, tuned ({alone:.1%}), at K = "
        f"{names}. Every student has the same number of updates, so at K = {k:,} it sees each of "
        f"its {rows:,.0f} labels {shown:,.0f} times: {below['accuracy'].iloc[0]:.1%}. As many "
        f"random images with true labels give {true:.1%}."
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
        "methods": methods.lines(settings),
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
