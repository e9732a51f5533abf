"""Figures of boxes and proposals: anchors, one proposal's way, suppression, a network's recall.

Images are H×W×3 or H×W uint8; boxes are rows (x1, y1, x2, y2) in their pixels.
"""

from collections.abc import Sequence
from itertools import compress, pairwise, product
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from hw3utils.problem2.proposals.boxes import iou
from hw3utils.problem2.proposals.measures import (
    ARMS,
    COUNTS,
    HALF,
    OVERLAPS,
    SHUFFLED,
    UNTRAINED,
    ProposalExample,
)
from hw3utils.problem2.proposals.scenes import Canvas
from hw3utils.problem2.proposals.suppression import Suppression, non_maximum_suppression
from hw3utils.style import COLOURS, MARKERS

_RATIO_STYLES = ("--", "-", ":")
_THREE_COLOURS = (COLOURS[5], COLOURS[4], COLOURS[2])
_BOX, _BEFORE, _CHOSEN = COLOURS[5], COLOURS[4], COLOURS[1]  # _CHOSEN: kept, or an object's own
_ARM_LOOKS = {
    arm: {"color": colour, "linestyle": style, "marker": marker, "markersize": 4}
    for arm, colour, style, marker in zip(
        ARMS,
        (COLOURS[3], COLOURS[4], COLOURS[1], COLOURS[0], "#777777", "#777777"),
        ("-", "-", "-", "-", "--", ":"),
        MARKERS[: len(ARMS)],
        strict=True,
    )
}


def anchors(
    image: np.ndarray,
    position_anchors: Tensor,
    positions: Tensor,
    positives: Tensor,
    objects: dict[str, Tensor],
    scales: Sequence[int],
    ratios: Sequence[float],
) -> Figure:
    """Draw all anchors of one position, and beside it the anchors that count as positive.

    ``position_anchors`` (9×4) are made of three ``scales`` and ``ratios`` by `boxes.anchor_shapes`.
    The centres of all ``positions`` (n×2) are drawn as dots. Each of the ``positives`` (m×4) has
    the colour of that of the three named objects (4 corners) that it overlaps most.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 5.0), layout="compressed")
    _show(left, image, margin=80)
    left.plot(positions[:, 0], positions[:, 1], ".", color="white", markersize=1.2)
    looks = product(_RATIO_STYLES, _THREE_COLOURS)
    for (style, colour), box in zip(looks, position_anchors, strict=True):
        _draw(left, [box], colour, 2.0, style)
    centre = (position_anchors[0, :2] + position_anchors[0, 2:]) / 2
    left.plot(*centre, "o", color=_CHOSEN, markersize=6, markeredgecolor="white")
    left.set_title(f"The {len(position_anchors)} anchors of one of {len(positions):,} positions")
    lines = {f"area {s}²": {"color": c} for s, c in zip(scales, _THREE_COLOURS, strict=True)}
    for ratio, style in zip(ratios, _RATIO_STYLES, strict=True):
        lines[f"height:width {ratio:g}"] = {"color": "black", "linestyle": style}
    _legend(left, lines, loc="upper center", bbox_to_anchor=(0.5, -0.01))

    _show(right, image, margin=80)
    right.set_title(f"The {len(positives)} positive anchors inside the image")
    lines = {}
    nearest = iou(positives, torch.stack([*objects.values()])).argmax(dim=1)
    named = zip(objects.items(), _THREE_COLOURS, strict=True)
    for index, ((name, own), colour) in enumerate(named):
        mine = positives[nearest == index]
        _draw(right, mine, colour, 1.2)
        _draw(right, [own], colour, 3.2, "--")
        lines[f"{name}: {len(mine)} anchors"] = {"color": colour}
    lines["the object as marked"] = {"color": "black", "linestyle": "--", "linewidth": 3.2}
    _legend(right, lines, loc="upper center", bbox_to_anchor=(0.5, -0.01))
    return figure


def canvases(examples: Sequence[ProposalExample], count: int = 10) -> Figure:
    """Draw canvases with their objects' own boxes and the ``count`` best proposals."""
    size = (3.3 * len(examples), 4.0)
    figure, axes = plt.subplots(1, len(examples), figsize=size, squeeze=False)
    for axis, example in zip(axes[0], examples, strict=True):
        best = example.proposals.clipped[example.proposals.kept[:count]]
        objects = example.canvas.objects
        hit = (iou(best, objects) >= HALF).any(dim=0)
        _show(axis, picture(example.canvas))
        _draw(axis, objects, _CHOSEN, 2.0, "--")
        _draw(axis, best, _BOX, 1.4)
        axis.set_title(f"{int(hit.sum())} of {len(objects)} objects found")
    lines = {
        "object's own box": {"color": _CHOSEN, "linestyle": "--"},
        f"the {count} best proposals": {"color": _BOX},
    }
    _legend(figure, lines)
    return figure


def proposal(example: ProposalExample, steps: dict[str, Tensor]) -> Figure:
    """Draw how one anchor becomes a proposal: a panel for each named step, with the box before.

    The steps' boxes have 4 corners; one that changes nothing has no panel.
    """
    boxes = [*steps.values()]
    changes = [True] + [not torch.equal(*pair) for pair in pairwise(boxes)]
    steps = dict(compress(steps.items(), changes))
    size = (3.3 * len(steps), 4.1)
    figure, axes = plt.subplots(1, len(steps), figsize=size, squeeze=False)
    before = []
    for axis, (name, box) in zip(axes[0], steps.items(), strict=True):
        _show(axis, picture(example.canvas), margin=25)
        _draw(axis, example.canvas.objects, _CHOSEN, 1.2)
        _draw(axis, before, _BEFORE, 1.8, "--")
        _draw(axis, [box], _BOX, 2.4)
        x1, y1, x2, y2 = (f"{value:.0f}".replace("-", "−") for value in box)
        axis.set_title(name)
        axis.set_xlabel(f"({x1}, {y1}) to ({x2}, {y2}) pixels", fontsize=9)
        before = [box]
    lines = {
        "this step's box": {"color": _BOX, "linewidth": 2.4},
        "the step before": {"color": _BEFORE, "linestyle": "--"},
        "object's own box": {"color": _CHOSEN},
    }
    _legend(figure, lines, columns=3)
    return figure


def suppression(
    image: np.ndarray,
    boxes: Tensor,
    scores: Tensor,
    result: Suppression,
    thresholds: tuple[float, float] = (0.7, 0.3),
) -> Figure:
    """Draw non-maximum suppression: all boxes, three rounds, and what is left at two thresholds.

    ``result`` is what `suppression.non_maximum_suppression` makes of these boxes (n×4; a hundred
    can still be told apart) with the first threshold.
    """
    figure, grid = plt.subplots(2, 3, figsize=(9.3, 7.0), layout="compressed")
    before, *middle = grid.flat[:4]
    _show(before, image)
    _draw(before, boxes, _BOX, 0.6)
    before.set_title(f"Before: {len(boxes):,} boxes")
    for number, axis in enumerate(middle, start=1):
        _show(axis, image)
        if number > len(result.steps):
            axis.set_title(f"No round {number}")
            continue
        step = result.steps[number - 1]
        _draw(axis, boxes[list(step.suppressed)], _BOX, 0.6)
        _draw(axis, [boxes[step.kept]], _CHOSEN, 2.2)
        axis.set_title(f"Round {number}: keep 1, drop {len(step.suppressed):,}, {step.left:,} left")
        axis.set_xlabel(f"score of the kept box {step.score:.3f}", fontsize=9)
    stricter = non_maximum_suppression(boxes, scores, thresholds[1])
    for axis, threshold, kept in zip(
        grid.flat[4:], thresholds, (result.kept, stricter.kept), strict=True
    ):
        _show(axis, image)
        _draw(axis, boxes[kept], _CHOSEN, 1.4)
        axis.set_title(f"Left at IoU threshold {threshold:g}: {len(kept)} boxes")
    kept = {"color": _CHOSEN, "linewidth": 2.2}
    lines = {"before suppression, or dropped": {"color": _BOX}, "kept": kept}
    _legend(grid[1, 1], lines, loc="upper center", bbox_to_anchor=(0.5, -0.02))
    return figure


def training(histories: Sequence[dict[str, list[float]]]) -> Figure:
    """Draw both terms of the loss against the updates, seen and unseen, a line for each seed."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6))
    terms = {"scores": "log loss of the scores", "offsets": "smooth L1 of the offsets, times λ"}
    for axis, (term, words) in zip(axes, terms.items(), strict=True):
        for name, colour in ((term, COLOURS[0]), (f"unseen_{term}", COLOURS[1])):
            for history in histories:
                axis.plot(history["update"], history[name], color=colour, linewidth=1.0)
        axis.set(title=words, xlabel="weight updates", ylabel="loss (log scale)", yscale="log")
    lines = {
        "training canvases (a line for each network)": {"color": COLOURS[0]},
        "canvases of unseen garments (likewise)": {"color": COLOURS[1]},
    }
    _legend(figure, lines)
    return figure


def recall(measured: Sequence[dict[str, Any]]) -> Figure:
    """Draw the share of objects found against the number of proposals, for each arm.

    ``measured`` is what `measures.measure_network` returned for each seed: lines are means, bands
    go from the lowest to the highest seed.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.2), sharey=True)
    for axis, overlap in zip(axes, OVERLAPS, strict=True):
        for arm, look in _ARM_LOOKS.items():
            seeds = np.array([result["recall"][arm][str(overlap)] for result in measured])
            low, high = seeds.min(axis=0), seeds.max(axis=0)
            axis.fill_between(COUNTS, low, high, color=look["color"], alpha=0.2)
            axis.plot(COUNTS, seeds.mean(axis=0), **look)
        axis.set(title=f"An object is found by a box of IoU ≥ {overlap:g}", xscale="log")
        axis.set(xlabel="proposals, best first (bands: all seeds)", ylim=(-0.02, 1.02))
        axis.set_xticks(COUNTS, [f"{count:,}" for count in COUNTS])
        axis.minorticks_off()
    axes[0].set_ylabel("share of objects found")
    words = {SHUFFLED: "scores shuffled (0.7)", UNTRAINED: "untrained network (0.7)"}
    lines = {words.get(arm, arm): look for arm, look in _ARM_LOOKS.items()}
    _legend(figure, lines, columns=3)
    return figure


def objectness(measured: Sequence[dict[str, Any]]) -> Figure:
    """Draw the scores of what suppression at 0.7 leaves, and how many boxes fire for an object.

    ``measured`` as in `recall`; both panels show means over seeds, with a dot for each object.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8))
    looks = {"background": "#999999", "object": COLOURS[1]}
    for name, colour in looks.items():
        counts = np.mean([result["histogram"][name] for result in measured], axis=0)
        left.stairs(counts, np.linspace(0, 1, len(counts) + 1), color=colour, linewidth=2)
    left.set(title="Boxes left at 0.7, by objectness", xlabel="objectness", yscale="log")
    left.set_ylabel("boxes on all canvases,\nmean over networks (log scale)")
    sides = [row["side"] for row in measured[0]["objects"]]  # the same objects for each seed
    before, after = (
        np.mean([[count(row) for row in result["objects"]] for result in measured], axis=0)
        for count in (lambda row: row["fired"], lambda row: row["kept"]["0.7"])
    )
    for fired, colour in ((before, COLOURS[0]), (after, COLOURS[4])):
        right.plot(sides, fired, ".", color=colour, markersize=3.5, alpha=0.5)
    right.set_yscale("symlog", linthresh=1)
    right.set(title="Boxes that fire for one object", xlabel="object's longer side [pixels]")
    right.set_ylabel("boxes, mean over networks\n(log scale above 1)")
    right.set_ylim(bottom=-0.2)
    lines = {
        "on no object (IoU < 0.5)": {"color": looks["background"]},
        "on an object": {"color": looks["object"]},
        "before suppression": {"color": COLOURS[0], "linestyle": "", "marker": "."},
        "after suppression at 0.7": {"color": COLOURS[4], "linestyle": "", "marker": "."},
    }
    _legend(figure, lines, columns=4)
    return figure


def picture(canvas: Canvas) -> np.ndarray:
    """Return a canvas as an image, H×W×3."""
    return canvas.image.expand(3, -1, -1).permute(1, 2, 0).numpy()


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


def _legend(
    below: Figure | Axes, lines: dict[str, dict[str, Any]], columns: int = 2, **place: Any
) -> None:
    """Write a legend of these labels and looks below a figure, or at a ``place`` of a panel."""
    handles = [Line2D([], [], label=label, **look) for label, look in lines.items()]
    below.legend(handles=handles, ncols=columns, **({"loc": "outside lower center"} | place))
