"""A linear classifier on frozen features: the judge of a representation.

Convex, so it has one optimum and needs no learning rate.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw3utils.checks import check_whole_number

__all__ = ["check_features", "fit_linear_classifier"]

MOST_PENALTY = 1e6  # more leaves nothing of the weights, and overflows in float32


def check_features(features: Tensor, labels: Tensor, num_classes: int) -> None:
    """Refuse features (N, F) and labels (N,) that do not belong together.

    Raises
    ------
    ValueError
        A shape or dtype is another one, a feature is NaN or infinite, a label is out of range.
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
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(inputs, weight, bias), labels)
        value = value + penalty / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    classifier = nn.Linear(features.shape[1], num_classes)
    with torch.no_grad():
        classifier.weight.copy_(weight / std)
        classifier.bias.copy_(bias - classifier.weight @ mean)
    return classifier
