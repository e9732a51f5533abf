"""How good a trained network's proposals are, on canvases of garments that it has never seen."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hw3utils.problem2.proposals import scenes
from hw3utils.problem2.proposals.boxes import clip_boxes, decode, iou
from hw3utils.problem2.proposals.network import ProposalNetwork, fresh_network, grid
from hw3utils.problem2.proposals.suppression import (
    BEFORE,
    Proposals,
    Suppression,
    best_boxes,
    non_maximum_suppression,
    propose,
)
from hw3utils.training import fingerprints

COUNTS = (10, 30, 100, 300, 1_000, 2_000)  # proposals that are looked at, by falling score
OVERLAPS = (0.5, 0.7)  # IoU from which on a proposal finds an object
THRESHOLDS = (0.3, 0.5, 0.7)  # of suppression
NONE, SHUFFLED, UNTRAINED = "no suppression", "scores shuffled", "untrained network"
ARMS = (*(f"suppression at {threshold}" for threshold in THRESHOLDS), NONE, SHUFFLED, UNTRAINED)
HALF = 0.5  # objectness from which on a box fires, and IoU at which it is an object's
BINS = 20  # of the histogram of objectness
_CANVAS = (scenes.SIDE, scenes.SIDE)


def answers(network: ProposalNetwork, canvas: scenes.Canvas) -> tuple[Tensor, Tensor]:
    """Return the objectness (n, 0 to 1) and the offsets (n×4) of a canvas's anchors, float64."""
    with torch.no_grad():
        logits, offsets = network(canvas.image[None])
    return logits[0].double().softmax(dim=1)[:, 1], offsets[0].double()


def found(boxes: Tensor, objects: Tensor, overlap: float) -> list[int]:
    """Return how many objects have a box of at least this IoU among the first of `COUNTS` boxes."""
    near = iou(boxes, objects) >= overlap
    return [int(near[:count].any(dim=0).sum()) for count in COUNTS]


def ranked(boxes: Tensor, scores: Tensor, threshold: float | None) -> Tensor:
    """Return the indices of those of the best boxes that suppression leaves, best first.

    With torchvision's suppression, which gives the same as ours in less time; None suppresses
    nothing.
    """
    best = best_boxes(boxes, scores, BEFORE)
    return best if threshold is None else best[_left_by_nms(boxes[best], scores[best], threshold)]


def _left_by_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    from torchvision.ops import nms  # a second's work, which not every command needs

    return nms(boxes, scores, threshold)


@fingerprints.task
def measure_network(
    state: dict[str, Tensor], seed: int, canvases: int, garments: Tensor
) -> dict[str, Any]:
    """Measure a network on canvases of these garments (N×1×28×28 uint8): a worker's whole task.

    Returns ``recall`` (arm → overlap → one fraction of all objects for each of `COUNTS`), ``left``
    (threshold → boxes after suppression, a mean: ``kept``, of them ``fired``, and ``uncut``, with
    all boxes going in), ``objects`` (for each: its longer ``side``, boxes that ``fired`` for it,
    and how many of them each threshold ``kept``), and the ``histogram`` of the objectness of what
    0.7 leaves: on an ``object``, and not.
    """
    network = ProposalNetwork()
    network.load_state_dict(state)
    untrained = fresh_network(seed)
    generator = torch.Generator().manual_seed(seed)
    anchors = grid()
    hits = {arm: {overlap: [0] * len(COUNTS) for overlap in OVERLAPS} for arm in ARMS}
    left = {threshold: {"kept": 0, "fired": 0, "uncut": 0} for threshold in THRESHOLDS}
    objects: list[dict[str, Any]] = []
    histogram = torch.zeros(2, BINS, dtype=torch.int64)
    drawn = scenes.compose_all(garments, canvases, torch.Generator().manual_seed(0))
    for canvas in drawn:
        scores, offsets = answers(network, canvas)
        boxes = clip_boxes(decode(offsets, anchors), *_CANVAS)
        shuffled = scores[torch.randperm(len(scores), generator=generator)]
        early_scores, early_offsets = answers(untrained, canvas)
        early = clip_boxes(decode(early_offsets, anchors), *_CANVAS)
        kept = {t: ranked(boxes, scores, t) for t in THRESHOLDS}
        order = {f"suppression at {t}": boxes[indices] for t, indices in kept.items()}
        order[NONE] = boxes[ranked(boxes, scores, None)]
        order[SHUFFLED] = boxes[ranked(boxes, shuffled, 0.7)]
        order[UNTRAINED] = early[ranked(early, early_scores, 0.7)]
        for arm, overlaps in hits.items():
            for overlap, counts in overlaps.items():
                more = found(order[arm], canvas.objects, overlap)
                overlaps[overlap] = [a + b for a, b in zip(counts, more, strict=True)]
        for threshold, indices in kept.items():
            left[threshold]["kept"] += len(indices)
            left[threshold]["fired"] += int((scores[indices] > HALF).sum())
            left[threshold]["uncut"] += len(_left_by_nms(boxes, scores, threshold))
        near = iou(boxes, canvas.objects)
        objects += _fired(canvas.objects, near, scores, kept)
        on_object = near[kept[0.7]].max(dim=1).values >= HALF
        for row, part in enumerate((on_object, ~on_object)):
            histogram[row] += scores[kept[0.7]][part].histc(BINS, 0, 1).long()
    return {
        "recall": {
            arm: {
                str(overlap): [count / len(objects) for count in counts]
                for overlap, counts in overlaps.items()
            }
            for arm, overlaps in hits.items()
        },
        "left": {
            str(threshold): {name: count / canvases for name, count in counts.items()}
            for threshold, counts in left.items()
        },
        "objects": objects,
        "histogram": {"object": histogram[0].tolist(), "background": histogram[1].tolist()},
    }


def _fired(
    objects: Tensor, near: Tensor, scores: Tensor, kept: dict[float, Tensor]
) -> list[dict[str, Any]]:
    """Return, for each object, how many boxes say "object" and lie on it, before and after."""
    fires = (near >= HALF) & (scores > HALF).unsqueeze(1)
    sides = (objects[:, 2:] - objects[:, :2]).max(dim=1).values
    return [
        {
            "side": float(side),
            "fired": int(fires[:, number].sum()),
            "kept": {str(t): int(fires[indices, number].sum()) for t, indices in kept.items()},
        }
        for number, side in enumerate(sides)
    ]


@dataclass(frozen=True)
class ProposalExample:
    """One unseen canvas, stage by stage: by our own functions, every step to be looked at."""

    canvas: scenes.Canvas
    anchors: Tensor  # n×4
    scores: Tensor  # n: objectness, 0 to 1
    offsets: Tensor  # n×4
    proposals: Proposals
    hundred: Tensor  # indices of the 100 boxes with the highest scores, for drawing
    suppression: Suppression  # among the hundred; its indices count within them
    handful: Tensor  # indices of six boxes, three of each of two objects, to follow by hand


def proposal_example(network: ProposalNetwork, canvas: scenes.Canvas) -> ProposalExample:
    """Return what the network and suppression (at 0.7) make of a canvas."""
    anchors = grid()
    scores, offsets = answers(network, canvas)
    proposals = propose(anchors, scores, offsets, _CANVAS)
    hundred = proposals.best[:100]
    boxes = proposals.clipped
    return ProposalExample(
        canvas=canvas,
        anchors=anchors,
        scores=scores,
        offsets=offsets,
        proposals=proposals,
        hundred=hundred,
        suppression=non_maximum_suppression(boxes[hundred], scores[hundred]),
        handful=hundred[handful(boxes[hundred], canvas.objects)],
    )


def handful(boxes: Tensor, objects: Tensor, groups: int = 2, threshold: float = 0.7) -> Tensor:
    """Return the indices of three boxes of each of a few objects, to suppress by hand: n int64.

    ``boxes`` come by falling score and belong to the object that they overlap most. The three are
    an object's best box, the best other one that it suppresses, and the best that it does not.
    Objects that have no such three are passed over.
    """
    nearest = iou(boxes, objects).argmax(dim=1)
    chosen: list[int] = []
    for number in dict.fromkeys(nearest.tolist()):
        first, *others = (nearest == number).nonzero().flatten().tolist()
        drops = [i for i in others if iou(boxes[[first]], boxes[[i]]) > threshold]
        stays = [i for i in others if i not in drops]
        if drops and stays and len(chosen) < 3 * groups:
            chosen += [first, drops[0], stays[0]]
    return torch.tensor(sorted(chosen), dtype=torch.int64)
