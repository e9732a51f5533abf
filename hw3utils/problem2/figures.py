"""Figures of layer tables, and of the proof about stacks: where numbers sit, how far units see."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from hw3utils.problem2.experiments import branch_layers
from hw3utils.style import COLOURS

_GREY = "#444444"
# Kind of layer: its name in the legend, and its colour.
_KINDS = {
    "input": ("input", "#999999"),
    "conv": ("convolution", COLOURS[0]),
    "pool": ("pool", COLOURS[4]),
    "norm": ("batch normalisation", COLOURS[2]),
    "fc": ("fully connected", COLOURS[1]),
}


def layer_shares(tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw, for each named layer table, every layer's share of activations and of parameters.

    Bars to the left are activations, bars to the right parameters, both in percent of the
    network's total; layers from the input at the top to the output at the bottom.
    """
    longest = max(len(table) for table in tables.values())
    size = (5.0 * len(tables), 1.4 + 0.21 * longest)
    figure, axes = plt.subplots(1, len(tables), figsize=size, squeeze=False)
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        _draw_shares(axis, name, table)
    present = {kind for table in tables.values() for kind in table["kind"]}
    handles = _patches(dict(_KINDS[kind] for kind in _KINDS if kind in present))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _draw_shares(axis: Axes, name: str, table: pd.DataFrame) -> None:
    rows = range(len(table))
    colours = [_KINDS[kind][1] for kind in table["kind"]]
    longest = []
    for count, side in (("activations", -1), ("parameters", 1)):
        shares = 100 * table[count] / table[count].sum()
        longest.append(side * (shares.max() + 14))  # with room for the number beside it
        bars = axis.barh(rows, side * shares, color=colours)
        numbers = [f"{share:.0f} %" if share >= 10 else "" for share in shares]
        axis.bar_label(bars, numbers, padding=4, fontsize=10)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(rows, table["layer"], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(*longest)
    axis.margins(y=0.02)
    axis.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axis.grid(axis="y", visible=False)
    activations, parameters = table["activations"].sum() / 1e6, table["parameters"].sum() / 1e6
    axis.set(
        title=f"{name}: {activations:.2f} M activations, {parameters:.2f} M parameters",
        xlabel="← activations  [% of total]  parameters →",
    )


def branch_operations(modules: dict[str, pd.DataFrame]) -> Figure:
    """Draw the multiply–accumulates of named Inception modules' layer tables, branch by branch."""
    reduction, own = COLOURS[4], COLOURS[0]
    beside = {"textcoords": "offset points", "va": "center", "fontsize": 9}
    figure, axes = plt.subplots(1, len(modules), figsize=(9.4, 3.4), sharex=True, sharey=True)
    for axis, (name, table) in zip(axes, modules.items(), strict=True):
        layers = branch_layers(table)
        for row, (_, branch) in enumerate(layers.groupby("branch", sort=False)):
            millions, reduces = branch["multiply_accumulates"] / 1e6, branch["reduces"]
            small, large = millions[reduces].sum(), millions[~reduces].sum()
            axis.barh(row, small, color=reduction)
            axis.barh(row, large, left=small, color=own)
            axis.annotate(f"{small + large:,.1f}", (small + large, row), (4, 0), **beside)
        total = layers["multiply_accumulates"].sum() / 1e6
        axis.set(title=f"{name}: {total:,.1f} million", xlabel="multiply–accumulates [millions]")
        axis.grid(axis="y", visible=False)
    labels = [f"{branch.replace('x', '×')} branch" for branch in layers["branch"].unique()]
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].invert_yaxis()
    axes[0].margins(x=0.14)
    handles = _patches(
        {"1×1 reduction or projection": reduction, "the branch's own convolution": own}
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def induction(depth: int, kernel: int) -> Figure:
    """Draw, in one dimension, what one unit on top of a stack of convolutions sees below it.

    Each row is a layer, each square a unit; filled squares reach the unit on top. Going down one
    layer adds (F − 1)/2 squares on each side. ``depth`` is N and ``kernel`` is F. Raises a
    ValueError unless N is 1 or more, F odd, and N·(F − 1) at most 40, so that it can be read.
    """
    if depth < 1 or kernel < 1 or kernel % 2 == 0 or depth * (kernel - 1) > 40:
        raise ValueError(
            f"depth={depth}, kernel={kernel}: the picture needs a depth of 1 or more, an odd "
            "kernel, and depth·(kernel − 1) of 40 or less"
        )
    reach = (kernel - 1) // 2
    edge = depth * reach + 1
    figure, axis = plt.subplots(figsize=(min(10.0, 3.6 + 0.45 * (2 * edge + 1)), 1.3 + depth))
    for layer in range(depth + 1):
        seen = (depth - layer) * reach
        _draw_units(axis, layer, edge, seen)
        width = 2 * seen + 1
        name, count = f"after layer {layer}", f"{width} unit{'s' if width > 1 else ''}"
        if layer == depth:
            count = "1 unit, the one we ask about"
        if layer == 0:
            name, count = "input", f"{width} pixels = {depth}·{kernel} − {depth} + 1"
        axis.text(-edge - 0.8, layer, name, ha="right", va="center", fontsize=9)
        right = {"x": edge + 0.8, "ha": "left", "va": "center", "fontsize": 9}
        axis.text(y=layer, s=count, **right)
        if layer:
            axis.text(y=layer - 0.5, s=f"+ {kernel} − 1", color=_GREY, **right)
            for side in (-1, 1):  # the window of the outermost unit that counts
                ends = [side * (seen + 0.44), side * (seen + reach + 0.44)]
                axis.plot(ends, [layer - 0.2, layer - 0.8], color=_GREY, linewidth=1.2)
    axis.set_xlim(-edge - 4.2, edge + 8.2)
    axis.set_ylim(-0.5, depth + 0.5)
    axis.set_axis_off()
    axis.set_title(
        f"One unit above {depth} convolutions of {kernel}×{kernel} (one dimension shown)"
    )
    return figure


def _draw_units(axis: Axes, layer: int, edge: int, seen: int) -> None:
    """Draw one layer's units from −edge to edge, filled up to ``seen`` on either side."""
    for unit in range(-edge, edge + 1):
        colour = COLOURS[layer % 5] if abs(unit) <= seen else "white"
        look = {"facecolor": colour, "edgecolor": "#888888", "linewidth": 0.8}
        axis.add_patch(Rectangle((unit - 0.44, layer - 0.2), 0.88, 0.4, **look))


def _patches(colours: dict[str, str]) -> list[Patch]:
    """Return a legend's coloured squares for these labels."""
    return [Patch(color=colour, label=label) for label, colour in colours.items()]
