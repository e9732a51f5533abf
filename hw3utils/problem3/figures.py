"""Figures of Problem 3: the target's images, learning curves, and the approaches compared."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from hw3utils.data.images import ImageSet
from hw3utils.problem3.experiments import ALL_LAYERS, DROPS, LAST_LAYER, PROBE_FROZEN, Arm, Size
from hw3utils.problem3.finetuning import Finetuned
from hw3utils.problem3.last_layer import HeadResult
from hw3utils.problem3.tables import KEY, told
from hw3utils.style import COLOURS, MARKERS, show

if TYPE_CHECKING:  # students have the figures without the answers
    from hw3utils.problem3.curve_answers import Crossing

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


def accuracy_curve(
    curve: pd.DataFrame, sizes: Sequence[Size], crossings: Sequence["Crossing"]
) -> Figure:
    """Draw test accuracy against the number of training images: the picture of Problem 3.

    ``curve`` is from `tables.curve`. Lines join means over seeds (finetuning: ``sizes``, which have
    the same number of updates), bands reach from the lowest to the highest seed; hollow markers are
    single longer runs. Of ``crossings`` those are marked that have both bounds.
    """
    figure, axes = plt.subplots(figsize=(7.6, 4.6))
    approaches = (LAST_LAYER, ALL_LAYERS, PROBE_FROZEN)
    for number, approach in enumerate(approaches):
        rows = curve[curve["approach"] == approach]
        at_size = zip(rows["images"], rows["epochs"], strict=True)
        on_line = np.array([approach == LAST_LAYER or size in sizes for size in at_size], bool)
        line = rows[on_line]
        seeds = 100 * line.groupby("images")["test"].agg(["mean", "min", "max"])
        colour = COLOURS[number]
        axes.plot(seeds.index, seeds["mean"], color=colour, marker=MARKERS[number], label=approach)
        axes.fill_between(seeds.index, seeds["min"], seeds["max"], color=colour, alpha=0.2)
        others = rows[~on_line]
        axes.plot(
            others["images"], 100 * others["test"], MARKERS[number], color=colour,
            markerfacecolor="white", markersize=8,
        )  # fmt: skip
        for _, row in others.iterrows():
            axes.annotate(
                f"{row['epochs']} epochs", (row["images"], 100 * row["test"]), xytext=(9, -3),
                textcoords="offset points", fontsize=8, color=colour,
            )  # fmt: skip
    for crossing in crossings:
        if crossing.low is None or crossing.high is None:
            continue
        colour = COLOURS[approaches.index(crossing.approach)]
        axes.axvspan(crossing.low, crossing.high, color=colour, alpha=0.12, linewidth=0)
        axes.annotate(
            f"“{crossing.approach}”\novertakes the last layer here",
            (np.sqrt(crossing.low * crossing.high), 0.03),
            xycoords=("data", "axes fraction"), ha="center", fontsize=8, color=colour,
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = sorted(curve["images"].unique())
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("training images (log scale)")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(
        "Each approach by number of training images (bands: all seeds);\n"
        "finetuning has as many updates with few images as with many"
    )
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def finetuning_curves(results: Mapping[Arm, Finetuned], title: str) -> Figure:
    """Draw loss and accuracies of runs of equal length against epochs, each arm's first seed.

    Validation accuracy begins with epoch 0, before the first update; thin lines are accuracies on
    the training images as they were trained on; grey lines are drops of the learning rate.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2))
    first = {arm[:4]: arm for arm in sorted(results, key=lambda arm: arm.seed, reverse=True)}
    arms = [arm for arm in results if first[arm[:4]] == arm]
    epochs = max(arm.epochs for arm in arms)
    for number, arm in enumerate(arms):
        seeds = [result for other, result in results.items() if other[:4] == arm[:4]]
        history = results[arm].history
        look = {"color": COLOURS[number], "linestyle": STYLES[number % 5]}
        label = f"{arm.approach}, {arm.learning_rate:g}{_mark(seeds)}"
        left.plot(
            history["epoch"], history["train_loss"], label=label, marker=MARKERS[number],
            markersize=3, **look,
        )  # fmt: skip
        scores = [results[arm].start_accuracy, *history["validation_accuracy"]]
        right.plot(range(len(scores)), 100 * np.array(scores), marker=MARKERS[number], **look)
        right.plot(history["epoch"], 100 * history["train_accuracy"], linewidth=0.8, **look)
    for axes in (left, right):
        for drop in DROPS:
            axes.axvline(drop * epochs, color=GREY, linewidth=0.7, alpha=0.5)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_ylabel("training loss (nats)")
    right.set_ylabel("accuracy (%)")
    explained = "marked: validation, thin: training, grey lines: drops of the rate"
    right.set_title(explained, fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def head_curves(results: Mapping[int, Sequence[HeadResult]], optimum: float) -> Figure:
    """Draw validation accuracy of the last layers, by seed, against epochs.

    ``optimum`` is that of the penalised optimum (see `training.linear.optimal_head`), a line.
    """
    figure, axes = plt.subplots(figsize=(7, 3.8))
    for number, heads in enumerate(zip(*results.values(), strict=True)):
        columns = [head.history.set_index("epoch")["validation_accuracy"] for head in heads]
        values = 100 * pd.concat(columns, axis=1)
        axes.plot(
            values.index, values.mean(axis=1), color=COLOURS[number], linestyle=STYLES[number],
            label=f"learning rate {heads[0].lr:g}{_mark(heads)}",
        )  # fmt: skip
        axes.fill_between(
            values.index, values.min(axis=1), values.max(axis=1), color=COLOURS[number], alpha=0.15
        )
    axes.axhline(100 * optimum, color=GREY, linewidth=1, label="optimum with best penalty (L-BFGS)")
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy (%)")
    axes.set_title("The last layer alone (bands: lowest to highest seed)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _mark(seeds: Sequence[Finetuned | HeadResult]) -> str:
    """Return what a legend says of an arm some of whose seeds diverged."""
    number = sum(result.diverged for result in seeds)
    if 0 < number < len(seeds):
        return f" ({number} of {len(seeds)} diverged)"
    return " (diverged)" if number else ""


def learning_rates(scores: pd.DataFrame) -> Figure:
    """Draw test accuracy against the learning rate, a marker for each network: no error bars.

    ``scores`` hold rows of `tables.finetuned_scores` and `tables.head_scores` of one size.
    """
    figure, axes = plt.subplots(figsize=(7, 3.8))
    for number, (approach, rows) in enumerate(scores.groupby("approach", sort=False)):
        colour, marker = COLOURS[number], MARKERS[number]
        means = 100 * rows.groupby("learning_rate")["test"].mean()
        axes.plot(means.index, means, color=colour, linewidth=1)
        axes.plot(
            rows["learning_rate"], 100 * rows["test"], marker, color=colour, label=approach,
            alpha=0.7, linestyle="none",
        )  # fmt: skip
        lost = rows[rows["diverged"]]
        axes.plot(
            lost["learning_rate"], 100 * lost["test"], "x", color="black", markersize=10,
            linestyle="none", label=f"{approach} (diverged)" if len(lost) else None,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("learning rate (log scale)")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title("Each marker is one network; lines join means")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def effects(differences: pd.DataFrame, title: str) -> Figure:
    """Draw rows of `tables.differences`: the mean, and the 95 % interval over seeds.

    Filled where it is told apart from zero (see `tables.told`), hollow where it is not; a single
    seed has no interval.
    """
    figure, axes = plt.subplots(figsize=(9.2, 1.3 + 0.5 * len(differences)))
    places = np.arange(len(differences))
    for place, row in zip(places, differences.to_dict("records"), strict=True):
        axes.plot([row["low"], row["high"]], [place, place], color=COLOURS[0], linewidth=2)
        axes.plot(
            row["mean"], place, "o" if row["seeds"] > 1 else "D", color=COLOURS[0],
            markerfacecolor=COLOURS[0] if told(row) else "white", markersize=7,
        )  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=1)
    names = [f"{first}\nminus {second}" for first, second in
             zip(differences["first"], differences["second"], strict=True)]  # fmt: skip
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(len(differences) - 0.5, -0.5)
    axes.set_xlabel("difference in test accuracy (points; 95 % over seeds, diamond: one seed)")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def moved_and_gap(moved: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw how far each finetuned trunk moved, and training beside test accuracy."""
    scored = table.set_index(KEY)
    moved = moved.set_index(KEY)
    names = [
        f"{approach}, {lr:g}\n{images:,} × {epochs}{' (diverged)' if diverged else ''}"
        for (approach, images, epochs, lr), diverged in moved["diverged"].items()
    ]
    places = np.arange(len(names))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.8, 1.6 + 0.42 * len(names)), sharey=True)
    shown = {
        "weights": "weights", "running_mean": "BatchNorm's means",
        "running_var": "BatchNorm's variances", "features": "features of validation images",
    }  # fmt: skip
    _dots(left, places, moved, shown, 0)
    left.set_xscale("symlog", linthresh=1e-3)
    left.xaxis.set_major_formatter("{x:g}")
    left.set_yticks(places, names, fontsize=8)
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_xlabel(
        "relative distance from the start\n(log scale above 0.001; no marker: not defined)"
    )
    accuracies = 100 * scored.loc[moved.index, ["train", "test"]]
    _dots(right, places, accuracies, {"train": "training images", "test": "test images"}, 4)
    right.set_xlabel("accuracy (%)")
    left.set_title("How far the trunk moved")
    right.set_title("Accuracy")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _dots(
    axes: Axes, places: np.ndarray, values: pd.DataFrame, shown: Mapping[str, str], first: int
) -> None:
    """Draw one kind of marker for each column, a row of them at each place, none over another."""
    for number, (column, label) in enumerate(shown.items(), start=first):
        shift = 0.14 * (number - first - (len(shown) - 1) / 2)
        axes.plot(
            values[column], places + shift, MARKERS[number], color=COLOURS[number], label=label,
            linestyle="none", markersize=6,
        )  # fmt: skip


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
                    if round(value):
                        axes.text(
                            column, row, f"{value:.0f}", ha="center", va="center", fontsize=7,
                            color="white" if value > 55 else "black",
                        )  # fmt: skip
    panels[0, 0].set_ylabel("true class (percent of each row; blank: below 0.5)")
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
