"""From scored boxes to proposals: non-maximum suppression, and the steps around it.

For what follows a region proposal network, not the network. Written to be read; torchvision's
compiled operators give the same results, faster.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hw3utils.checks import check_whole_number
from hw3utils.problem2.proposals.boxes import (
    check_boxes,
    check_finite,
    check_lengths,
    clip_boxes,
    decode,
    unchecked_iou,
)

BEFORE, TOP = 6_000, 300  # boxes that go into suppression, and proposals passed on, at test time


@dataclass(frozen=True)
class SuppressionStep:
    """One round of non-maximum suppression."""

    kept: int  # the box that is kept: of those left, the one with the highest score
    score: float  # its score
    suppressed: tuple[int, ...]  # the boxes dropped in this round: they overlap it too much
    overlaps: tuple[float, ...]  # their IoU with the kept box
    left: int  # boxes still undecided after this round


@dataclass(frozen=True)
class Suppression:
    """What `non_maximum_suppression` returns."""

    kept: Tensor  # indices (int64) of the boxes that stay, by falling score
    steps: tuple[SuppressionStep, ...]  # the rounds, one for each box kept


@dataclass(frozen=True)
class Proposals:
    """What `propose` returns, one attribute for each of its stages."""

    decoded: Tensor  # the box of every anchor, n×4, before clipping
    clipped: Tensor  # the same, cut at the image's borders
    best: Tensor  # indices of the large enough boxes with the highest scores: suppression's input
    kept: Tensor  # indices of the boxes that survive suppression, by falling score
    passed: Tensor  # the first of ``kept``: the proposals that go on to the detector


def non_maximum_suppression(boxes: Tensor, scores: Tensor, threshold: float = 0.7) -> Suppression:
    """Keep the best box, drop every other that overlaps it too much, and go on with the rest.

    Greedy, by falling score; a box (of n×4) is dropped when its IoU with a kept one is greater than
    ``threshold`` (0 to 1; 0.7 in Ren et al. 2015, Sec. 3.3). Of the ``scores`` (n, finite) only the
    order matters, and of equal ones the first comes first, as in torchvision. Raises a ValueError
    for anything else.
    """
    check_boxes("boxes", boxes)
    if scores.ndim != 1:
        raise ValueError(f"scores: expected one number for each box, got {tuple(scores.shape)}")
    check_lengths(boxes=boxes, scores=scores)
    check_finite("scores", scores)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold}: an IoU lies between 0 and 1")
    if boxes.dtype in (torch.float16, torch.bfloat16):
        boxes = boxes.float()  # their IoU would be rounded to a thousandth and worse
    left = scores.argsort(descending=True, stable=True)
    steps = []
    while len(left):
        best, rest = left[0], left[1:]
        # Compared in float64, as in torchvision: in float32 the threshold would be rounded as well.
        overlaps = unchecked_iou(boxes[best].unsqueeze(0), boxes[rest])[0].double()
        drop = overlaps > threshold
        left = rest[~drop]
        steps.append(
            SuppressionStep(
                kept=int(best),
                score=float(scores[best]),
                suppressed=tuple(rest[drop].tolist()),
                overlaps=tuple(overlaps[drop].tolist()),
                left=len(left),
            )
        )
    kept = torch.tensor([step.kept for step in steps], dtype=torch.int64, device=boxes.device)
    return Suppression(kept=kept, steps=tuple(steps))


def propose(
    anchors: Tensor,
    scores: Tensor,
    offsets: Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.7,
    before: int = BEFORE,
    top: int = TOP,
    smallest: float = 1.0,
) -> Proposals:
    """Turn an RPN's scores and offsets into proposals (Ren et al. 2015, Sec. 3.3, at test time).

    Decode n anchors (n×4) with their offsets (n×4), clip at the borders of an image (height and
    width), drop boxes with a side under ``smallest`` pixels, keep the ``before`` boxes of highest
    objectness (n; 6,000 is what public configurations take at test time), suppress what overlaps a
    better box by more than ``threshold``, pass on the ``top`` best.
    """
    check_whole_number("before", before)
    check_whole_number("top", top)
    check_lengths(anchors=anchors, scores=scores)
    decoded = decode(offsets, anchors)
    clipped = clip_boxes(decoded, *image_size)
    best = best_boxes(clipped, scores, before, smallest)
    kept = best[non_maximum_suppression(clipped[best], scores[best], threshold).kept]
    return Proposals(decoded=decoded, clipped=clipped, best=best, kept=kept, passed=kept[:top])


def best_boxes(boxes: Tensor, scores: Tensor, before: int, smallest: float = 1.0) -> Tensor:
    """Return the indices of the ``before`` best boxes of a large enough size, by falling score."""
    large = (boxes[:, 2:] - boxes[:, :2] >= smallest).all(dim=1).nonzero().flatten()
    return large[scores[large].argsort(descending=True, stable=True)][:before]
