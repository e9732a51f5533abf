"""Figures of 1.1 and 1.2, learning rates and schedules, and what all figures of Problem 1 share.

They draw what `tables` and `training.sweeps` return, with one seed (no bands, no intervals) as with
many. A run that diverged is never drawn as a value: it is counted, or marked where it was last.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from hw3utils.problem1 import tables
from hw3utils.problem1.learning_rates import (
    PROGRESS,
    LRBounds,
    RangeTest,
    fallen_to,
    mean_curve,
)
from hw3utils.style import COLOURS, MARKERS
from hw3utils.training.runs import FitResult

BLUE, RED, GREEN, ORANGE, LIGHT_BLUE = *COLOURS[:3], *COLOURS[4:6]
GREY, LIGHT_GREY, DARK_RED = "#555555", "#BBBBBB", "#A00000"
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))
LOOKS = [
    {"color": colour, "linestyle": style, "marker": marker}
    for colour, style, marker in zip(COLOURS, STYLES, MARKERS, strict=True)
]
LOOKS += [look | {"fillstyle": "none", "linewidth": 1} for look in LOOKS]  # from the eighth arm on
FAR = 15  # points of accuracy by which an arm that failed lies below the others
Results = Sequence[FitResult]  # of one arm: a run for each seed


def learning_rate_curve(asked: pd.DataFrame, extra: pd.DataFrame, bounds: LRBounds) -> Figure:
    """Draw training loss against learning rate; below, the share of seeds that failed.

    ``asked`` is the `tables.sweep_table` of the rates off which ``bounds`` were read, ``extra``
    that of others, which may be empty. Lines are broken at rates where a seed failed. The level
    that decides is marked: `learning_rates.PROGRESS` of the way down to the lowest mean loss.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.5, 5), sharex=True, height_ratios=(3, 1))
    looks = (("", BLUE, "o", "-"), (", more rates", LIGHT_BLUE, "s", "--"))
    for part, (which, colour, marker, style) in zip((asked, extra), looks, strict=True):
        if len(part):
            means = tables.by(part, "learning_rate")
            intact = means["train_loss"].where(means["failed"] == 0)
            line = {"color": colour, "linestyle": style, "label": f"mean over seeds{which}"}
            above.plot(means["learning_rate"], intact, **line)
            dots = {"color": colour, "alpha": 0.6, "label": f"one run{which}"}
            above.plot("learning_rate", "train_loss", marker, data=part[~part["failed"]], **dots)
    sweep = pd.concat([asked, extra])
    hollow = {"color": RED, "fillstyle": "none", "label": "one run, collapsed"}
    above.plot("learning_rate", "train_loss", "o", data=sweep[sweep["collapsed"]], **hollow)
    means = tables.by(asked, "learning_rate")
    learned = means[means["diverged"] == 0]["train_loss"]
    if len(learned):
        level = fallen_to(learned.iloc[0], learned.min(), PROGRESS)
        mark_level(above, level, f"{100 * PROGRESS:.0f} % of the way down (ten rates)")
    above.axvspan(*bounds, color=GREEN, alpha=0.2, linewidth=0)
    look = {"color": "#006B4E", "fontsize": 9, "transform": above.get_xaxis_transform()}
    above.text(bounds.lr_min, 0.03, f"lr_min = {bounds.lr_min:.2g} ", ha="right", **look)
    above.text(bounds.lr_max, 0.03, f" lr_max = {bounds.lr_max:.2g}", ha="left", **look)
    mark_level(above, np.log(10), "guessing: ln 10")
    above.set(ylim=(0, 1.1 * above.get_ylim()[1]), ylabel="training loss (nats)", xscale="log")
    above.set_title("Training loss in the last epoch of runs at one constant learning rate")
    gathered = tables.by(sweep, "learning_rate")
    rates = gathered["learning_rate"]
    collapsed, diverged = 100 * gathered["collapsed"], 100 * gathered["diverged"]
    below.bar(rates, collapsed, 0.3 * rates, color=ORANGE, label="seeds that collapsed")
    below.bar(rates, diverged, 0.3 * rates, collapsed, color=DARK_RED, label="seeds that diverged")
    below.set(ylim=(0, 100), ylabel="failed (%)", xlabel="learning rate (log scale)")
    below.xaxis.set_major_locator(LogLocator(numticks=20))
    return framed(figure, above, below)


def range_test_curve(tests: Sequence[RangeTest], rates: Mapping[str, float]) -> Figure:
    """Draw the smoothed loss of each seed's test, their mean, and on it `tables.rule_rates`."""
    figure, axes = plt.subplots(figsize=(7.5, 4.6))
    for test, label in zip(tests, ["one seed, smoothed"] + len(tests) * [None], strict=False):
        axes.plot(test.learning_rates, test.smoothed, color=LIGHT_GREY, linewidth=1, label=label)
    tried, mean = mean_curve(tests)
    axes.plot(tried, mean, color=BLUE, linewidth=2.4, label="mean over seeds")
    ends = [test.diverged_at for test in tests if test.diverged_at is not None]
    draw_crosses_at_edge(axes, ends, 0, DARK_RED, "a seed's loss exploded")
    dots = [(np.interp(rate, tried, mean), rate, rule) for rule, rate in rates.items()]
    arrow = {"arrowstyle": "-", "color": RED, "linewidth": 0.8, "relpos": (1, 0.5)}
    for number, (loss, rate, rule) in enumerate(sorted(dots)):  # the lowest dot, the lowest label
        axes.plot([rate], [loss], "o", color=RED, markersize=7, zorder=4)
        axes.annotate(
            f"{rule}: {rate:.2g}", (rate, loss), (0.03, 0.06 + 0.1 * number), va="center",
            textcoords="axes fraction", fontsize=9, color="#9A4300", arrowprops=arrow,
        )  # fmt: skip
    depth = mean[0] - mean.min()
    axes.set(xscale="log", ylim=(mean.min() - 0.15 * depth, mean[0] + 0.2 * depth))
    axes.set(xlabel="learning rate (log scale), rising with every update")
    axes.set(ylabel="training loss (nats)", title="LR range test: one short run for each seed")
    return framed(figure, axes)


def schedule_lines(
    learning_rates: Mapping[str, Sequence[float]], title: str, updates_per_epoch: int
) -> Figure:
    """Draw every update's learning rate against epochs, a panel for each schedule."""
    columns = -(-len(learning_rates) // 2)
    figure, panels = plt.subplots(
        2, columns, figsize=(9.6, 4.4), sharex=True, sharey=True, squeeze=False
    )
    for axes, (name, rates) in zip(panels.flat, learning_rates.items(), strict=False):
        axes.plot(np.arange(len(rates)) / updates_per_epoch, rates, color=BLUE)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelbottom=True)
        epoch_axis(axes)
    for axes in panels.flat[len(learning_rates) :]:
        axes.remove()
    for axes in panels[:, 0]:
        axes.set(ylim=(0, None), ylabel="learning rate")
    return framed(figure, title=title)


def train_and_validation(results: Results, title: str) -> Figure:
    """Draw loss and accuracy, training and validation, and the learning rate under each.

    Mean and range over seeds; dotted lines mark the ends of a schedule's cycles.
    """
    figure, panels = plt.subplots(2, 2, figsize=(9.2, 4.8), sharex=True, height_ratios=(3, 1))
    longest = max(results, key=lambda result: len(result.learning_rates))
    ends = [0, *longest.history["updates"].cumsum()]  # of the epochs, in updates
    places = np.interp(range(len(longest.learning_rates)), ends, range(len(ends)))
    cycles = getattr(longest.run.schedule, "cycles", 0)
    units = {"loss": "loss (nats)", "accuracy": "accuracy (%)"}
    for (axes, below), score in zip(panels.T, units, strict=True):
        draw_curve(axes, results, f"train_{score}", "training, mean over the epoch", **LOOKS[0])
        draw_curve(axes, results, f"validation_{score}", "validation, after the epoch", **LOOKS[1])
        axes.set_ylabel(units[score])
        below.plot(places, longest.learning_rates, color=GREY, linewidth=1.2)
        below.set(ylim=(0, None), ylabel="learning rate")
        if cycles:
            dotted_lines((axes, below), np.linspace(0, longest.run.epochs, cycles + 1)[1:])
        epoch_axis(below, "epoch (dotted: end of a cycle)" if cycles else "epoch")
    return framed(figure, panels[0, 0], title=title)


def validation_by_arm(arms: Mapping[str, Results], differences: pd.DataFrame, title: str) -> Figure:
    """Draw validation accuracy against epochs, and one arm's `tables.differences` from others.

    The axis follows the arms that learned: where one ends that is `FAR` below, the legend says.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), width_ratios=(5, 4))
    found = {arm: over_seeds(results, "validation_accuracy") for arm, results in arms.items()}
    means = pd.DataFrame({arm: values.mean(axis=1) for arm, values in found.items()})
    ends = means.ffill().iloc[-1]
    failed = ends < ends.max() - FAR
    for (arm, results), look in zip(arms.items(), cycle(LOOKS), strict=False):
        label = f"{arm}: ends at {ends[arm]:.0f} %" if failed[arm] else arm
        draw_curve(left, results, "validation_accuracy", label, band=False, **look)
    lowest = means.loc[:, ~failed].iloc[len(means) // 4 :].min().min()
    margin = 0.1 * (ends.max() - lowest) + 0.1
    if np.isfinite(margin):  # any arm is left
        left.set_ylim(lowest - margin, ends.max() + 2 * margin)
    left.set(ylabel="validation accuracy (%)", title="Mean over seeds")
    epoch_axis(left)
    _forest(right, differences)
    return framed(figure, left, title=title)


def _forest(axes: Axes, differences: pd.DataFrame) -> None:
    """Draw differences as dots with their intervals round zero; one that is far off, in words."""
    mean, names = differences["mean"], differences["second"]
    large = mean.abs() > FAR
    names = names.where(mean.notna(), names + "\n(a run diverged)")
    names = names.mask(large, names + mean.map("\n({:.0f} points)".format))
    places = -np.arange(len(mean))
    reach = [mean - differences["low"], differences["high"] - mean]
    axes.axvline(0, color=GREY, linewidth=1)
    look = {"fmt": "o", "color": BLUE, "capsize": 4, "markersize": 7}
    axes.errorbar(mean.mask(large), places, xerr=reach, **look)
    axes.set_yticks(places, names)
    intervals = "95 % interval" if differences["low"].notna().any() else "one seed"
    which = f"{differences['first'].iloc[0]} minus the other"
    axes.set(xlabel=f"{which} (points; {intervals})", title="Differences, paired by seed")
    axes.set_ylim(places[-1] - 0.6, 0.6)


def over_seeds(results: Results, column: str) -> pd.DataFrame:
    """Return a column of the histories, in nats or %: a row for each epoch, a column for each seed.

    Seeds that diverged are left out, if any other is left. Training scores are means over an
    epoch's updates, so they stand in its middle.
    """
    kept = [result for result in results if not result.diverged] or results
    found = {result.run.seed: result.history.set_index("epoch")[column] for result in kept}
    values = pd.DataFrame(found) * (100 if column.endswith("accuracy") else 1)
    return values.set_index(values.index - (0.5 if column.startswith("train") else 0))


def draw_curve(axes: Axes, results: Results, column: str, label: str, **look: Any) -> None:
    """Draw a column's mean over the seeds that did not diverge, and their range.

    The legend counts those that did; a cross below marks the epoch in which each ended.
    """
    lost = [result.history["epoch"].iloc[-1] for result in results if result.diverged]
    label = f"{label} ({len(lost)} of {len(results)} diverged)" if lost else label
    draw_mean_and_range(axes, over_seeds(results, column), label=label, **look)
    draw_crosses_at_edge(axes, lost, 0, look["color"])


def draw_mean_and_range(axes: Axes, values: pd.DataFrame, band: bool = True, **look: Any) -> None:
    """Draw the mean over the columns against the index, and a band from lowest to highest."""
    axes.plot(values.index, values.mean(axis=1), markersize=4, **look)
    if band and values.shape[1] > 1:
        low, high = values.min(axis=1), values.max(axis=1)
        axes.fill_between(values.index, low, high, color=look["color"], alpha=0.15, linewidth=0)


def draw_crosses_at_edge(
    axes: Axes, places: Sequence, edge: int, colour: Any, label: str = ""
) -> None:
    """Mark places along x at the lower (0) or upper (1) edge of a panel."""
    look = {"color": colour, "markersize": 8, "mew": 2, "clip_on": False, "label": label}
    if len(places):
        axes.plot(places, [edge] * len(places), "x", transform=axes.get_xaxis_transform(), **look)


def mark_level(axes: Axes, value: float, text: str) -> None:
    """Mark a value by a line across, with its label."""
    axes.axhline(value, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
    place = axes.get_yaxis_transform()
    axes.text(0.01, value, text, va="bottom", color=GREY, fontsize=8, transform=place)


def dotted_lines(panels: Sequence[Axes], epochs: Sequence[float]) -> None:
    """Mark epochs by dotted lines, in all panels."""
    for axes in panels:
        axes.vlines(epochs, 0, 1, GREY, ":", linewidth=0.9, transform=axes.get_xaxis_transform())


def epoch_axis(axes: Axes, label: str = "epoch") -> None:
    """Give a panel whole epochs along x."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(label)


def log_loss_axis(axes: Axes, part: str) -> None:
    """Make the y axis logarithmic, with plain numbers: it spans a factor of ten or so."""
    axes.set(yscale="log", ylabel=f"{part} loss (nats, log scale)")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 7)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")


def framed(figure: Figure, *panels: Axes, title: str = "") -> Figure:
    """Put a title above the figure and one legend for the panels given below it, off the data."""
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    handles = [handle for axes in panels for handle in axes.get_legend_handles_labels()[0]]
    rows = -(-len(handles) // int(figure.get_figwidth() / 2.4))  # inches for each column
    if handles:
        columns = -(-len(handles) // rows)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return figure
