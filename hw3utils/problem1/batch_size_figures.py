"""Figures of 1.3: batch size against learning rate, noise, and how the models generalise.

They follow the same rules as `figures`, whose helpers they use.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hw3utils.problem1 import tables
from hw3utils.problem1.experiments import CONTROL, GROWING
from hw3utils.problem1.figures import (
    BLUE,
    DARK_RED,
    GREEN,
    LOOKS,
    ORANGE,
    RED,
    Results,
    dotted_lines,
    draw_crosses_at_edge,
    draw_curve,
    draw_mean_and_range,
    epoch_axis,
    framed,
    log_loss_axis,
    mark_level,
    over_seeds,
)
from hw3utils.style import MARKERS


def batch_size_scores(one_run: pd.DataFrame, separate: pd.DataFrame) -> Figure:
    """Draw the growing batch's `tables.stage_scores` beside a `tables.sweep_table` over sizes."""
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 4.2))
    arms = {
        "one run: a stage at each size": one_run,
        "a model of its own for each size, from scratch": separate,
    }
    for axes, column in zip(panels, ("train_loss", "validation_accuracy"), strict=True):
        for (name, table), look in zip(arms.items(), LOOKS, strict=False):
            _against_batch_size(axes, table, column, name, **look)
    mark_level(panels[0], np.log(10), "guessing: ln 10")
    panels[0].set_ylabel("training loss (nats)")
    panels[1].set_ylabel("validation accuracy (%)")
    title = "Batch size at the fixed learning rate lr_max: mean and range over seeds"
    return framed(figure, panels[0], title=title)


def _against_batch_size(
    axes: Axes, table: pd.DataFrame, column: str, label: str, **look: Any
) -> None:
    """Draw the mean and range over seeds, a dot for each; what is NaN is a cross at the edge."""
    unit, edge = (100, 0) if column.endswith("accuracy") else (1, 1)
    values = unit * table.pivot(index="batch_size", columns="seed", values=column)
    sizes, values.index = values.index, np.log2(values.index)
    draw_mean_and_range(axes, values, label=label, **look)
    axes.plot(values, "o", color=look["color"], markersize=4, alpha=0.4)
    lost = values.index[values.isna().any(axis=1)]
    draw_crosses_at_edge(axes, lost, edge, look["color"], f"{label}: diverged")
    axes.set_xticks(values.index, [f"{np.log2(size):.0f}\n{size:,}" for size in sizes])
    axes.set_xlabel("log2(batch size), and batch size in images")


def stage_curves(arms: Mapping[str, Results], laws: Sequence[str]) -> Figure:
    """Draw training loss against epochs; below, each law minus the growing batch, seed by seed.

    Means over seeds, with the range of two arms above, and of all below; dotted lines end stages.
    """
    figure, panels = plt.subplots(2, 1, figsize=(7.5, 6.4), sharex=True, height_ratios=(4, 3))
    above, below = panels
    look_of = dict(zip(arms, cycle(LOOKS), strict=False))
    growing = over_seeds(arms[GROWING], "train_loss")
    for arm, results in arms.items():
        banded = arm in (GROWING, CONTROL)  # seven bands cannot be told apart
        draw_curve(above, results, "train_loss", arm, band=banded, **look_of[arm])
    for law in laws:
        draw_mean_and_range(below, over_seeds(arms[law], "train_loss") - growing, **look_of[law])
    below.axhline(0, color=look_of[GROWING]["color"])
    sizes = arms[GROWING][0].run.batch_sizes
    dotted_lines(panels, np.flatnonzero(np.diff(sizes)) + 1)
    mark_level(above, np.log(10), "guessing: ln 10")
    log_loss_axis(above, "training")
    above.set_title("Training loss: mean over seeds (bands: range, two arms)")
    below.set(
        title="Law minus growing batch, paired by seed (bands: range)", ylabel="difference (nats)"
    )
    epoch_axis(below, "epoch (dotted: the end of a stage)")
    below.set_xlim(0, len(sizes))
    return framed(figure, above)


def noise_scale_by_stage(noise: pd.DataFrame, num_images: int) -> Figure:
    """Draw `tables.stage_noise` beside batch size and N/10; what is missing gives its reason."""
    figure, axes = plt.subplots(figsize=(7.5, 4.6))
    for number, (arm, rows) in enumerate(noise.groupby("arm", sort=False)):
        places, simple = rows["stage"] + 0.14 * (number - 0.5), rows["simple"]
        reach = [simple - rows["low"].clip(lower=1), rows["high"] - simple]
        look = LOOKS[number] | {"linewidth": 1.2, "capsize": 3, "label": f"noise scale: {arm}"}
        axes.errorbar(places, simple, yerr=reach, **look)
        look = {"rotation": 90, "ha": "center", "color": look["color"], "fontsize": 8}
        look["transform"] = axes.get_xaxis_transform()
        for place, row in rows[rows["missing"] > 0].iterrows():
            axes.text(places[place], 0.03, f"missing: {row['reason']}", **look)
    grown = noise[noise["arm"] == GROWING]
    look = {"color": GREEN, "linestyle": "-.", "label": "batch size that grows"}
    axes.step(grown["stage"], grown["batch_size"], where="mid", **look)
    mark_level(axes, num_images / 10, f"N/10 = {num_images / 10:,.0f}")
    axes.set(yscale="log", ylabel="images (log scale)", xlabel="after stage")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xticks(sorted(noise["stage"].unique()))
    axes.set_title("Gradient noise scale as training goes on (bars: 95 % interval)")
    return framed(figure, axes)


def same_noise(same_noise: Results, same_updates: Results) -> Figure:
    """Draw validation losses of runs with one ε/B, and of runs with one rate and many updates.

    Left: against epochs, the mean over seeds of each batch size. Right: after the last epoch.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.4), width_ratios=(4, 3))
    sizes = sorted({result.run.batch_size for result in same_noise})
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(sizes)))
    for size, shade, marker in zip(sizes, shades, MARKERS, strict=False):
        results = [result for result in same_noise if result.run.batch_size == size]
        label = f"B = {size:,}, ε = {results[0].run.schedule.lr:.2g}"
        draw_curve(left, results, "validation_loss", label, band=False, color=shade, marker=marker)
    log_loss_axis(left, "validation")
    epoch_axis(left)
    left.set_title("The same ε/B: mean over seeds")
    ends, rate = tables.sweep_table(same_updates), same_updates[0].run.schedule.lr
    _against_batch_size(
        right, ends, "validation_loss", f"ε = {rate:.2g} (right)", color=RED, marker="o"
    )
    right.set(ylabel="validation loss at the end (nats)", xmargin=0.15)
    right.set_title(f"ε = {rate:.2g}, equally many updates")
    return framed(figure, left, right)


def generalisation(table: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """Draw each arm's test accuracy, a dot for each seed and the mean, and its train–test gap.

    ``table`` is the `tables.summary` of ``scores``; arms with equal ``epochs`` stand together. Of
    one in which a seed failed, words tell the accuracy: the others can be told apart.
    """
    groups = table.groupby("epochs", sort=False)
    figure, panels = plt.subplots(
        len(groups), 2, figsize=(9.2, 0.3 * len(table) + 0.7 * len(groups) + 0.6), squeeze=False,
        sharex="col", sharey="row", height_ratios=groups.size() + 0.5, width_ratios=(3, 2),
    )  # fmt: skip
    for (left, right), (epochs, group) in zip(panels, groups, strict=True):
        for place, (arm, row) in enumerate(group.iterrows()):
            seeds = scores[scores["arm"] == arm]
            accuracy, diverged = 100 * seeds["test_accuracy"], seeds["diverged"]
            failed = diverged | seeds["relapsed"] | (accuracy < 50)
            if failed.any():
                how = "diverged or relapsed" if diverged.any() else "relapsed"
                text = f"{how} in {failed.sum()} of {len(seeds)} seeds: {accuracy.mean():.1f} %"
                look = {"color": DARK_RED, "transform": left.get_yaxis_transform()}
                left.text(0.02, place, text, va="center", **look)
                continue
            left.plot(accuracy, [place] * len(accuracy), "o", color=BLUE, alpha=0.45)
            left.plot([accuracy.mean()], [place], "|", color=BLUE, markersize=13, mew=2.4)
            right.barh(place, 100 * row["gap"], 0.6, color=ORANGE)
        left.set_yticks(range(len(group)), group.index)
        left.set(ylim=(len(group) - 0.4, -0.6), title=f"{epochs} epochs", xmargin=0.08)
    left.set_xlabel("test accuracy (%): dots are seeds, lines their mean")
    right.set_xlabel("training − test accuracy (points)")
    title = "Test accuracy of the final models, and how much better on training images"
    return framed(figure, title=title)
