"""Learning-rate schedules.

A schedule is a frozen dataclass: it can be printed, compared and cached. ``build`` turns it into
one of torch's own schedulers, which is stepped once for each update of the weights.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch.optim import SGD, Optimizer, lr_scheduler

from hw3utils.checks import check_whole_number


@dataclass(frozen=True)
class Schedule(ABC):
    """What all schedules share: a learning rate, greater than 0 and finite."""

    lr: float  # the constant, first, lowest or highest one, as each schedule says

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"learning rate {self.lr!r}: must be greater than 0 and finite")

    @abstractmethod
    def build(self, optimizer: Optimizer, num_updates: int) -> lr_scheduler.LRScheduler:
        """Return torch's scheduler for a run of ``num_updates`` weight updates in all."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate ``lr`` from the first update to the last."""

    def build(self, optimizer: Optimizer, num_updates: int) -> lr_scheduler.LRScheduler:
        """See `Schedule.build`."""
        return lr_scheduler.ConstantLR(optimizer, factor=1.0)


@dataclass(frozen=True)
class LinearDecay(Schedule):
    """From ``lr`` in a straight line to zero at the end (Li et al. 2019, 1905.04753)."""

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
    """

    lr_max: float = 0.0  # the upper bound, greater than lr
    cycles: int = 3  # whole cycles within the run, so that it ends at the lower bound
    final_amplitude: float = 0.1  # fraction of it left at the end, in (0, 1]: this fixes gamma

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
    """Start at ``lr`` and multiply it at given fractions of the run: the handout's, by default."""

    factor: float = 0.1  # multiplies the learning rate at each step, in (0, 1)
    at: tuple[float, ...] = (0.25, 0.5, 0.75)  # fractions of the updates, rising, each in (0, 1)

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
    """Return the learning rate of each of ``num_updates`` updates; no network is involved."""
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
    """Return the gamma for which ``gamma**num_updates`` is ``final_fraction``, in (0, 1]."""
    if not 0 < final_fraction <= 1:
        raise ValueError(f"final fraction {final_fraction}: must lie in (0, 1]")
    check_whole_number("num_updates", num_updates)
    return final_fraction ** (1 / num_updates)
