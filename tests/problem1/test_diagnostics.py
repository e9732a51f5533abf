import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from hw3utils.data.images import ImageSet
from hw3utils.problem1 import diagnostics
from hw3utils.training import loop, networks
from hw3utils.training.batches import accumulate_gradient
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant

RUN = Run("lenet5", Constant(0.02), epochs=1)
RATES = np.geomspace(1e-9, 10, 10)
NAN = math.nan


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

    tested, optimizer, order = prepared()
    modes = [module.training for module in tested.modules()]
    gradients = [weight.grad.clone() for weight in tested.parameters()]
    began = order.get_state()
    diagnostics.lr_range_test(
        tested, optimizer, train, scale, order, highest=highest, num_updates=40
    )
    assert [module.training for module in tested.modules()] == modes
    assert all(map(torch.equal, gradients, [weight.grad for weight in tested.parameters()]))
    assert torch.equal(order.get_state(), began)
    some_updates(tested, optimizer, train, scale, order, 3)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, tested.state_dict()[name]), f"{name} differs"
    assert torch.equal(torch.rand(3), expected[0])
    assert (random.random(), np.random.rand()) == expected[1:]


def test_the_range_test_stops_on_divergence_and_rises_exponentially(train, scale):
    model = networks.build("lenet5", 10, 0)
    found = diagnostics.lr_range_test(
        model, loop.sgd(model, RUN), train, scale, torch.Generator().manual_seed(0),
        lowest=1e-4, highest=1e4, num_updates=81,
    )  # fmt: skip
    assert found.diverged_at is not None and found.diverged_at < 1e4
    ratios = np.diff(np.log10(found.learning_rates))
    np.testing.assert_allclose(ratios, 0.1)
    assert len(found.losses) == len(found.smoothed) == len(found.learning_rates) < 81


def test_smoothing_is_corrected_for_its_start(train, scale):
    model = networks.build("lenet5", 10, 0)
    found = diagnostics.lr_range_test(
        model, loop.sgd(model, RUN), train, scale, torch.Generator(), num_updates=5,
        lowest=1e-9, highest=1e-8,
    )  # fmt: skip
    weights = 0.95 ** np.arange(5)[::-1]
    assert found.smoothed[0] == pytest.approx(found.losses[0])
    assert found.smoothed[-1] == pytest.approx(np.average(found.losses, weights=weights))


@pytest.mark.parametrize(
    "wrong",
    [{"lowest": 0}, {"lowest": 1, "highest": 0.1}, {"smoothing": 1.0}, {"num_updates": 1},
     {"batch_size": 0}, {"batch_size": 10_000}, {"stop_at": 0.5}, {"stop_at": math.nan}],
)  # fmt: skip
def test_a_range_test_that_makes_no_sense_is_refused(train, scale, wrong):
    model = networks.build("lenet5", 10, 0)
    with pytest.raises(ValueError):
        diagnostics.lr_range_test(
            model, loop.sgd(model, RUN), train, scale, torch.Generator(), **wrong
        )


def test_an_optimiser_of_another_network_is_refused(train, scale):
    model, other = networks.build("lenet5", 10, 0), networks.build("lenet5", 10, 0)
    with pytest.raises(ValueError, match="other parameters"):
        diagnostics.lr_range_test(model, loop.sgd(other, RUN), train, scale, torch.Generator())


def test_the_noise_scale_finds_a_known_one():
    """A linear model on points whose gradients are known: G and the covariance can be computed."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4_000, 1, 2, 2), generator=generator, dtype=torch.uint8)
    labels = (images.float().mean((1, 2, 3)) > 127).long()
    points = ImageSet(images, labels, ("dark", "bright"))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))

    def scaled(raw):
        return raw.float() / 255

    logits = model(scaled(images))
    errors = torch.softmax(logits, 1) - nn.functional.one_hot(labels, 2)
    inputs = torch.cat([scaled(images).flatten(1), torch.ones(4_000, 1)], 1)
    each = (errors[:, :, None] * inputs[:, None, :]).flatten(1).detach()
    expected = each.var(0).sum() / each.mean(0).square().sum()
    found = diagnostics.gradient_noise_scale(
        model, points, scaled, torch.Generator().manual_seed(1), small_batch=16, repetitions=60
    )
    assert found.simple == pytest.approx(float(expected), rel=0.15)


def test_measuring_the_noise_scale_changes_nothing(train, scale):
    model = networks.build("lenet5", 10, 0)
    before = copy.deepcopy(model.state_dict())
    generator = torch.Generator().manual_seed(0)
    found = diagnostics.gradient_noise_scale(
        model, train, scale, generator, small_batch=16, small_in_big=8, repetitions=2
    )
    assert math.isfinite(found.simple) and found.simple > 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())


def test_a_big_batch_beyond_the_data_is_refused(train, scale):
    model = networks.build("lenet5", 10, 0)
    with pytest.raises(ValueError, match="exceeds the 384 training images"):
        diagnostics.gradient_noise_scale(model, train, scale, torch.Generator())


@pytest.mark.parametrize(
    ("losses", "lowest", "highest"),
    [
        ([2.3, 2.3, 2.3, 0.4, 2.3, 2.3, 2.3, 0.5, 0.35, NAN], 7, 8),  # the gap is below the best
        ([2.3, 2.3, 2.3, 0.5, 0.35, 2.3, 2.3, 2.3, 0.4, NAN], 3, 4),  # the gap is above it
    ],
)
def test_the_useful_range_never_crosses_rates_that_learn_nothing(losses, lowest, highest):
    found = diagnostics.suggest_lr_bounds(RATES, losses)
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
    assert diagnostics.suggest_lr_bounds(RATES, losses) == (RATES[7] / 4, RATES[7])


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
        diagnostics.suggest_lr_bounds(RATES[: len(losses)], losses)
