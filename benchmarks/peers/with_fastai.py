"""fastai: its Learner and its learning-rate finder."""

import functools
import tempfile
from collections.abc import Callable
from typing import Any

from fastai.basics import SGD, CrossEntropyLossFlat, DataLoaders, Learner, accuracy
from fastai.callback import schedule  # noqa: F401 - gives a Learner its lr_find

from benchmarks.peers import data, loops, searching
from benchmarks.rows import Turn
from hw3utils.data.images import Splits


def learner(parts: Splits, lr: float, seed: int = 0, folder: str | None = None) -> Learner:
    """Return a Learner with fastai's own SGD."""
    return Learner(
        DataLoaders(data.loader(parts.train, shuffle=True), data.loader(parts.validation)),
        data.network(seed),
        lr=lr,
        loss_func=CrossEntropyLossFlat(),
        opt_func=functools.partial(SGD, mom=data.MOMENTUM),
        metrics=accuracy,
        path=folder,
    )


def sweep(turn: Turn, epochs: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Train one network after the other, each with a Learner of its own."""
    parts = data.fashion_mnist(turn)

    def fit(lr: float) -> tuple[int, float]:
        fitting = learner(parts, lr)
        with fitting.no_bar(), fitting.no_logging():
            fitting.fit(epochs)
        return len(fitting.recorder.losses), fitting.recorder.values[-1][-1]

    return {"fastai": lambda: loops.told(fit(lr) for lr in data.rates(turn))}


def finder(turn: Turn, epochs: int) -> dict[str, Callable]:
    """Let `lr_find` search, with its defaults; it writes the weights beside it meanwhile."""
    parts = data.fashion_mnist(turn)
    folder = tempfile.TemporaryDirectory()
    fitting = learner(parts, 0.01, turn.number, folder.name)
    fitting.create_opt()

    def search() -> tuple[float, int]:
        with fitting.no_bar(), folder:
            found = fitting.lr_find(show_plot=False)
        return found.valley, len(fitting.recorder.losses)

    model, optimizer = fitting.model, fitting.opt
    return {"fastai": searching.finding(turn, epochs, parts, model, optimizer, search)}
