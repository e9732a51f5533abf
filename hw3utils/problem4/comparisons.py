"""What 4.2 and 4.3 compare: pairs of arms, fixed before any result, and their differences.

Differences are paired by seed. The intervals of one question hold together: with n pairs each has
the level 1 − 5 %/n (Bonferroni), so that on noise alone a question says nothing in 95 % of draws.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import pandas as pd

from hw3utils.problem4.experiments import LONGER, NOISE_RATES, ONE_WRONG, RANDOM, ZIPF
from hw3utils.problem4.labels import RESAMPLING_RULES
from hw3utils.problem4.recipes import STUDENT, TEACHER
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
from hw3utils.settings import Problem4
from hw3utils.training.intervals import Interval, paired_difference

SMALL, LARGE = NETWORKS[STUDENT], NETWORKS[TEACHER]
TOGETHER = 0.95  # so sure are all intervals of a question at once
LINEAR, OWN = "linear classifier on frozen features", "network's own last layer"
LOSS, USUAL = "cost of 25% noise, linear classifier", "usual length"
BEFORE, AFTER = "before the transfer", "after the transfer"
FILLED, BEFORE_D, AFTER_D = "rare places filled", "rare, before D", "rare, after D"


class Pair(NamedTuple):
    """Two arms of which the first is expected to differ from the second in a measure."""

    measure: str
    first: str
    second: str


def compare(
    question: str, values: pd.DataFrame, pairs: Collection[Pair], together: int | None = None
) -> pd.DataFrame:
    """Return the differences of a question's pairs, in percentage points, with their intervals.

    ``values`` has the columns ``measure``, ``arm``, ``seed`` and ``value`` (a fraction). A row for
    each pair: ``question``, ``measure``, ``first``, ``second``, ``mean``, ``low``, ``high`` and the
    number of ``seeds``; NaN where a seed is missing or diverged, or there is but one. The intervals
    are as wide as those of ``together`` pairs that hold at once; by default of all of ``pairs``.
    """
    level = 1 - (1 - TOGETHER) / (together or len(pairs))
    rows = []
    for pair in pairs:
        both = values["arm"].isin((pair.first, pair.second))
        mine = values[both & (values["measure"] == pair.measure)]
        found = paired_difference(mine, "value", pair.first, pair.second, level=level)
        row = {"question": question, **pair._asdict()}
        row |= {name: 100 * value for name, value in found._asdict().items()}
        rows.append(row | {"seeds": int((mine["arm"] == pair.first).sum())})
    return pd.DataFrame(rows)


def difference(found: pd.DataFrame, measure: str, first: str, second: str) -> Interval:
    """Return the interval of one pair among those that `compare` returned; else a KeyError."""
    rows = found.set_index(["measure", "first", "second"])
    return Interval(*rows.loc[(measure, first, second), ["mean", "low", "high"]].astype(float))


def noise(table: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """Return the differences of 4.2a, from `tables.noise_table` and `noise_control_table`."""
    trained = table[table["noise"] != RANDOM].assign(control="")
    runs = pd.concat([trained, controls]).astype({"noise": float})
    runs["arm"] = list(map(noisy, runs["noise"], runs["control"]))
    judged = runs.rename(columns={"linear_accuracy": LINEAR, "own_accuracy": OWN})
    values = judged.melt(["arm", "seed"], [LINEAR, OWN], var_name="measure")
    costs = [
        _cost(runs[runs["control"] == control]).assign(measure=LOSS, arm=arm)
        for control, arm in (("", USUAL), (LONGER, LONGER))
    ]
    pairs = [
        Pair(judge, noisy(rate), noisy(0)) for judge in (LINEAR, OWN) for rate in NOISE_RATES[1:]
    ]
    pairs += [Pair(judge, noisy(0.5, ONE_WRONG), noisy(0.5)) for judge in (LINEAR, OWN)]
    return compare("4.2a", pd.concat([values, *costs]), [*pairs, Pair(LOSS, LONGER, USUAL)])


def noisy(rate: float, control: str = "") -> str:
    """Return the name of an arm of 4.2a."""
    return f"{rate:.0%} noise, {control}" if control else f"{rate:.0%} noise"


def _cost(runs: pd.DataFrame) -> pd.DataFrame:
    """Return for each seed what 25 % noise costs: positive where it lowers the accuracy."""
    wide = runs.pivot(index="seed", columns="noise", values="linear_accuracy")
    return (wide[0.0] - wide[0.25]).rename("value").reset_index()


def resampling(table: pd.DataFrame, zipf: pd.DataFrame) -> pd.DataFrame:
    """Return the differences of 4.2b, from two `tables.resampling_table`; the second has `ZIPF`."""
    measures = {
        transfer(BEFORE, "tail"): (table, "tail", "own_accuracy"),
        transfer(BEFORE, "head"): (table, "head", "own_accuracy"),
        transfer(AFTER, "all"): (table, "all", "linear_accuracy"),
        transfer(AFTER, "all", ZIPF): (zipf, "all", "linear_accuracy"),
    }
    parts, pairs = [], []
    for measure, (runs, band, column) in measures.items():
        rows = runs[runs["band"] == band]
        parts.append(rows.assign(measure=measure, arm=rows["rule"], value=rows[column]))
        pairs += [Pair(measure, rule, "natural") for rule in list(RESAMPLING_RULES)[1:]]
    return compare("4.2b", pd.concat(parts), pairs)


def transfer(when: str, band: str, exponent: float | None = None) -> str:
    """Return the name of a measure of 4.2b."""
    return f"{when}, {band} classes" + ("" if exponent is None else f", exponent {exponent:g}")


STUDENT_PAIRS = {  # of 4.3a, by what they tell
    "top K": Pair(SMALL, SELECTED, TUNED),
    "its own top K": Pair(SMALL, TAUGHT_ITSELF, TUNED),
    "all of U": Pair(SMALL, HARD, TUNED),
    "ranking": Pair(SMALL, SELECTED, RANDOM_IMAGES),
    "selection": Pair(SMALL, SELECTED, HARD),
    "soft labels": Pair(SMALL, SOFT, HARD),
    "true labels": Pair(SMALL, CEILING, HARD),
    "top K, large": Pair(LARGE, SELECTED, ALONE),
    "all of U, large": Pair(LARGE, HARD, ALONE),
}


LATER_PAIRS = {  # of 4.3a, looked at once the results were there: they say what the others rest on
    "same settings": Pair(SMALL, SELECTED, ALONE),
    "longer": Pair(LARGE, ALONE, THE_TEACHER),
    "all of U, labeller": Pair(LARGE, HARD, THE_TEACHER),
}


def students(table: pd.DataFrame) -> pd.DataFrame:
    """Return the differences of 4.3a, from `tables.students_table`."""
    values = table.rename(columns={"network": "measure", "test_accuracy": "value"})
    return compare("4.3a", values, STUDENT_PAIRS.values())


def students_later(table: pd.DataFrame) -> pd.DataFrame:
    """Return the differences of `LATER_PAIRS`, with intervals as wide as those of `students`."""
    values = table.rename(columns={"network": "measure", "test_accuracy": "value"})
    return compare("4.3a", values, LATER_PAIRS.values(), together=len(STUDENT_PAIRS))


def rare_pairs(images: str, judged_ps: Sequence[int]) -> dict[str, Pair]:
    """Return the pairs of 4.3b for `ONE_GARMENT` or `TWO_GARMENTS`, by what they tell."""
    low, high = judged_ps
    filled, before, after = (f"{images}: {measure}" for measure in (FILLED, BEFORE_D, AFTER_D))
    return {
        "filled": Pair(filled, with_p(high), with_p(low)),
        "before": Pair(before, with_p(high), with_p(low)),
        "after": Pair(after, with_p(high), with_p(low)),
        "selection": Pair(before, with_p(high), HARD),
        "balanced": Pair(after, balanced(high), balanced(low)),
    }


def rare(table: pd.DataFrame, settings: Problem4) -> pd.DataFrame:
    """Return the differences of 4.3b, from `tables.rare_table` with both kinds of images."""
    names = {"filled": FILLED, "before": BEFORE_D, "after": AFTER_D}
    values = table.rename(columns=names).melt(
        ["images", "arm", "seed"], names.values(), var_name="measure"
    )
    values["measure"] = values["images"] + ": " + values["measure"]
    both = [rare_pairs(images, settings.judged_ps) for images in (ONE_GARMENT, TWO_GARMENTS)]
    return compare("4.3b", values, [pair for pairs in both for pair in pairs.values()])


def mechanism_pairs(judged_ks: Sequence[int]) -> dict[str, Pair]:
    """Return the pairs of 4.3d, by what they tell."""
    low, middle, high = judged_ks
    pairs = {
        "rise": (at(SELECTED, middle), at(SELECTED, low)),
        "fall": (at(SELECTED, high), at(SELECTED, middle)),
        "one class": (at(ONE_CLASS, high), at(SELECTED, high)),  # does the fall need P > 1?
        "few or easy": (at(RANDOM_IMAGES, low), at(SELECTED, low)),
        "quantity": (at(RANDOM_TRUE, middle), at(RANDOM_TRUE, low)),
        "ease": (at(TOP_TRUE, low), at(RANDOM_TRUE, low)),
        "wrong labels": (at(TOP_CORRUPTED, high), at(TOP_TRUE, high)),
        "kind of error": (at(SELECTED, high), at(TOP_CORRUPTED, high)),
    }
    return {name: Pair(SMALL, *arms) for name, arms in pairs.items()}


def mechanism(table: pd.DataFrame, settings: Problem4) -> pd.DataFrame:
    """Return the differences of 4.3d, from `tables.mechanism_table`."""
    arms = list(map(at, table["arm"], table["k"]))
    values = table.assign(measure=SMALL, arm=arms, value=table["accuracy"])
    return compare("4.3d", values, mechanism_pairs(settings.judged_ks).values())


def one_class_step(table: pd.DataFrame, judged_ks: Sequence[int]) -> Interval:
    """Return what P = 1 changes where the others fall, its interval as wide as in `mechanism`.

    Looked at once the results were there: whether the fall is there without forced labels.
    """
    _, middle, high = judged_ks
    arms = list(map(at, table["arm"], table["k"]))
    values = table.assign(measure=SMALL, arm=arms, value=table["accuracy"])
    step = Pair(SMALL, at(ONE_CLASS, high), at(ONE_CLASS, middle))
    found = compare("4.3d", values, [step], together=len(mechanism_pairs(judged_ks)))
    return difference(found, *step)


def against_alone(table: pd.DataFrame, students: pd.DataFrame) -> dict[int, Interval]:
    """Return by how much 4.3d's top K differs from D alone, tuned, at each K; all hold together."""
    top = table[table["arm"] == SELECTED]
    alone = students[(students["network"] == SMALL) & (students["arm"] == TUNED)]
    values = pd.concat(
        [
            top.assign(arm=[at(SELECTED, k) for k in top["k"]], value=top["accuracy"]),
            alone.assign(value=alone["test_accuracy"]),
        ]
    ).assign(measure=SMALL)
    pairs = {k: Pair(SMALL, at(SELECTED, k), TUNED) for k in sorted(top["k"].unique())}
    found = compare("4.3d", values, pairs.values())
    return {k: difference(found, *pair) for k, pair in pairs.items()}


def at(arm: str, k: int) -> str:
    """Return the name of an arm of 4.3d at one K."""
    return f"{arm}, K = {k:,}"


def contributions(table: pd.DataFrame) -> pd.DataFrame:
    """Return what makes the student's accuracy at each K of 4.3d, for each seed: it adds up.

    ``quantity`` is the accuracy with as many random images and true labels; ``ease``, ``wrong
    labels`` and ``kind of error`` are what changes as the images become D̂'s, as their labels are
    corrupted as often as the teacher's are wrong, and as the labels become the teacher's.
    """
    wide = table.pivot(index=["k", "seed"], columns="arm", values="accuracy")
    steps = {
        "quantity": wide[RANDOM_TRUE],
        "ease": wide[TOP_TRUE] - wide[RANDOM_TRUE],
        "wrong labels": wide[TOP_CORRUPTED] - wide[TOP_TRUE],
        "kind of error": wide[SELECTED] - wide[TOP_CORRUPTED],
    }
    return pd.DataFrame(steps).reset_index()
