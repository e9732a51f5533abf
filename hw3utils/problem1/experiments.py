"""The experiments of Problem 1: which runs each sub-question needs, and what is measured on them.

The runs are trained by `training.sweeps`; `tables` and `figures` show them. Test images are used in
`generalisation` alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hw3utils.checks import check_whole_number
from hw3utils.data.images import ImageSet, Scale, take
from hw3utils.problem1 import diagnostics, learning_rates
from hw3utils.problem1.learning_rates import LRBounds, RangeTest
from hw3utils.settings import Problem1
from hw3utils.training import networks, sweeps
from hw3utils.training.batches import evaluate, evaluate_on_test_set_once
from hw3utils.training.runs import FitResult, Run
from hw3utils.training.schedules import (
    Constant,
    Cyclical,
    DecayingCyclical,
    LinearDecay,
    OneCycle,
    Steps,
)

SCALE = Scale(mean=(0.5,), std=(0.5,))
BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
MICRO_BATCH_SIZE = 1024
REFERENCE_BATCH = 64  # at which the learning rates of 1.1 are tried
TUNING_SEED = 1_000  # of the runs that choose the constant rate: none of those that are compared

# The arms of 1.2. The decay of "γ = 0.99" is the trap that the notebook warns of.
CYCLICAL, BOTH_BOUNDS, TRAP = "cyclical", "cyclical, both bounds decay", "cyclical, γ = 0.99"
CONSTANT, ONE_CYCLE, ONE_CYCLE_MOMENTUM = "constant", "1cycle", "1cycle, momentum cycled"
LINEAR = "linear decay"
# The arms of 1.3.
GROWING, SHRINKING, CONTROL = "batch size doubled", "learning rate halved", "neither, batch size 32"
ROOT, QUARTER = "rate divided by √2", "rate divided by 4"
STABLE_GROWING, STABLE_CONTROL = "doubled from 64 on", "neither, batch size 64"
EQUAL_EPOCHS = "cyclical, epochs of 1.3"


def learning_rate_runs(settings: Problem1) -> list[Run]:
    """Return the runs of 1.1: the handout's ten learning rates, batch size 64, for each seed."""
    return _repeated(
        [short_run(lr, settings) for lr in candidate_learning_rates()], settings.sweep_seeds
    )


def extra_rate_runs(settings: Problem1) -> list[Run]:
    """Return the same for learning rates between 1e-3 and 0.5, a finer grid; none in `laptop`."""
    rates = candidate_learning_rates(1e-3, 0.5, max(2, settings.extra_rates))
    wanted = rates[: settings.extra_rates]
    return _repeated([short_run(lr, settings) for lr in wanted], settings.sweep_seeds)


def rule_runs(rates: Mapping[str, float], settings: Problem1) -> list[Run]:
    """Return the same for the rates that the range test's rules suggest, in their order."""
    return _repeated([short_run(lr, settings) for lr in rates.values()], settings.sweep_seeds)


def short_run(lr: float, settings: Problem1) -> Run:
    """Return a run of 1.1: one constant rate, batch size 64, a few epochs."""
    return Run("lenet5", Constant(lr), settings.sweep_epochs, batch_size=REFERENCE_BATCH)


def _repeated(runs: Sequence[Run], seeds: int) -> list[Run]:
    return [replace(run, seed=seed) for run in runs for seed in range(seeds)]


def range_tests(settings: Problem1, train: ImageSet) -> list[RangeTest]:
    """Do the range test from 1e-4 to 1 with each seed: every factor of ten gets its updates.

    The curve is smoothed over a tenth of a factor of ten.
    """
    lowest, highest, updates = 1e-4, 1.0, settings.range_updates
    decades = math.log10(highest / lowest)
    details = (lowest, highest, round(decades * updates), updates // 10 + 1)
    runs = _repeated([short_run(lowest, settings)], settings.sweep_seeds)
    tasks = [(run, *details, train.class_names, SCALE) for run in runs]
    found = _measured(learning_rates.test_range, tasks, train, "range test")
    return [RangeTest(**each) for each in found]


def constant_runs(bounds: LRBounds, settings: Problem1) -> list[Run]:
    """Return the runs that choose the constant rate of 1.2, with a seed that is not compared."""
    rates = candidate_learning_rates(*bounds, n=settings.constant_rates)
    run = Run("lenet5", Constant(1.0), settings.budget_epochs, seed=TUNING_SEED)
    return [replace(run, schedule=Constant(lr)) for lr in rates]


def best_constant_rate(results: Sequence[FitResult]) -> float:
    """Return the learning rate with the best validation accuracy at the end of its run.

    Raises a ValueError where all runs diverged.
    """
    alive = [result for result in results if not result.diverged]
    if not alive:
        raise ValueError("all runs diverged: there is no best learning rate")
    best = max(alive, key=lambda result: result.final["validation_accuracy"])
    return best.run.schedule.lr


def schedule_runs(
    bounds: LRBounds, constant_rate: float, num_images: int, settings: Problem1
) -> dict[str, Run]:
    """Return the runs of 1.2: seven schedules with the same budget of epochs, batch size 64."""
    run = Run("lenet5", Constant(constant_rate), settings.budget_epochs)
    left = max(0.99 ** run.num_updates(num_images), float(np.finfo(float).tiny))
    schedules = {
        CYCLICAL: Cyclical(*bounds, settings.cycles, settings.final_amplitude),
        BOTH_BOUNDS: DecayingCyclical(*bounds, settings.cycles, settings.final_amplitude),
        TRAP: Cyclical(*bounds, settings.cycles, left),
        CONSTANT: Constant(constant_rate),
        ONE_CYCLE: OneCycle(bounds.lr_max),
        ONE_CYCLE_MOMENTUM: OneCycle(bounds.lr_max, cycle_momentum=True),
        LINEAR: LinearDecay(bounds.lr_max),
    }
    return {name: replace(run, schedule=schedule) for name, schedule in schedules.items()}


def batch_size_runs(lr_max: float, settings: Problem1) -> dict[str, Run]:
    """Return the runs of 1.3a to 1.3c: eight stages of equally many epochs, seven ways.

    The batch size doubles from 32 to 4,096 at a fixed learning rate. At batch size 32 the rate is
    halved at the same epochs, or divided by √2 or by 4 (two rival laws), or nothing changes. The
    batch size also doubles from 64 on, where lr_max was read off, with a control that stays there.
    """
    epochs = len(BATCH_SIZES) * settings.stage_epochs
    stages = tuple(stage / len(BATCH_SIZES) for stage in range(1, len(BATCH_SIZES)))
    run = Run("lenet5", Constant(lr_max), epochs, batch_size=BATCH_SIZES[0])

    def grown(sizes: Sequence[int]) -> Run:
        batch_size = tuple(size for size in sizes for _ in range(settings.stage_epochs))
        return replace(run, batch_size=batch_size, micro_batch_size=MICRO_BATCH_SIZE)

    def divided(by: float) -> Run:
        return replace(run, schedule=Steps(lr_max, factor=1 / by, at=stages))

    return {
        GROWING: replace(grown(BATCH_SIZES), keep_states=True),
        SHRINKING: replace(divided(2), keep_states=True),
        ROOT: divided(math.sqrt(2)),
        QUARTER: divided(4),
        CONTROL: run,
        STABLE_GROWING: grown([max(size, REFERENCE_BATCH) for size in BATCH_SIZES]),
        STABLE_CONTROL: replace(run, batch_size=REFERENCE_BATCH),
    }


def equal_epochs_run(bounds: LRBounds, settings: Problem1) -> dict[str, Run]:
    """Return 1.2's cyclical run with the epochs of 1.3a to 1.3c, to compare their final models."""
    schedule = Cyclical(*bounds, settings.cycles, settings.final_amplitude)
    return {EQUAL_EPOCHS: Run("lenet5", schedule, len(BATCH_SIZES) * settings.stage_epochs)}


def separate_runs(lr_max: float, settings: Problem1) -> list[Run]:
    """Return the runs of 1.3d: models of their own for each batch size, at the same rate."""
    runs = []
    for size in BATCH_SIZES:
        parts = MICRO_BATCH_SIZE if size > MICRO_BATCH_SIZE else None
        runs.append(Run("lenet5", Constant(lr_max), settings.separate_epochs, size, parts))
    return _repeated(runs, settings.sweep_seeds)


def same_noise_runs(bounds: LRBounds, settings: Problem1) -> list[Run]:
    """Return runs with one ε/B, batch sizes 16 to 1,024, for equally many epochs.

    At batch size 64 the learning rate is the geometric mean of the bounds.
    """
    middle = math.sqrt(bounds.lr_min * bounds.lr_max)
    runs = [
        Run("lenet5", Constant(middle * size / REFERENCE_BATCH), settings.noise_epochs, size)
        for size in (16, *BATCH_SIZES[:6])
    ]
    return _repeated(runs, settings.seeds)


def same_updates_runs(bounds: LRBounds, settings: Problem1) -> list[Run]:
    """Return runs with one learning rate and equally many updates, at batch sizes 32, 64 and 128.

    The sum of their learning rates is the same, ε/B is not: noise without a difference in time.
    """
    middle = math.sqrt(bounds.lr_min * bounds.lr_max)
    runs = [
        Run("lenet5", Constant(middle), settings.noise_epochs * size // 32, size)
        for size in (32, 64, 128)
    ]
    return _repeated(runs, settings.seeds)


def noise_scales(
    arms: Mapping[str, Sequence[FitResult]], train: ImageSet, settings: Problem1
) -> pd.DataFrame:
    """Measure the gradient noise scale after every stage of the arms whose states are kept.

    Returns a row for each ``arm``, ``seed`` and ``stage`` (from 1), with its ``batch_size`` and the
    fields of `diagnostics.NoiseScale`.
    """
    rows, tasks = [], []
    stage_ends = slice(settings.stage_epochs - 1, None, settings.stage_epochs)
    for arm, results in arms.items():
        for result in results:
            run, states = result.run, result.states[stage_ends]
            sizes = run.batch_sizes[stage_ends]
            for stage, (state, size) in enumerate(zip(states, sizes, strict=False), start=1):
                rows.append({"arm": arm, "seed": run.seed, "stage": stage, "batch_size": size})
                tasks.append((run.model, state, train.class_names, SCALE))
    found = _measured(diagnostics.measure_noise, tasks, train, "noise scale")
    return pd.DataFrame([row | measured for row, measured in zip(rows, found, strict=True)])


def generalisation(
    arms: Mapping[str, Sequence[FitResult]], train: ImageSet, test: ImageSet
) -> pd.DataFrame:
    """Evaluate every arm's final models, at last, on the test set.

    Returns a row for each arm and seed: ``arm``, ``seed``, ``epochs``, ``diverged``, ``relapsed``
    (see `relapsed`), ``validation_accuracy`` (NaN if the last epoch diverged), ``test_accuracy``,
    ``train_accuracy`` (of the final model, on as many training images as there are test images),
    ``gap`` (train − test) and ``seconds``.
    """
    rows = []
    part = take(train, min(len(train), len(test)))
    for name, results in arms.items():
        for result in results:
            model = networks.build(result.run.model, train.num_classes, result.run.seed)
            tested = evaluate_on_test_set_once(model, result.state, test, SCALE)
            trained = evaluate(model, part, SCALE)
            rows.append(
                {
                    "arm": name,
                    "seed": result.run.seed,
                    "epochs": result.run.epochs,
                    "diverged": result.diverged,
                    "relapsed": relapsed(result),
                    "validation_accuracy": result.final["validation_accuracy"],
                    "test_accuracy": tested.accuracy,
                    "train_accuracy": trained.accuracy,
                    "gap": trained.accuracy - tested.accuracy,
                    "seconds": result.seconds,
                }
            )
    return pd.DataFrame(rows)


def relapsed(result: FitResult) -> bool:
    """Tell whether a run lost what it had learned: its loss ends 1.5 times as high as at its best.

    False for a run that diverged, which is worse.
    """
    losses = result.history["train_loss"]
    return bool(not result.diverged and losses.iloc[-1] > 1.5 * losses.min())


def _measured(
    function: Callable[..., dict[str, Any]],
    tasks: Sequence[Sequence[Any]],
    train: ImageSet,
    title: str,
) -> list[dict[str, Any]]:
    """Return what a function of the training images gives for each task, in parallel and cached."""
    shared, checksums = [train.images, train.labels], [train.checksum]
    wanted = dict(enumerate(tasks))
    return list(sweeps.map_cached(function, wanted, shared, checksums, title=title).values())


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
