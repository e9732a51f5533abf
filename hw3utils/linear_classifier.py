"""A linear classifier on frozen features: the judge of a representation.

Convex, so it has one optimum and needs no learning rate.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["fit_linear_classifier"]


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
    """
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
