"""The experiments of Problem 1: which runs each sub-question needs, and what their results say.

Descriptions and answers only. The runs are trained by `training.sweeps`, drawn by `figures`.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch

from hw3utils.checks import check_whole_number
from hw3utils.data.images import ImageSet, Scale
from hw3utils.problem1.diagnostics import LRBounds, NoiseScale, gradient_noise_scale
from hw3utils.settings import Problem1
from hw3utils.training import networks
from hw3utils.training.runs import FitResult, Run
from hw3utils.training.schedules import (
    Constant,
    Cyclical,
    LinearDecay,
    OneCycle,
    Steps,
    decay_factor,
    learning_rates,
)

SCALE = Scale(mean=(0.5,), std=(0.5,))
BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
MICRO_BATCH_SIZE = 1024
GROWING, SHRINKING, CONTROL = "batch size doubled", "learning rate halved", "neither (control)"
EQUAL_EPOCHS = "cyclical, epochs of 1.3"


def learning_rate_runs(settings: Problem1) -> list[Run]:
    """Return the runs of 1.1: ten constant learning rates, batch size 64."""
    return [
        Run("lenet5", Constant(lr), epochs=settings.sweep_epochs)
        for lr in candidate_learning_rates()
    ]


def best_constant_rate(results: Sequence[FitResult]) -> float:
    """Return the learning rate with the best validation accuracy at the end of its run.

    Raises a ValueError where all runs diverged.
    """
    alive = [result for result in results if not result.diverged]
    if not alive:
        raise ValueError("all runs diverged: there is no best learning rate")
    best = max(alive, key=lambda result: result.final["validation_accuracy"])
    return best.run.schedule.lr


def schedule_runs(bounds: LRBounds, constant_rate: float, settings: Problem1) -> dict[str, Run]:
    """Return the runs of 1.2: four schedules with the same budget of epochs, batch size 64."""
    cyclical = Cyclical(
        bounds.lr_min,
        lr_max=bounds.lr_max,
        cycles=settings.cycles,
        final_amplitude=settings.final_amplitude,
    )
    schedules = {
        "cyclical": cyclical,
        "constant": Constant(constant_rate),
        "1cycle": OneCycle(bounds.lr_max),
        "linear decay": LinearDecay(bounds.lr_max),
    }
    return {
        name: Run("lenet5", schedule, epochs=settings.budget_epochs)
        for name, schedule in schedules.items()
    }


def batch_size_runs(lr_max: float, settings: Problem1) -> dict[str, Run]:
    """Return the runs of 1.3a to 1.3c: eight stages of equally many epochs, three ways.

    The batch size doubles from 32 to 4096 at a fixed learning rate; the learning rate is halved at
    the same epochs at batch size 32; or neither changes.
    """
    epochs = len(BATCH_SIZES) * settings.stage_epochs
    growing = tuple(size for size in BATCH_SIZES for _ in range(settings.stage_epochs))
    stages = tuple(stage / len(BATCH_SIZES) for stage in range(1, len(BATCH_SIZES)))
    run = Run("lenet5", Constant(lr_max), epochs, batch_size=BATCH_SIZES[0])
    return {
        GROWING: dataclasses.replace(run, batch_size=growing, micro_batch_size=MICRO_BATCH_SIZE),
        SHRINKING: dataclasses.replace(run, schedule=Steps(lr_max, factor=0.5, at=stages)),
        CONTROL: run,
    }


def equal_epochs_run(bounds: LRBounds, settings: Problem1) -> dict[str, Run]:
    """Return 1.2's cyclical run with the epochs of 1.3a to 1.3c, to compare their final models."""
    cyclical = schedule_runs(bounds, bounds.lr_max, settings)["cyclical"]
    epochs = len(BATCH_SIZES) * settings.stage_epochs
    return {EQUAL_EPOCHS: dataclasses.replace(cyclical, epochs=epochs)}


def separate_runs(lr_max: float, settings: Problem1) -> list[Run]:
    """Return the runs of 1.3d: a model of its own for each batch size, at the same rate."""
    return [
        Run(
            "lenet5",
            Constant(lr_max),
            settings.sweep_epochs,
            batch_size=size,
            micro_batch_size=MICRO_BATCH_SIZE if size > MICRO_BATCH_SIZE else None,
        )
        for size in BATCH_SIZES
    ]


def gamma_trap(run: Run, num_images: int, gamma: float = 0.99) -> dict[str, list[float]]:
    """Return the learning rate at every update of a cyclical run, with its own gamma and another.

    No network is trained: the schedule is stepped with an optimiser that does nothing.

    Raises a ValueError where gamma is not in (0, 1].
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma={gamma!r}: must lie in (0, 1]")
    num_updates = run.num_updates(num_images)
    own = decay_factor(run.schedule.final_amplitude, num_updates)
    smallest = np.finfo(float).tiny
    trapped = dataclasses.replace(run.schedule, final_amplitude=max(gamma**num_updates, smallest))
    return {
        f"gamma = {own:.6f}": learning_rates(run.schedule, num_updates),
        f"gamma = {gamma}": learning_rates(trapped, num_updates),
    }


def first_stage_run(lr_max: float, settings: Problem1) -> Run:
    """Return the run that ends where the first stage of 1.3a to 1.3c ends."""
    control = batch_size_runs(lr_max, settings)[CONTROL]
    return dataclasses.replace(control, epochs=settings.stage_epochs)


def noise_scale(result: FitResult, train: ImageSet, settings: Problem1) -> NoiseScale:
    """Measure the gradient noise scale of the network that a run ended with."""
    model = networks.build(result.run.model, train.num_classes, result.run.seed)
    model.load_state_dict(result.state)
    generator = torch.Generator().manual_seed(0)
    return gradient_noise_scale(
        model, train, SCALE, generator, repetitions=settings.noise_repetitions
    )


def candidate_learning_rates(
    lowest: float = 1e-9, highest: float = 10.0, n: int = 10
) -> list[float]:
    """Return ``n`` learning rates evenly spaced on a log axis, both ends included.

    Raises a ValueError where the ends are not 0 < lowest < highest, or there are fewer than two
    rates.
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"0 < lowest < highest expected, not {lowest} and {highest}")
    check_whole_number("n", n, at_least=2)
    return [float(lr) for lr in np.geomspace(lowest, highest, n)]
