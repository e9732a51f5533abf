"""The last layer alone: features of the frozen network, and many last layers trained on them.

The features, which cost most, are computed once for each image and mirror image and kept on disk.
"""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from hw3utils.checks import check_whole_number
from hw3utils.data.images import ImageSet, Scale, mirrored
from hw3utils.problem3 import resnet
from hw3utils.training import fingerprints, sweeps
from hw3utils.training.linear import MOST_PENALTY, check_sets
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Steps
from hw3utils.training.workers import pick_device, processes

CHUNK = 256


class Extracted(NamedTuple):
    """Features of several image sets."""

    features: list[Tensor]  # of each set: (1 or 2, N, 2048) float32, index 1 the mirror images
    seconds: float  # what they cost when they were computed, all processes added up


def extract(
    base: resnet.Base,
    sets: Sequence[tuple[ImageSet, bool]],
    scale: Scale,
    *,
    n_jobs: int | None = None,
    cache_dir: Path | None = None,
) -> Extracted:
    """Return the features of each set; what is on disk already is not computed again.

    Each set comes with whether its mirror images' features are wanted too. Features are kept in
    chunks under a key made of weights, preprocessing, images and code: an interrupted extraction
    goes on where it stopped.
    """
    tasks: dict[str, tuple[Any, ...]] = {}
    plan: list[list[list[str]]] = []  # of each set and view: the keys of its chunks
    for images, with_mirror in sets:
        views = [images, mirrored(images)] if with_mirror else [images]
        plan.append([[] for _ in views])
        for keys, view in zip(plan[-1], views, strict=True):
            for part in view.images.split(CHUNK):
                arguments = (base.weights, scale, part)
                key = sweeps.task_key(_features, (base.digest, *arguments))
                tasks[key] = arguments
                keys.append(key)
    found = sweeps.map_cached(
        _features, tasks, title="features", n_jobs=n_jobs or processes(), cache_dir=cache_dir
    )
    features = [
        torch.stack([torch.cat([found[key]["features"] for key in keys]) for keys in views])
        for views in plan
    ]
    return Extracted(features, sum(chunk["seconds"] for chunk in found.values()))


@fingerprints.task
def _features(weights: str, scale: Scale, images: Tensor) -> dict[str, Any]:
    """Return the features of one chunk of uint8 images, and the seconds that they took."""
    model = resnet.build(weights, 2, seed=0).to(pick_device())
    unlabelled = ImageSet(images, torch.zeros(len(images), dtype=torch.int64), ("none", "other"))
    began = time.perf_counter()
    features = resnet.logits_and_features(model, unlabelled, scale)[1]
    return {"features": features, "seconds": time.perf_counter() - began}


@dataclass(frozen=True)
class HeadRun:
    """How last layers are trained: every learning rate with every seed, all else alike.

    The learning rate falls by `Steps`; epochs, batch size, momentum and weight decay as in `Run`.
    """

    learning_rates: tuple[float, ...]  # different ones
    seeds: tuple[int, ...] = (0,)  # decide initial weights, order, and which images are mirrored
    epochs: int = 60
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        rates = self.learning_rates
        if not rates or len(set(rates)) != len(rates):
            raise ValueError(f"learning rates {rates}: one or more different ones expected")
        if not self.seeds:
            raise ValueError("at least one seed expected")
        for lr, seed in itertools.product(rates, self.seeds):
            # What makes no sense in a run is refused there.
            Run("last layer", Steps(lr), self.epochs, momentum=self.momentum, seed=seed)
        check_whole_number("batch_size", self.batch_size)
        if not 0 <= self.weight_decay <= MOST_PENALTY:
            raise ValueError(f"weight_decay={self.weight_decay}: must lie in 0..{MOST_PENALTY:g}")


@dataclass(frozen=True)
class HeadResult:
    """One trained last layer.

    ``history`` has the columns ``epoch``, ``train_loss``, ``train_accuracy`` (as trained),
    ``validation_loss`` and ``validation_accuracy`` (after the epoch); NaN from the epoch on in
    which a loss is not finite.
    """

    lr: float
    seed: int
    history: pd.DataFrame
    weight: Tensor  # (number of classes, D): after the epoch with the best validation accuracy,
    bias: Tensor  # (number of classes,); the first of equals; the initial ones where none counts
    diverged: bool  # whether a loss stopped being finite

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (N, number of classes) of features (N, D)."""
        return F.linear(features, self.weight, self.bias)


def initial_head(num_features: int, num_classes: int, seed: int) -> nn.Linear:
    """Return the last layer as torch draws it from ``seed``."""
    check_whole_number("num_features", num_features)
    check_whole_number("num_classes", num_classes)
    check_whole_number("seed", seed, at_least=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(num_features, num_classes)


def fit_heads(
    run: HeadRun,
    features: Tensor,
    labels: Tensor,
    validation_features: Tensor,
    validation_labels: Tensor,
    num_classes: int,
    *,
    progress: bool = False,
) -> list[HeadResult]:
    """Train one last layer for each learning rate and seed, all at once, with SGD.

    The weights lie in one tensor (learning rates, seeds, D, classes); one product for each seed
    serves all learning rates. The gradient of softmax regression is written out: softmax minus
    one-hot, times features. Each head's numbers are those of a plain loop over `torch.optim.SGD`
    with its seed. The results come learning rate by learning rate, and seed by seed within.

    Parameters
    ----------
    features : Tensor
        (views, N, D) float32: for each image and epoch one of the views is drawn.
    labels : Tensor
        (N,) int64.
    validation_features, validation_labels : Tensor
        (M, D) and (M,).

    Raises
    ------
    ValueError
        Features and labels do not belong together, or a batch is larger than the training set.
    """
    check_sets(features, labels, validation_features, validation_labels, num_classes)
    views, n, num_features = features.shape
    if run.batch_size > n:
        raise ValueError(f"batch size {run.batch_size} is larger than the {n} training images")
    device = features.device
    rates = torch.tensor(run.learning_rates, device=device).view(-1, 1, 1, 1)
    weight, bias = _initial_stack(run, num_features, num_classes, device)
    velocities = torch.zeros_like(weight), torch.zeros_like(bias)
    best = weight.clone(), bias.clone()
    best_accuracy = torch.full(weight.shape[:2], -1.0, device=device)
    alive = torch.ones_like(best_accuracy, dtype=torch.bool)
    generators = [torch.Generator().manual_seed(seed) for seed in run.seeds]
    updates = run.epochs * math.ceil(n / run.batch_size)
    milestones = {round(fraction * updates) for fraction in Steps(1.0).at}
    one_hot = F.one_hot(labels, num_classes).float()
    rows, done, factor = [], 0, 1.0
    for _ in tqdm(range(run.epochs), desc="last layers", disable=not progress, leave=False):
        order = torch.stack([torch.randperm(n, generator=g) for g in generators])
        view = torch.stack([torch.randint(views, (n,), generator=g) for g in generators])
        loss = torch.zeros(weight.shape[:2], device=device, dtype=torch.float64)
        correct = torch.zeros_like(loss)
        for index in order.split(run.batch_size, dim=1):
            chosen = features[view.gather(1, index), index]
            targets = one_hot[index]
            logits = _beside(chosen, weight) + bias
            log_probabilities = logits.log_softmax(-1)
            loss -= (log_probabilities * targets).sum((-2, -1))
            correct += (logits.argmax(-1) == labels[index]).sum(-1)
            error = (log_probabilities.exp() - targets) / index.shape[1]
            gradients = _beside(chosen.mT, error), error.sum(-2, keepdim=True)
            for parameter, velocity, gradient in zip(
                (weight, bias), velocities, gradients, strict=True
            ):
                velocity.mul_(run.momentum).add_(gradient).add_(parameter, alpha=run.weight_decay)
                parameter.sub_(rates * factor * velocity)
            done += 1
            factor *= Steps(1.0).factor if done in milestones else 1.0
        validation = _beside(validation_features[None], weight) + bias
        scores = _scores(validation, validation_labels)
        rows.append(torch.stack([loss / n, correct / n, *scores]))
        alive &= loss.isfinite() & scores[0].isfinite()
        better = alive & (scores[1] > best_accuracy)
        best_accuracy = torch.where(better, scores[1], best_accuracy)
        for kept, now in zip(best, (weight, bias), strict=True):
            kept[better] = now[better]
    return _results(run, torch.stack(rows).cpu(), best)


def _initial_stack(
    run: HeadRun, num_features: int, num_classes: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return weights (learning rates, seeds, D, C) and biases (learning rates, seeds, 1, C)."""
    heads = [initial_head(num_features, num_classes, seed) for seed in run.seeds]
    weight = torch.stack([head.weight.detach().T for head in heads]).to(device)
    bias = torch.stack([head.bias.detach()[None] for head in heads]).to(device)
    rates = len(run.learning_rates)
    return weight.expand(rates, *weight.shape).clone(), bias.expand(rates, *bias.shape).clone()


def _beside(matrices: Tensor, stack: Tensor) -> Tensor:
    """Return ``matrices @ stack`` without a copy of the matrices for each learning rate.

    The learning rates' columns are put side by side: (seeds or 1, N, K) times (learning rates,
    seeds, K, C) gives (learning rates, seeds, N, C).
    """
    rates, seeds, _, columns = stack.shape
    if len(matrices) == 1:
        side_by_side = stack.permute(2, 0, 1, 3).flatten(1)
        product = matrices[0] @ side_by_side
        return product.unflatten(1, (rates, seeds, columns)).permute(1, 2, 0, 3)
    product = matrices @ stack.permute(1, 2, 0, 3).flatten(2)
    return product.unflatten(2, (rates, columns)).permute(2, 0, 1, 3)


def _scores(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean loss and accuracy, each (learning rates, seeds), of logits (…, M, classes)."""
    index = labels.view(1, 1, -1, 1).expand(*logits.shape[:2], -1, 1)
    loss = -logits.double().log_softmax(-1).gather(-1, index).mean((-2, -1))
    return loss, (logits.argmax(-1) == labels).double().mean(-1)


def _results(run: HeadRun, rows: Tensor, best: tuple[Tensor, Tensor]) -> list[HeadResult]:
    """Unstack: rows (epochs, 4, learning rates, seeds) and the best weights."""
    names = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    results = []
    for i, lr in enumerate(run.learning_rates):
        for j, seed in enumerate(run.seeds):
            history = pd.DataFrame(rows[:, :, i, j].numpy(), columns=names)
            history.insert(0, "epoch", range(1, run.epochs + 1))
            losses = history[["train_loss", "validation_loss"]]
            failed = ~np.isfinite(losses).all(axis=1).cummin()
            history.loc[failed, names] = math.nan
            weight, bias = best[0][i, j].T.cpu().contiguous(), best[1][i, j, 0].cpu()
            results.append(HeadResult(lr, seed, history, weight, bias, bool(failed.any())))
    return results
