"""How cost grows: with images, classes, learning rates, and the size of the pool."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import EngFormatter, LogLocator

from benchmarks.own import train_epoch
from benchmarks.peers.data import fashion_mnist
from benchmarks.rows import Turn
from hw3utils import style
from hw3utils.data.images import take
from hw3utils.problem3 import last_layer
from hw3utils.problem4.pseudo_labels import select_top_k

PANELS = {
    "images": "training images (LeNet-5, one epoch)",
    "classes": "classes (last layer, 20 epochs, 896 images)",
    "learning rates": "learning rates in one stack of last layers",
    "pool": "images in the pool (top K, 100 classes)",
}


def growth(turn: Turn) -> dict[str, Callable[[], dict[str, list[list[float]]]]]:
    """Measure the cost of each size once."""
    train = fashion_mnist(turn).train
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(896, 2048, generator=generator)
    many = turn.few(1_000, 10)

    def last_layers(rates: int, classes: int) -> None:
        run = last_layer.HeadRun(tuple(0.1 / (i + 1) for i in range(rates)), epochs=turn.few(20, 1))
        labels = torch.randint(0, 10, (len(features),), generator=generator)
        last_layer.fit_heads(run, features[None], labels, features[:64], labels[:64], classes)

    def selection(images: int) -> float:
        """Return the seconds of the selection alone, without those of making its scores."""
        scores = torch.randn(images, 100, generator=generator).softmax(1)
        return seconds(lambda: select_top_k(scores, 100, 10))

    curves: dict[str, tuple[Sequence[int], Callable[[int], float]]] = {
        "images": (
            [len(train) * part // 16 for part in (1, 2, 4, 8, 16)],
            lambda n: seconds(lambda: train_epoch(take(train, n))),
        ),
        "classes": ([10, 30, 100, 300, 1_000], lambda n: seconds(lambda: last_layers(1, n))),
        "learning rates": ([1, 2, 4, 8, 16, 32], lambda n: seconds(lambda: last_layers(n, 10))),
        "pool": ([10 * many, 30 * many, 100 * many, 300 * many, 1_000 * many], selection),
    }
    return {
        "ours": lambda: {
            name: [list(sizes), [cost(n) for n in sizes]] for name, (sizes, cost) in curves.items()
        }
    }


def seconds(function: Callable[[], object]) -> float:
    """Return how long one call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def draw(found: dict[str, Sequence[Sequence[float]]], folder: Path) -> Path:
    """Draw one panel for each size, with the line of equal cost for each item from the largest."""
    style.use_style()
    figure, axes = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
    for axis, (name, (sizes, cost)) in zip(axes.flat, found.items(), strict=True):
        axis.loglog(sizes, cost, "o-", label="measured")
        proportional = [cost[-1] * size / sizes[-1] for size in sizes]
        axis.loglog(sizes, proportional, "--", color="0.5", label="in proportion")
        axis.set(xlabel=PANELS[name], ylabel="seconds")
        axis.set_xticks(sizes, map(EngFormatter(sep=""), sizes))
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
    axes[0, 0].legend()
    return style.save_figure(figure, "growth", folder)
