"""A region proposal network that is trained here: its targets, its loss of two terms, its training.

Small enough for a CPU core and a minute, and otherwise that of Ren et al. 2015, Sec. 3.1: a shared
map, a 3×3 convolution, two sibling 1×1 convolutions, nine anchors at each position.
"""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from hw3utils.checks import check_whole_number
from hw3utils.problem2.networks import RegionProposalHead
from hw3utils.problem2.proposals.boxes import (
    anchor_grid,
    anchor_shapes,
    encode,
    inside_image,
    iou,
    label_anchors,
)
from hw3utils.problem2.proposals.scenes import SIDE, Canvas, compose_all
from hw3utils.training import fingerprints

STRIDE = 8  # canvas pixels between neighbouring positions of the shared map
SCALES, RATIOS = (20, 40, 80), (0.5, 1.0, 2.0)  # of its anchors: as many as the paper's, smaller
SAMPLED = 256  # anchors of a canvas that the loss looks at, up to half of them positive
BALANCE = 10.0  # λ, the weight of the offsets' term
EVERY = 20  # updates between two points of the loss curves


@dataclass(frozen=True)
class ProposalRun:
    """One training run of the network."""

    seed: int  # of its weights, its canvases and their order
    canvases: int  # composed for training
    epochs: int  # each sees every canvas once
    batch_size: int = 4  # canvases
    lr: float = 2e-3  # at the start; Adam, falling linearly to 0

    def __post_init__(self) -> None:
        for name in ("canvases", "epochs", "batch_size"):
            check_whole_number(name, getattr(self, name))

    @property
    def updates(self) -> int:
        """Weight updates in all."""
        return self.epochs * -(-self.canvases // self.batch_size)


class ProposalNetwork(nn.Module):
    """A small trunk of convolutions, and the RPN's own layers on its map."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
            nn.ReLU(),
        )
        self.head = RegionProposalHead(channels, len(SCALES) * len(RATIOS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits N×n×2 (background, object) and offsets N×n×4 of the n anchors of `grid`.

        ``images`` are N×1×H×W uint8.
        """
        scores, offsets = self.head(self.trunk(images.float() / 255 - 0.5))
        return _by_anchor(scores, 2), _by_anchor(offsets, 4)


def _by_anchor(maps: Tensor, numbers: int) -> Tensor:
    """Turn N×(k·numbers)×H×W into N×(H·W·k)×numbers, the order of `boxes.anchor_grid`."""
    count, channels, rows, columns = maps.shape
    split = maps.reshape(count, channels // numbers, numbers, rows, columns)
    return split.permute(0, 3, 4, 1, 2).reshape(count, -1, numbers)


def grid() -> Tensor:
    """Return the anchors of a canvas, n×4 float64."""
    return anchor_grid(SIDE // STRIDE, SIDE // STRIDE, STRIDE, anchor_shapes(SCALES, RATIOS))


class Targets(NamedTuple):
    """What the network should say of one canvas."""

    labels: Tensor  # n, int64: 1 object, 0 background, −1 no matter
    offsets: Tensor  # n×4, float32: from each positive anchor to its object; 0 elsewhere


def targets(anchors: Tensor, objects: Tensor) -> Targets:
    """Return the targets of a canvas (n×4 and m×4).

    Anchors that cross the border are left out of training (Ren et al. 2015, Sec. 3.3), and of the
    others those that `label_anchors` ignores. A positive anchor belongs to the object that it
    overlaps most.
    """
    inside = inside_image(anchors, SIDE, SIDE)
    labels = torch.full((len(anchors),), -1)
    labels[inside] = label_anchors(anchors[inside], objects)
    offsets = torch.zeros(len(anchors), 4)
    positive = labels == 1
    if positive.any():
        nearest = iou(anchors[positive], objects).argmax(dim=1)
        offsets[positive] = encode(objects[nearest], anchors[positive]).float()
    return Targets(labels, offsets)


def sample(labels: Tensor, generator: Generator, size: int = SAMPLED) -> Tensor:
    """Return the indices of ``size`` anchors: up to half positive, the rest negative."""
    chosen: list[Tensor] = []
    for label in (1, 0):
        found = (labels == label).nonzero().flatten()
        order = torch.randperm(len(found), generator=generator)
        left = size // 2 if label else size - len(chosen[0])
        chosen.append(found[order[:left]])
    return torch.cat(chosen)


def losses(logits: Tensor, offsets: Tensor, wanted: Targets, chosen: Tensor) -> tuple[Tensor, ...]:
    """Return the two terms of one canvas's loss (Ren et al. 2015, Eq. 1), the second with its λ.

    Log loss of the scores of the ``chosen`` anchors, divided by their number; smooth L1 of the
    offsets of the positive ones, divided by the number of positions and multiplied by `BALANCE`.
    """
    log_loss = F.cross_entropy(logits[chosen], wanted.labels[chosen])
    positive = chosen[wanted.labels[chosen] == 1]
    apart = F.smooth_l1_loss(offsets[positive], wanted.offsets[positive], reduction="sum")
    positions = len(logits) // (len(SCALES) * len(RATIOS))
    return log_loss, BALANCE * apart / positions


@fingerprints.task
def train_network(run: ProposalRun, seen: Tensor, unseen: Tensor) -> dict[str, Any]:
    """Train a network on canvases of the garments ``seen``: a worker's whole task.

    Returns its ``state``, the processor's ``seconds``, and a ``history``: lists of both terms of
    the loss on ``seen`` (a mean over `EVERY` updates) and on a few canvases of ``unseen`` garments.
    Both are N×1×28×28 uint8.
    """
    began = time.process_time()
    generator = torch.Generator().manual_seed(run.seed)
    network = fresh_network(run.seed)
    anchors = grid()
    canvases = compose_all(seen, run.canvases, generator)
    wanted = [targets(anchors, canvas.objects) for canvas in canvases]
    others = compose_all(unseen, 16, torch.Generator().manual_seed(run.seed))
    others_wanted = [targets(anchors, canvas.objects) for canvas in others]
    optimizer = torch.optim.Adam(network.parameters(), lr=run.lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, run.updates)
    history: dict[str, list[float]] = {
        name: [] for name in ("update", "scores", "offsets", "unseen_scores", "unseen_offsets")
    }
    recent = []
    for _ in range(run.epochs):
        order = torch.randperm(run.canvases, generator=generator)
        for batch in order.split(run.batch_size):
            terms = _terms(
                network,
                [canvases[i] for i in batch],
                [wanted[i] for i in batch],
                generator,
            )
            optimizer.zero_grad()
            terms.sum().backward()
            optimizer.step()
            schedule.step()
            recent.append(terms.detach())
            if len(recent) == EVERY:
                with torch.no_grad():
                    fixed = torch.Generator().manual_seed(run.seed)
                    unseen_terms = _terms(network, others, others_wanted, fixed)
                done = EVERY + (history["update"][-1] if history["update"] else 0)
                point = [done, *torch.stack(recent).mean(dim=0).tolist(), *unseen_terms.tolist()]
                for values, value in zip(history.values(), point, strict=True):
                    values.append(value)
                recent = []
    return {
        "state": network.state_dict(),
        "history": history,
        "seconds": time.process_time() - began,
    }


def fresh_network(seed: int) -> ProposalNetwork:
    """Return a network with the weights of its seed, untrained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ProposalNetwork()


def _terms(
    network: ProposalNetwork,
    canvases: list[Canvas],
    wanted: list[Targets],
    generator: Generator,
) -> Tensor:
    """Return both terms of the loss, each a mean over some canvases."""
    logits, offsets = network(torch.stack([canvas.image for canvas in canvases]))
    terms = [
        torch.stack(losses(*answer, target, sample(target.labels, generator)))
        for *answer, target in zip(logits, offsets, wanted, strict=True)
    ]
    return torch.stack(terms).mean(dim=0)
