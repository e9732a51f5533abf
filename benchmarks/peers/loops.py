"""The loops that a tutorial would write, in plain torch."""

from collections.abc import Callable, Iterable
from typing import Any

import joblib
import torch

from benchmarks import textbook
from benchmarks.peers import data
from benchmarks.rows import CORES, Turn
from hw3utils.data.images import ImageSet


def sweep(turn: Turn, epochs: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Train one network after the other, or one in each process."""
    parts = data.fashion_mnist(turn)
    rates = data.rates(turn)

    def through_loaders() -> dict[str, Any]:
        first, last = len(parts.train), len(parts.train) + len(parts.validation)
        train = textbook.loader(range(first))
        validation = textbook.loader(range(first, last), shuffle=False)
        return told(textbook.fit(data.network(), train, validation, lr, epochs) for lr in rates)

    def in_memory() -> dict[str, Any]:
        given = Batches(parts.train, shuffle=True), Batches(parts.validation)
        return told(textbook.fit(data.network(), *given, lr, epochs) for lr in rates)

    def in_processes() -> dict[str, Any]:
        arrays = [x.numpy() for part in parts[:2] for x in (part.images, part.labels)]
        names = parts.train.class_names
        return told(
            joblib.Parallel(CORES)(
                joblib.delayed(fit_one)(lr, epochs, names, *arrays) for lr in rates
            )
        )

    return {
        "textbook loop": through_loaders,
        "plain loop, images in memory": in_memory,
        f"plain loop, images in memory, {CORES} processes": in_processes,
    }


class Batches:
    """Minibatches as slices of tensors that are scaled once: the fastest that is as short."""

    def __init__(self, images: ImageSet, shuffle: bool = False) -> None:
        self.source, self.shuffle = data.InMemory(images), shuffle

    def __iter__(self) -> Iterable[Any]:
        n = len(self.source)
        order = torch.randperm(n) if self.shuffle else torch.arange(n)
        for batch in order.split(data.BATCH):
            yield self.source.images[batch], self.source.labels[batch]


def fit_one(lr: float, epochs: int, names: tuple[str, ...], *arrays: Any) -> tuple[int, float]:
    """Train one network in a process of its own, with one thread."""
    torch.set_num_threads(1)
    tensors = [torch.from_numpy(array.copy()) for array in arrays]
    train, validation = ImageSet(*tensors[:2], names), ImageSet(*tensors[2:], names)
    batches = Batches(train, shuffle=True), Batches(validation)
    return textbook.fit(data.network(), *batches, lr, epochs)


def told(results: Iterable[tuple[int, float]]) -> dict[str, Any]:
    """Return how many updates several networks did, and the accuracy of the best."""
    updates, accuracies = zip(*results, strict=True)
    return {"updates": sum(updates), "best accuracy": max(accuracies)}
