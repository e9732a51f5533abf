"""Looks at a network as it stands, on a copy of it: its gradient noise scale, its dead units."""

import copy
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hw3utils.checks import check_whole_number
from hw3utils.data.images import ImageSet, Scale
from hw3utils.training import fingerprints, loop, networks
from hw3utils.training.batches import accumulate_gradient, evaluation_mode, random_states_put_back
from hw3utils.training.intervals import mean_interval
from hw3utils.training.runs import Run


@dataclass(frozen=True)
class NoiseScale:
    """The gradient noise scale and its parts; NaN where it cannot be had, with the reason."""

    # B_simple = tr Σ / |G|², in images: far below it doubling the batch halves the number of
    # updates that are needed, far above it doubling brings almost nothing.
    simple: float
    low: float  # the 95 % interval of the estimate of tr Σ, divided by |G|²
    high: float
    gradient_squared: float  # |G|², the squared length of the gradient over all images
    covariance_trace: float  # the estimate of tr Σ, the summed variance of one image's gradient
    reason: str = ""  # why there is no number


def gradient_noise_scale(
    model: nn.Module,
    train: ImageSet,
    scale: Scale,
    generator: torch.Generator,
    *,
    batch_size: int = 64,
) -> NoiseScale:
    """Measure the gradient noise scale of a network over the training images, on a copy of it.

    One pass over all images in minibatches of B, in an order drawn from ``generator`` (images that
    fill no batch are left out). The mean of the n minibatch gradients g is the gradient G of the
    whole set, not an estimate of it; their spread round G estimates the summed variance of a single
    image's gradient, tr Σ = B/(n − 1) · Σ|g − G|². B_simple = tr Σ / |G|² is that of
    McCandlish et al. 2018 (1812.06162, eq. 2.9).

    Raises a ValueError where the images do not fill two minibatches.
    """
    check_whole_number("batch_size", batch_size)
    count = len(train) // batch_size
    if count < 2:
        raise ValueError(f"{len(train)} images do not fill two batches of {batch_size}")
    model = copy.deepcopy(model)
    order = torch.randperm(len(train), generator=generator.clone_state())
    batches = order[: count * batch_size].split(batch_size)
    with random_states_put_back():
        model.train()
        gradients = [_gradient(model, train, batch, scale) for batch in batches]
    whole = torch.stack(gradients).mean(dim=0, dtype=torch.float64)  # squares overflow in float32
    squared = float(whole.square().sum())
    if not math.isfinite(squared):
        return NoiseScale(*[math.nan] * 5, reason="weights or gradients are not finite")
    if squared == 0:
        return NoiseScale(*[math.nan] * 3, 0.0, math.nan, reason="the gradient is exactly zero")
    apart = [float((gradient.double() - whole).square().sum()) for gradient in gradients]
    trace = mean_interval([batch_size * count / (count - 1) * square for square in apart])
    return NoiseScale(*(value / squared for value in trace), squared, trace.mean)


@fingerprints.task
def measure_noise(
    model_name: str,
    state: dict[str, Tensor],
    class_names: tuple[str, ...],
    scale: Scale,
    images: Tensor,
    labels: Tensor,
) -> dict[str, Any]:
    """Measure the noise scale of a network with the weights ``state``: a worker's whole task."""
    train = ImageSet(images, labels, class_names)
    model = networks.build(model_name, train.num_classes, 0)
    model.load_state_dict(state)
    return vars(gradient_noise_scale(model, train, scale, torch.Generator().manual_seed(0)))


class FirstUpdates(NamedTuple):
    """How a run began."""

    losses: list[float]  # of the minibatch before each update, in nats
    dead: dict[str, float]  # of each ReLU layer: the share of units that are dead afterwards


def first_updates(run: Run, train: ImageSet, scale: Scale, num_updates: int = 30) -> FirstUpdates:
    """Return the loss at each of a run's first updates, and which share of its units died."""
    model = networks.build(run.model, train.num_classes, run.seed)
    optimizer = loop.sgd(model, run)
    order = torch.Generator().manual_seed(run.seed)
    losses = []
    batches = list(loop.minibatches(len(train), run.batch_sizes[0], order))
    for batch in batches[:num_updates]:
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(accumulate_gradient(model, train, batch, scale)[0]) / len(batch))
        optimizer.step()
    return FirstUpdates(losses, dead_units(model, scale(train.images[:1_000])))


def dead_units(model: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Return for each ReLU layer the share of its units (channels) that are 0 for every input.

    NaN where some values of the layer are no numbers. ``inputs`` are as the network takes them; its
    ``features`` are a chain of layers.
    """
    shares: dict[str, float] = {}
    with evaluation_mode(model):
        values, name = inputs, ""
        for layer in model.features:
            values = layer(values)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                kind = "convolution" if isinstance(layer, nn.Conv2d) else "linear"
                name = f"{kind} {1 + sum(other.startswith(kind) for other in shares)}"
            if isinstance(layer, nn.ReLU):
                units = values.transpose(0, 1).flatten(1)
                dead = (units == 0).all(dim=1).double().mean()
                shares[name] = float(dead) if units.isfinite().all() else math.nan
    return shares


def _gradient(model: nn.Module, images: ImageSet, batch: Tensor, scale: Scale) -> Tensor:
    """Return the gradient of the mean loss over ``batch`` as one vector."""
    model.zero_grad(set_to_none=True)
    accumulate_gradient(model, images, batch, scale)
    return torch.cat(
        [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    )
