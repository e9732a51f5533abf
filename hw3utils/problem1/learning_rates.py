"""Which learning rates are useful: Smith's range test, and the rules that read a rate off a curve.

A curve is losses against learning rates: of many runs, or of one run whose rate rises.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hw3utils.checks import check_whole_number
from hw3utils.data.images import ImageSet, Scale
from hw3utils.training import fingerprints, loop, networks
from hw3utils.training.batches import accumulate_gradient, random_states_put_back
from hw3utils.training.runs import Run

PROGRESS = 0.9  # of the fall of a loss that a useful learning rate has made, at least


class LRBounds(NamedTuple):
    """The bounds of a useful range of learning rates."""

    lr_min: float
    lr_max: float


@dataclass(frozen=True)
class RangeTest:
    """The curve of an LR range test."""

    learning_rates: list[float]  # one for each update, rising exponentially
    losses: list[float]  # the minibatch loss before each update, in nats
    # The mean over a window of updates round each one, which does not shift the curve; only over
    # losses that are finite.
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
    lowest: float = 1e-4,
    highest: float = 1.0,
    num_updates: int = 1_600,
    window: int = 41,
    stop_at: float = 1.1,
) -> RangeTest:
    """Train a copy once while the learning rate rises exponentially, and record the loss.

    After Smith 2017 (1506.01186, Sec. 3.3), with an exponential instead of a linear rise: from
    ``lowest`` to ``highest`` in ``num_updates`` updates of ``batch_size`` images. The test stops
    earlier when a running mean of the loss (m ← 0.95·m + 0.05·loss, divided by 1 − 0.95^t) exceeds
    ``stop_at`` times the first loss, or is not finite. The curve is then smoothed over a ``window``
    of updates. Model, optimiser, ``generator`` and the global random states are left as they are:
    training afterwards is, bit for bit, what it would have been without.

    Raises a ValueError where the rates are not 0 < lowest < highest, the window is no whole number,
    ``stop_at`` is not above 1, there are fewer than two updates, the batch size does not fit the
    data, or the optimiser is over other parameters than the model's.
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"0 < lowest < highest expected, not {lowest} and {highest}")
    if not stop_at > 1:
        raise ValueError(f"stop_at={stop_at}: must be greater than 1")
    check_whole_number("window", window)
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
    mean, diverged_at = 0.0, None
    with random_states_put_back():
        model.train()
        for lr, batch in zip(rates, batches, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad(set_to_none=True)
            losses.append(float(accumulate_gradient(model, train, batch, scale)[0]) / len(batch))
            optimizer.step()
            mean = 0.95 * mean + 0.05 * losses[-1]
            if not mean / (1 - 0.95 ** len(losses)) <= stop_at * losses[0]:
                diverged_at = lr
                break
    return RangeTest(rates[: len(losses)], losses, smooth(losses, window), diverged_at)


def smooth(losses: Sequence[float], window: int) -> list[float]:
    """Return at each place the mean of the finite losses in a window round it; NaN if none is.

    The window has the same length on both sides, so a curve is not shifted; at the ends it is cut.
    """
    values = np.asarray(losses, dtype=np.float64)
    finite = np.isfinite(values)
    reach = window // 2
    means = []
    for place in range(len(values)):
        side = min(reach, place, len(values) - 1 - place)
        near = slice(place - side, place + side + 1)
        means.append(values[near][finite[near]].mean() if finite[near].any() else math.nan)
    return [float(mean) for mean in means]


@fingerprints.task
def test_range(
    run: Run,
    lowest: float,
    highest: float,
    num_updates: int,
    window: int,
    class_names: tuple[str, ...],
    scale: Scale,
    images: Tensor,
    labels: Tensor,
) -> dict[str, Any]:
    """Do a range test with the network, optimiser and seed of ``run``: a worker's whole task."""
    train = ImageSet(images, labels, class_names)
    model = networks.build(run.model, train.num_classes, run.seed)
    order = torch.Generator().manual_seed(run.seed)
    found = lr_range_test(
        model, loop.sgd(model, run), train, scale, order, batch_size=run.batch_sizes[0],
        lowest=lowest, highest=highest, num_updates=num_updates, window=window,
    )  # fmt: skip
    return vars(found)


def mean_curve(tests: Sequence[RangeTest]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rates that all range tests reached, and the mean of their smoothed losses.

    A rate at which a test has no finite loss left counts as not reached.
    """
    length = min(len(test.smoothed) for test in tests)
    curves = np.array([test.smoothed[:length] for test in tests])
    usable = np.isfinite(curves).all(axis=0)
    length = length if usable.all() else int(np.argmin(usable))
    return np.array(tests[0].learning_rates[:length]), curves[:, :length].mean(axis=0)


def _falling(rates: Sequence[float], losses: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of a curve that ends at its minimum: no rule reads beyond it."""
    rates, losses = _before_divergence(rates, losses)
    end = int(np.argmin(losses)) + 1
    if end < 3:
        raise ValueError("the loss only rises from the lowest learning rate on: try lower ones")
    return rates[:end], losses[:end]


def valley_minimum(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the rate with the lowest loss."""
    return float(_falling(rates, losses)[0][-1])


def steepest_descent(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the rate at which the loss falls fastest over log learning rate."""
    rates, losses = _falling(rates, losses)
    return float(rates[np.argmin(np.gradient(losses, np.log(rates)))])


def valley(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the rate half way down the longest falling sequence of losses, as fastai does.

    The sequence may leave out losses that lie between; it is found by dynamic programming. Like
    fastai's `lr_find`, the half is counted back from its end as if it left out none: the plateau
    before the fall, where losses go up and down a little, hardly moves it.
    """
    rates, losses = _falling(rates, losses)
    lengths = np.ones(len(losses), dtype=int)
    for place in range(1, len(losses)):
        longest = lengths[:place][losses[:place] > losses[place]]
        lengths[place] += longest.max(initial=0)
    last, length = int(np.argmax(lengths)), int(lengths.max())
    return float(rates[last - length + length // 3 + length // 6])


def smith_bounds(rates: Sequence[float], losses: Sequence[float]) -> LRBounds:
    """Return where the loss starts to fall and where its fall slows down (1506.01186, Sec. 3.3).

    Put into numbers: where it has come 10 % and 90 % of the way from its first value, the loss at
    the lowest rate, down to its minimum.
    """
    rates, losses = _falling(rates, losses)
    levels = (fallen_to(losses[0], losses[-1], progress) for progress in (0.1, 0.9))
    return LRBounds(*(float(rates[np.argmax(losses <= level)]) for level in levels))


RULES: dict[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "steepest descent": steepest_descent,
    "minimum / 10": lambda rates, losses: valley_minimum(rates, losses) / 10,
    "valley": valley,
    "Smith: the fall slows": lambda rates, losses: smith_bounds(rates, losses).lr_max,
    "minimum": valley_minimum,
}


def suggest_lr_bounds(
    learning_rates: Sequence[float], losses: Sequence[float], progress: float = PROGRESS
) -> LRBounds:
    """Read lr_min and lr_max off a curve of training loss against learning rate.

    ``learning_rates`` stand in any order; the losses of equal ones (several seeds) are averaged.
    Rates whose loss is not finite have diverged; neither they nor any rate above the first of them
    is looked at. The loss (in nats) at the lowest rate, which hardly learns, is the starting
    level. Going from the best rate of all (the lowest of equals) to both sides, the useful range
    lasts as long as the loss has made at least ``progress`` (90 %) of the way from the starting
    level down to the best loss: it has no gaps. lr_max is its largest rate; lr_min is where the
    curve, drawn in straight lines over log learning rate, enters it from below. A range of a
    single rate gets lr_min = lr_max / 4, after Smith 2017 (1506.01186, Sec. 3.3): always
    lr_min < lr_max.

    Raises a ValueError where lengths differ, a rate is not positive and finite, ``progress`` is not
    between 0 and 1, the lowest rate diverged, the loss only rises (at the lowest rate it is the
    best, and more than 1 % below the median), or no rate learned (the best loss is within 1 % of
    the starting level).
    """
    rates, values = _before_divergence(learning_rates, losses)
    if not 0 < progress < 1:
        raise ValueError(f"progress={progress}: must lie between 0 and 1")
    best, start = int(np.argmin(values)), values[0]
    if best == 0 and start < 0.99 * np.median(values):
        raise ValueError("the loss only rises from the lowest learning rate on: try lower ones")
    if not values[best] < 0.99 * start:
        raise ValueError("no learning rate learned: the losses are all alike; try higher ones")
    level = fallen_to(start, values[best], progress)
    outside = np.flatnonzero(values > level)  # never empty: the lowest rate is at the start
    before = int(outside[outside < best][-1])
    last = int(min(outside[outside > best], default=len(rates))) - 1
    lr_max = float(rates[last])
    if before + 1 == last:
        return LRBounds(lr_max / 4, lr_max)
    crossing = _crossing(rates, values, before, level)
    return LRBounds(min(crossing, float(rates[before + 1])), lr_max)  # rounded, it may lie above


def fallen_to(start: float, best: float, progress: float) -> float:
    """Return the loss that has made a share of the way down from ``start`` to ``best``."""
    return start - progress * (start - best)


def _crossing(rates: np.ndarray, values: np.ndarray, before: int, level: float) -> float:
    """Return the rate between ``before`` and the next one at which the curve falls to ``level``."""
    log_rates = np.log(rates[before : before + 2])
    high, low = values[before : before + 2]
    return float(np.exp(log_rates[0] + np.diff(log_rates)[0] * (high - level) / (high - low)))


def _before_divergence(
    learning_rates: Sequence[float], losses: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return rates in rising order, each once, with its mean loss, up to the first that diverged.

    A rate has diverged if one of its runs has. What is no curve, or has no start, is refused.
    """
    rates = np.asarray(learning_rates, dtype=np.float64)
    values = np.asarray(losses, dtype=np.float64)
    if rates.ndim != 1 or rates.shape != values.shape or rates.size == 0:
        raise ValueError(
            f"as many losses as learning rates expected: {rates.shape}, {values.shape}"
        )
    if not (np.isfinite(rates) & (rates > 0)).all():
        raise ValueError("learning rates must be greater than 0 and finite")
    rates, index = np.unique(rates, return_inverse=True)
    means = np.bincount(index, weights=values) / np.bincount(index)
    diverged = ~np.isfinite(means)
    if diverged.all():
        raise ValueError("every learning rate diverged: try lower ones")
    if diverged[0]:
        raise ValueError(
            f"the lowest learning rate, {rates[0]:.3g}, diverged, so no higher one can be trusted"
        )
    end = int(np.argmax(diverged)) if diverged.any() else len(rates)
    return rates[:end], means[:end]


def _endless(num_images: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from loop.minibatches(num_images, batch_size, generator)
