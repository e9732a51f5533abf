"""Figures of 4.3d: the student's accuracy against K, and what pulls it up and down."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from hw3utils.problem4 import comparisons
from hw3utils.problem4.figures import (
    DARK_RED,
    GREY,
    INTERVALS,
    SPREAD,
    errors,
    interval,
    limits,
    mark_diverged,
)
from hw3utils.problem4.tables import mean_and_spread
from hw3utils.problem4.teaching import (
    MECHANISM,
    ONE_CLASS,
    RANDOM_IMAGES,
    RANDOM_TRUE,
    SELECTED,
    TOP_CORRUPTED,
    TOP_TRUE,
)
from hw3utils.style import COLOURS, MARKERS
from hw3utils.training.intervals import mean_interval

_ARMS = dict(zip(MECHANISM, zip(COLOURS, MARKERS, strict=False), strict=False))


def k_curve(table: pd.DataFrame, lines: dict[str, float], curve: pd.DataFrame, p: int) -> Figure:
    """Draw the student's accuracy, and below it the pseudo-labels' precision, against K.

    ``table`` is `tables.mechanism_table`; ``lines`` are levels to be drawn, by name; ``curve`` has
    the columns ``p``, ``k`` and ``precision``, also for other P, which need no training.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.6, 6.6), sharex=True)
    # Where the two are equal, the wide line is seen behind the other.
    _against_k(above, table, (ONE_CLASS,), {}, linewidth=5, markersize=9, alpha=0.4)
    _against_k(above, table, (SELECTED,), {SELECTED: f"top K (P = {p})"})
    for (name, level), style in zip(lines.items(), ("--", "-.", ":"), strict=False):
        above.axhline(100 * level, color=GREY, linestyle=style, linewidth=1.3, label=name)
    above.set(ylabel=f"test accuracy (%)\n{SPREAD}", title="The student's accuracy")
    above.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    looks = {1: _ARMS[ONE_CLASS], p: _ARMS[SELECTED]}  # as above; the others have what is left
    spare = (look for look in zip(COLOURS, MARKERS, strict=True) if look not in looks.values())
    for other, rows in curve.groupby("p", sort=True):
        colour, marker = looks.get(other) or next(spare)
        below.plot(
            rows["k"], 100 * rows["precision"], marker=marker, label=f"P = {other}", color=colour,
            zorder=3 if other == p else 2,  # ours on top, where all are equal
        )  # fmt: skip
    _k_axis(below, table)
    below.set(ylabel="right pseudo-labels (%)", title="Its teaching material: the precision of D̂")
    below.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def mechanism(table: pd.DataFrame) -> Figure:
    """Draw 4.3d's arms against K, and what quantity, ease and wrong labels contribute.

    ``table`` is `tables.mechanism_table`. Contributions have 95 % intervals, each for itself.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(8.4, 7), sharex=True)
    arms = (RANDOM_TRUE, TOP_TRUE, TOP_CORRUPTED, SELECTED, RANDOM_IMAGES)
    _against_k(above, table, arms, {})
    title = "The same K, other images or other labels"
    above.set(ylabel=f"test accuracy (%)\n{SPREAD}", title=title)
    above.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    steps = comparisons.contributions(table)
    names = {
        "ease": f"ease: {TOP_TRUE}\n− {RANDOM_TRUE}",
        "wrong labels": f"wrong labels: {TOP_CORRUPTED}\n− {TOP_TRUE}",
        "kind of error": f"kind of error: {SELECTED}\n− {TOP_CORRUPTED}",
    }
    for number, (step, name) in enumerate(names.items()):
        found = [mean_interval(100 * rows[step].to_numpy()) for _, rows in steps.groupby("k")]
        places = np.array(sorted(table["k"].unique())) * (1 + 0.06 * (number - 1))
        look = {"color": ("black", DARK_RED, GREY)[number], "marker": MARKERS[number]}
        below.plot(places, [each.mean for each in found], label=name, **look)
        for place, each in zip(places, found, strict=True):
            interval(below, place, each, **look)
    below.axhline(0, color=GREY, linewidth=1)
    below.set_ylim(*limits(below.get_ylim(), 100 * steps[[*names]].stack()))
    _k_axis(below, table)
    title = "What each step changes, paired by seed"
    below.set(ylabel=f"percentage points\n{INTERVALS}", title=title)
    below.legend(loc="center left", bbox_to_anchor=(1, 0.5), labelspacing=1)
    return figure


def _against_k(
    axes: Axes, table: pd.DataFrame, arms: Sequence[str], names: dict[str, str], **look: Any
) -> None:
    """Draw the arms' accuracies; ``names`` are those of the legend, where they are others."""
    for arm in arms:
        rows = table[table["arm"] == arm].drop(columns="arm")
        means = mean_and_spread(rows, ["k"]).sort_values("k")
        colour, marker = _ARMS[arm]
        named = {"color": colour, "marker": marker, "label": names.get(arm, arm)}
        errors(axes, means["k"], means, "accuracy", **named, **look)
        mark_diverged(axes, means["k"], means)


def _k_axis(axes: Axes, table: pd.DataFrame) -> None:
    ks = sorted(table["k"].unique())
    axes.set_xscale("log")
    axes.set_xticks(
        ks, [f"{k:,}" for k in ks], rotation=45, ha="right", va="top", rotation_mode="anchor"
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("K, images for each class (log scale)")
