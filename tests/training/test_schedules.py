import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch.optim import SGD, lr_scheduler

from hw3utils.training import schedules
from hw3utils.training.schedules import (
    Constant,
    Cyclical,
    DecayingCyclical,
    LinearDecay,
    OneCycle,
    Steps,
)
from made_up import SCHEDULES


def momenta(schedule, updates=100, momentum=0.9):
    """SGD's momentum at each update."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1, momentum=momentum)
    scheduler = schedule.build(optimizer, updates)
    found = []
    for _ in range(updates):
        found.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    return np.array(found)


def test_cyclical_follows_smiths_formula_with_a_decaying_amplitude():
    """Smith 2017: cycle = floor(1 + t/2s), x = |t/s - 2 cycle + 1|, lr = base + (max-base)(1-x)."""
    low, high, updates, cycles = 0.01, 0.1, 600, 3
    found = schedules.learning_rates(Cyclical(low, lr_max=high, cycles=cycles), updates)
    t, step = np.arange(updates), updates / cycles / 2
    x = np.abs(t / step - 2 * np.floor(1 + t / (2 * step)) + 1)
    gamma = 0.1 ** (1 / updates)
    np.testing.assert_allclose(found, low + (high - low) * (1 - x) * gamma**t, rtol=1e-9)


def test_where_both_bounds_decay_smiths_formula_holds():
    """Smith 2017, Sec. 3.1: base and maximum are both multiplied by gamma at every update."""
    low, high, updates, cycles = 0.01, 0.1, 600, 3
    found = np.array(schedules.learning_rates(DecayingCyclical(low, high, cycles, 0.2), updates))
    t, step = np.arange(updates), updates / cycles / 2
    x = np.abs(t / step - 2 * np.floor(1 + t / (2 * step)) + 1)
    lower, upper = (bound * 0.2 ** (t / updates) for bound in (low, high))
    np.testing.assert_allclose(found, lower + (upper - lower) * (1 - x), rtol=1e-9)
    assert found[0] == low and found[500] == pytest.approx(high * 0.2 ** (5 / 6))
    assert found[-1] < 0.3 * low, "the lower bound stays where it was"


@given(
    updates=st.integers(4, 200),
    cycles=st.integers(1, 5),
    left=st.floats(0.01, 1),
    height=st.floats(1.5, 100),
)
def test_where_both_bounds_decay_torchs_triangles_are_multiplied_by_gamma(
    updates, cycles, left, height
):
    low = 0.002
    found = schedules.learning_rates(DecayingCyclical(low, low * height, cycles, left), updates)
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=low)
    triangles = lr_scheduler.CyclicLR(
        optimizer, low, low * height, updates / cycles / 2, cycle_momentum=False
    )
    for update in range(updates):
        expected = triangles.get_last_lr()[0] * left ** (update / updates)
        assert found[update] == pytest.approx(expected, rel=1e-6), update
        optimizer.step()
        triangles.step()


def test_what_holds_for_every_schedule_is_tested_with_each_kind():
    kinds = [kind for kind in vars(schedules).values() if isinstance(kind, type)]
    defined = {kind for kind in kinds if issubclass(kind, schedules.Schedule)}
    assert {type(schedule) for schedule in SCHEDULES} == defined - {schedules.Schedule}


@pytest.mark.parametrize(
    "schedule",
    SCHEDULES,
    ids=lambda schedule: type(schedule).__name__,
)
def test_a_schedule_leaves_the_momentum_alone(schedule):
    assert set(momenta(schedule)) == {0.9}


def test_1cycle_with_momentum_moves_it_against_the_learning_rate():
    """Smith and Topin: from 0.95 down to 0.85 while the rate rises, and up again."""
    schedule = OneCycle(0.1, cycle_momentum=True)
    found, rates = momenta(schedule), np.array(schedules.learning_rates(schedule, 100))
    assert found[0] == pytest.approx(0.95) and found[-1] == pytest.approx(0.95, abs=1e-3)
    assert found.min() == pytest.approx(0.85, abs=1e-3) and found.argmin() == rates.argmax()
    assert (np.sign(np.diff(found)) == -np.sign(np.diff(rates))).all()


def test_the_momentum_makes_no_difference_to_1cycles_learning_rates():
    one, other = (
        schedules.learning_rates(OneCycle(0.1, cycle_momentum=cycled), 100)
        for cycled in (False, True)
    )
    assert one == other


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
@pytest.mark.parametrize(
    "kind", [Constant, LinearDecay, OneCycle, Cyclical, DecayingCyclical, Steps]
)
def test_a_learning_rate_that_is_not_positive_is_refused(kind, lr):
    with pytest.raises(ValueError, match="must be greater than 0"):
        kind(lr)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Cyclical(0.1, lr_max=0.1),
        lambda: DecayingCyclical(0.1, lr_max=0.1),
        lambda: DecayingCyclical(0.1, lr_max=1, final_amplitude=1.5),
        lambda: Cyclical(0.1, lr_max=1, cycles=0),
        lambda: Cyclical(0.1, lr_max=1, final_amplitude=0),
        lambda: Steps(0.1, factor=1.5),
        lambda: Steps(0.1, at=(0.5, 0.25)),
        lambda: Steps(0.1, at=(0, 0.5)),
        lambda: Cyclical(0.1, lr_max=1, cycles=2.5),
        lambda: schedules.decay_factor(0.5, 0),
        lambda: schedules.decay_factor(0.5, math.nan),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(build):
    with pytest.raises(ValueError):
        build()


def test_gamma_leaves_the_asked_fraction():
    assert schedules.decay_factor(0.1, 11_250) ** 11_250 == pytest.approx(0.1)
