"""From scored boxes to proposals: non-maximum suppression, the steps around it, and a photograph.

For what follows a region proposal network, not the network (`networks.RegionProposalHead`).
Written to be read; torchvision's compiled operators give the same results, faster.
"""

from dataclasses import dataclass

import numpy as np
import torch
from skimage import data
from torch import Tensor
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
    large: Tensor  # indices of the clipped boxes that are large enough, as suppression gets them
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
    top: int = 300,
    smallest: float = 1.0,
) -> Proposals:
    """Turn an RPN's scores and offsets into proposals (Ren et al. 2015, Sec. 3.3, at test time).

    Decode n anchors (n×4) with their offsets (n×4), clip at the borders of an image (height and
    width), drop boxes with a side under ``smallest`` pixels, suppress what overlaps a better box
    (of higher objectness, n) by more than ``threshold``, pass on the ``top`` best: 300 at test
    time, 2000 in training.
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


@dataclass(frozen=True)
class ProposalExample:
    """The region proposals of the example photograph, stage by stage."""

    image: np.ndarray  # 600×600×3 uint8
    objects: Tensor  # 3×4, the marked objects
    grid: tuple[int, int]  # rows and columns of the feature map
    anchors: Tensor  # n×4; the 9 of a position follow each other
    inside: Tensor  # n, bool: the anchor lies wholly inside the image
    labels: Tensor  # n: 1 object, 0 background, −1 no matter, among all anchors
    scores: Tensor  # n, from the simulated RPN
    offsets: Tensor  # n×4, likewise
    proposals: Proposals  # what becomes of them
    candidates: Tensor  # indices of the anchors with the 100 highest scores, for drawing
    suppression: Suppression  # among the candidates; its indices count within them
    handful: Tensor  # indices of six anchors, the two best of each object, to follow by hand


def photograph() -> np.ndarray:
    """Return the photograph, 600×600×3 uint8: a portrait of an astronaut by NASA, public domain.

    It comes with scikit-image, needs no network, and is enlarged to Faster R-CNN's image size.
    """
    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1).unsqueeze(0).float()
    enlarged = functional.interpolate(
        image, size=(SHORTER_SIDE, SHORTER_SIDE), mode="bilinear", align_corners=False
    )
    return enlarged[0].permute(1, 2, 0).round().byte().numpy()


def object_boxes() -> Tensor:
    """Return the boxes of `OBJECTS` on the enlarged photograph, 3×4 float64, in pixels."""
    scale = SHORTER_SIDE / _PHOTOGRAPH_SIDE
    return torch.tensor(list(OBJECTS.values()), dtype=torch.float64) * scale


def simulate_rpn(anchors: Tensor, objects: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return scores (n, 0 to 1) and offsets (n×4) as a fairly good RPN might give each anchor.

    An illustration, not a network. The objectness is σ(12·(IoU − 0.5) + noise), with the anchor's
    largest IoU with an object and standard normal noise. The offsets lead min(1, 2·IoU) of the way
    to that object's box, plus normal noise of standard deviation 0.03: an anchor that hardly sees
    an object cannot tell where its borders are. ``anchors`` (n×4) and ``objects`` (m×4, m at least
    1) are float64.
    """
    if len(objects) == 0:
        raise ValueError("objects is empty: the simulation needs at least one object")
    noise = np.random.default_rng(seed)
    overlap, nearest = iou(anchors, objects).max(dim=1)
    logits = 12 * (overlap - 0.5) + torch.from_numpy(noise.standard_normal(len(anchors)))
    way = (2 * overlap).clamp(max=1).unsqueeze(1)
    jitter = torch.from_numpy(noise.standard_normal((len(anchors), 4))) * 0.03
    return logits.sigmoid(), way * encode(objects[nearest], anchors) + jitter


def best_candidates(boxes: Tensor, scores: Tensor, objects: Tensor, count: int = 2) -> Tensor:
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

    ``image_size`` is height and width in pixels. The photograph has 600×600; a wider frame asks how
    many anchors and proposals there would be in it. ``seed`` is that of the simulated noise.
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
