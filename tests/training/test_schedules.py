import math

import numpy as np
import pytest

from hw3utils.training import schedules
from hw3utils.training.schedules import Constant, Cyclical, LinearDecay, OneCycle, Steps


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
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(build):
    with pytest.raises(ValueError):
        build()


def test_gamma_leaves_the_asked_fraction():
    assert schedules.decay_factor(0.1, 11_250) ** 11_250 == pytest.approx(0.1)
