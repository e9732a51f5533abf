"""From scored boxes to proposals: non-maximum suppression, and the steps around it.

For what follows a region proposal network, not the network (`paper_networks.RegionProposalHead`).
Written to be read; torchvision's compiled operators give the same results, faster.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from skimage import data
from torch.nn import functional

from hw3utils.problem2.proposals.boxes import (
    anchor_grid,
    anchor_shapes,
    check_boxes,
    check_finite,
    check_lengths,
    clip_boxes,
    decode,
    encode,
    inside_image,
    iou,
    label_anchors,
    unchecked_iou,
)


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


SHORTER_SIDE = 600
SCALES = (128, 256, 512)
RATIOS = (0.5, 1.0, 2.0)
STRIDE = 16
# Marked by hand on the 512×512 photograph: x1, y1, x2, y2 in its pixels.
OBJECTS = {
    "astronaut": (20, 14, 366, 512),
    "helmet": (277, 343, 511, 512),
    "shuttle model": (354, 0, 474, 290),
}
_PHOTOGRAPH_SIDE = 512


class SimulatedOutput(NamedTuple):
    """What `simulate_rpn` returns: ``scores`` (n, between 0 and 1) and ``offsets`` (n×4)."""

    scores: torch.Tensor
    offsets: torch.Tensor


@dataclass(frozen=True)
class ProposalExample:
    """The region proposals of the example photograph, stage by stage.

    Attributes
    ----------
    image : numpy.ndarray
        600×600×3 uint8.
    objects : torch.Tensor
        3×4, the marked objects.
    grid : tuple of int
        Rows and columns of the feature map.
    anchors : torch.Tensor
        n×4; the 9 of a position follow each other.
    inside : torch.Tensor
        n, bool: the anchor lies wholly inside the image.
    labels : torch.Tensor
        n: 1 object, 0 background, −1 no matter, among all anchors.
    scores, offsets : torch.Tensor
        n and n×4, from the simulated RPN.
    proposals : Proposals
        What becomes of them.
    candidates : torch.Tensor
        Indices of the anchors with the 100 highest scores, for drawing.
    suppression : Suppression
        Non-maximum suppression among the candidates; its indices count within them.
    handful : torch.Tensor
        Indices of six anchors, the two best of each object, to follow by hand.
    """

    image: np.ndarray
    objects: torch.Tensor
    grid: tuple[int, int]
    anchors: torch.Tensor
    inside: torch.Tensor
    labels: torch.Tensor
    scores: torch.Tensor
    offsets: torch.Tensor
    proposals: Proposals
    candidates: torch.Tensor
    suppression: Suppression
    handful: torch.Tensor


def photograph() -> np.ndarray:
    """Return the photograph, 600×600×3 uint8: a portrait of an astronaut by NASA, public domain.

    It comes with scikit-image, needs no network, and is enlarged to Faster R-CNN's image size.
    """
    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1).unsqueeze(0).float()
    enlarged = functional.interpolate(
        image, size=(SHORTER_SIDE, SHORTER_SIDE), mode="bilinear", align_corners=False
    )
    return enlarged[0].permute(1, 2, 0).round().byte().numpy()


def object_boxes() -> torch.Tensor:
    """Return the boxes of `OBJECTS` on the enlarged photograph, 3×4 float64, in pixels."""
    scale = SHORTER_SIDE / _PHOTOGRAPH_SIDE
    return torch.tensor(list(OBJECTS.values()), dtype=torch.float64) * scale


def simulate_rpn(anchors: torch.Tensor, objects: torch.Tensor, seed: int = 0) -> SimulatedOutput:
    """Return what a fairly good RPN might say of each anchor. An illustration, not a network.

    The objectness is σ(12·(IoU − 0.5) + noise), with the anchor's largest IoU with an object and
    standard normal noise. The offsets lead min(1, 2·IoU) of the way to that object's box, plus
    normal noise of standard deviation 0.03: an anchor that hardly sees an object cannot tell where
    its borders are.

    Parameters
    ----------
    anchors, objects : torch.Tensor
        n×4 and m×4, float64, m at least 1.
    seed : int
        Of the noise.

    Raises
    ------
    ValueError
        There are no objects, or boxes are malformed.
    """
    if len(objects) == 0:
        raise ValueError("objects is empty: the simulation needs at least one object")
    noise = np.random.default_rng(seed)
    overlap, nearest = iou(anchors, objects).max(dim=1)
    logits = 12 * (overlap - 0.5) + torch.from_numpy(noise.standard_normal(len(anchors)))
    way = (2 * overlap).clamp(max=1).unsqueeze(1)
    jitter = torch.from_numpy(noise.standard_normal((len(anchors), 4))) * 0.03
    return SimulatedOutput(logits.sigmoid(), way * encode(objects[nearest], anchors) + jitter)


def best_candidates(
    boxes: torch.Tensor, scores: torch.Tensor, objects: torch.Tensor, count: int = 2
) -> torch.Tensor:
    """Return the indices of the best boxes near each object: a handful to follow by hand.

    A box belongs to the object that it overlaps most. Of each object's boxes the ``count`` with the
    highest scores are taken; all together are sorted by falling score.
    """
    nearest = iou(boxes, objects).argmax(dim=1)
    order = scores.argsort(descending=True, stable=True)
    chosen = [order[nearest[order] == number][:count] for number in range(len(objects))]
    together = torch.cat(chosen)
    return together[scores[together].argsort(descending=True, stable=True)]


def proposal_example(
    threshold: float = 0.7, seed: int = 0, image_size: tuple[int, int] = (600, 600)
) -> ProposalExample:
    """Return the example photograph's anchors, simulated scores, proposals and suppression.

    Parameters
    ----------
    threshold : float
        IoU above which a box is suppressed.
    seed : int
        Of the simulated RPN's noise.
    image_size : tuple of int
        Height and width in pixels. The photograph has 600×600; a wider frame asks how many anchors
        and proposals there would be in it.
    """
    objects = object_boxes()
    grid = (image_size[0] // STRIDE, image_size[1] // STRIDE)
    anchors = anchor_grid(*grid, STRIDE, anchor_shapes(SCALES, RATIOS))
    scores, offsets = simulate_rpn(anchors, objects, seed)
    proposals = propose(anchors, scores, offsets, image_size, threshold)
    candidates = scores.argsort(descending=True, stable=True)[:100]
    boxes = proposals.clipped
    return ProposalExample(
        image=photograph(),
        objects=objects,
        grid=grid,
        anchors=anchors,
        inside=inside_image(anchors, *image_size),
        labels=label_anchors(anchors, objects),
        scores=scores,
        offsets=offsets,
        proposals=proposals,
        candidates=candidates,
        suppression=non_maximum_suppression(boxes[candidates], scores[candidates], threshold),
        handful=best_candidates(boxes, scores, objects),
    )
