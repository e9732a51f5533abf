"""Softmax regression on frozen features: the judge of a representation.

Convex, so it has one optimum for each strength of regularisation and needs no learning rate.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw3utils.checks import check_whole_number

MOST_PENALTY = 1e6  # more leaves nothing of the weights, and overflows in float32


def check_features(features: Tensor, labels: Tensor, num_classes: int) -> None:
    """Refuse features (N, F) and labels (N,) that do not belong together.

    Raises a ValueError where a shape or dtype is another one, a feature is NaN or infinite, a label
    is out of range.
    """
    check_whole_number("num_classes", num_classes, at_least=2)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features of shape {tuple(features.shape)}: (N, F) expected")
    if not bool(torch.isfinite(features).all()):
        raise ValueError("features: NaN or infinity among them")
    if labels.dtype != torch.int64 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} and {labels.dtype}: int64, one for each of "
            f"{len(features)} images, expected"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"labels must lie in 0..{num_classes - 1}")


def fit_linear_classifier(
    features: Tensor, labels: Tensor, num_classes: int, penalty: float = 1e-3
) -> nn.Module:
    """Return a linear classifier on standardised features, fitted to the optimum by L-BFGS.

    Parameters
    ----------
    features : Tensor
        Shape (N, F), float32: outputs of a frozen network.
    labels : Tensor
        Shape (N,), int64.
    penalty : float
        Times half the squared weights, added to the mean cross-entropy.

    Raises
    ------
    ValueError
        Features and labels do not belong together, there are fewer than two images, or the penalty
        is not a number of at least 0.
    """
    check_features(features, labels, num_classes)
    if len(features) < 2:
        raise ValueError("one image has no spread to be standardised by: at least two expected")
    if not 0 <= penalty <= MOST_PENALTY:
        raise ValueError(f"penalty={penalty!r}: must lie in 0..{MOST_PENALTY:g}")
    mean, std = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    inputs = (features - mean) / std
    weight = torch.zeros(num_classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)

    def objective() -> Tensor:
        loss = F.cross_entropy(F.linear(inputs, weight, bias), labels)
        return loss + penalty / 2 * weight.square().sum()

    _minimise([weight, bias], objective)
    classifier = nn.Linear(features.shape[1], num_classes)
    with torch.no_grad():
        classifier.weight.copy_(weight / std)
        classifier.bias.copy_(bias - classifier.weight @ mean)
    return classifier


def check_sets(
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
    """The best last layer that there is for a strength of L2 regularisation."""

    weight: Tensor  # as in `HeadResult`
    bias: Tensor
    l2: float  # the strength chosen on validation data
    # ``l2``, ``train_accuracy``, ``validation_accuracy`` for every strength tried.
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

    Raises a ValueError where features and labels do not belong together, or a strength is not a
    number of at least 0.
    """
    check_sets(features, labels, validation_features, validation_labels, num_classes)
    if not strengths or not all(0 <= l2 <= MOST_PENALTY for l2 in strengths):
        raise ValueError(f"strengths={tuple(strengths)}: must lie in 0..{MOST_PENALTY:g}")
    x, y = features.flatten(0, 1), labels.repeat(len(features))
    head = nn.Linear(x.shape[1], num_classes).to(x.device)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    rows, best, best_accuracy = [], None, -1.0
    for l2 in sorted(strengths, reverse=True):

        def objective(l2: float = l2) -> Tensor:
            return F.cross_entropy(head(x), y) + l2 / 2 * head.weight.square().sum()

        _minimise(head.parameters(), objective, max_iterations)
        with torch.no_grad():
            trained = (head(features[0]).argmax(1) == labels).float().mean().item()
            found = (head(validation_features).argmax(1) == validation_labels).float().mean().item()
        rows.append({"l2": l2, "train_accuracy": trained, "validation_accuracy": found})
        if found > best_accuracy:
            best_accuracy = found
            best = head.weight.detach().clone().cpu(), head.bias.detach().clone().cpu(), l2
    return Optimum(*best, pd.DataFrame(rows))


def _minimise(
    parameters: Iterable[Tensor], objective: Callable[[], Tensor], max_iterations: int = 100
) -> None:
    """Minimise a convex function of the parameters in place, by L-BFGS."""
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=max_iterations, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    optimizer.step(closure)
