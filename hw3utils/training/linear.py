"""A linear classifier on frozen features: the judge of a representation.

Softmax regression is convex: it has one optimum, and needs no learning rate and no schedule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw3utils.checks import check_whole_number

MOST_PENALTY = 1e6  # more leaves nothing of the weights, and overflows in float32


def check_features(features: Tensor, labels: Tensor, num_classes: int) -> None:
    """Raise a ValueError where features (N, F) and int64 labels (N,) do not belong together."""
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


def check_sets(
    features: Tensor,
    labels: Tensor,
    validation_features: Tensor,
    validation_labels: Tensor,
    num_classes: int,
) -> None:
    """Do as `check_features` for training features (views, N, F) and validation features (M, F)."""
    if features.ndim != 3 or not len(features):
        raise ValueError(f"features of shape {tuple(features.shape)}: (views, N, F) expected")
    for view in features:
        check_features(view, labels, num_classes)
    check_features(validation_features, validation_labels, num_classes)
    if features.shape[2] != validation_features.shape[1]:
        raise ValueError(
            f"{features.shape[2]} training and {validation_features.shape[1]} validation features"
        )


def fit_linear_classifier(
    features: Tensor, labels: Tensor, num_classes: int, penalty: float = 1e-3
) -> nn.Module:
    """Return the optimal classifier of features (N, F) that are standardised first.

    ``penalty`` times half the squared weights is added to the mean cross-entropy. Raises a
    ValueError where features and labels do not belong together, there are fewer than two images,
    or the penalty is not a number of at least 0.
    """
    check_features(features, labels, num_classes)
    if len(features) < 2:
        raise ValueError("one image has no spread to be standardised by: at least two expected")
    if not 0 <= penalty <= MOST_PENALTY:
        raise ValueError(f"penalty={penalty!r}: must lie in 0..{MOST_PENALTY:g}")
    mean, std = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    classifier = _zero_head(features, num_classes)
    _minimise(classifier, (features - mean) / std, labels, penalty)
    with torch.no_grad():
        classifier.weight /= std
        classifier.bias -= classifier.weight @ mean
    return classifier


@dataclass(frozen=True)
class Optimum:
    """The last layer with the least penalised loss, for the penalty best on validation data."""

    weight: Tensor  # (number of classes, F)
    bias: Tensor  # (number of classes,)
    l2: float  # the strength, chosen on validation data
    # l2, train_accuracy, validation_accuracy and converged, of every strength tried
    table: pd.DataFrame

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (N, number of classes) of features (N, F)."""
        return F.linear(features, self.weight, self.bias)


def optimal_head(
    features: Tensor,
    labels: Tensor,
    validation_features: Tensor,
    validation_labels: Tensor,
    num_classes: int,
    strengths: Sequence[float] = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5),
    max_iterations: int = 500,
) -> Optimum:
    """Minimise mean cross-entropy + l2/2·‖weight‖² for each strength l2; keep the best one.

    The strength is chosen by validation accuracy (the stronger of equals). ``features`` are
    (views, N, F); all views count. Raises a ValueError where features and labels do not belong
    together, or a strength is not a number of at least 0.
    """
    check_sets(features, labels, validation_features, validation_labels, num_classes)
    if not strengths or not all(0 <= l2 <= MOST_PENALTY for l2 in strengths):
        raise ValueError(f"strengths={tuple(strengths)}: must lie in 0..{MOST_PENALTY:g}")
    head = _zero_head(features[0], num_classes)
    rows, best, best_accuracy = [], None, -1.0
    for l2 in sorted(strengths, reverse=True):
        converged = _minimise(
            head, features.flatten(0, 1), labels.repeat(len(features)), l2, max_iterations
        )
        trained = _accuracy(head, features[0], labels)
        found = _accuracy(head, validation_features, validation_labels)
        row = {"l2": l2, "train_accuracy": trained, "validation_accuracy": found}
        rows.append(row | {"converged": converged})
        if found > best_accuracy:
            best_accuracy = found
            best = head.weight.detach().clone().cpu(), head.bias.detach().clone().cpu(), l2
    return Optimum(*best, pd.DataFrame(rows))


def _zero_head(features: Tensor, num_classes: int) -> nn.Linear:
    head = nn.Linear(features.shape[1], num_classes).to(features.device)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head


def _minimise(
    head: nn.Linear, features: Tensor, labels: Tensor, l2: float, max_iterations: int = 100
) -> bool:
    """Move the head to the least regularised loss, by L-BFGS; tell whether it got there."""
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=max_iterations, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(head(features), labels) + l2 / 2 * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    optimizer.zero_grad()
    [state] = optimizer.state.values()
    return state["n_iter"] < max_iterations


@torch.no_grad()
def _accuracy(head: nn.Linear, features: Tensor, labels: Tensor) -> float:
    return (head(features).argmax(1) == labels).float().mean().item()
