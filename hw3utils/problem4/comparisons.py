"""What 4.2 and 4.3 compare: pairs of arms, fixed before any result, and their differences.

Differences are paired by seed. The intervals of one question hold together: with n pairs each has
the level 1 − 5 %/n (Bonferroni), so that on noise alone a question says nothing in 95 % of draws.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from hw3utils.problem4.experiments import LONGER, NOISE_RATES, ONE_WRONG, RANDOM, ZIPF
from hw3utils.problem4.labels import RESAMPLING_RULES
from hw3utils.problem4.recipes import STUDENT, TEACHER
from hw3utils.problem4.tables import NETWORKS, ONE_GARMENT, TWO_GARMENTS
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


def compare(question: str, values: pd.DataFrame, pairs: Sequence[Pair]) -> pd.DataFrame:
    """Return the differences of a question's pairs, in percentage points, with their intervals.

    ``values`` has the columns ``measure``, ``arm``, ``seed`` and ``value`` (a fraction). A row for
    each pair: ``question``, ``measure``, ``first``, ``second``, ``mean``, ``low``, ``high`` and the
    number of ``seeds``; NaN where a seed is missing or diverged, or there is but one.
    """
    level = 1 - (1 - TOGETHER) / len(pairs)
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
    trained = table[table["noise"] != RANDOM].astype({"noise": float})
    trained = trained.assign(arm=trained["noise"].map(noisy))
    others = controls.assign(
        arm=[noisy(*row) for row in controls[["noise", "control"]].itertuples(index=False)]
    )
    everything = pd.concat([trained, others])
    linear = _values(everything, LINEAR, "linear_accuracy")
    own = _values(everything, OWN, "own_accuracy")
    costs = [
        _cost(part["linear_accuracy"], part["noise"], part["seed"]).assign(arm=name)
        for name, part in ((USUAL, trained), (LONGER, controls[controls["control"] == LONGER]))
    ]
    values = pd.concat([linear, own, pd.concat(costs)])
    pairs = [
        Pair(judge, noisy(rate), noisy(0)) for judge in (LINEAR, OWN) for rate in NOISE_RATES[1:]
    ]
    pairs += [Pair(judge, noisy(0.5, ONE_WRONG), noisy(0.5)) for judge in (LINEAR, OWN)]
    return compare("4.2a", values, [*pairs, Pair(LOSS, LONGER, USUAL)])


def noisy(rate: float, control: str = "") -> str:
    """Return the name of an arm of 4.2a."""
    return f"{rate:.0%} noise, {control}" if control else f"{rate:.0%} noise"


def _cost(accuracy: pd.Series, rate: pd.Series, seed: pd.Series) -> pd.DataFrame:
    """Return for each seed what 25 % noise costs: positive where it lowers the accuracy."""
    wide = pd.DataFrame({"value": accuracy, "rate": rate, "seed": seed})
    wide = wide.pivot(index="seed", columns="rate", values="value")
    return (wide[0.0] - wide[0.25]).rename("value").reset_index().assign(measure=LOSS)


def resampling(table: pd.DataFrame, zipf: pd.DataFrame) -> pd.DataFrame:
    """Return the differences of 4.2b, from two `tables.resampling_table`; the second has `ZIPF`."""
    parts = []
    for each in (table, zipf):
        for band, rows in each.groupby("band"):
            for when, column in ((BEFORE, "own_accuracy"), (AFTER, "linear_accuracy")):
                measure = transfer(when, band, each["exponent"].iloc[0] if each is zipf else None)
                parts.append(_values(rows.rename(columns={"rule": "arm"}), measure, column))
    measures = [transfer(BEFORE, "tail"), transfer(BEFORE, "head"), transfer(AFTER, "all")]
    measures.append(transfer(AFTER, "all", ZIPF))
    pairs = [
        Pair(measure, rule, "natural")
        for measure in measures
        for rule in list(RESAMPLING_RULES)[1:]
    ]
    return compare("4.2b", pd.concat(parts), pairs)


def transfer(when: str, band: str, exponent: float | None = None) -> str:
    """Return the name of a measure of 4.2b."""
    return f"{when}, {band} classes" + ("" if exponent is None else f", exponent {exponent:g}")


def students(table: pd.DataFrame) -> pd.DataFrame:
    """Return the differences of 4.3a, from `tables.students_table`."""
    parts = [_values(rows, network, "test_accuracy") for network, rows in table.groupby("network")]
    small, large = NETWORKS[STUDENT], NETWORKS[TEACHER]
    pairs = [Pair(small, arm, TUNED) for arm in (SELECTED, TAUGHT_ITSELF, HARD)]
    pairs += [Pair(small, SELECTED, RANDOM_IMAGES), Pair(small, SELECTED, HARD)]
    pairs += [Pair(small, SOFT, HARD), Pair(small, CEILING, HARD)]
    pairs += [Pair(large, arm, ALONE) for arm in (SELECTED, HARD)]
    return compare("4.3a", pd.concat(parts), pairs)


def rare(table: pd.DataFrame, settings: Problem4) -> pd.DataFrame:
    """Return the differences of 4.3b, from `tables.rare_table` with both kinds of images."""
    low, high = settings.judged_ps
    parts, pairs = [], []
    columns = {FILLED: "filled", BEFORE_D: "before", AFTER_D: "after"}
    for images in (ONE_GARMENT, TWO_GARMENTS):
        rows = table[table["images"] == images]
        for measure, column in columns.items():
            parts.append(_values(rows, of_images(images, measure), column))
            pairs.append(Pair(of_images(images, measure), with_p(high), with_p(low)))
        pairs.append(Pair(of_images(images, BEFORE_D), with_p(high), HARD))
        pairs.append(Pair(of_images(images, AFTER_D), balanced(high), balanced(low)))
    return compare("4.3b", pd.concat(parts), pairs)


def of_images(images: str, measure: str) -> str:
    """Return the name of a measure of 4.3b."""
    return f"{images}: {measure}"


def mechanism(table: pd.DataFrame, settings: Problem4) -> pd.DataFrame:
    """Return the differences of 4.3d, from `tables.mechanism_table`."""
    names = [at(*row) for row in table[["arm", "k"]].itertuples(index=False)]
    values = _values(table.assign(arm=names), "LeNet-5", "accuracy")
    low, middle, high = settings.judged_ks
    pairs = [
        (at(SELECTED, middle), at(SELECTED, low)),  # the rise
        (at(SELECTED, high), at(SELECTED, middle)),  # the fall
        (at(ONE_CLASS, high), at(SELECTED, high)),  # does the fall need P > 1?
        (at(RANDOM_IMAGES, low), at(SELECTED, low)),  # few, or easy?
        (at(RANDOM_TRUE, middle), at(RANDOM_TRUE, low)),  # quantity
        (at(TOP_TRUE, low), at(RANDOM_TRUE, low)),  # ease
        (at(TOP_CORRUPTED, high), at(TOP_TRUE, high)),  # how many labels are wrong
        (at(SELECTED, high), at(TOP_CORRUPTED, high)),  # and in which way
    ]
    return compare("4.3d", values, [Pair("LeNet-5", *pair) for pair in pairs])


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


def _values(table: pd.DataFrame, measure: str, column: str) -> pd.DataFrame:
    """Return a column as ``value``, with its ``arm`` and ``seed``, under a measure's name."""
    chosen = table[["arm", "seed", column]].rename(columns={column: "value"})
    return chosen.assign(measure=measure)
