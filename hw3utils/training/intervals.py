"""How far a mean over seeds can be trusted: Student's t on a handful of values."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit


class Interval(NamedTuple):
    """A mean and its confidence interval; the bounds are NaN where they cannot be told."""

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or −1 where the whole interval lies on one side of zero, else 0: it cannot be told."""
        return int(self.low > 0) - int(self.high < 0)


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of independent values and its two-sided confidence interval (Student's t).

    With a single value the bounds are NaN; with none, or a NaN among them, so is the mean. Raises a
    ValueError where the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level}: must lie between 0 and 1")
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) == 0 or not np.isfinite(numbers).all():
        return Interval(np.nan, np.nan, np.nan)
    mean = float(numbers.mean())
    if len(numbers) == 1:
        return Interval(mean, np.nan, np.nan)
    error = float(numbers.std(ddof=1)) / len(numbers) ** 0.5
    reach = error * float(stdtrit(len(numbers) - 1, (1 + level) / 2))  # Student's t's quantile
    return Interval(mean, mean - reach, mean + reach)


def paired_difference(
    scores: pd.DataFrame,
    column: str,
    first: str,
    second: str,
    by: str = "arm",
    level: float = 0.95,
) -> Interval:
    """Return the mean of ``column`` in one arm minus the other, paired by seed, with its interval.

    A pair with a NaN makes it NaN: nothing is said about arms of which a run is missing.
    """
    wide = scores.pivot(index="seed", columns=by, values=column)
    return mean_interval((wide[first] - wide[second]).to_numpy(), level)
