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
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant

LAYERS = ["convolution 1", "convolution 2", "linear 1", "linear 2"]


def order(seed=0):
    return torch.Generator().manual_seed(seed)


def scaled(raw):
    return raw.float() / 255


def linear_model_with_known_gradients(n=2_000):
    """A linear model on ``n`` points, and the gradient of each: |G|² and tr Σ in closed form."""
    images = torch.randint(0, 256, (n, 1, 2, 2), generator=order(), dtype=torch.uint8)
    labels = (images.float().mean((1, 2, 3)) > 127).long()
    points = ImageSet(images, labels, ("dark", "bright"))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        errors = torch.softmax(model(scaled(images)), 1) - nn.functional.one_hot(labels, 2)
    inputs = torch.cat([scaled(images).flatten(1), torch.ones(n, 1)], 1)
    each = (errors[:, :, None] * inputs[:, None, :]).flatten(1).double()
    return model, points, float(each.mean(0).square().sum()), float(each.var(0).sum())


def test_the_noise_scale_of_single_images_is_the_formula_itself():
    """In minibatches of one image nothing is estimated: tr Σ / |G|² over all images."""
    model, points, squared, trace = linear_model_with_known_gradients()
    found = diagnostics.gradient_noise_scale(model, points, scaled, order(), batch_size=1)
    assert found.gradient_squared == pytest.approx(squared, rel=1e-4)
    assert found.covariance_trace == pytest.approx(trace, rel=1e-4)
    assert found.simple == pytest.approx(trace / squared, rel=1e-3)
    assert found.reason == ""


def test_in_minibatches_the_noise_scale_is_unbiased_and_its_interval_honest():
    """Over many orders: the mean is exact, and no fewer than 95 in 100 intervals hold it."""
    model, points, squared, trace = linear_model_with_known_gradients()
    found = [
        diagnostics.gradient_noise_scale(model, points, scaled, order(seed), batch_size=40)
        for seed in range(150)
    ]
    assert all(scale.gradient_squared == pytest.approx(squared, rel=1e-4) for scale in found)
    traces = np.array([scale.covariance_trace for scale in found])
    error = traces.std(ddof=1) / math.sqrt(len(traces))
    assert abs(traces.mean() - trace) < 3 * error < 0.1 * trace
    held = [scale.low <= trace / squared <= scale.high for scale in found]
    assert np.mean(held) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / len(held))


def test_the_noise_scale_leaves_out_images_that_fill_no_minibatch():
    model, points, *_ = linear_model_with_known_gradients(103)
    used = torch.randperm(103, generator=order())[:100]
    whole = diagnostics.gradient_noise_scale(model, points, scaled, order(), batch_size=10)
    part = diagnostics.gradient_noise_scale(
        model, points.subset(used), scaled, order(1), batch_size=100 // 2
    )
    assert whole.gradient_squared == pytest.approx(part.gradient_squared, rel=1e-4)


def test_measuring_the_noise_scale_changes_nothing(train, scale):
    """Dropout draws from the global generator, BatchNorm counts, gradients are there: all stay."""
    torch.manual_seed(3)
    random.seed(3)
    expected = torch.rand(2), random.random()
    torch.manual_seed(3)
    random.seed(3)
    model, generator = networks.build("teacher", 10, 0).eval(), order()
    nn.functional.cross_entropy(model(scale(train.images[:9])), train.labels[:9]).backward()
    before = copy.deepcopy(model.state_dict())
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    found = diagnostics.gradient_noise_scale(model, train, scale, generator, batch_size=32)
    assert found.low < found.simple < found.high
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(map(torch.equal, gradients, [part.grad for part in model.parameters()]))
    assert not model.training
    assert torch.equal(generator.get_state(), order().get_state())
    assert torch.equal(torch.rand(2), expected[0]) and random.random() == expected[1]


def missing(found):
    return [
        name
        for name in ("simple", "low", "high", "gradient_squared", "covariance_trace")
        if math.isnan(getattr(found, name))
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_noise_scale_of_a_diverged_network_is_missing_with_its_reason(train, scale, value):
    model = networks.build("lenet5", 10, 0)
    with torch.no_grad():
        model.classifier.weight[0, 0] = value
    found = diagnostics.gradient_noise_scale(model, train, scale, order())
    assert len(missing(found)) == 5
    assert "not finite" in found.reason


def test_the_noise_scale_of_a_network_without_gradient_is_missing_with_its_reason(train, scale):
    """Its last layer passes nothing back, and is not trained itself."""
    model = networks.build("lenet5", 10, 0)
    nn.init.zeros_(model.classifier.weight)
    model.classifier.requires_grad_(False)
    found = diagnostics.gradient_noise_scale(model, train, scale, order())
    assert missing(found) == ["simple", "low", "high", "covariance_trace"]
    assert found.gradient_squared == 0 and "exactly zero" in found.reason


@pytest.mark.parametrize(("batch_size", "words"), [(193, "do not fill two"), (0, "batch_size=0")])
def test_a_noise_scale_of_fewer_than_two_minibatches_is_refused(train, scale, batch_size, words):
    model = networks.build("lenet5", 10, 0)
    with pytest.raises(ValueError, match=words):
        diagnostics.gradient_noise_scale(model, train, scale, order(), batch_size=batch_size)


def test_a_worker_measures_the_network_that_it_is_sent(train, scale):
    run = Run("lenet5", Constant(0.05), epochs=2)
    model = networks.build("lenet5", 10, 0)
    loop.fit(model, run, train, train, scale)
    here = diagnostics.gradient_noise_scale(model, train, scale, order())
    sent = diagnostics.measure_noise(
        "lenet5", model.state_dict(), train.class_names, scale, train.images, train.labels
    )
    assert diagnostics.NoiseScale(**sent) == here


def test_the_first_updates_are_those_of_the_run(train, validation, scale):
    """Six updates are the whole first epoch: their mean is the loss that the run reports."""
    run = Run("lenet5", Constant(0.02), epochs=1, seed=5)
    result = loop.fit(networks.build("lenet5", 10, 5), run, train, validation, scale)
    found = diagnostics.first_updates(run, train, scale, num_updates=6)
    assert np.mean(found.losses) == pytest.approx(result.final["train_loss"], rel=1e-5)
    assert diagnostics.first_updates(run, train, scale, num_updates=2).losses == found.losses[:2]
    assert list(found.dead) == LAYERS and max(found.dead.values()) < 0.5


def test_the_first_updates_of_an_exploding_run_end_without_an_error(train, scale):
    run = Run("lenet5", Constant(1e6), epochs=1)
    losses = diagnostics.first_updates(run, train, scale, num_updates=6).losses
    assert len(losses) == 6
    assert losses[0] == pytest.approx(math.log(10), rel=0.05), "untrained, it guesses"
    assert not math.isfinite(losses[-1])


def test_dead_units_of_layers_killed_by_hand(train, scale):
    """A dead second convolution sends zeros on: then the next layer's biases alone decide."""
    model = networks.build("lenet5", 10, 0).train()
    inputs = scale(train.images[:50])
    alive = diagnostics.dead_units(model, inputs)
    assert list(alive) == LAYERS and alive["convolution 1"] == 0
    with torch.no_grad():
        model.features[0].bias[:3] = -1e6
        model.features[3].bias[:] = -1e6
    biases = model.features[7].bias
    found = diagnostics.dead_units(model, inputs)
    assert found["convolution 1"] == 0.5 and found["convolution 2"] == 1
    assert found["linear 1"] == pytest.approx(float((biases < 0).double().mean()))
    assert model.training


def test_a_unit_that_answers_to_one_image_is_not_dead():
    """One pixel of one image among fifty is bright; the other unit wants a dark one below zero."""
    model = nn.Module()
    model.features = nn.Sequential(nn.Conv2d(1, 2, kernel_size=1), nn.ReLU())
    with torch.no_grad():
        model.features[0].weight[:] = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        model.features[0].bias[:] = 0
    inputs = torch.zeros(50, 1, 4, 4)
    assert diagnostics.dead_units(model, inputs) == {"convolution 1": 1}
    inputs[17, 0, 2, 3] = 0.1
    assert diagnostics.dead_units(model, inputs) == {"convolution 1": 0.5}
