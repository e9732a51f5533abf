"""Figures of Problem 4: noise, resampling, students, K and P.

``means`` are those of `tables.mean_and_spread`: each accuracy with its spread, and of how many
seeds; those that diverged are counted in red below the mean that they are not in.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from hw3utils.data.images import ImageSet
from hw3utils.problem4.tables import count_diverged
from hw3utils.style import COLOURS, MARKERS, show

BLUE, RED, GREEN, PINK = COLOURS[:4]
GREY, LIGHT_GREY, DARK_RED = "#777777", "#BBBBBB", "#A00000"
FIRST, SECOND = {"color": BLUE, "marker": "o"}, {"color": RED, "marker": "s"}


def noise_curve(means: pd.DataFrame, random_name: str) -> Figure:
    """Draw test accuracy against label noise: frozen features, and the network's own last layer.

    ``means`` are those of ``linear_accuracy`` and ``own_accuracy`` by ``noise``; the row whose
    noise is ``random_name`` gives the line below.
    """
    figure, axes = plt.subplots()
    trained = means[means["noise"] != random_name]
    noise = 100 * trained["noise"].astype(float)
    frozen = {"label": "linear classifier on the frozen features", **FIRST}
    own = {"label": "the network's own last layer", "linestyle": "--", **SECOND}
    _errors(axes, noise - 0.25, trained, "linear_accuracy", **frozen)
    _errors(axes, noise + 0.25, trained, "own_accuracy", **own)
    _mark_diverged(axes, noise, trained)
    floor = 100 * float(means.loc[means["noise"] == random_name, "linear_accuracy"].iloc[0])
    axes.axhline(floor, color=GREY, linestyle=":", linewidth=1.4, label="linear, random features")
    axes.set(xticks=noise, xlabel="labels replaced before pre-training (%)")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title("Label noise in pre-training, judged on clean labels")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.08))
    return figure


def resampling_panels(counts: Sequence[int], shares: pd.DataFrame, means: pd.DataFrame) -> Figure:
    """Draw what each rule does to the classes' shares, and accuracies before and after transfer.

    ``counts`` are images of each rank; the rows of ``shares`` are ranks, its columns rules;
    ``means`` are those of ``own_accuracy`` and ``linear_accuracy`` by ``rule`` and ``band``.
    """
    figure, (left, before, after) = plt.subplots(
        1, 3, figsize=(10.5, 3.9), width_ratios=(1, 1.1, 1.1)
    )
    for rule, colour, marker in zip(shares, COLOURS, MARKERS, strict=False):
        left.plot(shares.index, 100 * shares[rule], color=colour, marker=marker, label=rule)
    left.set_yscale("log")
    left.set_yticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
    left.yaxis.set_minor_locator(NullLocator())
    left.set(xticks=shares.index, ylabel="share of the draws (%)", title="What is drawn")
    left.set_xlabel(f"class by frequency ({counts[0]:,} to {counts[-1]:,} images)")
    left.legend(title="sampling", loc="lower left")
    bands = list(dict.fromkeys(means["band"]))
    panels = (
        (before, "own_accuracy", "Before the transfer: own head"),
        (after, "linear_accuracy", "After it: linear, balanced set"),
    )
    for axes, column, title in panels:
        for number, (rule, colour) in enumerate(zip(shares, COLOURS, strict=False)):
            rows = means[means["rule"] == rule].set_index("band").loc[bands]
            places = np.arange(len(bands)) + 0.26 * (number - 1)
            axes.bar(
                places, 100 * rows[column], 0.24, color=colour, yerr=100 * rows[f"{column}_sd"],
                error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#333333"},
            )  # fmt: skip
            _mark_diverged(axes, places, rows)
        axes.set_xticks(range(len(bands)), bands)
        axes.set(ylim=(0, 100), title=title)
        axes.grid(visible=False, axis="x")
    before.set_ylabel("test accuracy (%)")
    return figure


def students(table: pd.DataFrame) -> Figure:
    """Draw each arm's test accuracy: a dot for each seed, a bar for the mean.

    ``table`` has the columns ``arm``, ``seed``, ``test_accuracy`` and ``diverged``; the teacher's
    arm is called ``teacher``.
    """
    figure, axes = plt.subplots(figsize=(7, 3.2))
    counts = count_diverged(table, ["arm"])[::-1]
    arms = list(counts.index)
    for row, arm in enumerate(arms):
        values = 100 * table.loc[table["arm"] == arm, "test_accuracy"].dropna()
        if lost := counts.loc[arm, "diverged"]:
            axes.text(
                0.01, row, f"× {lost} of {counts.loc[arm, 'seeds']} diverged", color=DARK_RED,
                fontsize=8, va="center", transform=axes.get_yaxis_transform(),
            )  # fmt: skip
        if values.empty:
            continue
        colour = RED if arm == "teacher" else BLUE
        axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.55, markersize=7)
        mean = float(values.mean())
        axes.plot([mean, mean], [row - 0.28, row + 0.28], color=colour, linewidth=2.6)
        axes.annotate(
            f"{mean:.1f}", (mean, row + 0.3), (0, 1), textcoords="offset points", ha="center",
            fontsize=9,
        )  # fmt: skip
    axes.set_yticks(range(len(arms)), arms)
    axes.margins(x=0.08)
    axes.set_ylim(-0.5, len(arms) - 0.25)
    axes.set_xlabel("test accuracy (%): dots are seeds, bars their mean")
    axes.set_title("A student that learns from the teacher's labels, in three ways")
    axes.grid(visible=False, axis="y")
    return figure


def p_panels(means: pd.DataFrame) -> Figure:
    """Draw what P does for the classes that are rare in the pool: labels, recall, accuracy.

    ``means`` are those of `tables.p_table` by ``p``.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.5, 3.7))
    places = np.arange(len(means))
    left.bar(places, means["rare_right"], 0.6, color=GREEN, label="right")
    left.bar(
        places, means["rare_rows"] - means["rare_right"], 0.6, bottom=means["rare_right"],
        color=LIGHT_GREY, label="wrong",
    )  # fmt: skip
    left.set(ylabel="pseudo-labels that name a rare class", title="Labels that rare classes get")
    left.set_ylim(top=1.25 * float(means["rare_rows"].max()))
    left.legend(ncols=2, loc="upper left")
    _errors(middle, places, means, "rare_recall", color=GREEN, marker="o", label="recall")
    _errors(middle, places, means, "rare_precision", color=PINK, marker="s", label="precision")
    middle.set(ylim=(0, 100), ylabel="rare classes (%)", title="How many are found, how clean")
    middle.legend()
    _errors(right, places, means, "other_accuracy", label="other classes", **FIRST)
    _errors(right, places, means, "rare_accuracy", label="rare classes", **SECOND)
    _mark_diverged(right, places, means)
    right.set(ylabel="student's test accuracy (%)", title="The student")
    right.legend()
    for axes in (left, middle, right):
        axes.set_xticks(places, [str(p) for p in means["p"]])
        axes.set_xlabel("P, classes for each image")
    return figure


def k_curve(means: pd.DataFrame, curve: pd.DataFrame, baseline: float, p: int) -> Figure:
    """Draw the student's accuracy, and below it the pseudo-labels' precision, against K.

    ``means`` are those of ``test_accuracy`` by ``k``, of students trained with the ``p`` given,
    whose line is drawn boldly below; ``curve`` has the columns ``p``, ``k`` and ``precision``, also
    for other P, which need no training. ``baseline`` is the test accuracy of the student that saw
    D alone.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6.2), sharex=True)
    _errors(above, means["k"], means, "test_accuracy", label=f"student, P = {p}", **FIRST)
    _mark_diverged(above, means["k"], means)
    above.axhline(100 * baseline, color=GREY, linestyle="--", linewidth=1.2, label="on D alone")
    above.set(ylabel="test accuracy (%)", title="The student's accuracy")
    above.legend(loc="best")
    for (other, rows), colour, marker in zip(
        curve.groupby("p", sort=True), (COLOURS[4], COLOURS[5], BLUE, PINK), MARKERS, strict=False
    ):
        below.plot(
            rows["k"], 100 * rows["precision"], marker=marker, label=f"P = {other}",
            color=BLUE if other == p else colour, linewidth=2.6 if other == p else 1.3,
        )  # fmt: skip
    below.set_xscale("log")
    below.set_xticks(list(means["k"]), [f"{k:,}" for k in means["k"]], rotation=30)
    below.xaxis.set_minor_locator(NullLocator())
    below.set_xlabel("K, images for each class (log scale)")
    below.set(ylabel="right pseudo-labels (%)", title="Its teaching material: the precision of D̂")
    below.legend(loc="lower left")
    return figure


def several_labels(images: ImageSet, found: Sequence[dict[str, Any]]) -> Figure:
    """Draw images that are in D̂ under several labels, with the teacher's score for each label.

    The true class stands above each image; ``found`` is what `tables.several_labels` returns.
    """
    figure, panels = plt.subplots(
        2, len(found), figsize=(1.75 * len(found), 3.6), height_ratios=(1.1, 1), squeeze=False
    )
    for (above, below), each in zip(panels.T, found, strict=True):
        show(above, images.images[each["index"]])
        true = int(images.labels[each["index"]])
        above.set_title(f"true: {images.class_names[true]}", fontsize=9, loc="center")
        colours = [GREEN if label == true else LIGHT_GREY for label in each["labels"]]
        rows = range(len(each["labels"]))
        below.barh(rows, each["scores"], color=colours)
        for row, label in zip(rows, each["labels"], strict=True):
            below.text(0.03, row, images.class_names[label], va="center", fontsize=8.5)
        below.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        below.set(xlim=(0, 1), ylim=(len(rows) - 0.45, -0.55), yticks=[])
        below.grid(visible=False)
    panels[1][0].set_xlabel("teacher's score", loc="left")
    return figure


def _errors(axes: Axes, places: Any, means: pd.DataFrame, column: str, **look: Any) -> None:
    """Draw means in percent with error bars of one standard deviation, where there are seeds."""
    spread = 100 * means[f"{column}_sd"].fillna(0)
    axes.errorbar(places, 100 * means[column], yerr=spread, capsize=3, elinewidth=1, **look)


def _mark_diverged(axes: Axes, places: Any, means: pd.DataFrame) -> None:
    """Write at the foot of the axes, below each mean, how many of its seeds diverged, if any."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.7}
    for place, lost, seeds in zip(places, means["diverged"], means["seeds"], strict=True):
        if lost:
            axes.annotate(
                f"× {lost} of {seeds} diverged", (place, 0), (0, 4), rotation=90, ha="center",
                xycoords=("data", "axes fraction"), textcoords="offset points", color=DARK_RED,
                fontsize=7.5, bbox=box,
            )  # fmt: skip
