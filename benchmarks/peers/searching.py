"""What a learning-rate finder is judged by: its rate, and whether it leaves all as it was."""

import copy
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers import data
from benchmarks.rows import Turn
from hw3utils.data.images import Splits
from hw3utils.problem1 import experiments
from hw3utils.training import loop, networks
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant


def finding(
    turn: Turn,
    epochs: int,
    parts: Splits,
    model: nn.Module,
    optimizer: Any,
    search: Callable[[], tuple[float, int]],
) -> Callable[[], Callable[[], dict[str, Any]]]:
    """Return the work of a search, which returns what comes after it and is not timed.

    ``search`` returns the learning rate suggested, and how many updates that took. The optimiser
    does a few updates first, so that there is something in it to be put back.
    """
    few_updates(model, optimizer, parts)
    before = _states(model, optimizer)

    def work() -> Callable[[], dict[str, Any]]:
        lr, updates = search()
        return lambda: judged(lr, updates)

    def judged(lr: float, updates: int) -> dict[str, Any]:
        after = _states(model, optimizer)
        kept = {f"{part} as before": same(before[part], after[part]) for part in before}
        run = Run("lenet5", Constant(lr), epochs, data.BATCH, seed=turn.number)
        trained = networks.build(run.model, parts.train.num_classes, run.seed)
        result = loop.fit(trained, run, parts.train, parts.validation, experiments.SCALE)
        accuracy = math.nan if result.diverged else result.final["validation_accuracy"]
        return {"updates": updates, "rate": lr, "accuracy": accuracy} | kept

    return work


def few_updates(model: nn.Module, optimizer: Any, parts: Splits) -> None:
    """Do three updates by hand."""
    for batch in torch.arange(3 * data.BATCH).split(data.BATCH):
        images, labels = parts.train.images[batch], parts.train.labels[batch]
        F.cross_entropy(model(experiments.SCALE(images)), labels).backward()
        optimizer.step()
        optimizer.zero_grad()


def _states(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """Return a copy of all that a search could change."""
    random_states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    found = {
        "weights": model.state_dict(),
        "optimiser": optimizer.state_dict(),
        "random states": random_states,
    }
    return copy.deepcopy(found)


def same(first: Any, second: Any) -> bool:
    """Tell whether two states are equal, bit for bit."""
    if type(first) is not type(second):
        return False
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second
