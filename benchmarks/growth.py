"""How cost grows: with images, classes, learning rates, and the size of the pool."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import EngFormatter, LogLocator

from benchmarks.measurements import CORES, _features, fashion_mnist, our_epoch, seconds
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


def measure(repetitions: int = 3) -> dict[str, list[list[float]]]:
    """Return for each panel its sizes and the seconds of each: the fastest of a few."""
    train = fashion_mnist().train
    torch.set_num_threads(CORES)
    features, labels = _features(896)

    def last_layers(rates: int, classes: int) -> float:
        run = last_layer.HeadRun(tuple(0.1 / (i + 1) for i in range(rates)), epochs=20)
        given = (features[None], labels, features[:64], labels[:64], classes)
        return seconds(lambda: last_layer.fit_heads(run, *given))

    def selection(images: int) -> float:
        scores = torch.randn(images, 100, generator=torch.Generator().manual_seed(0)).softmax(1)
        return seconds(lambda: select_top_k(scores, 100, 10))

    curves = {
        "images": ([3_000, 6_000, 12_000, 24_000, 48_000],
                   lambda n: our_epoch(take(train, n), CORES)),
        "classes": ([10, 30, 100, 300, 1_000], lambda n: last_layers(1, n)),
        "learning rates": ([1, 2, 4, 8, 16, 32], lambda n: last_layers(n, 10)),
        "pool": ([10_000, 30_000, 100_000, 300_000, 1_000_000], selection),
    }  # fmt: skip
    return {
        name: [sizes, [min(cost(n) for _ in range(repetitions)) for n in sizes]]
        for name, (sizes, cost) in curves.items()
    }


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
