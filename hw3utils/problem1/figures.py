"""Figures of Problem 1: learning rates, schedules, batch sizes, noise.

They draw what `tables` and `training.sweeps` return, and work with one seed (no bands, no
intervals) as with many. A run that diverged is never drawn as a value: it is counted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from hw3utils.problem1 import tables
from hw3utils.problem1.experiments import GROWING
from hw3utils.problem1.learning_rates import LRBounds, RangeTest, mean_curve
from hw3utils.style import COLOURS, MARKERS
from hw3utils.training.runs import FitResult

BLUE, RED, GREEN, PINK, ORANGE = COLOURS[:5]
GREY, LIGHT_GREY, DARK_RED = "#666666", "#BBBBBB", "#A00000"
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))
LOOKS = [
    {"color": colour, "linestyle": style, "marker": marker}
    for colour, style, marker in zip(COLOURS, STYLES, MARKERS, strict=True)
]


def learning_rate_curve(sweep: pd.DataFrame, bounds: LRBounds) -> Figure:
    """Draw training loss against learning rate; below, the share of seeds that failed.

    ``sweep`` is a `tables.sweep_table`. The line is the mean over seeds, broken at rates where a
    seed failed; ``bounds`` are shaded.
    """
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7.5, 5.4), sharex=True, height_ratios=(3, 1)
    )
    gathered = tables.by(sweep, "learning_rate")
    learned, collapsed = sweep[~sweep["failed"]], sweep[sweep["collapsed"]]
    rates = gathered["learning_rate"]
    means = gathered["train_loss"].where(gathered["failed"] == 0)
    above.plot(rates, means, color=BLUE, label="mean, where no seed failed")
    above.plot(
        learned["learning_rate"], learned["train_loss"], "o", color=BLUE, alpha=0.5, label="one run"
    )
    if len(collapsed):
        above.plot(
            collapsed["learning_rate"], collapsed["train_loss"], "o", markerfacecolor="none",
            markeredgecolor=RED, markersize=7, label="one run, collapsed",
        )  # fmt: skip
    above.axvspan(*bounds, color=GREEN, alpha=0.14)
    for name, lr, side, shift in zip(bounds._fields, bounds, ("right", "left"), (-4, 4)):
        above.axvline(lr, color=GREEN, linewidth=1.2)
        _note(above, f"{name} = {lr:.2g}", (lr, 0.03), (shift, 0), ha=side, color="#006B4E")
    _guessing(above, 0.01, "left")
    above.set_ylim(0, 1.12 * max(np.log(10), sweep["train_loss"].where(~sweep["diverged"]).max()))
    above.set_ylabel("training loss (nats)")
    above.set_title("Training loss in the last epoch of runs at one constant learning rate")

    left, width = rates / 1.2, rates * (1.2 - 1 / 1.2)
    floor = np.zeros(len(rates))
    for kind, colour in (("collapsed", ORANGE), ("diverged", DARK_RED)):
        share = 100 * gathered[kind]
        below.bar(left, share, width, floor, align="edge", color=colour, label=f"seeds: {kind}")
        floor = floor + share
    below.plot(rates, [0] * len(rates), "|", color=GREY, label="rate tried", clip_on=False)
    below.set_ylim(0, 100)
    below.set_yticks([0, 50, 100])
    below.set_ylabel("failed (%)")
    below.set_xscale("log")
    below.xaxis.set_major_locator(LogLocator(numticks=20))
    below.set_xlabel("learning rate (log scale)")
    _legend(figure, above, below, ncols=3)
    return figure


def range_test_curve(tests: Sequence[RangeTest], rates: Mapping[str, float]) -> Figure:
    """Draw the smoothed loss of every seed's range test, their mean, and what each rule reads off.

    ``rates`` are those of `tables.rule_rates`: a dot on the mean curve for each.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.6))
    tried, mean = mean_curve(tests)
    for number, test in enumerate(tests):
        label = "one seed, smoothed" if number == 0 else None
        axes.plot(test.learning_rates, test.smoothed, color=LIGHT_GREY, linewidth=1, label=label)
    axes.plot(tried, mean, color=BLUE, linewidth=2.4, label="mean over seeds")
    ends = [test.diverged_at for test in tests if test.diverged_at is not None]
    if ends:
        axes.plot(
            ends, [0] * len(ends), "x", color=DARK_RED, markersize=8, markeredgewidth=2,
            transform=axes.get_xaxis_transform(), clip_on=False, label="a seed's loss exploded",
        )  # fmt: skip
    heights = np.linspace(0.48, 0.08, len(rates))
    for (name, rate), height in zip(sorted(rates.items(), key=lambda x: x[1]), heights):
        loss = float(np.interp(np.log(rate), np.log(tried), mean))
        axes.plot([rate], [loss], "o", color=RED, markersize=7, zorder=4)
        axes.annotate(
            f"{name}: {rate:.2g}", (rate, loss), (0.03, height), textcoords="axes fraction",
            va="center", fontsize=9, color="#9A4300",
            arrowprops={"arrowstyle": "-", "color": RED, "linewidth": 0.7, "shrinkB": 4},
        )  # fmt: skip
    axes.set_xscale("log")
    depth = mean[0] - mean.min()
    axes.set_ylim(mean.min() - 0.15 * depth, mean[0] + 0.2 * depth)
    axes.set_xlabel("learning rate (log scale), rising at every update")
    axes.set_ylabel("training loss (nats)")
    axes.set_title("LR range test: one short run for each seed while the learning rate rises")
    _legend(figure, axes, ncols=3)
    return figure


def schedule_lines(
    learning_rates: Mapping[str, Sequence[float]], title: str, updates_per_epoch: int
) -> Figure:
    """Draw the learning rate of every update against epochs: more than two schedules apart."""
    together = len(learning_rates) <= 2
    rows, columns = (1, 1) if together else (2, -(-len(learning_rates) // 2))
    size = (7.0, 3.4) if together else (9.6, 4.4)
    figure, panels = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for number, (name, rates) in enumerate(learning_rates.items()):
        axes = panels[0, 0] if together else panels.flat[number]
        epochs = np.arange(len(rates)) / updates_per_epoch
        look = LOOKS[number] | {"marker": None} if together else {"color": BLUE}
        axes.plot(epochs, rates, label=name, **look)
        if not together:
            axes.set_title(name, fontsize=9)
    for axes in panels.flat[max(1, 1 if together else len(learning_rates)) :]:
        axes.set_axis_off()
        panels[0, axes.get_subplotspec().colspan.start].tick_params(labelbottom=True)
    panels[0, 0].set_ylim(bottom=0)
    _epochs(panels[0, 0], "")
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("learning rate", fontsize=10)
    _title(figure, title)
    if together:
        _legend(figure, panels[0, 0], ncols=2)
    return figure


def train_and_validation(results: Sequence[FitResult], title: str) -> Figure:
    """Draw loss and accuracy, training and validation, and the learning rate under each.

    Mean and range over seeds. Training scores are means over an epoch's updates, so they stand in
    its middle, validation scores at its end. Dotted lines mark the ends of a schedule's cycles.
    """
    figure, panels = plt.subplots(2, 2, figsize=(9.2, 4.8), sharex=True, height_ratios=(3, 1))
    longest = max(results, key=lambda result: len(result.learning_rates))
    run, updates = longest.run, longest.history["updates"].cumsum()
    places = np.interp(
        np.arange(len(longest.learning_rates)), [0, *updates], range(len(updates) + 1)
    )
    cycles = getattr(run.schedule, "cycles", 0)
    for (axes, below), score, unit in zip(panels.T, ("loss", "accuracy"), ("nats", "%")):
        looks = zip(("train", "validation"), ("training", "validation"), (-0.5, 0), LOOKS)
        for part, label, shift, look in looks:
            factor = 100 if score == "accuracy" else 1
            _curve(axes, results, f"{part}_{score}", label, look, shift=shift, factor=factor)
        axes.set_ylabel(f"{score} ({unit})")
        below.plot(places, longest.learning_rates, color=GREY, linewidth=1.2)
        below.set_ylim(bottom=0)
        below.set_ylabel("learning rate")
        for end in range(1, cycles + 1):
            for panel in (axes, below):
                panel.axvline(end * run.epochs / cycles, color=GREY, linestyle=":", linewidth=0.9)
        _epochs(below, "epoch (dotted: end of a cycle)" if cycles else "epoch")
    _title(figure, title)
    _legend(figure, panels[0, 0], ncols=2)
    return figure


def validation_by_arm(
    arms: Mapping[str, Sequence[FitResult]], differences: pd.DataFrame, title: str
) -> Figure:
    """Draw validation accuracy against epochs, and the arms' differences with their intervals.

    ``differences`` has ``first``, ``second``, ``mean``, ``low`` and ``high``, in points. The axis
    follows the arms that learned: one that does not end within 15 points of the best is named in
    the legend as being below it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), width_ratios=(1.25, 1))
    means = {name: 100 * _kept(results, "validation_accuracy").mean(axis=1)
             for name, results in arms.items()}  # fmt: skip
    best = np.nanmax([mean.iloc[-1] for mean in means.values()])
    lowest = best
    for (name, results), look in zip(arms.items(), LOOKS):
        end = means[name].iloc[-1]
        low = not end > best - 15
        label = f"{name}: ends at {end:.0f} %, below" if low and end > 0 else name
        _curve(left, results, "validation_accuracy", label, look, factor=100, band=len(arms) <= 3)
        if not low:
            lowest = min(lowest, means[name].iloc[len(means[name]) // 4 :].min())
    margin = 0.08 * (best - lowest) + 0.1
    left.set_ylim(lowest - margin, best + 2 * margin)
    left.set_ylabel("validation accuracy (%)")
    left.set_title("Mean over seeds")
    _epochs(left)
    _forest(right, differences)
    _title(figure, title)
    _legend(figure, left, ncols=3)
    return figure


def _forest(axes: Axes, differences: pd.DataFrame) -> None:
    """Draw differences as points with intervals round zero; filled where they exclude zero."""
    same = differences["first"].nunique() == 1
    names = differences["second"]
    if not same:
        names = differences["first"] + " −\n" + differences["second"]
    places = np.arange(len(differences))[::-1]
    axes.axvline(0, color=GREY, linewidth=1)
    for place, row in zip(places, differences.itertuples()):
        if np.isnan(row.mean):
            _note(axes, "a run diverged", (0, place), (6, 0), "data", color=DARK_RED, va="center")
            continue
        clear = row.low > 0 or row.high < 0
        axes.plot([row.low, row.high], [place, place], color=BLUE)
        axes.plot(
            [row.mean], [place], "o", markersize=7, markeredgecolor=BLUE,
            markerfacecolor=BLUE if clear else "white",
        )  # fmt: skip
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(differences) - 0.4)
    axes.margins(x=0.1)
    who = f"{differences['first'].iloc[0]} minus the other" if same else "first minus second"
    measured = differences["low"].notna().any()
    axes.set_xlabel(f"{who} (points)\n" + (
        "95 % interval; filled: it excludes 0" if measured else "mean only: one seed"
    ))  # fmt: skip
    axes.set_title("Differences, paired by seed")
    axes.grid(visible=False, axis="y")


def batch_size_scores(one_run: pd.DataFrame, separate: pd.DataFrame) -> Figure:
    """Draw training loss and validation accuracy against log2(batch size).

    ``one_run`` is a `tables.stage_scores` of the growing batch, ``separate`` a
    `tables.sweep_table`: means over seeds and their range. Runs that diverged stand at the edge.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 4.2))
    alive, dead = separate[~separate["diverged"]], separate[separate["diverged"]]
    for axes, column, factor, edge in zip(
        panels, ("train_loss", "validation_accuracy"), (1, 100), (1, 0)
    ):
        for table, look, label in (
            (one_run, LOOKS[0], "one run, growing batch"),
            (alive, LOOKS[1], "a model of its own for each size"),
        ):
            wide = factor * table.pivot(index="batch_size", columns="seed", values=column)
            wide.index = np.log2(wide.index)
            _mean_and_range(axes, wide, label=label, **look)
        if len(dead):
            axes.plot(
                np.log2(dead["batch_size"]), [edge] * len(dead), "x", color=RED, markersize=9,
                markeredgewidth=2, transform=axes.get_xaxis_transform(), clip_on=False,
                label="such a model diverged",
            )  # fmt: skip
        _batch_sizes(axes, sorted({*one_run["batch_size"], *separate["batch_size"]}))
    _guessing(panels[0], 0.02, "left")
    panels[0].set_ylabel("training loss (nats)")
    panels[1].set_ylabel("validation accuracy (%)")
    _title(figure, "Batch size at the fixed learning rate lr_max: mean and range over seeds")
    _legend(figure, panels[0], ncols=3)
    return figure


def stage_curves(arms: Mapping[str, Sequence[FitResult]], laws: Sequence[str]) -> Figure:
    """Draw training loss against epochs for each arm; below, each law minus the growing batch.

    The differences are paired by seed. Mean and range over seeds; dotted lines end the stages.
    """
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7.5, 6.4), sharex=True, height_ratios=(1.4, 1)
    )
    looks = dict(zip(arms, LOOKS))
    for name, results in arms.items():
        _curve(above, results, "train_loss", name, looks[name])
    growing = _over_seeds(arms[GROWING], "train_loss")
    below.axhline(0, color=looks[GROWING]["color"], linewidth=1.4)
    for law in laws:
        apart = _over_seeds(arms[law], "train_loss") - growing
        _mean_and_range(below, apart, **looks[law])
    sizes = arms[GROWING][0].history["batch_size"].to_numpy()
    for axes in (above, below):
        for epoch in np.flatnonzero(np.diff(sizes)):
            axes.axvline(epoch + 1.5, color=GREY, linestyle=":", linewidth=0.9)
    above.set_yscale("log")
    _plain_log(above.yaxis)
    _guessing(above, 0.99, "right")
    above.set_ylabel("training loss (nats, log scale)")
    above.set_title("Training loss: mean and range over seeds")
    below.set_ylabel("difference of losses (nats)")
    below.set_title("Law minus growing batch, paired by seed")
    _epochs(below, "epoch (dotted: the end of a stage)")
    _legend(figure, above, ncols=3)
    return figure


def noise_scale_by_stage(noise: pd.DataFrame, num_images: int) -> Figure:
    """Draw the gradient noise scale after each stage, beside the batch size and N/10.

    ``noise`` is a `tables.stage_noise`. A value that is missing is a note with its reason.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.6))
    for number, (arm, rows) in enumerate(noise.groupby("arm", sort=False)):
        places = rows["stage"] + 0.12 * (number - 0.5)
        low = rows["low"].clip(lower=1).fillna(rows["simple"])
        high = rows["high"].fillna(rows["simple"])
        axes.errorbar(
            places, rows["simple"], yerr=[rows["simple"] - low, high - rows["simple"]], capsize=3,
            label=f"noise scale: {arm}", **LOOKS[number] | {"linewidth": 1.2},
        )  # fmt: skip
        for place, row in zip(places, rows.itertuples()):
            if row.missing:
                _note(
                    axes, f"missing: {row.reason}", (place, 0.03), rotation=90, va="bottom",
                    ha="center", color=LOOKS[number]["color"],
                )  # fmt: skip
    grown = noise[noise["arm"] == GROWING]
    axes.step(
        grown["stage"], grown["batch_size"], where="mid", color=GREEN, linestyle="-.",
        label="batch size that grows",
    )  # fmt: skip
    axes.axhline(num_images / 10, color=GREY, linestyle=":")
    _note(
        axes, f"N/10 = {num_images / 10:,.0f}", (0.01, num_images / 10), (0, 3),
        ("axes fraction", "data"), color=GREY,
    )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylabel("images (log scale)")
    axes.set_xticks(sorted(noise["stage"].unique()))
    axes.set_xlabel("after stage")
    axes.set_title("Gradient noise scale as training goes on (bars: 95 % interval)")
    _legend(figure, axes, ncols=3)
    return figure


def same_noise(same_noise: Sequence[FitResult], same_updates: Sequence[FitResult]) -> Figure:
    """Draw validation losses of runs with one ε/B, and of runs with one rate and many updates.

    Left: against epochs, the mean over seeds of each batch size of ``same_noise``. Right: after
    the last epoch, each run of ``same_updates`` and their means.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.4), width_ratios=(1.3, 1))
    sizes = sorted({result.run.batch_sizes[0] for result in same_noise})
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(sizes)))
    for number, (size, shade) in enumerate(zip(sizes, shades)):
        results = [result for result in same_noise if result.run.batch_sizes[0] == size]
        look = {"color": shade, "marker": MARKERS[number]}
        label = f"B = {size:,}, ε = {results[0].run.schedule.lr:.2g}"
        _curve(left, results, "validation_loss", label, look, band=False)
    left.set_yscale("log")
    _plain_log(left.yaxis)
    left.set_ylabel("validation loss (nats, log scale)")
    left.set_title("The same ε/B: mean over seeds")
    _epochs(left)
    ends = pd.DataFrame(
        {"size": result.run.batch_sizes[0],
         "loss": np.nan if result.diverged else result.final["validation_loss"]}
        for result in same_updates
    )  # fmt: skip
    means = ends.groupby("size")["loss"].mean()
    right.plot(np.log2(means.index), means, color=BLUE, label="mean")
    right.plot(np.log2(ends["size"]), ends["loss"], "o", color=BLUE, alpha=0.5)
    _batch_sizes(right, list(means.index))
    right.margins(x=0.15)
    right.set_ylabel("final validation loss (nats)")
    right.set_title("The same rate and number of updates")
    _legend(figure, left, ncols=4)
    return figure


def generalisation(table: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """Draw each arm's test accuracy, a dot for each seed and the mean, and its train–test gap.

    ``scores`` has a row for each ``arm`` and seed; ``table`` is its `tables.summary`. Arms stand
    under their number of epochs. One in which a seed failed (collapsed, diverged or below 50 %) is
    named in words, so that the others can be told apart.
    """
    places, heads = _grouped_places(table["epochs"])
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.2, 0.27 * (len(places) + len(heads)) + 1.2), sharey=True,
        width_ratios=(1.5, 1),
    )  # fmt: skip
    for arm, row in table.iterrows():
        accuracy = 100 * scores.loc[scores["arm"] == arm, "test_accuracy"]
        if failure := _failure(row, accuracy):
            _note(
                left, failure, (0.02, places[arm]), (0, 0), ("axes fraction", "data"),
                va="center", color=DARK_RED,
            )  # fmt: skip
            continue
        left.plot(accuracy, [places[arm]] * len(accuracy), "o", color=BLUE, alpha=0.45)
        left.plot([accuracy.mean()], [places[arm]], "|", color=BLUE, markersize=13, mew=2.4)
        right.barh(places[arm], 100 * row["gap"], 0.6, color=ORANGE)
    for epochs, place in heads.items():
        _note(
            left, f"{epochs} epochs", (0, place), (-6, 0), ("axes fraction", "data"), ha="right",
            va="center", weight="bold",
        )  # fmt: skip
    left.set_yticks([places[arm] for arm in table.index], table.index)
    left.margins(x=0.08)
    left.set_xlabel("test accuracy (%): dots are seeds, bars their mean")
    right.set_xlabel("training − test accuracy (points)")
    left.set_title("Test accuracy of the final models")
    right.set_title("How much better on training images")
    for axes in (left, right):
        axes.grid(visible=False, axis="y")
    return figure


def _grouped_places(epochs: pd.Series) -> tuple[dict[str, float], dict[int, float]]:
    """Return the heights of the arms and, above each group of equal epochs, of its heading."""
    places, heads, height = {}, {}, 0.0
    for number, group in epochs.groupby(epochs, sort=False):
        heads[number] = height
        for arm in group.index:
            height -= 1
            places[arm] = height
        height -= 1.2
    return places, heads


def _failure(row: pd.Series, accuracy: pd.Series) -> str | None:
    """Say how many seeds of an arm failed, and its mean accuracy in %; None if none did."""
    counts = {
        "diverged": int(row["diverged"]),
        "collapsed": int(row["collapsed"]),
        "below 50 %": int((accuracy < 50).sum()),
    }
    word = next((word for word, count in counts.items() if count), None)
    if word is None:
        return None
    return f"{word} in {counts[word]} of {len(accuracy)} seeds: {accuracy.mean():.1f} %"


def _over_seeds(results: Sequence[FitResult], column: str) -> pd.DataFrame:
    """Return a column of the histories: a row for each epoch, a column for each seed."""
    columns = {result.run.seed: result.history.set_index("epoch")[column] for result in results}
    return pd.DataFrame(columns)


def _kept(results: Sequence[FitResult], column: str) -> pd.DataFrame:
    """Return the same for the seeds that did not diverge; for all where none is left."""
    return _over_seeds([result for result in results if not result.diverged] or results, column)


def _curve(
    axes: Axes,
    results: Sequence[FitResult],
    column: str,
    label: str,
    look: Mapping[str, Any],
    *,
    factor: float = 1,
    shift: float = 0,
    band: bool = True,
) -> None:
    """Draw a column's mean over the seeds that did not diverge, and the range as a band.

    A cross marks the last finite value of each run that diverged, at the bottom if it has none.
    """
    values = factor * _kept(results, column)
    values.index = values.index + shift
    lost = [result for result in results if result.diverged]
    if lost:
        label = f"{label} ({len(lost)} of {len(results)} diverged)"
    _mean_and_range(axes, values, band=band, label=label, **look)
    for result in lost:
        finite = factor * result.history.set_index("epoch")[column].dropna()
        epoch, value, transform = 1, 0.0, axes.get_xaxis_transform()
        if len(finite):
            epoch, value, transform = finite.index[-1], finite.iloc[-1], axes.transData
        axes.plot(
            [epoch + shift], [value], "x", transform=transform, color=look["color"], markersize=9,
            markeredgewidth=2.2, clip_on=False,
        )  # fmt: skip


def _mean_and_range(axes: Axes, values: pd.DataFrame, band: bool = True, **look: Any) -> None:
    """Draw the mean over the columns against the index, and a band from lowest to highest."""
    axes.plot(values.index, values.mean(axis=1), markersize=4, **look)
    if band and values.shape[1] > 1:
        axes.fill_between(
            values.index, values.min(axis=1), values.max(axis=1), color=look["color"], alpha=0.15,
            linewidth=0,
        )  # fmt: skip


def _guessing(axes: Axes, x: float, side: str) -> None:
    """Mark the loss of guessing among ten classes; its label stands at ``x`` of the width."""
    axes.axhline(np.log(10), color=GREY, linestyle="--", linewidth=0.9, zorder=0)
    place = (x, np.log(10))
    _note(axes, "guessing: ln 10", place, (0, 3), ("axes fraction", "data"), ha=side, color=GREY)


def _note(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    offset: tuple[float, float] = (0, 0),
    coordinates: Any = ("data", "axes fraction"),
    **look: Any,
) -> None:
    """Write a few words at ``place``, ``offset`` points away."""
    axes.annotate(
        text, place, offset, xycoords=coordinates, textcoords="offset points",
        **{"fontsize": 8} | look,
    )  # fmt: skip


def _epochs(axes: Axes, label: str = "epoch") -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(label)


def _batch_sizes(axes: Axes, sizes: Sequence[int]) -> None:
    """Label a log2 axis with the logarithm and, below it, the batch size."""
    axes.set_xticks(np.log2(sizes), [f"{np.log2(size):.0f}\n{size:,}" for size in sizes])
    axes.set_xlabel("log2(batch size), and batch size in images")


def _plain_log(axis: Any) -> None:
    """Label a log axis of one or two decades with plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _title(figure: Figure, title: str) -> None:
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")


def _legend(figure: Figure, *panels: Axes, ncols: int) -> None:
    """Put one legend for the panels given below the figure, off the data."""
    found = [axes.get_legend_handles_labels() for axes in panels]
    handles, labels = (sum(part, []) for part in zip(*found, strict=True))
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols)
