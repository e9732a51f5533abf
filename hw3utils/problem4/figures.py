"""Figures of Problem 4: noise, resampling, students and P; those of K are in `k_figures`.

``means`` are those of `tables.mean_and_spread`: each accuracy with its spread, and of how many
seeds; those that diverged are counted in red below the mean that they are not in. ``found`` are
differences with their intervals, from `comparisons`.
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
from hw3utils.problem4.recipes import TEACHER
from hw3utils.problem4.tables import NETWORKS, ONE_GARMENT, THE_TEACHER, TWO_GARMENTS
from hw3utils.problem4.teaching import with_p
from hw3utils.style import COLOURS, MARKERS, show
from hw3utils.training.intervals import Interval, paired_difference

BLUE, RED, GREEN, PINK = COLOURS[:4]
GREY, LIGHT_GREY, DARK_RED = "#777777", "#BBBBBB", "#A00000"
SPREAD = "bars: standard deviation over seeds"
INTERVALS = "bars: 95 % interval, each by itself"


def noise_curves(means: pd.DataFrame, controls: pd.DataFrame, random_name: str) -> Figure:
    """Draw test accuracy against label noise for both judges, with the controls beside it.

    ``means`` are those of ``linear_accuracy`` and ``own_accuracy`` by ``noise``; the row whose
    noise is ``random_name`` gives the line below; ``controls`` likewise, by ``control`` too.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9.5, 3.9), sharey=True)
    trained = means[means["noise"] != random_name].assign(control="many wrong classes")
    curves = pd.concat([trained, controls]).astype({"noise": float}).groupby("control", sort=False)
    floor = 100 * float(means.loc[means["noise"] == random_name, "linear_accuracy"].iloc[0])
    titles = {
        "linear_accuracy": "Linear classifier on frozen features", "own_accuracy": "Own last layer"
    }  # fmt: skip
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        for shift, (name, rows) in enumerate(curves):
            places = 100 * rows["noise"] + 0.5 * (shift - 1)
            look = {"color": COLOURS[shift], "marker": MARKERS[shift], "label": name}
            errors(axes, places, rows, column, **look)
            mark_diverged(axes, places, rows)
        if column == "linear_accuracy":
            axes.axhline(floor, color=GREY, linestyle=":", label="random features")
        axes.set(xticks=100 * trained["noise"].astype(float), title=title)
        axes.set_xlabel("labels replaced before pre-training (%)")
    panels[0].set_ylabel(f"test accuracy (%)\n{SPREAD}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def resampling_panels(counts: Sequence[int], shares: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw what each rule does to the classes' shares, and what it wins before and after transfer.

    ``counts`` are images of each rank; the rows of ``shares`` are ranks, its columns rules;
    ``table`` is `tables.resampling_table`. Dots are differences to natural sampling, paired by
    seed, with 95 % intervals, each for itself.
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
    panels = ((before, "own_accuracy", "Before the transfer: own last layer"),
              (after, "linear_accuracy", "After it: linear classifier"))  # fmt: skip
    bands = list(dict.fromkeys(table["band"]))
    points = table.assign(**{column: 100 * table[column] for _, column, _ in panels})
    for axes, column, title in panels:
        means = []
        for number, rule in enumerate(list(shares)[1:], start=1):
            for place, band in enumerate(bands):
                rows = points[points["band"] == band]
                gain = paired_difference(rows, column, rule, "natural", by="rule")
                means.append(gain.mean)
                look = {"color": COLOURS[number], "marker": MARKERS[number]}
                interval(axes, place + 0.24 * (number - 1.5), gain, **look)
        axes.axhline(0, color=GREY, linewidth=1)
        axes.set_xticks(range(len(bands)), bands)
        axes.set(title=title, xlim=(-0.5, len(bands) - 0.5))
        axes.set_ylim(*limits(axes.get_ylim(), means))
        axes.grid(visible=False, axis="x")
    before.set_ylabel(f"points gained over natural sampling\n{INTERVALS}")
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=3, title="sampling"
    )
    return figure


def students(table: pd.DataFrame, found: pd.DataFrame) -> Figure:
    """Draw each arm's test accuracy by seed, and beside it the differences that are judged.

    ``table`` is `tables.students_table`, ``found`` what `comparisons.students` returns of it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.6), width_ratios=(1, 1))
    arms = list(dict.fromkeys(zip(table["network"], table["arm"], strict=True)))
    arms.sort(key=lambda names: (list(NETWORKS.values()).index(names[0]), names[1] == THE_TEACHER))
    for row, (network, arm) in enumerate(reversed(arms)):
        mine = table[(table["network"] == network) & (table["arm"] == arm)]
        colour = _colour(network)
        values = 100 * mine["test_accuracy"].dropna()
        left.plot(values, [row] * len(values), "o", color=colour, alpha=0.5, markersize=5)
        left.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2.4)
        if lost := int(mine["diverged"].sum()):
            left.text(
                0.01, row, f"× {lost} of {len(mine)} diverged", color=DARK_RED, fontsize=8,
                va="center", transform=left.get_yaxis_transform(),
            )  # fmt: skip
    left.set_yticks(range(len(arms)), [arm for _, arm in reversed(arms)])
    for label, (network, _) in zip(left.get_yticklabels(), reversed(arms), strict=True):
        label.set_color(_colour(network))
    left.set_xlabel("test accuracy (%): dots are seeds, bars their mean")
    left.set_title("LeNet-5 (blue) and the teacher's network (orange)")
    left.grid(visible=False, axis="y")
    _forest(right, found)
    right.set_title("Differences, paired by seed")
    return figure


def _colour(network: str) -> str:
    return RED if network == NETWORKS[TEACHER] else BLUE


def _forest(axes: Axes, found: pd.DataFrame) -> None:
    """Draw one difference with its interval in each row, in the colour of its sign."""
    found = found[::-1]  # the first one on top
    for row, each in enumerate(found.itertuples()):
        gain = Interval(each.mean, each.low, each.high)
        colour = {1: GREEN, -1: DARK_RED, 0: GREY}[gain.sign]
        axes.plot(gain.mean, row, "o", color=colour)
        axes.plot([gain.low, gain.high], [row, row], color=colour)  # NaN draws nothing
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(found)), found["first"] + " − " + found["second"])
    for label, measure in zip(axes.get_yticklabels(), found["measure"], strict=True):
        label.set_color(_colour(measure))
    axes.set_xlim(*limits(axes.get_xlim(), found["mean"]))
    axes.set_xlabel("percentage points; the intervals hold together\n(grey: cannot be told from 0)")
    axes.grid(visible=False, axis="y")


def p_panels(means: pd.DataFrame, ps: Sequence[int]) -> Figure:
    """Draw what P does for rare classes: the labels they get, and the student's accuracy on them.

    ``means`` are those of `tables.rare_table` by ``images`` and ``arm``, in its order. Above one
    garment on each image, below two.
    """
    figure, panels = plt.subplots(2, 2, figsize=(10.5, 6.6), sharex="col", width_ratios=(4, 7))
    for (left, right), images in zip(panels, (ONE_GARMENT, TWO_GARMENTS), strict=True):
        rows = means[means["images"] == images].set_index("arm")
        given = rows.loc[[with_p(p) for p in ps]]
        places = np.arange(len(given))
        left.bar(places, given["rare_right"], 0.6, color=GREEN, label="right")
        wrong = given["rare_rows"] - given["rare_right"]
        left.bar(places, wrong, 0.6, bottom=given["rare_right"], color=LIGHT_GREY, label="wrong")
        left.set(ylabel="labels of rare classes", title=f"{images.capitalize()}: what P finds")
        left.set_xticks(places, given.index)
        places = np.arange(len(rows))
        errors(right, places - 0.1, rows, "before", color=BLUE, marker="o", linestyle="",
                label="before the fine-tuning")  # fmt: skip
        errors(right, places + 0.1, rows, "after", color=RED, marker="s", linestyle="",
                label="after it")  # fmt: skip
        mark_diverged(right, places, rows)
        right.set(ylabel=f"accuracy on rare classes (%)\n{SPREAD}", ylim=(-4, 104))
        right.set_title(f"{images.capitalize()}: the student, validation images")
        names = rows.index.str.replace(" (balanced)", ",\nbalanced")
        right.set_xticks(places, names, fontsize=8)
    for axes in panels[0]:
        axes.legend(loc="upper center", ncols=2)
    top = 1.25 * float(means["rare_rows"].max())
    for left, _ in panels:
        left.set_ylim(0, top)
    return figure


def pictures_of_two(pictures: ImageSet, second: Sequence[int], n: int = 8) -> Figure:
    """Draw the first ``n`` pictures of two garments; the one that is not the label in brackets."""
    figure, panels = plt.subplots(1, n, figsize=(1.3 * n, 2))
    title = "Above each picture its label, in brackets the other garment"
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    for axes, image, label, other in zip(
        panels, pictures.images, pictures.labels.tolist(), second, strict=False
    ):
        show(axes, image)
        names = pictures.class_names
        axes.set_title(f"{names[label]}\n({names[other]})", fontsize=8, loc="center")
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


def limits(drawn: tuple[float, float], means: Sequence[float]) -> tuple[float, float]:
    """Return the limits of an axis: as drawn, cut where two seeds give endless intervals."""
    most = 2 * max(5.0, float(np.nanmax(np.abs([0.0, *means]))))
    return max(drawn[0], -most), min(drawn[1], most)


def interval(axes: Axes, place: float, found: Interval, **look: Any) -> None:
    """Draw a mean with its interval, where that is known."""
    reach = found.high - found.mean  # NaN draws nothing
    axes.errorbar(place, found.mean, yerr=reach, capsize=3, elinewidth=1, **look)


def errors(axes: Axes, places: Any, means: pd.DataFrame, column: str, **look: Any) -> None:
    """Draw means in percent with error bars of one standard deviation, where there are seeds."""
    spread = 100 * means[f"{column}_sd"].fillna(0)
    axes.errorbar(places, 100 * means[column], yerr=spread, capsize=3, elinewidth=1, **look)


def mark_diverged(axes: Axes, places: Any, means: pd.DataFrame) -> None:
    """Write at the foot of the axes, below each mean, how many of its seeds diverged, if any."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.7}
    for place, lost, seeds in zip(places, means["diverged"], means["seeds"], strict=True):
        if lost:
            axes.annotate(
                f"× {lost} of {seeds} diverged", (place, 0), (0, 4), rotation=90, ha="center",
                xycoords=("data", "axes fraction"), textcoords="offset points", color=DARK_RED,
                fontsize=7.5, bbox=box,
            )  # fmt: skip
