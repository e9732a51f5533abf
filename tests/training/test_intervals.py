import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from hw3utils.training.intervals import Interval, mean_interval


def test_five_values_have_the_interval_of_the_tables():
    """Student's t at 97.5 % with 4 degrees of freedom is 2.776 in every printed table."""
    found = mean_interval([1, 2, 3, 4, 5])
    assert found.mean == 3
    assert found.high - found.mean == pytest.approx(2.776 * math.sqrt(2.5 / 5), rel=1e-3)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12),
    level=st.floats(0.5, 0.999),
)
def test_the_interval_is_scipys(values, level):
    found = mean_interval(values, level)
    error = stats.sem(values)
    if error > 1e-9:  # scipy has no interval of width 0
        low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=error)
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-6)
    assert found.low <= found.mean <= found.high


@pytest.mark.parametrize("count", [2, 5])
def test_of_a_hundred_intervals_95_hold_the_truth_however_few_the_seeds(count):
    """Seeds of one arm against seeds of the same arm: noise must be found different in 5 %."""
    noise = np.random.default_rng(0).normal(0.3, 2.0, (4_000, count))
    intervals = [mean_interval(values - 0.3) for values in noise]
    assert np.mean([interval.sign == 0 for interval in intervals]) == pytest.approx(0.95, abs=0.012)
    assert {-1, 1} <= {interval.sign for interval in intervals}


@pytest.mark.parametrize(
    ("interval", "sign"),
    [
        (Interval(2.0, 0.1, 3.9), 1),
        (Interval(-2.0, -3.9, -0.1), -1),
        (Interval(0.1, -1.0, 1.2), 0),
        (Interval(2.0, 0.0, 4.0), 0),
        (Interval(2.0, math.nan, math.nan), 0),
    ],
)
def test_a_difference_counts_only_where_the_whole_interval_is_on_one_side(interval, sign):
    assert interval.sign == sign


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.nan, 2.0], [1.0, math.inf]])
def test_what_cannot_be_told_is_missing_and_no_error(values):
    found = mean_interval(values)
    assert all(math.isnan(part) for part in found) and found.sign == 0


def test_a_single_seed_has_a_mean_but_no_interval():
    found = mean_interval([0.9])
    assert found.mean == 0.9
    assert math.isnan(found.low) and math.isnan(found.high) and found.sign == 0


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, math.nan])
def test_a_level_that_is_no_probability_is_refused(level):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        mean_interval([1.0, 2.0], level)
