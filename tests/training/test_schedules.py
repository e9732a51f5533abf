import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hw3utils.problem1 import experiments
from hw3utils.problem1.diagnostics import suggest_lr_bounds
from hw3utils.training import schedules
from hw3utils.training.schedules import Constant, Cyclical, LinearDecay, OneCycle, Steps

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


def test_a_finite_spike_on_the_way_down_does_not_shift_the_starting_level():
    plain = suggest_lr_bounds(RATES, TYPICAL)
    spiked = suggest_lr_bounds(RATES, [2.31, 2.31, 2.31, 9.0, *TYPICAL[4:]])
    assert spiked == plain
    beyond = suggest_lr_bounds(RATES[:4], [2.3, 0.30, 0.32, 50.0])
    assert beyond.lr_max == RATES[2], "a spike beyond the best rate sets the starting level"


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
        assert any(word in str(error) for word in ("diverged", "learned", "only rises"))
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


def test_cyclical_follows_smiths_formula_with_a_decaying_amplitude():
    """Smith 2017: cycle = floor(1 + t/2s), x = |t/s - 2 cycle + 1|, lr = base + (max-base)(1-x)."""
    low, high, updates, cycles = 0.01, 0.1, 600, 3
    found = schedules.learning_rates(Cyclical(low, lr_max=high, cycles=cycles), updates)
    t, step = np.arange(updates), updates / cycles / 2
    x = np.abs(t / step - 2 * np.floor(1 + t / (2 * step)) + 1)
    gamma = 0.1 ** (1 / updates)
    np.testing.assert_allclose(found, low + (high - low) * (1 - x) * gamma**t, rtol=1e-9)


def test_cyclical_leaves_the_momentum_alone():
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1, momentum=0.9)
    scheduler = Cyclical(0.01, lr_max=0.1).build(optimizer, 30)
    for _ in range(30):
        optimizer.step()
        scheduler.step()
        assert optimizer.param_groups[0]["momentum"] == 0.9


def test_the_ends_of_the_schedules():
    assert set(schedules.learning_rates(Constant(0.1), 20)) == {0.1}
    linear = schedules.learning_rates(LinearDecay(0.1), 100)
    np.testing.assert_allclose(linear, 0.1 * (1 - np.arange(100) / 100), atol=1e-9)
    one_cycle = schedules.learning_rates(OneCycle(0.1), 100)
    assert max(one_cycle) == pytest.approx(0.1, rel=1e-2)
    assert one_cycle[-1] < 1e-3


def test_multi_step_drops_exactly_three_times_at_the_quarters():
    rates = schedules.learning_rates(Steps(1.0, factor=0.1, at=(0.25, 0.5, 0.75)), 60)
    assert [rates.index(rate) for rate in sorted(set(rates), reverse=True)] == [0, 15, 30, 45]
    assert rates[-1] == pytest.approx(1e-3)


@pytest.mark.parametrize("lr", [0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("kind", [Constant, LinearDecay, OneCycle, Steps])
def test_a_learning_rate_that_is_not_positive_is_refused(kind, lr):
    with pytest.raises(ValueError, match="must be greater than 0"):
        kind(lr)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Cyclical(0.1, lr_max=0.1),
        lambda: Cyclical(0.1, lr_max=1, cycles=0),
        lambda: Cyclical(0.1, lr_max=1, final_amplitude=0),
        lambda: Steps(0.1, factor=1.5),
        lambda: Steps(0.1, at=(0.5, 0.25)),
        lambda: Steps(0.1, at=(0, 0.5)),
        lambda: Cyclical(0.1, lr_max=1, cycles=2.5),
        lambda: schedules.decay_factor(0.5, 0),
        lambda: schedules.decay_factor(0.5, math.nan),
        lambda: experiments.candidate_learning_rates(-1.0),
        lambda: experiments.candidate_learning_rates(1.0, 0.1),
        lambda: experiments.candidate_learning_rates(n=1),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(build):
    with pytest.raises(ValueError):
        build()


def test_gamma_leaves_the_asked_fraction():
    assert schedules.decay_factor(0.1, 11_250) ** 11_250 == pytest.approx(0.1)
