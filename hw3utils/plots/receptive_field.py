"""Figures of receptive fields: the proof by induction drawn, and their growth through networks."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hw3utils.plots.style import COLOURS, MARKERS

__all__ = ["growth", "induction"]


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
