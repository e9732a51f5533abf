"""Figures of layer tables: where activations and parameters sit, and where operations are spent."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from hw3utils.style import COLOURS, MARKERS

_KIND_COLOURS = {
    "input": "#999999",
    "conv": COLOURS[0],
    "pool": COLOURS[4],
    "fc": COLOURS[1],
}
_KIND_NAMES = {
    "input": "input",
    "conv": "convolution",
    "pool": "pool",
    "fc": "fully connected",
}


def layer_shares(tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw, for each network, every layer's share of the activations and of the parameters.

    Bars to the left are activations, bars to the right parameters, both in percent of the
    network's total; layers from the input at the top to the output at the bottom.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        Name and `layers.layer_table` of one or more networks.
    """
    longest = max(len(table) for table in tables.values())
    figure, axes = plt.subplots(
        1, len(tables), figsize=(5.0 * len(tables), 1.4 + 0.21 * longest), squeeze=False
    )
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        _draw_shares(axis, name, table)
    handles = [Patch(color=_KIND_COLOURS[kind], label=_KIND_NAMES[kind]) for kind in _KIND_COLOURS]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def branch_operations(modules: dict[str, pd.DataFrame]) -> Figure:
    """Draw the multiply–accumulates of Inception modules, branch by branch.

    Parameters
    ----------
    modules : dict of str to pandas.DataFrame
        Name and layer table of each module; layers are named ``branches.<branch>.<layer>``, and
        those that begin with ``reduce`` or ``project`` are drawn as 1×1 reductions.
    """
    parts = pd.concat([_branches(table).assign(module=name) for name, table in modules.items()])
    branches = list(dict.fromkeys(parts["branch"]))
    figure, axes = plt.subplots(1, len(modules), figsize=(9.4, 3.4), sharex=True, sharey=True)
    for axis, (name, part) in zip(axes, parts.groupby("module", sort=False), strict=True):
        total = part["millions"].sum()
        for row, branch in enumerate(branches):
            here = part[part["branch"] == branch].set_index("reduction")["millions"]
            small, large = here.get(True, 0.0), here.get(False, 0.0)
            axis.barh(row, small, color=COLOURS[4])
            axis.barh(row, large, left=small, color=COLOURS[0])
            axis.annotate(
                f"{small + large:,.1f}",
                (small + large, row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axis.set(title=f"{name}: {total:,.1f} million", xlabel="multiply–accumulates [millions]")
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(branches)), [f"{b.replace('x', '×')} branch" for b in branches])
    axes[0].invert_yaxis()
    axes[0].margins(x=0.14)
    handles = [
        Patch(color=COLOURS[4], label="1×1 reduction or projection"),
        Patch(color=COLOURS[0], label="the branch's own convolution"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def stack_weights(comparisons: dict[int, pd.DataFrame]) -> Figure:
    """Draw the weights of one K×K layer beside those of its stack of 3×3 layers, for each K.

    Parameters
    ----------
    comparisons : dict of int to pandas.DataFrame
        K and the frame of `network_costs.stack_savings` for it.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    for place, frame in enumerate(comparisons.values()):
        single, stack = frame["weights"] / 1e6
        axis.bar(place - 0.2, single, 0.38, color=COLOURS[1])
        axis.bar(place + 0.2, stack, 0.38, color=COLOURS[0])
        axis.annotate(
            f"−{100 * frame['saving'].iloc[1]:.0f} %",
            (place + 0.2, stack),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    labels = [f"{k}×{k}\nor {frame['design'].iloc[1]}" for k, frame in comparisons.items()]
    axis.set_xticks(range(len(comparisons)), labels)
    axis.set(
        title="The same receptive field: one large convolution or a stack of 3×3",
        xlabel="receptive field",
        ylabel="weights [millions]",
    )
    axis.grid(axis="x", visible=False)
    handles = [
        Patch(color=COLOURS[1], label="one K×K convolution"),
        Patch(color=COLOURS[0], label="stack of 3×3 convolutions"),
    ]
    axis.legend(handles=handles, loc="upper left")
    return figure


def _draw_shares(axis: Axes, name: str, table: pd.DataFrame) -> None:
    """Draw one network's mirrored bars."""
    activations = 100 * table["activations"] / table["activations"].sum()
    parameters = 100 * table["parameters"] / table["parameters"].sum()
    colours = [_KIND_COLOURS[kind] for kind in table["kind"]]
    rows = range(len(table))
    axis.barh(rows, -activations, color=colours)
    axis.barh(rows, parameters, color=colours)
    for row, share in enumerate(parameters):
        if share >= 10:
            axis.annotate(
                f"{share:.0f} %", (share, row), (4, 0), textcoords="offset points", va="center"
            )
    for row, share in enumerate(activations):
        if share >= 10:
            axis.annotate(
                f"{share:.0f} %",
                (-share, row),
                (-4, 0),
                textcoords="offset points",
                va="center",
                ha="right",
            )
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(rows, table["layer"], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(-100, 100)
    axis.margins(y=0.02)
    axis.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axis.grid(axis="y", visible=False)
    axis.set(
        title=f"{name}: {table['activations'].sum() / 1e6:.2f} M activations, "
        f"{table['parameters'].sum() / 1e6:.2f} M parameters",
        xlabel="← activations  [% of total]  parameters →",
    )


def _branches(table: pd.DataFrame) -> pd.DataFrame:
    """Return millions of operations for each branch, its reductions apart from its convolution."""
    layers = table[table["kind"] != "input"]
    names = layers["layer"].str.split(".", expand=True)
    frame = pd.DataFrame(
        {
            "branch": names[1],
            "reduction": names[2].str.contains("reduce|project"),
            "millions": layers["multiply_accumulates"] / 1e6,
        }
    )
    return frame.groupby(["branch", "reduction"], sort=False, as_index=False)["millions"].sum()


def induction(depth: int, kernel: int) -> Figure:
    """Draw, in one dimension, what one unit on top of a stack of convolutions sees below it.

    Each row is a layer, each square a unit; filled squares reach the unit on top. Going down one
    layer adds (F − 1)/2 squares on each side for odd F.

    Parameters
    ----------
    depth, kernel : int
        N and F, both at least 1 and small enough to draw: N·(F − 1) at most 40, F odd.

    Raises
    ------
    ValueError
        The picture would be empty, unreadable or not symmetric.
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
        for unit in range(-edge, edge + 1):
            inside = abs(unit) <= seen
            axis.add_patch(
                Rectangle(
                    (unit - 0.44, layer - 0.2),
                    0.88,
                    0.4,
                    facecolor=COLOURS[layer % 5] if inside else "white",
                    edgecolor="#888888",
                    linewidth=0.8,
                )
            )
        if layer:
            for side in (-1, 1):  # the window of the outermost unit that counts
                axis.plot(
                    [side * (seen + 0.44), side * (seen + reach + 0.44)],
                    [layer - 0.2, layer - 0.8],
                    color="#444444",
                    linewidth=1.2,
                )
        width = 2 * seen + 1
        name = "input" if layer == 0 else f"after layer {layer}"
        count = "1 unit" if width == 1 else f"{width} units"
        if layer == 0:
            count = f"{width} pixels = {depth}·{kernel} − {depth} + 1"
        elif layer == depth:
            count = "1 unit, the one we ask about"
        axis.text(-edge - 0.8, layer, name, ha="right", va="center", fontsize=9)
        axis.text(edge + 0.8, layer, count, ha="left", va="center", fontsize=9)
        if layer:
            axis.text(
                edge + 0.8,
                layer - 0.5,
                f"+ {kernel} − 1",
                ha="left",
                va="center",
                fontsize=9,
                color="#444444",
            )
    axis.set_xlim(-edge - 4.2, edge + 8.2)
    axis.set_ylim(-0.5, depth + 0.5)
    axis.set_axis_off()
    axis.set_title(
        f"One unit above {depth} convolutions of {kernel}×{kernel} (one dimension shown)"
    )
    return figure


def growth(
    stacks: dict[str, list[int]], networks: dict[str, pd.DataFrame], image_size: int = 224
) -> Figure:
    """Draw how receptive fields grow: in stacks of equal layers, and through whole networks.

    Parameters
    ----------
    stacks : dict of str to list of int
        Name of a kernel, and the size for 0, 1, 2, … layers of it.
    networks : dict of str to pandas.DataFrame
        Name of a network and its `receptive_field.receptive_field`.
    image_size : int
        Side of the image in pixels, drawn as a line.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.0))
    for index, (name, sizes) in enumerate(stacks.items()):
        left.plot(range(len(sizes)), sizes, marker=MARKERS[index], label=name)
    left.set(
        title="Stacks of equal layers, stride 1: NF − N + 1",
        xlabel="number of layers N",
        ylabel="receptive field [pixels]",
    )
    left.legend()
    for index, (name, frame) in enumerate(networks.items()):
        right.plot(
            range(len(frame)),
            frame["size"],
            marker=MARKERS[index],
            markersize=4,
            label=name,
            color=COLOURS[index + 3 if index else 0],
        )
        right.annotate(
            f"{frame['size'].iloc[-1]}",
            (len(frame) - 1, frame["size"].iloc[-1]),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    right.axhline(image_size, color="#666666", linestyle="--", linewidth=1)
    right.annotate(
        f"image side, {image_size}", (0, image_size), (0, 4), textcoords="offset points", fontsize=9
    )
    right.set(
        title="Whole networks: strides multiply the growth",
        xlabel="layer (convolutions and pools)",
        ylabel="receptive field [pixels]",
    )
    right.margins(x=0.08)
    right.legend(loc="center left", bbox_to_anchor=(0.0, 0.62))
    return figure
