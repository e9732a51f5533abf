"""Figures of Problem 3: the target's images, learning curves, and both approaches compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from hw3utils.data.images import ImageSet
from hw3utils.problem3.experiments import ALL_LAYERS, LAST_LAYER
from hw3utils.problem3.finetuning import Finetuned
from hw3utils.problem3.last_layer import HeadResult
from hw3utils.problem3.tables import KEY
from hw3utils.style import COLOURS, MARKERS, show

GREY = "#777777"
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def class_count_bars(counts: pd.DataFrame) -> Figure:
    """Draw the number of images of each class (rows) in each part (columns) as bars."""
    few = len(counts) <= 20
    figure, axes = plt.subplots(figsize=(7.4, 3.4))
    places = np.arange(len(counts))
    width = 0.8 / counts.shape[1]
    for number, part in enumerate(counts):
        axes.bar(
            places + (number - (counts.shape[1] - 1) / 2) * width, counts[part], width,
            color=COLOURS[number], label=part, hatch=("", "//", "..")[number % 3],
            edgecolor="white", linewidth=0.4,
        )  # fmt: skip
    if few:
        axes.set_xticks(places, counts.index, rotation=30, ha="right")
    axes.set_xlabel("class" if few else "class (number)")
    axes.set_ylabel("images")
    axes.set_title("Images per class")
    figure.legend(loc="outside lower center", ncols=counts.shape[1])
    return figure


def two_classes(images: ImageSet, labels: Sequence[int], n: int = 4) -> Figure:
    """Draw the first ``n`` images of each of some classes, one row for each."""
    figure, panels = plt.subplots(
        len(labels), n, figsize=(1.5 * n, 1.75 * len(labels)), squeeze=False
    )
    for label, row in zip(labels, panels, strict=True):
        chosen = images.images[images.labels == label][:n]
        for axes, image in zip(row, chosen, strict=False):
            show(axes, image)
        row[0].set_title(images.class_names[label], loc="left")
    return figure


def finetuning_curves(results: Mapping[tuple[str, float, int], Finetuned]) -> Figure:
    """Draw training loss and validation accuracy against epochs, of each arm's first seed."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.8))
    arms = list(dict.fromkeys((approach, lr) for approach, lr, _ in results))
    for number, (approach, lr) in enumerate(arms):
        seeds = [result for key, result in results.items() if key[:2] == (approach, lr)]
        label = f"{approach}, {lr:g}{_mark(seeds)}"
        history = results[approach, lr, 0].history
        look = {
            "color": COLOURS[number], "linestyle": STYLES[number % 5], "marker": MARKERS[number]
        }  # fmt: skip
        left.plot(history["epoch"], history["train_loss"], label=label, **look)
        right.plot(history["epoch"], history["validation_accuracy"], **look)
    left.set_ylabel("training loss (nats)")
    right.set_ylabel("validation accuracy (fraction)")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle("Finetuning, by approach and learning rate", fontsize=11, x=0.01, ha="left")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def head_curves(results: Sequence[HeadResult], optimum: float) -> Figure:
    """Draw validation accuracy of the last layers against epochs, and the optimum as a line."""
    figure, axes = plt.subplots(figsize=(7, 3.8))
    rates = list(dict.fromkeys(result.lr for result in results))
    for number, lr in enumerate(rates):
        seeds = [result for result in results if result.lr == lr]
        histories = [result.history.set_index("epoch") for result in seeds]
        values = pd.concat([history["validation_accuracy"] for history in histories], axis=1)
        axes.plot(
            values.index, values.mean(axis=1), color=COLOURS[number], linestyle=STYLES[number],
            label=f"learning rate {lr:g}{_mark(seeds)}",
        )  # fmt: skip
        axes.fill_between(
            values.index, values.min(axis=1), values.max(axis=1), color=COLOURS[number], alpha=0.15
        )
    axes.axhline(optimum, color=GREY, linewidth=1, label="optimum (L-BFGS)")
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy (fraction)")
    axes.set_title("The last layer alone (bands: lowest to highest seed)")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _mark(seeds: Sequence[Finetuned | HeadResult]) -> str:
    """Return what a legend says of an arm some of whose seeds diverged."""
    number = sum(result.diverged for result in seeds)
    if 0 < number < len(seeds):
        return f" ({number} of {len(seeds)} diverged)"
    return " (diverged)" if number else ""


def approaches(table: pd.DataFrame, optimum: float, num_test_images: int) -> Figure:
    """Draw test accuracy against learning rate for every approach.

    ``table`` is from `tables.summary`, ``optimum`` the test accuracy of the best last layer that
    there is. Bars are the binomial standard error.
    """
    figure, axes = plt.subplots(figsize=(7, 4))
    for number, (approach, rows) in enumerate(table.groupby("approach", sort=False)):
        rows = rows.sort_values("learning_rate")
        error = np.sqrt(rows["test"] * (1 - rows["test"]) / num_test_images)
        axes.errorbar(
            rows["learning_rate"], 100 * rows["test"], yerr=100 * error, capsize=3,
            color=COLOURS[number], marker=MARKERS[number], label=approach,
            linestyle="-" if approach in (ALL_LAYERS, LAST_LAYER) else "none",
        )  # fmt: skip
        diverged = rows[rows["diverged"]]
        if len(diverged):
            axes.plot(
                diverged["learning_rate"], 100 * diverged["test"], "x", color=COLOURS[number],
                markersize=12, markeredgewidth=2, zorder=3, label=f"{approach} (diverged)",
            )  # fmt: skip
    axes.axhline(100 * optimum, color=GREY, linestyle="--", label="last layer, optimum (L-BFGS)")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate (log scale)")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title("Finetuning against training the last layer alone")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def image_sizes(sizes: pd.DataFrame) -> Figure:
    """Draw validation accuracy of the last layer against the image size."""
    figure, axes = plt.subplots(figsize=(6, 3.4))
    axes.plot(sizes["size"], 100 * sizes["optimum"], "--s", color=COLOURS[1], label="optimum")
    axes.plot(sizes["size"], 100 * sizes["sgd"], "-o", color=COLOURS[0], label="SGD, best rate")
    axes.set_xticks(sizes["size"])
    axes.set_xlabel("pixels of a side, as the network sees the images")
    axes.set_ylabel("validation accuracy (%)")
    axes.set_title(f"The last layer on features of {sizes['images'].iloc[0]:,} images")
    axes.legend(loc="lower right")
    return figure


def moved_and_gap(moved: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw how far each finetuned trunk moved, and training beside test accuracy."""
    scored = table.set_index(KEY)
    moved = moved.set_index(KEY)
    names = [
        f"{approach}\n{lr:g}{' (diverged)' if diverged else ''}"
        for (approach, lr), diverged in moved["diverged"].items()
    ]
    places = np.arange(len(names))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), sharey=True)
    shown = {
        "weights": "weights", "running_mean": "BatchNorm means",
        "running_var": "BatchNorm variances", "features": "features of validation images",
    }  # fmt: skip
    for number, (column, label) in enumerate(shown.items()):
        left.barh(
            places + (number - 1.5) * 0.2, moved[column], 0.2, color=COLOURS[number],
            label=label, hatch=("", "", "", "//")[number], edgecolor="white", linewidth=0.4,
        )  # fmt: skip
    left.set_xscale("log")
    left.set_yticks(places, names, fontsize=8)
    left.invert_yaxis()
    left.set_xlabel("relative distance from the start (log scale)")
    for number, column in enumerate(("train", "test")):
        right.barh(
            places + (number - 0.5) * 0.36, 100 * scored.loc[moved.index, column], 0.36,
            color=COLOURS[4 + number], label=f"{column}ing images" if not number else "test images",
        )  # fmt: skip
    right.set_xlabel("accuracy (%)")
    left.set_title("How far the trunk moved")
    right.set_title("What that did to accuracy")
    figure.legend(loc="outside lower center", ncols=6, fontsize=8)
    return figure


def confusion(matrices: Mapping[str, Tensor], class_names: Sequence[str]) -> Figure:
    """Draw confusion matrices side by side: true classes in rows, in percent of each row."""
    figure, panels = plt.subplots(
        1, len(matrices), figsize=(4.9 * len(matrices), 4.9), squeeze=False, sharey=True
    )
    few = len(class_names) <= 20
    for axes, (name, matrix) in zip(panels[0], matrices.items(), strict=True):
        share = 100 * matrix / matrix.sum(dim=1, keepdim=True)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
        axes.set_title(name)
        axes.set_xlabel("predicted class")
        axes.grid(visible=False)
        if few:
            axes.set_xticks(range(len(class_names)), class_names, rotation=60, ha="right")
            axes.set_yticks(range(len(class_names)), class_names)
            for row, values in enumerate(share.tolist()):
                for column, value in enumerate(values):
                    if value >= 0.5:
                        axes.text(
                            column, row, f"{value:.0f}", ha="center", va="center", fontsize=7,
                            color="white" if value > 55 else "black",
                        )  # fmt: skip
    panels[0, 0].set_ylabel("true class")
    return figure


def wrong_images(worst: Sequence[Mapping[str, Any]], images: ImageSet) -> Figure:
    """Draw wrongly classified images with their true and their predicted class."""
    columns = 4
    rows = max(1, -(-len(worst) // columns))
    figure, panels = plt.subplots(rows, columns, figsize=(7.6, 2.3 * rows), squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for axes, each in zip(panels.flat, worst, strict=False):
        show(axes, images.images[each["index"]])
        axes.set_title(
            f"{images.class_names[each['label']]}, seen as\n"
            f"{images.class_names[each['predicted']]} ({each['probability']:.0%})",
            fontsize=9, loc="center",
        )  # fmt: skip
    return figure
