"""Ours: the sweep of `training.sweeps`, and the range test of Problem 1."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import data, searching
from benchmarks.rows import Turn
from hw3utils.data.images import Scale
from hw3utils.problem1 import experiments
from hw3utils.problem1.learning_rates import lr_range_test, smith_bounds
from hw3utils.training import fingerprints, loop, networks, sweeps
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant


@fingerprints.task
def fit_to_the_end(
    run: Run, class_names: tuple[str, ...], scale: Scale, *tensors: Tensor
) -> dict[str, Any]:
    """Do as `sweeps.fit_one`, all updates of a run that diverges included."""
    loop.has_diverged = lambda *given: False
    return sweeps.fit_one(run, class_names, scale, *tensors)


def sweep(turn: Turn, epochs: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Train in processes, the cache empty: with `sweeps.fit_all`, or all updates of every run."""
    parts = data.fashion_mnist(turn)
    runs = [Run("lenet5", Constant(lr), epochs, data.BATCH) for lr in data.rates(turn)]

    def as_it_is() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            results = sweeps.fit_all(
                runs, parts.train, parts.validation, experiments.SCALE, cache_dir=Path(folder)
            )
        return _told([result.history for result in results])

    def to_the_end() -> dict[str, Any]:
        checksums = [parts.train.checksum, parts.validation.checksum]
        tasks = [(run, parts.train.class_names, experiments.SCALE) for run in runs]
        shared = [x for part in parts[:2] for x in (part.images, part.labels)]
        with tempfile.TemporaryDirectory() as folder:
            results = sweeps.map_cached(
                fit_to_the_end,
                dict(enumerate(tasks)),
                shared,
                checksums,
                cache_dir=Path(folder),
            )
        return _told([result["history"] for result in results.values()])

    return {"ours": to_the_end, "ours, ending diverged runs": as_it_is}


def _told(histories: list[Any]) -> dict[str, Any]:
    best = max(list(history["validation_accuracy"])[-1] for history in histories)
    updates = sum(int(sum(history["updates"])) for history in histories)
    return {"updates": updates, "best accuracy": best}


def finder(turn: Turn, epochs: int) -> dict[str, Callable]:
    """Do the range test, and let Smith's rule read the rate."""
    parts = data.fashion_mnist(turn)
    model = networks.build("lenet5", parts.train.num_classes, turn.number)
    optimizer = loop.sgd(model, Run("lenet5", Constant(0.01), epochs))
    order = torch.Generator().manual_seed(turn.number)

    def search() -> tuple[float, int]:
        found = lr_range_test(
            model, optimizer, parts.train, experiments.SCALE, order,
            num_updates=turn.few(1_600, 60),
        )  # fmt: skip
        rate = smith_bounds(found.learning_rates, found.smoothed).lr_max
        return rate, len(found.losses)

    return {"ours": searching.finding(turn, epochs, parts, model, optimizer, search)}
