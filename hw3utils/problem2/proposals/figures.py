"""Figures of boxes on a photograph: anchors, one proposal's way, and non-maximum suppression.

Photographs are H×W×3 uint8; boxes are rows (x1, y1, x2, y2) in their pixels.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from hw3utils.problem2.figures import note
from hw3utils.problem2.proposals.example import Suppression
from hw3utils.style import COLOURS

_RATIO_STYLES = ("--", "-", ":")
_SCALE_COLOURS = (COLOURS[5], COLOURS[4], COLOURS[2])
_BOX, _BEFORE, _CHOSEN = COLOURS[5], COLOURS[4], COLOURS[1]  # _CHOSEN: kept, or marked by hand


def anchors(
    image: np.ndarray,
    position_anchors: Tensor,
    positions: Tensor,
    positives: Tensor,
    objects: Tensor,
    scales: Sequence[int],
    ratios: Sequence[float],
) -> Figure:
    """Draw all anchors of one position, and beside it the anchors that count as positive.

    ``position_anchors`` (k×4) are made of ``scales`` and ``ratios`` by `boxes.anchor_shapes`. The
    centres of all ``positions`` (n×2) are drawn as dots; ``positives`` and ``objects`` are n×4.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 5.2), layout="compressed")
    _show(left, image, margin=130)
    left.plot(positions[:, 0], positions[:, 1], ".", color="white", markersize=1.2)
    pairs = product(range(len(ratios)), range(len(scales)))
    for (ratio, scale), box in zip(pairs, position_anchors, strict=True):
        _draw(left, [box], _SCALE_COLOURS[scale % 3], 2.0, _RATIO_STYLES[ratio % 3])
    centre = (position_anchors[0, :2] + position_anchors[0, 2:]) / 2
    left.plot(*centre, "o", color=_CHOSEN, markersize=6, markeredgecolor="white")
    left.set_title(f"The {len(position_anchors)} anchors of one of {len(positions):,} positions")
    lines = {f"area {s}²": {"color": _SCALE_COLOURS[i % 3]} for i, s in enumerate(scales)}
    for index, ratio in enumerate(ratios):
        look = {"color": "black", "linestyle": _RATIO_STYLES[index % 3]}
        lines[f"height:width {ratio:g}"] = look
    _legend(left, lines, -0.01, columns=2)

    _show(right, image, margin=130)
    _draw(right, positives, _BOX, 0.7)
    _draw(right, objects, _CHOSEN, 2.4)
    right.set_title(f"The {len(positives)} positive anchors of {len(objects)} marked objects")
    marked = {"color": _CHOSEN, "linewidth": 2.4}
    lines = {"positive anchor": {"color": _BOX}, "marked object": marked}
    _legend(right, lines, -0.01, columns=2)
    return figure


def proposal(image: np.ndarray, target: Tensor, steps: dict[str, Tensor]) -> Figure:
    """Draw how one anchor becomes a proposal: a panel for each named step, with the box before.

    The steps' boxes, and the ``target`` (the object's own box, in every panel), have 4 corners.
    """
    size = (3.3 * len(steps), 3.8)
    figure, axes = plt.subplots(1, len(steps), figsize=size, layout="compressed", squeeze=False)
    before = []
    for axis, (name, box) in zip(axes[0], steps.items(), strict=True):
        _show(axis, image, margin=90)
        _draw(axis, [target], _CHOSEN, 1.4)
        _draw(axis, before, _BEFORE, 1.6, "--")
        _draw(axis, [box], _BOX, 2.4)
        x1, y1, x2, y2 = (f"{value:.0f}".replace("-", "−") for value in box)
        axis.set_title(name)
        axis.set_xlabel(f"({x1}, {y1}) to ({x2}, {y2}) pixels", fontsize=9)
        before = [box]
    lines = {
        "this step's box": {"color": _BOX, "linewidth": 2.4},
        "the step before": {"color": _BEFORE, "linestyle": "--"},
        "marked object": {"color": _CHOSEN},
    }
    _legend(axes[0][len(steps) // 2], lines, -0.09, columns=3)
    return figure


def suppression(
    image: np.ndarray, boxes: Tensor, result: Suppression, threshold: float, rounds: int = 3
) -> Figure:
    """Draw non-maximum suppression: all boxes, the first rounds, and what is left at the end.

    ``result`` is what `example.non_maximum_suppression` makes of these boxes (n×4; a hundred can
    still be told apart) with this ``threshold``.
    """
    shown = result.steps[:rounds]
    panels, columns = len(shown) + 2, 3
    rows = -(-panels // columns)
    size = (3.1 * columns, 3.6 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="compressed", squeeze=False)
    for axis in grid.flat[panels:]:
        axis.remove()
    before, *middle, after = grid.flat[:panels]
    _show(before, image)
    _draw(before, boxes, _BOX, 0.7)
    before.set_title(f"Before: {len(boxes):,} boxes")
    for number, (axis, step) in enumerate(zip(middle, shown, strict=True), start=1):
        _show(axis, image)
        _draw(axis, boxes[list(step.suppressed)], _BOX, 0.7)
        _draw(axis, [boxes[step.kept]], _CHOSEN, 2.6)
        axis.set_title(f"Round {number}: keep 1, drop {len(step.suppressed):,}, {step.left:,} left")
        axis.set_xlabel(f"score of the kept box {step.score:.3f}", fontsize=9)
    _show(after, image)
    _draw(after, boxes[result.kept], _CHOSEN, 2.0)
    after.set_title(f"After {len(result.steps)} rounds: {len(result.kept)} boxes")
    after.set_xlabel(f"IoU threshold {threshold:g}", fontsize=9)
    kept = {"color": _CHOSEN, "linewidth": 2.6}
    _legend(before, {"candidate, dropped": {"color": _BOX}, "kept": kept}, 0.0, columns=2)
    return figure


def thresholds(iou_thresholds: Sequence[float], counts: Sequence[int], total: int) -> Figure:
    """Draw how many boxes survive suppression at each IoU threshold, of ``total`` before it."""
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    axis.semilogy(iou_thresholds, counts, marker="o")
    for threshold, count in zip(iou_thresholds, counts, strict=True):
        note(axis, f"{count:,}", (threshold, count), (0, 7), ha="center", va="baseline")
    axis.axhline(total, color="#666666", linestyle="--", linewidth=1)
    before = f"before suppression: {total:,}"
    note(axis, before, (iou_thresholds[0], total), (0, 4), va="baseline")
    axis.set_ylim(top=4 * total)
    axis.margins(x=0.08)
    axis.set(
        title="A lower threshold suppresses more",
        xlabel="IoU threshold",
        ylabel="boxes left (log scale)",
    )
    return figure


def _show(axis: Axes, image: np.ndarray, margin: int = 0) -> None:
    """Show the photograph, with a margin in pixels for boxes that leave it."""
    height, width = image.shape[:2]
    axis.imshow(image, alpha=0.85)
    axis.set(xlim=(-margin, width + margin), ylim=(height + margin, -margin), xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)


def _draw(axis: Axes, boxes: Sequence[Tensor], colour: str, width: float, style: str = "-") -> None:
    """Draw the outlines of boxes."""
    look = {"fill": False, "edgecolor": colour, "linewidth": width, "linestyle": style}
    for x1, y1, x2, y2 in (box.tolist() for box in boxes):
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))


def _legend(axis: Axes, lines: dict[str, dict[str, Any]], top: float, columns: int) -> None:
    """Write a legend of these labels and looks below a panel; its ``top`` in panel heights."""
    handles = [Line2D([], [], label=label, **look) for label, look in lines.items()]
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, top), ncols=columns)
