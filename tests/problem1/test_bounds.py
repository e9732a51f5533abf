"""Reading lr_min and lr_max off a curve."""

import math
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hw3utils.problem1 import experiments
from hw3utils.problem1.diagnostics import suggest_lr_bounds

RATES = experiments.candidate_learning_rates()
TYPICAL = [2.31, 2.31, 2.31, 2.30, 2.2, 0.8, 0.31, 0.36, math.nan, math.nan]


def test_the_candidates_are_numpys_logspace():
    np.testing.assert_allclose(RATES, np.logspace(-9, 1, 10))


def test_a_typical_curve_gives_the_valley():
    bounds = suggest_lr_bounds(RATES, TYPICAL)
    assert bounds.lr_max == RATES[7]
    assert RATES[5] < bounds.lr_min < RATES[6]
    assert all(type(value) is float for value in bounds)


def test_lr_min_lies_on_the_straight_line_over_log_learning_rate():
    bounds = suggest_lr_bounds([1e-4, 1e-2, 1e-1], [2.0, 1.0, 1.0], progress=0.5)
    assert bounds.lr_min == pytest.approx(1e-3)
    assert bounds.lr_max == 1e-1


def test_a_lucky_rate_above_a_diverged_one_is_not_chosen():
    losses = [2.3, 2.3, 2.3, 2.3, 2.3, 2.3, 0.5, math.nan, 0.4, math.inf]
    bounds = suggest_lr_bounds(RATES, losses)
    assert bounds == (RATES[6] / 4, RATES[6])


def test_a_valley_of_one_rate_falls_back_to_a_quarter():
    assert suggest_lr_bounds(RATES, [2.3] * 7 + [0.5, math.nan, math.nan]) == (
        RATES[7] / 4, RATES[7],
    )  # fmt: skip


def test_the_range_is_the_unbroken_one_round_the_best_rate():
    """A lucky low rate, with rates between that learn nothing, is not part of it."""
    losses = [2.3, 2.3, 2.3, 0.4, 2.3, 2.3, 2.3, 0.35, math.nan, math.nan]
    assert suggest_lr_bounds(RATES, losses) == (RATES[7] / 4, RATES[7])
    losses = [2.3, 2.3, 2.3, 0.4, 2.3, 2.3, 0.36, 0.35, 2.0, 0.4]
    bounds = suggest_lr_bounds(RATES, losses)
    assert RATES[5] < bounds.lr_min < RATES[6] and bounds.lr_max == RATES[7]


def test_a_finite_spike_on_the_way_down_does_not_shift_the_starting_level():
    plain = suggest_lr_bounds(RATES, TYPICAL)
    spiked = suggest_lr_bounds(RATES, [2.31, 2.31, 2.31, 9.0, *TYPICAL[4:]])
    assert spiked == plain


def test_several_seeds_at_one_rate_are_averaged_and_one_divergence_counts():
    bounds = suggest_lr_bounds([1e-3, 1e-3, 0.1, 0.1, 1, 1], [2.3, 2.3, 0.5, 0.3, 0.2, math.nan])
    assert bounds.lr_max == 0.1


curves = st.lists(
    st.tuples(
        st.floats(1e-9, 10, allow_subnormal=False),
        st.one_of(st.floats(0.01, 5), st.sampled_from([math.nan, math.inf])),
    ),
    min_size=1,
    max_size=30,
)


@given(curve=curves, seed=st.integers(0, 99))
def test_any_curve_gives_sound_bounds_in_any_order_or_a_clear_error(curve, seed):
    rates, losses = map(list, zip(*curve, strict=True))
    shuffled = np.random.default_rng(seed).permutation(len(rates))
    try:
        bounds = suggest_lr_bounds(rates, losses)
    except ValueError as error:
        assert re.search("diverged|learned", str(error))
        with pytest.raises(ValueError):
            suggest_lr_bounds(np.array(rates)[shuffled], np.array(losses)[shuffled])
        return
    assert 0 < bounds.lr_min < bounds.lr_max
    diverged = [rate for rate, loss in curve if not math.isfinite(loss)]
    assert all(bounds.lr_max < rate for rate in diverged)
    again = suggest_lr_bounds(np.array(rates)[shuffled], np.array(losses)[shuffled])
    assert again == pytest.approx(bounds)


@pytest.mark.parametrize(
    ("rates", "losses", "words"),
    [
        ([0.1, 1], [math.nan, math.inf], "every learning rate diverged"),
        ([0.1, 1, 2], [math.nan, 2.3, 0.4], "^the lowest learning rate, 0.1, diverged"),
        ([0.1, 1, 2], [0.3, 0.9, 50.0], "the lowest learning rate has the best loss"),
        ([0.1], [0.3], "no learning rate learned"),
        ([0.1, 1], [2.3, 2.3], "no learning rate learned"),
        ([0.1, 1], [2.3], "as many losses"),
        ([], [], "as many losses"),
        ([0.0, 1], [2.3, 1.0], "greater than 0"),
        ([math.nan, 1], [2.3, 1.0], "greater than 0"),
    ],
)
def test_a_hopeless_curve_is_refused(rates, losses, words):
    with pytest.raises(ValueError, match=words):
        suggest_lr_bounds(rates, losses)


@pytest.mark.parametrize("arguments", [{"lowest": -1.0}, {"lowest": 1.0, "highest": 0.1}, {"n": 1}])
def test_candidates_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ValueError):
        experiments.candidate_learning_rates(**arguments)
