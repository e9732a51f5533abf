"""Measurements on a network that leave it as it was: the LR range test, the gradient noise scale.

Both look at training without training anything that is kept.
"""

import contextlib
import copy
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hw3utils.checks import check_whole_number
from hw3utils.data.images import ImageSet, Scale
from hw3utils.training.batches import accumulate_gradient
from hw3utils.training.loop import minibatches


@dataclass(frozen=True)
class RangeTest:
    """The curve of an LR range test."""

    learning_rates: list[float]  # one for each update, rising exponentially
    losses: list[float]  # the minibatch loss before each update, in nats
    # Its bias-corrected exponential mean; the last value is not finite if the test stopped at a
    # loss that was not.
    smoothed: list[float]
    diverged_at: float | None  # the rate at which the test stopped; None if it reached the highest


def lr_range_test(
    model: nn.Module,
    optimizer: Optimizer,
    train: ImageSet,
    scale: Scale,
    generator: torch.Generator,
    *,
    batch_size: int = 64,
    lowest: float = 1e-6,
    highest: float = 10.0,
    num_updates: int = 500,
    smoothing: float = 0.95,
    stop_at: float = 1.1,
) -> RangeTest:
    """Train a copy once while the learning rate rises exponentially, and record the loss.

    After Smith 2017 (1506.01186, Sec. 3.3), with an exponential instead of a linear rise. The loss
    is smoothed as m ← β·m + (1 − β)·loss and corrected for its start by 1 − β^t. The test stops
    when the smoothed loss exceeds ``stop_at`` times the first one, or is not finite. Model,
    optimiser, ``generator`` and the global random states are left as they are: training afterwards
    is, bit for bit, what it would have been without.

    Parameters
    ----------
    optimizer : Optimizer
        The optimiser to be tested, over the model's parameters.
    batch_size, num_updates : int
        Images for each update, and how many updates at most.
    lowest, highest : float
        First and last learning rate.
    smoothing : float
        β, in [0, 1).
    stop_at : float
        Greater than 1: how many times its first value the smoothed loss may reach.

    Raises
    ------
    ValueError
        The rates are not 0 < lowest < highest, the smoothing is not in [0, 1), ``stop_at`` is not
        above 1, there are fewer than two updates, the batch size does not fit the data, or the
        optimiser is not over the model's parameters.
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"0 < lowest < highest expected, not {lowest} and {highest}")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing={smoothing}: must lie in [0, 1)")
    if not stop_at > 1:
        raise ValueError(f"stop_at={stop_at}: must be greater than 1")
    check_whole_number("num_updates", num_updates, at_least=2)
    check_whole_number("batch_size", batch_size)
    if batch_size > len(train):
        raise ValueError(f"batch_size={batch_size}: there are {len(train)} training images")
    own = set(map(id, model.parameters()))
    if not all(id(weight) in own for group in optimizer.param_groups for weight in group["params"]):
        raise ValueError("the optimiser is over other parameters than the model's")
    model, optimizer = copy.deepcopy((model, optimizer))  # in one go: it keeps them linked
    batches = _endless(len(train), batch_size, generator.clone_state())
    rates = np.geomspace(lowest, highest, num_updates).tolist()
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    with _random_states_put_back():
        model.train()
        for lr, batch in zip(rates, batches, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad(set_to_none=True)
            loss = float(accumulate_gradient(model, train, batch, scale)[0]) / len(batch)
            optimizer.step()
            mean = smoothing * mean + (1 - smoothing) * loss
            losses.append(loss)
            smoothed.append(mean / (1 - smoothing ** len(losses)))
            if not smoothed[-1] <= stop_at * smoothed[0]:
                return RangeTest(rates[: len(losses)], losses, smoothed, diverged_at=lr)
    return RangeTest(rates, losses, smoothed, diverged_at=None)


@dataclass(frozen=True)
class NoiseScale:
    """The gradient noise scale and its parts (McCandlish et al. 2018, 1812.06162)."""

    # B_simple = tr Σ / |G|², in images: far below it doubling the batch halves the number of
    # updates that are needed, far above it doubling brings almost nothing.
    simple: float
    gradient_squared: float  # the estimate of |G|², the squared length of the true gradient
    covariance_trace: float  # the estimate of tr Σ, the summed variance of one image's gradient


def gradient_noise_scale(
    model: nn.Module,
    train: ImageSet,
    scale: Scale,
    generator: torch.Generator,
    *,
    small_batch: int = 64,
    small_in_big: int = 16,
    repetitions: int = 20,
) -> NoiseScale:
    """Measure the gradient noise scale of a network as it stands, on a copy of it.

    Each repetition draws ``small_in_big`` batches of ``small_batch`` images; their mean gradient is
    that of the big batch. With 1812.06162, eqs. A.1 and A.2:
    |G|² ≈ (B_big·|G_big|² − B_small·|G_small|²) / (B_big − B_small) and
    tr Σ ≈ (|G_small|² − |G_big|²) / (1/B_small − 1/B_big), each averaged over the repetitions
    before they are divided.

    Raises a ValueError where a big batch does not fit the data, or fewer than 2 small batches make
    a big one; or the estimate of |G|² is not positive: take more repetitions.
    """
    big_batch = small_batch * small_in_big
    if small_batch < 1 or small_in_big < 2 or repetitions < 1:
        raise ValueError("small_batch ≥ 1, small_in_big ≥ 2 and repetitions ≥ 1 expected")
    if big_batch > len(train):
        raise ValueError(f"a big batch of {big_batch} exceeds the {len(train)} training images")
    model, generator = copy.deepcopy(model), generator.clone_state()
    squares = []
    with _random_states_put_back():
        model.train()
        for _ in range(repetitions):
            drawn = torch.randperm(len(train), generator=generator)[:big_batch]
            gradients = [
                _gradient(model, train, batch, scale) for batch in drawn.split(small_batch)
            ]
            small = torch.stack([gradient.square().sum() for gradient in gradients]).mean()
            squares.append((float(small), float(torch.stack(gradients).mean(0).square().sum())))
    small, big = np.mean(squares, axis=0)
    gradient_squared = (big_batch * big - small_batch * small) / (big_batch - small_batch)
    covariance_trace = (small - big) / (1 / small_batch - 1 / big_batch)
    if gradient_squared <= 0:
        raise ValueError(f"|G|² was estimated as {gradient_squared:.3g}: take more repetitions")
    return NoiseScale(covariance_trace / gradient_squared, gradient_squared, covariance_trace)


@contextlib.contextmanager
def _random_states_put_back() -> Iterator[None]:
    """Put the global random states of torch, Python and NumPy back as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _endless(num_images: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from minibatches(num_images, batch_size, generator)


def _gradient(model: nn.Module, images: ImageSet, batch: Tensor, scale: Scale) -> Tensor:
    """Return the gradient of the mean loss over ``batch`` as one vector."""
    model.zero_grad(set_to_none=True)
    accumulate_gradient(model, images, batch, scale)
    return torch.cat(
        [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    )


class LRBounds(NamedTuple):
    """The bounds of a useful range of learning rates."""

    lr_min: float
    lr_max: float


def suggest_lr_bounds(
    learning_rates: Sequence[float], losses: Sequence[float], progress: float = 0.9
) -> LRBounds:
    """Read lr_min and lr_max off a curve of training loss against learning rate.

    The rule. Rates whose loss is not finite have diverged; neither they nor any rate above the
    first of them is looked at. The loss at the lowest rate, which hardly learns, is the starting
    level. Going from the best rate of all (the lowest of equals) to both sides, the useful range
    lasts as long as the loss has made at least ``progress`` (90 %) of the way from the starting
    level down to the best loss: it has no gaps. lr_max is its largest rate; lr_min is where the
    curve, drawn in straight lines over log learning rate, enters it from below. A range of a
    single rate gets lr_min = lr_max / 4, after Smith 2017 (1506.01186, Sec. 3.3).

    Parameters
    ----------
    learning_rates : sequence of float
        Greater than 0, in any order; equal rates (several seeds) are averaged.
    losses : sequence of float
        The training loss at each rate; NaN or infinity where the run diverged.
    progress : float
        Between 0 and 1.

    Returns
    -------
    LRBounds
        Two floats, ``lr_min < lr_max``.

    Raises
    ------
    ValueError
        Lengths differ, a rate is not positive and finite, the lowest rate diverged, the loss only
        rises (at the lowest rate it is the best, and more than 1 % below the median), or no rate
        learned (the best loss is within 1 % of the starting level).
    """
    rates, values = _averaged_curve(learning_rates, losses)
    if not 0 < progress < 1:
        raise ValueError(f"progress={progress}: must lie between 0 and 1")
    diverged = ~np.isfinite(values)
    if diverged.all():
        raise ValueError("every learning rate diverged: try lower ones")
    if diverged[0]:
        raise ValueError(
            f"the lowest learning rate, {rates[0]:.3g}, diverged, so no higher one can be trusted"
        )
    if diverged.any():
        first = int(np.argmax(diverged))
        rates, values = rates[:first], values[:first]
    best, start = int(np.argmin(values)), values[0]
    if best == 0 and start < 0.99 * np.median(values):
        raise ValueError("the loss only rises from the lowest learning rate on: try lower ones")
    if not values[best] < 0.99 * start:
        raise ValueError("no learning rate learned: the losses are all alike; try higher ones")
    level = start - progress * (start - values[best])
    outside = np.flatnonzero(values > level)  # never empty: the lowest rate is at the start
    before = int(outside[outside < best][-1])
    last = int(min(outside[outside > best], default=len(rates))) - 1
    lr_max = float(rates[last])
    if before + 1 == last:
        return LRBounds(lr_max / 4, lr_max)
    crossing = _crossing(rates, values, before, level)
    return LRBounds(min(crossing, float(rates[before + 1])), lr_max)  # rounded, it may lie above


def _crossing(rates: np.ndarray, values: np.ndarray, before: int, level: float) -> float:
    """Return the rate between ``before`` and the next one at which the curve falls to ``level``."""
    log_rates = np.log(rates[before : before + 2])
    high, low = values[before : before + 2]
    return float(np.exp(log_rates[0] + np.diff(log_rates)[0] * (high - level) / (high - low)))


def _averaged_curve(
    learning_rates: Sequence[float], losses: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return rates in rising order, each once, with its mean loss (NaN if any run diverged)."""
    rates = np.asarray(learning_rates, dtype=np.float64)
    values = np.asarray(losses, dtype=np.float64)
    if rates.ndim != 1 or rates.shape != values.shape or rates.size == 0:
        raise ValueError(
            f"as many losses as learning rates expected: {rates.shape}, {values.shape}"
        )
    if not (np.isfinite(rates) & (rates > 0)).all():
        raise ValueError("learning rates must be greater than 0 and finite")
    unique, index = np.unique(rates, return_inverse=True)
    sums = np.bincount(index, weights=np.where(np.isfinite(values), values, np.nan))
    return unique, sums / np.bincount(index)
