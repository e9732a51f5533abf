"""Drawn architectures: the two Inception modules and the region proposal network.

Boxes and arrows; every number on them is read from a layer table.
"""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from hw3utils.problem2.experiments import branch_layers
from hw3utils.problem2.proposals.suppression import TOP
from hw3utils.problem2.tables import size
from hw3utils.style import COLOURS

_FILLS = {
    "plain": "#FFFFFF",
    "conv": "#BFD9EE",
    "reduce": "#F7DFA9",
    "pool": "#DDDDDD",
    "join": "#BFE5D8",
    "scores": "#F3C9AE",
}


def inception_modules(modules: dict[str, pd.DataFrame]) -> Figure:
    """Draw named Inception modules' layer tables side by side: input below, output on top."""
    figure, axes = plt.subplots(1, len(modules), figsize=(6.4 * len(modules), 5.0))
    for axis, (name, table) in zip(axes, modules.items(), strict=True):
        _draw_module(axis, name, table)
    return figure


def _draw_module(axis: Axes, name: str, table: pd.DataFrame) -> None:
    layers = branch_layers(table)
    branches = list(layers.groupby("branch", sort=False))
    columns = [0.85 + 1.6 * index for index in range(len(branches))]
    middle = sum(columns) / len(columns)
    axis.set(xlim=(0, 2 * middle), ylim=(-0.1, 5.1))
    axis.set_axis_off()
    _, height, width = table.loc[0, "output_shape"]
    _box(axis, middle, 0.4, f"input {size(table.loc[0, 'output_shape'])}", "plain", 6.26)
    channels = []
    for x, (_, branch) in zip(columns, branches, strict=True):
        heights = [2.4] if len(branch) == 1 else [1.7, 3.1]
        below = (x, 0.62)
        for y, layer in zip(heights, branch.itertuples(), strict=True):
            text, kind = _layer_text(layer)
            _box(axis, x, y, text, kind, 1.46)
            _arrow(axis, below, (x, y - 0.42))
            below = (x, y + 0.42)
        _arrow(axis, below, (x, 4.18))
        channels.append(layer.output_shape[0])
    total = " + ".join(str(n) for n in channels)
    text = f"join along the channels: {total}\n= {height}×{width}×{sum(channels)}"
    _box(axis, middle, 4.5, text, "join", 6.26)
    operations = layers["multiply_accumulates"].sum() / 1e6
    axis.set_title(f"{name}: {operations:,.1f} million multiply–accumulates")


def _layer_text(layer) -> tuple[str, str]:
    """Return what stands on a layer's box, and its kind."""
    kernel, channels = f"{layer.kernel}×{layer.kernel}", layer.output_shape[0]
    if layer.kind == "pool":
        text = f"{kernel} {layer.pool} pool\nstride {layer.stride}\n{channels} channels"
        return text, "pool"
    millions = layer.multiply_accumulates / 1e6
    text = f"{kernel} conv\n{channels} filters\n{millions:,.1f} M"
    return text, "reduce" if layer.reduces else "conv"


def region_proposal_network(
    head: pd.DataFrame, anchors: int, image_size: tuple[int, int]
) -> Figure:
    """Draw the region proposal network between the shared convolutions and the detector.

    ``head`` is the layer table of a `networks.RegionProposalHead`, with k ``anchors``. The image
    has a height and width in pixels.
    """
    shapes = dict(zip(head["layer"], head["output_shape"].map(size), strict=True))
    height, width = image_size
    rows, columns = head.loc[0, "output_shape"][1:]
    count = f"{rows}·{columns}·{anchors} = {rows * columns * anchors:,}"
    figure, axis = plt.subplots(figsize=(11.4, 4.6))
    axis.set(xlim=(0, 11.45), ylim=(0.55, 5.2))
    axis.set_axis_off()
    look = {"fill": False, "edgecolor": COLOURS[1], "linestyle": "--"}
    axis.add_patch(Rectangle((4.1, 2.95), 7.3, 2.2, **look))
    axis.text(5.4, 3.04, "region proposal network", fontsize=9, color=COLOURS[1], va="bottom")
    for x, y, text, kind, box_width in (
        (0.95, 2.1, f"image\n{height}×{width}×3", "plain", 1.5),
        (3.0, 2.1, "shared\nconvolutions\n(VGG-16, stride 16)", "conv", 1.9),
        (5.25, 2.1, f"feature map\n{shapes['input']}", "plain", 1.6),
        (5.25, 4.2, f"3×3 conv + ReLU\n{shapes['sliding']}", "conv", 1.8),
        (7.65, 4.7, f"1×1 conv: 2k scores\n{shapes['objectness']}", "scores", 2.0),
        (7.65, 3.6, f"1×1 conv: 4k offsets\n{shapes['offsets']}", "scores", 2.0),
        (10.2, 4.15, f"{count} anchors\ndecode, clip, NMS\nbest {TOP} proposals", "join", 2.2),
        (7.65, 1.2, "RoI pooling\n7×7×512 each", "pool", 2.0),
        (10.2, 1.2, "detector (fc layers)\nclass scores,\nbox refinement", "scores", 2.2),
    ):
        _box(axis, x, y, text, kind, box_width)
    for start, end in (
        ((1.7, 2.1), (2.05, 2.1)),
        ((3.95, 2.1), (4.45, 2.1)),
        ((5.25, 2.42), (5.25, 3.88)),
        ((6.15, 4.25), (6.65, 4.6)),
        ((6.15, 4.15), (6.65, 3.7)),
        ((8.65, 4.7), (9.1, 4.35)),
        ((8.65, 3.6), (9.1, 3.95)),
        ((5.9, 1.78), (6.65, 1.3)),
        ((9.7, 3.73), (8.1, 1.52)),
        ((8.65, 1.2), (9.1, 1.2)),
    ):
        _arrow(axis, start, end)
    for x, y, text in ((9.25, 2.5, "where to look"), (5.0, 1.3, "what is there")):
        axis.text(x, y, text, fontsize=9, color="#444444", style="italic")
    axis.set_title(f"Faster R-CNN: one map serves the proposals (k = {anchors}) and the detector")
    return figure


def _box(axis: Axes, x: float, y: float, text: str, kind: str, width: float) -> None:
    """Draw a box centred on (x, y), as high as its text needs."""
    height = 0.24 + 0.2 * len(text.splitlines())
    corner = (x - width / 2, y - height / 2)
    look = {"facecolor": _FILLS[kind], "edgecolor": "#333333", "linewidth": 1}
    rounded = "round,pad=0,rounding_size=0.06"
    axis.add_patch(FancyBboxPatch(corner, width, height, boxstyle=rounded, **look))
    axis.text(x, y, text, ha="center", va="center", fontsize=8.5)


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    look = {"arrowstyle": "-|>", "color": COLOURS[6], "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops=look)
