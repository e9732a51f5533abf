"""Figures of Problem 1: learning rates, schedules, batch sizes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hw3utils.problem1.diagnostics import LRBounds, RangeTest
from hw3utils.style import COLOURS, MARKERS
from hw3utils.training.runs import FitResult

STYLES = ("-", "--", "-.", ":")
BLUE, RED, GREEN = COLOURS[0], COLOURS[1], COLOURS[2]


def learning_rate_curve(
    sweep: pd.DataFrame, bounds: LRBounds, test: RangeTest, test_bounds: LRBounds
) -> Figure:
    """Draw training loss against learning rate: ten whole runs above, one range test below.

    Parameters
    ----------
    sweep : DataFrame
        With columns ``learning_rate``, ``train_loss`` and ``diverged``.
    bounds, test_bounds : LRBounds
        Suggested from the sweep and from the range test; shaded on their curves.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6.4), sharex=True)
    alive, dead = sweep[~sweep["diverged"]], sweep[sweep["diverged"]]
    _shade(above, bounds)
    above.plot(alive["learning_rate"], alive["train_loss"], marker="o", color=BLUE)
    top = float(alive["train_loss"].max())
    above.plot(
        dead["learning_rate"], [top] * len(dead), "x", color=RED, markersize=9, markeredgewidth=2.2
    )
    for lr in dead["learning_rate"]:
        above.annotate(
            "diverged", (lr, top), (0, 8), textcoords="offset points", ha="center", color=RED,
            fontsize=9,
        )  # fmt: skip
    above.set_ylim(top=1.18 * top)
    above.axhline(np.log(10), color="#777777", linestyle="--", linewidth=0.9, zorder=0)
    above.annotate(
        "guessing: ln 10 nats", (1e-9, np.log(10)), (0, 7), textcoords="offset points",
        color="#555555", fontsize=8,
    )  # fmt: skip
    above.set_title("Ten runs, each at one constant learning rate: loss of the last epoch")

    _shade(below, test_bounds)
    below.plot(test.learning_rates, test.losses, color="#AAAAAA", linewidth=0.8, label="minibatch")
    below.plot(test.learning_rates, test.smoothed, color=BLUE, label="smoothed")
    if test.diverged_at is not None:
        below.axvline(test.diverged_at, color=RED, linestyle=":", label="stopped: diverged")
    below.set_ylim(0, 2 * test.smoothed[0])
    below.set_title("LR range test: one run while the learning rate rises")
    below.legend(loc="lower left")
    for axes in (above, below):
        axes.set_xscale("log")
        axes.set_ylabel("training loss (nats)")
    below.set_xlabel("learning rate (log scale)")
    return figure


def schedule_lines(learning_rates: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Draw learning rates (log axis) against weight updates, one line for each named schedule."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    for number, (name, rates) in enumerate(learning_rates.items()):
        axes.plot(rates, color=COLOURS[number], linestyle=STYLES[number % 4], label=name)
    axes.set_yscale("log")
    lowest = min(min(rate for rate in rates if rate > 0) for rates in learning_rates.values())
    highest = max(max(rates) for rates in learning_rates.values())
    axes.set_ylim(max(lowest, highest * 1e-5) / 1.5, highest * 1.5)
    axes.set_xlabel("weight updates")
    axes.set_ylabel("learning rate (log scale)")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=len(learning_rates))
    return figure


def train_and_validation(results: Sequence[FitResult], title: str) -> Figure:
    """Draw loss and accuracy against epochs, training and validation, mean and range over seeds.

    Dotted lines mark the ends of a cyclical schedule's cycles.
    """
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.6))
    for axes, score, unit in zip(panels, ("loss", "accuracy"), ("nats", "fraction"), strict=True):
        for part, colour, style in (("train", BLUE, "--"), ("validation", RED, "-")):
            label = "training (while learning)" if part == "train" else part
            _band(axes, results, f"{part}_{score}", colour, style, label)
        run = results[0].run
        cycles = getattr(run.schedule, "cycles", 0)
        for end in range(1, cycles + 1):
            axes.axvline(end * run.epochs / cycles, color="#999999", linestyle=":", linewidth=0.9)
        axes.set_xlabel("epoch (dotted: end of a cycle)" if cycles else "epoch")
        axes.set_ylabel(f"{score} ({unit})")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    panels[0].legend()
    return figure


def validation_by_arm(arms: Mapping[str, Sequence[FitResult]], title: str) -> Figure:
    """Draw validation accuracy against epochs for each arm, mean and range over seeds."""
    figure, axes = plt.subplots(figsize=(7, 3.8))
    for number, (name, results) in enumerate(arms.items()):
        _band(axes, results, "validation_accuracy", COLOURS[number], "-", name, MARKERS[number])
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy (fraction)")
    axes.set_title(title)
    axes.legend(loc="lower right")
    return figure


def loss_by_epoch(arms: Mapping[str, Sequence[FitResult]], title: str) -> Figure:
    """Draw training loss against epochs for each arm; dotted lines separate the stages."""
    figure, axes = plt.subplots(figsize=(7, 3.8))
    for number, (name, results) in enumerate(arms.items()):
        _band(axes, results, "train_loss", COLOURS[number], STYLES[number], name, MARKERS[number])
    sizes = next(iter(arms.values()))[0].history["batch_size"]
    for epoch in np.flatnonzero(np.diff(sizes)):
        axes.axvline(epoch + 1.5, color="#999999", linestyle=":", linewidth=0.9)
    _guessing(axes)
    axes.set_xlabel("epoch (dotted: batch size doubled, or learning rate halved)")
    axes.set_ylabel("training loss (nats)")
    axes.set_title(title)
    axes.legend()
    return figure


def batch_size_losses(
    one_run: pd.Series, separate: pd.DataFrame, noise_scales: Mapping[str, float]
) -> Figure:
    """Draw training loss against log2(batch size), and mark the measured gradient noise scales.

    Parameters
    ----------
    one_run : Series
        Training loss indexed by batch size, from the single run with the growing batch.
    separate : DataFrame
        With columns ``batch_size``, ``train_loss`` and ``diverged``: a model for each batch size.
    noise_scales : mapping of str to float
        In images, by the moment of training at which they were measured.
    """
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(np.log2(one_run.index), one_run, "-o", color=BLUE, label="(a) one run, growing batch")
    alive, dead = separate[~separate["diverged"]], separate[separate["diverged"]]
    axes.plot(
        np.log2(alive["batch_size"]), alive["train_loss"], "--s", color=RED,
        label="(d) separate models",
    )  # fmt: skip
    if len(dead):
        top = float(alive["train_loss"].max())
        axes.plot(
            np.log2(dead["batch_size"]), [top] * len(dead), "x", color=RED, markersize=9,
            label="(d) diverged",
        )  # fmt: skip
    for (moment, scale), style in zip(noise_scales.items(), (":", "-."), strict=False):
        axes.axvline(
            np.log2(scale), color=GREEN, linestyle=style, label=f"noise scale {moment}: {scale:.0f}"
        )
    _guessing(axes)
    axes.set_xlabel("log2(batch size)")
    axes.set_ylabel("training loss (nats)")
    axes.set_title("Training loss against batch size at the fixed learning rate lr_max")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def generalisation(table: pd.DataFrame, num_test_images: int) -> Figure:
    """Draw each arm's test accuracy with its uncertainty, and its train–test gap.

    Parameters
    ----------
    table : DataFrame
        Indexed by arm, with ``test_accuracy``, ``test_sd`` and ``gap``. Where there is one seed the
        bar is the binomial standard error instead of the standard deviation. Arms that end below
        one half are named as collapsed, so that the others can be told apart.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 0.42 * len(table) + 1.4), sharey=True)
    places = pd.Series(np.arange(len(table))[::-1], index=table.index)
    alive = table[table["test_accuracy"] > 0.5]
    accuracy = alive["test_accuracy"]
    binomial = np.sqrt(accuracy * (1 - accuracy) / num_test_images)
    left.errorbar(
        accuracy * 100, places[alive.index], xerr=alive["test_sd"].fillna(binomial) * 100, fmt="o",
        color=BLUE, capsize=3,
    )  # fmt: skip
    for arm in table.index.difference(alive.index):
        left.annotate(
            f"collapsed: {table.loc[arm, 'test_accuracy']:.1%}", (0.03, places[arm]),
            xycoords=("axes fraction", "data"), va="center", color=RED, fontsize=9,
        )  # fmt: skip
    right.barh(places, table["gap"] * 100, color=COLOURS[4], height=0.55)
    left.set_yticks(places, table.index)
    left.set_ylim(-0.6, len(table) - 0.4)
    spread = "± 1 sd over seeds" if table["test_sd"].notna().all() else "± 1 standard error"
    left.set_xlabel(f"test accuracy (%), {spread}")
    right.set_xlabel("training − test accuracy (points)")
    left.set_title("Test accuracy of the final models")
    right.set_title("How much better on training images")
    return figure


def _guessing(axes: Axes) -> None:
    """Mark the loss of guessing among ten classes."""
    axes.axhline(np.log(10), color="#777777", linestyle="--", linewidth=0.9)
    axes.annotate(
        "guessing: ln 10",
        (0.6, np.log(10)),
        (0, -11),
        ha="center",
        xycoords=("axes fraction", "data"),
        textcoords="offset points", color="#555555", fontsize=8,
    )  # fmt: skip


def _shade(axes: Axes, bounds: LRBounds) -> None:
    axes.axvspan(*bounds, color=GREEN, alpha=0.14)
    for name, lr, side in zip(("lr_min", "lr_max"), bounds, ("right", "left"), strict=True):
        axes.axvline(lr, color=GREEN, linewidth=1.2)
        axes.annotate(
            f"{name}\n{lr:.2g}", (lr, 0.6), (-4 if side == "right" else 4, 0),
            xycoords=("data", "axes fraction"), textcoords="offset points", ha=side, color=GREEN,
            fontsize=9,
        )  # fmt: skip


def _band(
    axes: Axes,
    results: Sequence[FitResult],
    column: str,
    colour: str,
    style: str,
    label: str,
    marker: str | None = None,
) -> None:
    """Draw the mean of a column over seeds, and a band from the lowest to the highest seed.

    A cross marks the last finite value of each run that diverged; on the lower edge if it has none.
    """
    values = pd.concat([result.history.set_index("epoch")[column] for result in results], axis=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.plot(
        values.index, values.mean(axis=1), linestyle=style, color=colour, label=label, marker=marker
    )
    if len(results) > 1:
        axes.fill_between(
            values.index, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.15
        )
    label = f"{label}: diverged"
    for result in results:
        if not result.diverged:
            continue
        finite = result.history.set_index("epoch")[column].dropna()
        epoch, value, transform = 1, 0.0, axes.get_xaxis_transform()
        if len(finite):
            epoch, value, transform = finite.index[-1], finite.iloc[-1], axes.transData
        axes.plot(
            [epoch], [value], "x", transform=transform, color=colour, label=label,
            markersize=9, markeredgewidth=2.2, clip_on=False,
        )  # fmt: skip
        label = "_"  # one entry in the legend is enough
