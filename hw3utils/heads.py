"""The last layer on fixed features: all learning rates and seeds as one stack, and the optimum.

For softmax regression on tensors of features. Nothing here knows images or networks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from hw3utils.checks import check_whole_number
from hw3utils.linear_classifier import MOST_PENALTY, check_features
from hw3utils.schedules import Steps

__all__ = ["HeadResult", "HeadRun", "Optimum", "fit_heads", "initial_head", "optimal_head"]


@dataclass(frozen=True)
class HeadRun:
    """How last layers are trained: every learning rate with every seed, all else alike.

    Attributes
    ----------
    learning_rates : tuple of float
        Different, each greater than 0.
    seeds : tuple of int
        A seed decides initial weights, order, and which images are mirrored.
    epochs, batch_size, momentum, weight_decay
        As in `runs.Run`; the learning rate falls by `schedules.Steps`.
    """

    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)
    epochs: int = 60
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        rates = self.learning_rates
        if not rates or len(set(rates)) != len(rates):
            raise ValueError(f"learning rates {rates}: one or more different ones expected")
        for lr in rates:
            Steps(lr)
        if not self.seeds:
            raise ValueError("at least one seed expected")
        for seed in self.seeds:
            check_whole_number("seed", seed, at_least=0)
        check_whole_number("epochs", self.epochs)
        check_whole_number("batch_size", self.batch_size)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum}: must lie in [0, 1)")
        if not 0 <= self.weight_decay <= MOST_PENALTY:
            raise ValueError(f"weight_decay={self.weight_decay}: must lie in 0..{MOST_PENALTY:g}")


@dataclass(frozen=True)
class HeadResult:
    """One trained last layer.

    Attributes
    ----------
    lr : float
    seed : int
    history : DataFrame
        ``epoch``, ``train_loss``, ``train_accuracy`` (as trained), ``validation_loss`` and
        ``validation_accuracy`` (after the epoch); NaN once the loss is not finite.
    weight, bias : Tensor
        (number of classes, D) and (number of classes,): after the epoch with the best validation
        accuracy, the first of equals.
    diverged : bool
        Whether the loss stopped being finite.
    """

    lr: float
    seed: int
    history: pd.DataFrame
    weight: Tensor
    bias: Tensor
    diverged: bool

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
    with its seed.

    Parameters
    ----------
    features : Tensor
        (views, N, D) float32: for each image and epoch one of the views is drawn.
    labels : Tensor
        (N,) int64.
    validation_features, validation_labels : Tensor
        (M, D) and (M,).

    Returns
    -------
    list of HeadResult
        Learning rate by learning rate, and seed by seed within.

    Raises
    ------
    ValueError
        Features and labels do not belong together, or a batch is larger than the training set.
    """
    _check_sets(features, labels, validation_features, validation_labels, num_classes)
    views, n, num_features = features.shape
    if run.batch_size > n:
        raise ValueError(f"batch size {run.batch_size} is larger than the {n} training images")
    device = features.device
    heads = [initial_head(num_features, num_classes, seed) for seed in run.seeds]
    rates = torch.tensor(run.learning_rates, device=device).view(-1, 1, 1, 1)
    weight = torch.stack([head.weight.detach().T for head in heads]).to(device)
    bias = torch.stack([head.bias.detach()[None] for head in heads]).to(device)
    weight, bias = (part.expand(len(rates), *part.shape).clone() for part in (weight, bias))
    velocities = torch.zeros_like(weight), torch.zeros_like(bias)
    best = weight.clone(), bias.clone()
    best_accuracy = torch.full(weight.shape[:2], -1.0, device=device)
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
            chosen = features[view.gather(1, index), index].to(device)
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
        better = scores[1] > best_accuracy
        best_accuracy = torch.where(better, scores[1], best_accuracy)
        for kept, now in zip(best, (weight, bias), strict=True):
            kept[better] = now[better]
    return _results(run, torch.stack(rows).cpu(), best)


def _beside(matrices: Tensor, stack: Tensor) -> Tensor:
    """Return ``matrices @ stack`` without a copy of the matrices for each learning rate.

    The learning rates' columns are put side by side. ``matrices`` is (seeds or 1, N, K), ``stack``
    (learning rates, seeds, K, C); the result (learning rates, seeds, N, C).
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
            failed = ~history[["train_loss"]].map(math.isfinite).all(axis=1).cummin()
            history.loc[failed, names] = math.nan
            weight, bias = best[0][i, j].T.cpu().contiguous(), best[1][i, j, 0].cpu()
            results.append(HeadResult(lr, seed, history, weight, bias, bool(failed.any())))
    return results


def _check_sets(
    features: Tensor,
    labels: Tensor,
    validation_features: Tensor,
    validation_labels: Tensor,
    num_classes: int,
) -> None:
    """Refuse training or validation features that do not go with their labels."""
    if features.ndim != 3 or not len(features):
        raise ValueError(f"features of shape {tuple(features.shape)}: (views, N, D) expected")
    for view in features:
        check_features(view, labels, num_classes)
    check_features(validation_features, validation_labels, num_classes)
    if features.shape[2] != validation_features.shape[1]:
        raise ValueError(
            f"{features.shape[2]} training and {validation_features.shape[1]} validation features"
        )


@dataclass(frozen=True)
class Optimum:
    """The best last layer that there is for a strength of L2 regularisation.

    Attributes
    ----------
    weight, bias : Tensor
        As in `HeadResult`.
    l2 : float
        The strength chosen on validation data.
    table : DataFrame
        ``l2``, ``train_accuracy``, ``validation_accuracy`` for every strength tried.
    """

    weight: Tensor
    bias: Tensor
    l2: float
    table: pd.DataFrame

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (N, number of classes) of features (N, D)."""
        return F.linear(features, self.weight, self.bias)


def optimal_head(
    features: Tensor,
    labels: Tensor,
    validation_features: Tensor,
    validation_labels: Tensor,
    num_classes: int,
    strengths: Sequence[float] = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.001),
    max_iterations: int = 100,
) -> Optimum:
    """Minimise mean cross-entropy + l2/2·‖weight‖² with L-BFGS, for each strength in turn.

    The problem is convex: no learning rate, no schedule, one answer. The strength is chosen by
    validation accuracy (the stronger of equals). ``features`` are (views, N, D); all views count.

    Raises
    ------
    ValueError
        Features and labels do not belong together, or a strength is not a number of at least 0.
    """
    _check_sets(features, labels, validation_features, validation_labels, num_classes)
    if not strengths or not all(0 <= l2 <= MOST_PENALTY for l2 in strengths):
        raise ValueError(f"strengths={tuple(strengths)}: must lie in 0..{MOST_PENALTY:g}")
    x, y = features.flatten(0, 1), labels.repeat(len(features))
    head = nn.Linear(x.shape[1], num_classes).to(x.device)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    rows, best, best_accuracy = [], None, -1.0
    for l2 in sorted(strengths, reverse=True):
        optimizer = torch.optim.LBFGS(
            head.parameters(), max_iter=max_iterations, line_search_fn="strong_wolfe"
        )

        def closure(l2: float = l2, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(head(x), y) + l2 / 2 * head.weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            trained = (head(features[0]).argmax(1) == labels).float().mean().item()
            found = (head(validation_features).argmax(1) == validation_labels).float().mean().item()
        rows.append({"l2": l2, "train_accuracy": trained, "validation_accuracy": found})
        if found > best_accuracy:
            best_accuracy = found
            best = head.weight.detach().clone().cpu(), head.bias.detach().clone().cpu(), l2
    return Optimum(*best, pd.DataFrame(rows))
