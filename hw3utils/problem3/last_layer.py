"""The last layer alone: many of them, trained side by side on features of a frozen network.

The features come from `features`; which last layers are wanted is said in `head_experiments`.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw3utils.checks import check_whole_number
from hw3utils.data.images import stratified_order
from hw3utils.training import fingerprints, sweeps
from hw3utils.training.linear import MOST_PENALTY, check_sets
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Steps


@dataclass(frozen=True)
class HeadRun:
    """How last layers are trained: one for each learning rate, all else alike.

    The learning rate falls by `Steps`; epochs, batch size, momentum and weight decay as in `Run`.
    """

    learning_rates: tuple[float, ...]  # different ones
    seed: int = 0  # decides initial weights, images, their order, and which view is drawn
    epochs: int = 60
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4
    images: int | None = None  # so many, drawn by the seed as in `finetuning.Finetuning`; None: all

    def __post_init__(self) -> None:
        rates = self.learning_rates
        if not rates or len(set(rates)) != len(rates):
            raise ValueError(f"learning rates {rates}: one or more different ones expected")
        for lr in rates:
            # What makes no sense in a run is refused there.
            Run("last layer", Steps(lr), self.epochs, momentum=self.momentum, seed=self.seed)
        check_whole_number("batch_size", self.batch_size)
        if self.images is not None:
            check_whole_number("images", self.images)
        if not 0 <= self.weight_decay <= MOST_PENALTY:
            raise ValueError(f"weight_decay={self.weight_decay}: must lie in 0..{MOST_PENALTY:g}")


class Head(NamedTuple):
    """A last layer."""

    weight: Tensor  # (number of classes, D)
    bias: Tensor  # (number of classes,)

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (N, number of classes) of features (N, D)."""
        return F.linear(features, self.weight, self.bias)


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
    best: Head  # after the epoch best on validation images, the first of equals, or as it began
    final: Head  # after the last epoch
    diverged: bool  # whether a loss stopped being finite


def initial_head(num_features: int, num_classes: int, seed: int) -> nn.Linear:
    """Return the last layer as torch draws it from ``seed``."""
    check_whole_number("num_features", num_features)
    check_whole_number("num_classes", num_classes)
    check_whole_number("seed", seed, at_least=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(num_features, num_classes)


def fit_all_heads(
    wanted: Mapping[Any, HeadRun],
    features: Tensor,
    labels: Tensor,
    validation_features: Tensor,
    validation_labels: Tensor,
    num_classes: int,
    *,
    cache_dir: Path | None = None,
) -> dict[Any, list[HeadResult]]:
    """Do `fit_heads` for every run that is not in the cache yet, in parallel, under its name."""
    shared = [features, labels, validation_features, validation_labels]
    found = sweeps.map_cached(
        _fit_heads,
        {name: (run, num_classes) for name, run in wanted.items()},
        shared,
        [_checksum(part) for part in shared],
        title="last layers",
        work={name: run.epochs * float(run.images or len(labels)) for name, run in wanted.items()},
        cache_dir=cache_dir,
    )
    return {
        name: [_from_plain(kept, wanted[name].seed) for kept in result["heads"]]
        for name, result in found.items()
    }


def _checksum(part: Tensor) -> str:
    """Return the SHA-256 digest of a tensor's values, view by view: all of them are not copied."""
    digest = hashlib.sha256()
    for view in part if part.ndim == 3 else [part]:
        digest.update(np.ascontiguousarray(view))
    return digest.hexdigest()


@fingerprints.task
def _fit_heads(run: HeadRun, num_classes: int, *tensors: Tensor) -> dict[str, Any]:
    """Train one run's last layers and return them as plain data."""
    results = fit_heads(run, *tensors, num_classes)
    return {
        "heads": [
            {
                "lr": result.lr,
                "history": result.history.to_dict("list"),
                "best": list(result.best),
                "final": list(result.final),
                "diverged": result.diverged,
            }
            for result in results
        ]
    }


def _from_plain(kept: Mapping[str, Any], seed: int) -> HeadResult:
    return HeadResult(
        kept["lr"], seed, pd.DataFrame(kept["history"]), Head(*kept["best"]),
        Head(*kept["final"]), kept["diverged"],
    )  # fmt: skip


def fit_heads(
    run: HeadRun,
    features: Tensor,
    labels: Tensor,
    validation_features: Tensor,
    validation_labels: Tensor,
    num_classes: int,
) -> list[HeadResult]:
    """Train one last layer for each learning rate, all at once, with SGD.

    The weights lie side by side in one tensor (D, learning rates, classes), so that one product
    serves all learning rates. The gradient of softmax regression is written out: softmax minus
    one-hot, times features. Each head's numbers are those of a plain loop over `torch.optim.SGD`.

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
        Features and labels do not belong together, there are fewer images than the run asks for,
        or a batch is larger than the training set.
    """
    check_sets(features, labels, validation_features, validation_labels, num_classes)
    n = run.images or len(labels)
    if n > len(labels):
        raise ValueError(f"{n} training images asked for; there are {len(labels)}")
    if run.batch_size > n:
        raise ValueError(f"batch size {run.batch_size} is larger than the {n} training images")
    views, _, num_features = features.shape
    device = features.device
    rates = torch.tensor(run.learning_rates, device=device)[:, None]
    head = initial_head(num_features, num_classes, run.seed)
    weight = head.weight.detach().T[:, None].repeat(1, len(rates), 1).to(device)
    bias = head.bias.detach().repeat(len(rates), 1).to(device)
    velocities = torch.zeros_like(weight), torch.zeros_like(bias)
    best, best_accuracy = (
        (weight.clone(), bias.clone()),
        torch.full((len(rates),), -1.0, dtype=torch.float64),
    )
    alive = torch.ones(len(rates), dtype=torch.bool)
    generator = torch.Generator().manual_seed(run.seed)
    drawn = torch.arange(n)
    if n < len(labels):
        drawn = stratified_order(labels.cpu(), torch.Generator().manual_seed(run.seed))[:n]
    updates = run.epochs * math.ceil(n / run.batch_size)
    milestones = [round(fraction * updates) for fraction in Steps(1.0).at]
    rows, done, factor = [], 0, 1.0
    for _ in range(run.epochs):
        order = drawn[torch.randperm(n, generator=generator)]
        view = torch.randint(views, (len(labels),), generator=generator)
        totals = torch.zeros(2, len(rates), dtype=torch.float64)
        for index in order.split(run.batch_size):
            chosen, targets = features[view[index], index], labels[index]
            logits = (chosen @ weight.flatten(1)).unflatten(1, bias.shape) + bias
            error, scores = _softmax_error(logits, targets)
            totals += scores.cpu() * len(index)
            gradients = (chosen.T @ error.flatten(1)).unflatten(1, bias.shape), error.sum(0)
            for parameter, velocity, gradient in zip(
                (weight, bias), velocities, gradients, strict=True
            ):
                velocity.mul_(run.momentum).add_(gradient).add_(parameter, alpha=run.weight_decay)
                parameter.sub_(rates * factor * velocity)
            done += 1
            factor *= Steps(1.0).factor ** milestones.count(done)
        validation = (validation_features @ weight.flatten(1)).unflatten(1, bias.shape) + bias
        scores = _softmax_error(validation, validation_labels)[1].cpu()
        rows.append(torch.cat([totals / n, scores]))
        alive &= rows[-1].isfinite().all(dim=0)
        better = alive & (scores[1] > best_accuracy)
        best_accuracy = torch.where(better, scores[1], best_accuracy)
        best[0][:, better], best[1][better] = weight[:, better], bias[better]
    return _results(run, torch.stack(rows), best, (weight, bias))


def _softmax_error(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of the mean cross-entropy with respect to logits, and the scores.

    Logits are (N, learning rates, classes), scores float64 (2, learning rates): loss and accuracy.
    """
    log_probabilities = logits.log_softmax(-1)
    targets = F.one_hot(labels, logits.shape[-1])[:, None]
    loss = -(log_probabilities * targets).sum(-1).double().mean(0)
    accuracy = (logits.argmax(-1) == labels[:, None]).double().mean(0)
    return (log_probabilities.exp() - targets) / len(labels), torch.stack([loss, accuracy])


def _results(
    run: HeadRun, rows: Tensor, best: tuple[Tensor, Tensor], final: tuple[Tensor, Tensor]
) -> list[HeadResult]:
    """Take apart: rows (epochs, 4, learning rates), weights (D, rates, classes) and biases."""
    names = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    results = []
    for i, lr in enumerate(run.learning_rates):
        history = pd.DataFrame(rows[:, :, i].numpy(), columns=names)
        history.insert(0, "epoch", range(1, run.epochs + 1))
        losses = history[["train_loss", "validation_loss"]]
        failed = ~np.isfinite(losses).all(axis=1).cummin()
        history.loc[failed, names] = math.nan
        heads = [
            Head(weight[:, i].T.cpu().contiguous(), bias[i].cpu()) for weight, bias in (best, final)
        ]
        results.append(HeadResult(lr, run.seed, history, *heads, bool(failed.any())))
    return results
