import math
import random

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from torch import nn

from hw3utils.problem1 import learning_rates
from hw3utils.problem1.learning_rates import RULES, RangeTest
from hw3utils.training import loop, networks
from hw3utils.training.batches import accumulate_gradient, evaluate
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant

RUN = Run("lenet5", Constant(0.02), epochs=1)
RATES = np.geomspace(1e-9, 10, 10).tolist()
TYPICAL = [2.31, 2.31, 2.31, 2.30, 2.2, 0.8, 0.31, 0.36, math.nan, math.nan]
NAN = math.nan

# A range test as it should be: a plateau, the longest fall from the second rate on, a cliff.
HALF_DECADES = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0]
FALL = [1.9, 2.3, 2.2, 2.0, 1.2, 0.8, 0.7, 0.9, 30.0]


class Restless(nn.Module):
    """Changes nothing, but draws from Python's and NumPy's global generators."""

    def forward(self, features):
        random.random()
        np.random.rand()
        return features


def some_updates(model, optimizer, train, scale, order, n):
    for batch in list(loop.minibatches(len(train), 64, order))[:n]:
        optimizer.zero_grad(set_to_none=True)
        accumulate_gradient(model, train, batch, scale)
        optimizer.step()


def do_range_test(train, scale, **options):
    model = networks.build("lenet5", 10, 0)
    order = torch.Generator().manual_seed(0)
    return learning_rates.lr_range_test(model, loop.sgd(model, RUN), train, scale, order, **options)


@pytest.mark.parametrize("highest", [1.0, 1e4])
def test_training_after_a_range_test_equals_training_without(train, scale, highest):
    """Momentum, BatchNorm statistics, dropout, random states, modes: bit for bit, after NaN too."""

    def prepared():
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        lenet = networks.build("lenet5", 10, 0)
        head, tail = lenet.features[:3], lenet.features[3:]
        noisy = (nn.BatchNorm2d(6), nn.Dropout(0.3), Restless())
        model = nn.Sequential(head, *noisy, tail, lenet.classifier).train()
        model[0].eval()
        optimizer = loop.sgd(model, RUN)
        order = torch.Generator().manual_seed(7)
        some_updates(model, optimizer, train, scale, order, 2)
        return model, optimizer, order

    plain, optimizer, order = prepared()
    some_updates(plain, optimizer, train, scale, order, 3)
    expected = torch.rand(3), random.random(), np.random.rand()

    model, optimizer, order = prepared()
    modes = [module.training for module in model.modules()]
    gradients = [weight.grad.clone() for weight in model.parameters()]
    began = order.get_state()
    learning_rates.lr_range_test(
        model, optimizer, train, scale, order, highest=highest, num_updates=40
    )
    assert [module.training for module in model.modules()] == modes
    assert all(map(torch.equal, gradients, [weight.grad for weight in model.parameters()]))
    assert torch.equal(order.get_state(), began)
    some_updates(model, optimizer, train, scale, order, 3)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), f"{name} differs"
    assert torch.equal(torch.rand(3), expected[0])
    assert (random.random(), np.random.rand()) == expected[1:]


def test_the_range_test_stops_on_divergence_and_rises_exponentially(train, scale):
    found = do_range_test(train, scale, lowest=1e-4, highest=1e4, num_updates=81)
    assert found.diverged_at == found.learning_rates[-1] < 1e4
    np.testing.assert_allclose(np.diff(np.log10(found.learning_rates)), 0.1)
    assert len(found.losses) == len(found.smoothed) == len(found.learning_rates) < 81


def test_a_range_test_of_harmless_rates_ends_at_the_highest(train, scale):
    found = do_range_test(train, scale, lowest=1e-9, highest=1e-6, num_updates=31)
    assert found.diverged_at is None
    assert found.learning_rates[-1] == pytest.approx(1e-6) and len(found.losses) == 31


def test_each_loss_of_a_range_test_is_that_before_the_update(train, scale):
    """With one batch of all images: first the untrained network's loss, then lower ones."""
    found = do_range_test(
        train, scale, lowest=0.01, highest=0.02, num_updates=5, batch_size=len(train)
    )
    untrained = evaluate(networks.build("lenet5", 10, 0), train, scale).loss
    assert found.losses[0] == pytest.approx(untrained, rel=1e-5)
    assert found.losses == sorted(found.losses, reverse=True)


def test_a_range_test_goes_on_smoothly_into_further_epochs(train, scale):
    """384 images are six batches: each later batch holds other images than the one before."""
    found = do_range_test(train, scale, lowest=1e-12, highest=1e-11, num_updates=13)
    assert len(set(np.round(found.losses, 6))) > 7, "the same six batches again and again"
    first, second = found.losses[:6], found.losses[6:12]
    assert np.mean(first) == pytest.approx(np.mean(second), rel=1e-5), "not every image once"


@pytest.mark.parametrize(
    "wrong",
    [{"lowest": 0}, {"lowest": 1, "highest": 0.1}, {"window": 0}, {"window": 2.5},
     {"num_updates": 1}, {"batch_size": 0}, {"batch_size": 10_000}, {"stop_at": 1.0},
     {"stop_at": math.nan}],
)  # fmt: skip
def test_a_range_test_that_makes_no_sense_is_refused(train, scale, wrong):
    with pytest.raises(ValueError):
        do_range_test(train, scale, **wrong)


def test_an_optimiser_of_another_network_is_refused(train, scale):
    model, other = networks.build("lenet5", 10, 0), networks.build("lenet5", 10, 0)
    with pytest.raises(ValueError, match="other parameters"):
        learning_rates.lr_range_test(model, loop.sgd(other, RUN), train, scale, torch.Generator())


losses_of_a_curve = st.lists(st.floats(0.01, 9), min_size=1, max_size=30)


@given(half=losses_of_a_curve, window=st.integers(1, 15))
def test_smoothing_does_not_shift_a_symmetric_curve(half, window):
    """Nor by one place: a running average would have its valley at too high a rate."""
    found = learning_rates.smooth([*half, 0.0, *half[::-1]], window)
    assert found == pytest.approx(found[::-1])


@pytest.mark.parametrize("window", [1, 2, 5, 41, 1_000])
def test_smoothing_leaves_a_straight_line_straight_to_its_ends(window):
    line = np.linspace(2.3, 0.3, 100).tolist()
    assert learning_rates.smooth(line, window) == pytest.approx(line)


def test_smoothing_averages_over_a_window():
    assert learning_rates.smooth([0, 0, 0, 5, 0, 0, 0], 5) == [0, 0, 1, 1, 1, 0, 0]


def test_smoothing_leaves_out_losses_that_are_not_finite():
    assert learning_rates.smooth([1, NAN, 3, 5, math.inf], 3)[:4] == [1, 2, 4, 4]
    assert math.isnan(learning_rates.smooth([1, NAN, 3, 5, math.inf], 3)[-1])


def range_test(smoothed):
    rates = HALF_DECADES[: len(smoothed)]
    return RangeTest(rates, smoothed, smoothed, None)


def test_the_mean_curve_ends_where_the_first_range_test_ended():
    """Otherwise the last rates would show only the seeds that were lucky."""
    long, short = range_test([2.0, 1.0, 0.5, 0.4, 0.3]), range_test([4.0, 2.0, 1.5])
    for tests in ([long, short], [short, long]):
        rates, losses = learning_rates.mean_curve(tests)
        assert rates.tolist() == HALF_DECADES[:3]
        assert losses.tolist() == [3.0, 1.5, 1.0]


def test_a_last_loss_that_is_not_finite_is_no_part_of_the_mean_curve():
    rates, losses = learning_rates.mean_curve(
        [range_test([2.0, 1.0, 0.5, NAN]), range_test([2.0, 2.0, 1.5, 0.5])]
    )
    assert rates.tolist() == HALF_DECADES[:3] and losses.tolist() == [2.0, 1.5, 1.0]


def test_each_rule_finds_its_rate_on_a_curve_made_by_hand():
    found = {name: rule(HALF_DECADES, FALL) for name, rule in RULES.items()}
    assert found == {
        "steepest descent": 1e-2,
        "minimum / 10": pytest.approx(1e-2),
        "valley": 3e-3,  # half way from the second place to the seventh
        "Smith: the fall slows": 3e-2,  # 1.2 less 90 % is 0.82
        "minimum": 0.1,
    }


def test_the_steepest_descent_of_an_s_is_its_middle():
    rates = np.geomspace(1e-4, 1, 401)
    fall = 2.3 - 1.8 / (1 + np.exp(-6 * (np.log10(rates) + 2.5)))
    cliff = np.where(rates > 0.3, 1e3 * (rates - 0.3), 0)
    assert learning_rates.steepest_descent(rates, fall + cliff) == pytest.approx(10**-2.5)


def test_the_valley_leaves_out_a_loss_that_lies_between():
    spiked = [*FALL[:3], 9.0, *FALL[3:]]
    rates = np.geomspace(1e-4, 1, len(spiked))
    assert learning_rates.valley(rates, spiked) == pytest.approx(rates[4])  # from 1 to 7


@pytest.mark.parametrize("plateau", [2, 6, 60])
def test_a_long_plateau_before_the_fall_does_not_move_the_valley(plateau):
    """The rate that fastai's own function returns for these losses, whatever the plateau."""
    wiggles = [2.32, *[2.30, 2.31] * (plateau // 2)]
    fall = [2.30, 2.31, 2.0, 1.5, 1.0, 0.5, 0.6]
    rates = np.geomspace(1e-4, 1, len(wiggles) + len(fall))
    assert learning_rates.valley(rates, wiggles + fall) == rates[len(wiggles) + 1]


def test_smiths_bounds_are_a_tenth_and_nine_tenths_down():
    losses = [20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 50]
    rates = np.geomspace(1e-4, 1, len(losses))
    assert learning_rates.smith_bounds(rates, losses) == (rates[1], rates[9])


curves_over_rising_rates = st.lists(
    st.one_of(st.floats(0.01, 9), st.sampled_from([NAN, math.inf])), min_size=1, max_size=40
)


@given(losses=curves_over_rising_rates)
def test_no_rule_reads_a_rate_beyond_the_minimum(losses):
    """Or it says that there is no valley to read; whatever diverged, and wherever."""
    rates = np.geomspace(1e-4, 1, len(losses)).tolist()
    finite = [(loss, rate) for rate, loss in zip(rates, losses, strict=True) if loss < math.inf]
    for name, rule in RULES.items():
        try:
            found = rule(rates, losses)
        except ValueError as error:
            assert any(word in str(error) for word in ("only rises", "diverged")), name
            continue
        assert 0 < found <= min(finite)[1], f"{name}: beyond the minimum"


@given(losses=losses_of_a_curve, beyond=losses_of_a_curve, factor=st.floats(0.1, 10))
def test_what_comes_after_the_minimum_changes_no_rule(losses, beyond, factor):
    losses = [9.5, 9.4, *losses, 0.001]
    rates = np.geomspace(1e-4, 1, len(losses) + len(beyond))
    for name, rule in RULES.items():
        expected = rule(rates[: len(losses)], losses)
        assert rule(rates, [*losses, *beyond]) == expected, name


@given(losses=losses_of_a_curve, factor=st.sampled_from([0.125, 4.0]))
def test_other_units_of_loss_and_rate_change_no_rule(losses, factor):
    """Factors that a computer multiplies without rounding."""
    losses = np.array([9.5, 9.4, *losses])
    assume(np.argmin(losses) >= 2)
    rates = np.geomspace(1e-4, 1, len(losses))
    for name, rule in RULES.items():
        expected = rule(rates, losses)
        assert rule(rates, losses * factor) == expected, name
        assert rule(rates * factor, losses) == pytest.approx(expected * factor), name


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([0.3, 0.4, 0.9, 2.3], "only rises"),
        ([NAN, NAN, math.inf], "every learning rate diverged"),
        ([], "as many losses as learning rates"),
        ([[2.3, 0.5]], "as many losses as learning rates"),
    ],
)
def test_a_rule_without_a_valley_says_so(rule, losses, words):
    with pytest.raises(ValueError, match=words):
        rule(RATES[: len(losses)], losses)


def test_a_typical_curve_gives_the_valley():
    bounds = learning_rates.suggest_lr_bounds(RATES, TYPICAL)
    assert bounds.lr_max == RATES[7]
    assert RATES[5] < bounds.lr_min < RATES[6]
    assert all(type(value) is float for value in bounds)


def test_lr_min_lies_on_the_straight_line_over_log_learning_rate():
    bounds = learning_rates.suggest_lr_bounds([1e-4, 1e-2, 1e-1], [2.0, 1.0, 1.0], progress=0.5)
    assert bounds.lr_min == pytest.approx(1e-3)
    assert bounds.lr_max == 1e-1


def test_a_lucky_rate_above_a_diverged_one_is_not_chosen():
    losses = [2.3, 2.3, 2.3, 2.3, 2.3, 2.3, 0.5, NAN, 0.4, math.inf]
    bounds = learning_rates.suggest_lr_bounds(RATES, losses)
    assert bounds == (RATES[6] / 4, RATES[6])


def test_a_finite_spike_on_the_way_down_does_not_shift_the_starting_level():
    plain = learning_rates.suggest_lr_bounds(RATES, TYPICAL)
    spiked = learning_rates.suggest_lr_bounds(RATES, [2.31, 2.31, 2.31, 9.0, *TYPICAL[4:]])
    assert spiked == plain
    beyond = learning_rates.suggest_lr_bounds(RATES[:4], [2.3, 0.30, 0.32, 50.0])
    assert beyond.lr_max == RATES[2], "a spike beyond the best rate sets the starting level"


def test_several_seeds_at_one_rate_are_averaged_and_one_divergence_counts():
    bounds = learning_rates.suggest_lr_bounds(
        [1e-3, 1e-3, 0.1, 0.1, 1, 1], [2.3, 2.3, 0.5, 0.3, 0.2, NAN]
    )
    assert bounds.lr_max == 0.1


curves = st.lists(
    st.tuples(
        st.floats(1e-9, 10, allow_subnormal=False),
        st.one_of(st.floats(0.01, 5), st.sampled_from([NAN, math.inf])),
    ),
    min_size=1,
    max_size=30,
)


@given(curve=curves, seed=st.integers(0, 99))
def test_any_curve_gives_sound_bounds_in_any_order_or_a_clear_error(curve, seed):
    rates, losses = map(list, zip(*curve, strict=True))
    shuffled = np.random.default_rng(seed).permutation(len(rates))
    try:
        bounds = learning_rates.suggest_lr_bounds(rates, losses)
    except ValueError as error:
        assert any(word in str(error) for word in ("diverged", "learned", "only rises"))
        with pytest.raises(ValueError):
            learning_rates.suggest_lr_bounds(np.array(rates)[shuffled], np.array(losses)[shuffled])
        return
    assert 0 < bounds.lr_min < bounds.lr_max
    diverged = [rate for rate, loss in curve if not math.isfinite(loss)]
    assert all(bounds.lr_max < rate for rate in diverged)
    again = learning_rates.suggest_lr_bounds(np.array(rates)[shuffled], np.array(losses)[shuffled])
    assert again == pytest.approx(bounds)


@pytest.mark.parametrize(
    ("rates", "losses", "words"),
    [
        ([0.1, 1], [NAN, math.inf], "every learning rate diverged"),
        ([0.1, 1], [2.3, 2.3], "no learning rate learned"),
        ([0.1, 1], [2.3], "as many losses"),
        ([], [], "as many losses"),
        ([0.0, 1], [2.3, 1.0], "greater than 0"),
        ([NAN, 1], [2.3, 1.0], "greater than 0"),
    ],
)
def test_a_hopeless_curve_is_refused(rates, losses, words):
    with pytest.raises(ValueError, match=words):
        learning_rates.suggest_lr_bounds(rates, losses)


@pytest.mark.parametrize(
    ("losses", "lowest", "highest"),
    [
        ([2.3, 2.3, 2.3, 0.4, 2.3, 2.3, 2.3, 0.5, 0.35, NAN], 7, 8),  # the gap is below the best
        ([2.3, 2.3, 2.3, 0.5, 0.35, 2.3, 2.3, 2.3, 0.4, NAN], 3, 4),  # the gap is above it
    ],
)
def test_the_useful_range_never_crosses_rates_that_learn_nothing(losses, lowest, highest):
    found = learning_rates.suggest_lr_bounds(RATES, losses)
    assert found.lr_max == RATES[highest]
    assert RATES[lowest - 1] < found.lr_min < RATES[lowest]


@pytest.mark.parametrize(
    "losses",
    [
        [2.3] * 7 + [0.5, NAN, NAN],
        [2.3, 2.3, 2.3, 0.4, 2.3, 2.3, 2.3, 0.35, NAN, NAN],
        [2.3] * 7 + [0.5, 2.3, 2.3],
    ],
)
def test_a_range_of_a_single_rate_starts_at_a_quarter_of_it(losses):
    assert learning_rates.suggest_lr_bounds(RATES, losses) == (RATES[7] / 4, RATES[7])


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([0.3, 0.4, 0.9, 2.3], "only rises from the lowest learning rate"),
        ([1.0, 2.0], "only rises from the lowest learning rate"),
        ([2.3, 2.3, 2.3, 9.0], "no learning rate learned"),  # flat, then a cliff: not "rises"
        ([NAN, 2.3, 0.5, 0.4], "the lowest learning rate, 1e-09, diverged"),
        ([NAN, NAN, math.inf, NAN], "every learning rate diverged"),
    ],
)
def test_a_curve_without_a_valley_is_refused_for_the_reason_it_has(losses, words):
    with pytest.raises(ValueError, match=words):
        learning_rates.suggest_lr_bounds(RATES[: len(losses)], losses)
