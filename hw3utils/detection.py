"""From scored boxes to proposals: non-maximum suppression, and the steps around it.

For what follows a region proposal network, not the network (`paper_networks.RegionProposalHead`).
Written to be read; torchvision's compiled operators give the same results, faster.
"""

from dataclasses import dataclass

import torch

from hw3utils.boxes import (
    check_boxes,
    check_finite,
    check_lengths,
    clip_boxes,
    decode,
    unchecked_iou,
)

__all__ = [
    "Proposals",
    "Suppression",
    "SuppressionStep",
    "non_maximum_suppression",
    "propose",
]


@dataclass(frozen=True)
class SuppressionStep:
    """One round of non-maximum suppression.

    Attributes
    ----------
    kept : int
        The box that is kept: of those left, the one with the highest score.
    score : float
        Its score.
    suppressed : tuple of int
        The boxes dropped in this round, because they overlap it too much.
    overlaps : tuple of float
        Their IoU with the kept box.
    left : int
        Boxes still undecided after this round.
    """

    kept: int
    score: float
    suppressed: tuple[int, ...]
    overlaps: tuple[float, ...]
    left: int


@dataclass(frozen=True)
class Suppression:
    """What `non_maximum_suppression` returns.

    Attributes
    ----------
    kept : torch.Tensor
        Indices (int64) of the boxes that stay, by falling score.
    steps : tuple of SuppressionStep
        The rounds, one for each box kept.
    """

    kept: torch.Tensor
    steps: tuple[SuppressionStep, ...]


@dataclass(frozen=True)
class Proposals:
    """What `propose` returns, one attribute for each of its stages.

    Attributes
    ----------
    decoded : torch.Tensor
        The box of every anchor, n×4, before clipping.
    clipped : torch.Tensor
        The same, cut at the image's borders.
    large : torch.Tensor
        Indices of the clipped boxes that are large enough, as suppression gets them.
    kept : torch.Tensor
        Indices of the boxes that survive suppression, by falling score.
    passed : torch.Tensor
        The first of ``kept``: the proposals that go on to the detector.
    """

    decoded: torch.Tensor
    clipped: torch.Tensor
    large: torch.Tensor
    kept: torch.Tensor
    passed: torch.Tensor


def non_maximum_suppression(
    boxes: torch.Tensor, scores: torch.Tensor, threshold: float = 0.7
) -> Suppression:
    """Keep the best box, drop every other that overlaps it too much, and go on with the rest.

    Greedy, by falling score; a box is dropped when its IoU with a kept one is greater than
    ``threshold``. Of equal scores the first comes first, as in torchvision.

    Parameters
    ----------
    boxes : torch.Tensor
        n×4; n may be 0.
    scores : torch.Tensor
        n, any finite numbers: only their order matters.
    threshold : float
        Between 0 and 1; 0.7 in Ren et al. 2015, Sec. 3.3.

    Raises
    ------
    ValueError
        Malformed boxes, lengths that differ, scores that are not finite, or a threshold outside
        0 to 1.
    """
    check_boxes("boxes", boxes)
    if scores.ndim != 1:
        raise ValueError(f"scores: expected one number for each box, got {tuple(scores.shape)}")
    check_lengths(boxes=boxes, scores=scores)
    check_finite("scores", scores)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold}: an IoU lies between 0 and 1")
    left = scores.argsort(descending=True, stable=True)
    steps = []
    while len(left):
        best, rest = left[0], left[1:]
        # In float64: float32(0.1) is greater than 0.1, and a tie must not hang on that.
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
    kept = torch.tensor([step.kept for step in steps], dtype=torch.int64)
    return Suppression(kept=kept, steps=tuple(steps))


def propose(
    anchors: torch.Tensor,
    scores: torch.Tensor,
    offsets: torch.Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.7,
    top: int = 300,
    smallest: float = 1.0,
) -> Proposals:
    """Turn an RPN's scores and offsets into proposals (Ren et al. 2015, Sec. 3.3, at test time).

    Decode, clip at the image's borders, drop what is too small, suppress what overlaps a better
    box, pass on the best.

    Parameters
    ----------
    anchors, offsets : torch.Tensor
        n×4 each.
    scores : torch.Tensor
        n: the objectness of each anchor.
    image_size : tuple of int
        Height and width in pixels.
    threshold : float
        IoU above which a box is suppressed.
    top : int
        Proposals passed on: 300 at test time, 2000 in training.
    smallest : float
        Boxes with a side shorter than this, in pixels, are dropped after clipping.

    Raises
    ------
    ValueError
        As in `boxes.decode` and `non_maximum_suppression`, or ``top`` is smaller than 1.
    """
    if top < 1:
        raise ValueError(f"top={top}: at least one proposal must be passed on")
    check_lengths(anchors=anchors, scores=scores)
    decoded = decode(offsets, anchors)
    clipped = clip_boxes(decoded, *image_size)
    sides = clipped[:, 2:] - clipped[:, :2]
    large = (sides >= smallest).all(dim=1).nonzero().flatten()
    kept = large[non_maximum_suppression(clipped[large], scores[large], threshold).kept]
    return Proposals(decoded=decoded, clipped=clipped, large=large, kept=kept, passed=kept[:top])
