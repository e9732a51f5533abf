"""Learning-rate schedules, and how to read their bounds off a curve of losses.

A schedule is a frozen dataclass: it can be printed, compared and cached. ``build`` turns it into
one of torch's own schedulers, which is stepped once for each update of the weights. Nothing here
trains.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch.optim import SGD, Optimizer, lr_scheduler

from hw3utils.checks import check_whole_number

__all__ = [
    "Constant",
    "Cyclical",
    "LinearDecay",
    "LRBounds",
    "OneCycle",
    "Schedule",
    "Steps",
    "candidate_learning_rates",
    "decay_factor",
    "learning_rates",
    "suggest_lr_bounds",
]


@dataclass(frozen=True)
class Schedule:
    """What all schedules share: the learning rate that the optimiser starts with.

    Attributes
    ----------
    lr : float
        Learning rate, greater than 0 and finite: the constant one, the first one, or the highest
        one, as each schedule says.
    """

    lr: float
    label: ClassVar[str]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"learning rate {self.lr!r}: must be greater than 0 and finite")

    def build(self, optimizer: Optimizer, num_updates: int) -> lr_scheduler.LRScheduler:
        """Return torch's scheduler for a run of ``num_updates`` weight updates in all."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate ``lr`` from the first update to the last."""

    label: ClassVar[str] = "constant"

    def build(self, optimizer: Optimizer, num_updates: int) -> lr_scheduler.LRScheduler:
        """See `Schedule.build`."""
        return lr_scheduler.ConstantLR(optimizer, factor=1.0)


@dataclass(frozen=True)
class LinearDecay(Schedule):
    """From ``lr`` in a straight line to zero at the end (Li et al. 2019, 1905.04753)."""

    label: ClassVar[str] = "linear decay"

    def build(self, optimizer: Optimizer, num_updates: int) -> lr_scheduler.LRScheduler:
        """See `Schedule.build`."""
        return lr_scheduler.LinearLR(
            optimizer, start_factor=1.0, end_factor=0.0, total_iters=num_updates
        )


@dataclass(frozen=True)
class OneCycle(Schedule):
    """One rise to ``lr`` and a longer fall to almost zero (Smith and Topin 2018, 1708.07120).

    torch's ``OneCycleLR`` with its own proportions; the momentum is left alone.
    """

    label: ClassVar[str] = "1cycle"

    def build(self, optimizer: Optimizer, num_updates: int) -> lr_scheduler.LRScheduler:
        """See `Schedule.build`."""
        return lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.lr, total_steps=num_updates + 1, cycle_momentum=False
        )


@dataclass(frozen=True)
class Cyclical(Schedule):
    """Triangular cycles between ``lr`` and ``lr_max`` whose amplitude decays exponentially.

    torch's ``CyclicLR`` in mode ``exp_range``: at update t the amplitude is
    ``(lr_max − lr)·gamma**t``; the lower bound stays. (In Smith 2017, 1506.01186, Sec. 3.1, both
    bounds decay.) The momentum is left alone.

    Attributes
    ----------
    lr : float
        The lower bound.
    lr_max : float
        The upper bound, greater than ``lr``.
    cycles : int
        Whole cycles within the run, so that it ends at the lower bound.
    final_amplitude : float
        Fraction of the amplitude left at the end of the run, in (0, 1]; it fixes gamma.
    """

    lr_max: float = 0.0
    cycles: int = 3
    final_amplitude: float = 0.1
    label: ClassVar[str] = "cyclical, exponential decay"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.lr_max) and self.lr_max > self.lr):
            raise ValueError(f"lr_max={self.lr_max!r}: must be finite and above lr={self.lr}")
        check_whole_number("cycles", self.cycles)
        decay_factor(self.final_amplitude, 1)

    def build(self, optimizer: Optimizer, num_updates: int) -> lr_scheduler.LRScheduler:
        """See `Schedule.build`."""
        return lr_scheduler.CyclicLR(
            optimizer,
            base_lr=self.lr,
            max_lr=self.lr_max,
            step_size_up=num_updates / self.cycles / 2,
            mode="exp_range",
            gamma=decay_factor(self.final_amplitude, num_updates),
            cycle_momentum=False,
        )


@dataclass(frozen=True)
class Steps(Schedule):
    """Start at ``lr`` and multiply by ``factor`` at the given fractions of the run.

    Attributes
    ----------
    lr : float
        The first learning rate.
    factor : float
        Multiplies the learning rate at each step, in (0, 1).
    at : tuple of float
        Fractions of the run's updates, rising, each in (0, 1). The handout's multi-step schedule
        is ``factor=0.1, at=(1/4, 1/2, 3/4)``.
    """

    factor: float = 0.1
    at: tuple[float, ...] = (0.25, 0.5, 0.75)
    label: ClassVar[str] = "steps"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.factor < 1:
            raise ValueError(f"factor={self.factor}: must lie between 0 and 1")
        if not all(0 < fraction < 1 for fraction in self.at) or list(self.at) != sorted(
            set(self.at)
        ):
            raise ValueError(f"at={self.at}: rising fractions between 0 and 1 expected")

    def build(self, optimizer: Optimizer, num_updates: int) -> lr_scheduler.LRScheduler:
        """See `Schedule.build`."""
        milestones = [round(fraction * num_updates) for fraction in self.at]
        return lr_scheduler.MultiStepLR(optimizer, milestones, gamma=self.factor)


def learning_rates(schedule: Schedule, num_updates: int) -> list[float]:
    """Return the learning rate of each of ``num_updates`` updates; no network is involved.

    Raises
    ------
    ValueError
        There is not at least one update.
    """
    check_whole_number("num_updates", num_updates)
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=schedule.lr)
    scheduler = schedule.build(optimizer, num_updates)
    rates = []
    for _ in range(num_updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def decay_factor(final_fraction: float, num_updates: int) -> float:
    """Return the gamma for which ``gamma**num_updates`` equals ``final_fraction``.

    Raises
    ------
    ValueError
        The fraction is not in (0, 1], or there is no update.
    """
    if not 0 < final_fraction <= 1:
        raise ValueError(f"final fraction {final_fraction}: must lie in (0, 1]")
    check_whole_number("num_updates", num_updates)
    return final_fraction ** (1 / num_updates)


def candidate_learning_rates(
    lowest: float = 1e-9, highest: float = 10.0, n: int = 10
) -> list[float]:
    """Return ``n`` learning rates evenly spaced on a log axis, both ends included.

    Raises
    ------
    ValueError
        The ends are not 0 < lowest < highest, or there are fewer than two rates.
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"0 < lowest < highest expected, not {lowest} and {highest}")
    check_whole_number("n", n, at_least=2)
    return [float(lr) for lr in np.geomspace(lowest, highest, n)]


class LRBounds(NamedTuple):
    """The bounds of a useful range of learning rates."""

    lr_min: float
    lr_max: float


def suggest_lr_bounds(
    learning_rates: Sequence[float], losses: Sequence[float], progress: float = 0.9
) -> LRBounds:
    """Read lr_min and lr_max off a curve of training loss against learning rate.

    The rule: the lowest rate hardly learns, and its loss is the starting level. The useful range
    is where the loss has made at least ``progress`` (90 %) of the way from that level down to the
    best loss of all. lr_max is the largest rate of the range; lr_min is where the curve, drawn in
    straight lines over log learning rate, enters it. Rates whose loss is not finite have diverged;
    neither they nor any rate above the first of them is ever returned. A range of a single rate
    gets lr_min = lr_max / 4, after Smith 2017 (1506.01186, Sec. 3.3). Where the lowest rate is
    itself the best one, the median loss of the others stands for the starting level.

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
        Lengths differ, a rate is not positive and finite, every rate diverged, or none learned
        (the best loss is within 1 % of the starting level).
    """
    rates, values = _averaged_curve(learning_rates, losses)
    if not 0 < progress < 1:
        raise ValueError(f"progress={progress}: must lie between 0 and 1")
    diverged = ~np.isfinite(values)
    if diverged.any():
        first = int(np.argmax(diverged))
        rates, values = rates[:first], values[:first]
    if len(rates) == 0:
        raise ValueError("every learning rate diverged: try lower ones")
    best = int(np.argmin(values))
    start = values[0] if best or len(values) == 1 else np.median(values[1:])
    if not values[best] < 0.99 * start:
        raise ValueError("no learning rate learned: the losses are all alike; try higher ones")
    level = start - progress * (start - values[best])
    useful = np.flatnonzero(values <= level)
    lr_max = float(rates[useful[-1]])
    entry = int(useful[0])
    if entry == 0:
        lr_min = float(rates[0])
    else:
        log_rates = np.log(rates[entry - 1 : entry + 1])
        before, after = values[entry - 1 : entry + 1]
        lr_min = float(
            np.exp(log_rates[0] + np.diff(log_rates)[0] * (before - level) / (before - after))
        )
    return LRBounds(lr_min if lr_min < lr_max else lr_max / 4, lr_max)


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
