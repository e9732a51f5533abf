"""Where finetuning overtakes the last layer: the answer that the curve of Problem 3 gives."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hw3utils.problem3.experiments import ALL_LAYERS, LAST_LAYER, PROBE_FROZEN, RATES, Size
from hw3utils.training.intervals import mean_interval

OUTCOMES = {True: "as predicted", False: "NOT as predicted"}
WORDS = {1: "higher", -1: "lower", 0: "cannot be told"}
SUBJECTS = {
    ALL_LAYERS: f"Plain finetuning at {RATES[ALL_LAYERS]:g}, with equally many updates,",
    PROBE_FROZEN: "Finetuning that trains the last layer first and keeps BatchNorm's statistics",
}


class Crossing(NamedTuple):
    """Between which numbers of training images finetuning overtakes the last layer."""

    approach: str
    low: float | None  # the largest number run at which the last layer is told to be better
    high: float | None  # the smallest run at which finetuning is
    estimate: float | None  # where the straight line between the two means crosses zero
    reason: str  # what the approach does instead where a bound is missing; else empty

    @property
    def outcome(self) -> str:
        """Whether finetuning overtakes, as was predicted, where that is told, and the finding."""
        if self.low is self.high is None:
            return self.text
        return f"{OUTCOMES[not self.reason]}: {self.text}"

    @property
    def text(self) -> str:
        """The finding in a sentence."""
        if self.reason:
            return f"{SUBJECTS[self.approach]} {self.reason}."
        return (
            f"{SUBJECTS[self.approach]} overtakes the last layer alone somewhere between "
            f"{self.low:,.0f} and {self.high:,.0f} training images (the means cross at about "
            f"{self.estimate:,.0f})."
        )

    @property
    def record(self) -> dict[str, Any]:
        """The crossing as it is saved: its fields and its sentence."""
        return self._asdict() | {"text": self.text}


def crossing(
    curve: pd.DataFrame, approach: str, sizes: Sequence[Size], level: float = 0.95
) -> Crossing:
    """Find where ``approach`` overtakes the last layer on the curve (see `tables.curve`).

    At each of ``sizes`` the two are compared by the interval over seeds, paired by seed. Sizes at
    which it holds zero lie between the bounds; sizes that were not run are not spoken of.
    """
    found = {size.images: gap(curve, approach, size) for size in sizes}
    intervals = {images: mean_interval(list(values), level) for images, values in found.items()}
    below = [images for images, interval in intervals.items() if interval.sign < 0]
    above = [images for images, interval in intervals.items() if interval.sign > 0]
    low, high = max(below, default=None), min(above, default=None)
    nothing = "cannot be told from the last layer alone"
    if any(len(values) < 2 for values in found.values()):
        return Crossing(approach, None, None, None, f"{nothing}: one seed has no interval")
    if low is None and high is None:
        reason = f"{nothing} with any number of training images that was run"
        return Crossing(approach, low, high, None, reason)
    if low is None:
        reason = (
            "is better than the last layer alone with every number of training images that was "
            f"run, {min(found):,} to {max(found):,}"
            if len(above) == len(found)
            else f"is clearly better than the last layer alone from {high:,} training images "
            "on, and worse with no number that was run"
        )
        return Crossing(approach, low, high, None, reason)
    if high is None:
        reason = f"is worse than the last layer alone with {_listed(below)} training images"
        if untold := [images for images in found if images not in below]:
            reason += f", and cannot be told from it with {_listed(untold)}"
        return Crossing(approach, low, high, None, reason)
    if low > high:
        reason = "and the last layer alone change places more than once: there is no one crossing"
        return Crossing(approach, None, None, None, reason)
    means = [(math.log(images), interval.mean) for images, interval in sorted(intervals.items())]
    at = next(i for i in range(1, len(means)) if means[i - 1][1] < 0 <= means[i][1])
    (x0, y0), (x1, y1) = means[at - 1], means[at]
    return Crossing(approach, low, high, math.exp(x0 - y0 * (x1 - x0) / (y1 - y0)), "")


def gap(curve: pd.DataFrame, approach: str, size: Size) -> np.ndarray:
    """Return each seed's test accuracy of ``approach`` minus that of the last layer."""
    at_size = curve[curve["images"] == size.images]
    tuned = at_size[(at_size["approach"] == approach) & (at_size["epochs"] == size.epochs)]
    last = at_size[at_size["approach"] == LAST_LAYER].set_index("seed")["test"]
    tuned = tuned.set_index("seed")["test"]
    return (tuned - last).dropna().to_numpy()


def _listed(numbers: Sequence[int]) -> str:
    """Return numbers as they stand in a sentence: ``"640, 2,560 and 10,240"``."""
    *first, last = (f"{number:,}" for number in sorted(numbers))
    return f"{', '.join(first)} and {last}" if first else last
