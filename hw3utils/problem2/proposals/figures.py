"""Figures of boxes on a photograph: anchors, one proposal's way, and non-maximum suppression."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from hw3utils.problem2.proposals.example import Suppression
from hw3utils.style import COLOURS

_RATIO_STYLES = ("--", "-", ":")
_SCALE_COLOURS = (COLOURS[5], COLOURS[4], COLOURS[2])


def anchors(
    image: np.ndarray,
    position_anchors: torch.Tensor,
    positions: torch.Tensor,
    positives: torch.Tensor,
    objects: torch.Tensor,
    scales: Sequence[int],
    ratios: Sequence[float],
) -> Figure:
    """Draw all anchors of one position, and beside it the anchors that count as positive.

    Parameters
    ----------
    image : numpy.ndarray
        H×W×3 uint8.
    position_anchors : torch.Tensor
        k×4: the anchors of one position, ratio by ratio, in each the scales.
    positions : torch.Tensor
        n×2: the centres of all positions, drawn as dots.
    positives, objects : torch.Tensor
        n×4: anchors that are trained to say "object", and the objects themselves.
    scales, ratios : sequence
        As given to `example.anchor_shapes`, for the legend.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 5.2), layout="compressed")
    _show(left, image, margin=130)
    left.plot(positions[:, 0], positions[:, 1], ".", color="white", markersize=1.2)
    pairs = [(r, s) for r in range(len(ratios)) for s in range(len(scales))]
    for (ratio, scale), box in zip(pairs, position_anchors, strict=True):
        _draw(left, box, _SCALE_COLOURS[scale % 3], 2.0, _RATIO_STYLES[ratio % 3])
    centre = (position_anchors[0, :2] + position_anchors[0, 2:]) / 2
    left.plot(*centre, "o", color=COLOURS[1], markersize=6, markeredgecolor="white")
    left.set_title(f"The {len(position_anchors)} anchors of one of {len(positions):,} positions")
    handles = [
        Line2D([], [], color=_SCALE_COLOURS[i % 3], label=f"area {s}²")
        for i, s in enumerate(scales)
    ] + [
        Line2D([], [], color="black", linestyle=_RATIO_STYLES[i % 3], label=f"height:width {r:g}")
        for i, r in enumerate(ratios)
    ]
    left.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2)
    _show(right, image, margin=130)
    for box in positives:
        _draw(right, box, COLOURS[5], 0.7)
    for box in objects:
        _draw(right, box, COLOURS[1], 2.4)
    right.set_title(f"The {len(positives)} positive anchors of {len(objects)} marked objects")
    handles = [
        Line2D([], [], color=COLOURS[5], label="positive anchor"),
        Line2D([], [], color=COLOURS[1], linewidth=2.4, label="marked object"),
    ]
    right.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2)
    return figure


def proposal(image: np.ndarray, target: torch.Tensor, steps: dict[str, torch.Tensor]) -> Figure:
    """Draw how one anchor becomes a proposal, one panel for each step.

    Parameters
    ----------
    image : numpy.ndarray
        H×W×3 uint8.
    target : torch.Tensor
        4: the object's own box, drawn in every panel.
    steps : dict of str to torch.Tensor
        Name of the step and its box (4), in order; each panel also shows the step before.
    """
    figure, axes = plt.subplots(
        1, len(steps), figsize=(3.3 * len(steps), 3.8), layout="compressed", squeeze=False
    )
    boxes = list(steps.values())
    for index, (axis, name) in enumerate(zip(axes[0], steps, strict=True)):
        _show(axis, image, margin=90)
        _draw(axis, target, COLOURS[1], 1.4)
        for earlier in boxes[max(0, index - 1) : index]:
            _draw(axis, earlier, COLOURS[4], 1.6, "--")
        _draw(axis, boxes[index], COLOURS[5], 2.4)
        x1, y1, x2, y2 = (f"{value:.0f}".replace("-", "−") for value in boxes[index])
        axis.set_title(name)
        axis.set_xlabel(f"({x1}, {y1}) to ({x2}, {y2}) pixels", fontsize=9)
    handles = [
        Line2D([], [], color=COLOURS[5], linewidth=2.4, label="this step's box"),
        Line2D([], [], color=COLOURS[4], linestyle="--", label="the step before"),
        Line2D([], [], color=COLOURS[1], label="marked object"),
    ]
    axes[0][len(steps) // 2].legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=3
    )
    return figure


def suppression(
    image: np.ndarray, boxes: torch.Tensor, result: Suppression, threshold: float, rounds: int = 3
) -> Figure:
    """Draw non-maximum suppression: all boxes, the first rounds, and what is left at the end.

    Parameters
    ----------
    image : numpy.ndarray
        H×W×3 uint8.
    boxes : torch.Tensor
        n×4, the boxes that went in; a hundred can still be told apart.
    result : Suppression
        From `example.non_maximum_suppression` on these boxes.
    threshold : float
        That was used, for the last panel.
    rounds : int
        Rounds to show on their own.
    """
    shown = result.steps[:rounds]
    columns = 3
    rows = -(-(len(shown) + 2) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(3.1 * columns, 3.6 * rows), layout="compressed", squeeze=False
    )
    axes = list(grid.flat)
    for axis in axes[len(shown) + 2 :]:
        axis.remove()
    before, after = axes[0], axes[len(shown) + 1]
    _show(before, image)
    for box in boxes:
        _draw(before, box, COLOURS[5], 0.7)
    before.set_title(f"Before: {len(boxes):,} boxes")
    for number, (axis, step) in enumerate(zip(axes[1:], shown, strict=False), start=1):
        _show(axis, image)
        for index in step.suppressed:
            _draw(axis, boxes[index], COLOURS[5], 0.7)
        _draw(axis, boxes[step.kept], COLOURS[1], 2.6)
        axis.set_title(f"Round {number}: keep 1, drop {len(step.suppressed):,}, {step.left:,} left")
        axis.set_xlabel(f"score of the kept box {step.score:.3f}", fontsize=9)
    _show(after, image)
    for index in result.kept:
        _draw(after, boxes[index], COLOURS[1], 2.0)
    after.set_title(f"After {len(result.steps)} rounds: {len(result.kept)} boxes")
    after.set_xlabel(f"IoU threshold {threshold:g}", fontsize=9)
    handles = [
        Line2D([], [], color=COLOURS[5], label="candidate, dropped"),
        Line2D([], [], color=COLOURS[1], linewidth=2.6, label="kept"),
    ]
    before.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2)
    return figure


def thresholds(iou_thresholds: Sequence[float], counts: Sequence[int], total: int) -> Figure:
    """Draw how many boxes survive suppression, against the IoU threshold.

    Parameters
    ----------
    iou_thresholds, counts : sequence
        IoU thresholds, and the boxes left at each.
    total : int
        Boxes before suppression, drawn as a line.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    axis.semilogy(iou_thresholds, counts, marker="o")
    for threshold, count in zip(iou_thresholds, counts, strict=True):
        axis.annotate(
            f"{count:,}",
            (threshold, count),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axis.axhline(total, color="#666666", linestyle="--", linewidth=1)
    axis.annotate(
        f"before suppression: {total:,}",
        (iou_thresholds[0], total),
        (0, 4),
        textcoords="offset points",
        fontsize=9,
    )
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
    axis.set_xlim(-margin, width + margin)
    axis.set_ylim(height + margin, -margin)
    axis.grid(visible=False)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def _draw(
    axis: Axes, box: torch.Tensor, colour: str, width: float, style: str | tuple = "-"
) -> None:
    """Draw one box."""
    x1, y1, x2, y2 = (float(value) for value in box)
    axis.add_patch(
        Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=colour,
            linewidth=width,
            linestyle=style,
        )
    )
