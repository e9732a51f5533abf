"""What Mahajan et al. 2018 (1805.00932) do to labels: noise, long tails and resampling.

Pure functions; every random choice comes from the caller's generator. Nothing here trains.
"""

import math

import torch
from torch import Tensor

from hw3utils.checks import check_whole_number

# The weight of a class with n images: the natural distribution, its square root, or none at all.
RESAMPLING_RULES = {"natural": 1.0, "square root": 0.5, "uniform": 0.0}


def add_label_noise(
    labels: Tensor, rate: float, num_classes: int, generator: torch.Generator
) -> Tensor:
    """Return labels (N,), int64, a fraction of which is replaced by draws from the same labels.

    As in Mahajan et al. 2018: the replacement follows the marginal distribution. Here it is never
    the label that it replaces, so exactly ``round(rate · N)`` labels are wrong. Raises a ValueError
    where the rate is not in [0, 1], a label is not in 0..num_classes − 1, or there is but one class
    to draw from.
    """
    marginal = _class_counts(labels, num_classes).double()
    chosen = _fraction(len(labels), rate, generator)
    if len(chosen) and int((marginal > 0).sum()) < 2:
        raise ValueError("all labels are of one class: there is no other to draw from")
    noisy = labels.clone()
    for label in range(num_classes):
        victims = chosen[labels[chosen] == label]
        if len(victims):
            others = marginal.clone()
            others[label] = 0
            noisy[victims] = others.multinomial(len(victims), True, generator=generator)
    return noisy


def add_pair_noise(
    labels: Tensor, rate: float, num_classes: int, generator: torch.Generator
) -> Tensor:
    """Return labels (N,), int64, of which exactly ``round(rate · N)`` name the next class instead.

    Class c becomes c + 1, the last one becomes 0: as many wrong labels as `add_label_noise` makes,
    but all wrong in the same way. Raises a ValueError where the rate is not in [0, 1], or a label
    is not in 0..num_classes − 1.
    """
    _class_counts(labels, num_classes)
    chosen = _fraction(len(labels), rate, generator)
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + 1) % num_classes
    return noisy


def _fraction(n: int, rate: float, generator: torch.Generator) -> Tensor:
    """Draw ``round(rate · n)`` of n places; a ValueError refuses a rate outside [0, 1]."""
    if not 0 <= rate <= 1:
        raise ValueError(f"rate={rate!r}: must lie in 0..1")
    return torch.randperm(n, generator=generator)[: round(rate * n)]


def zipf_counts(num_classes: int, largest: int, exponent: float) -> list[int]:
    """Return the number of images for each rank r = 1, 2, …: ``largest / r**exponent``, at least 1.

    Raises a ValueError where ``num_classes`` or ``largest`` is below 1, or the exponent is negative
    or not finite.
    """
    check_whole_number("num_classes", num_classes)
    check_whole_number("largest", largest)
    if not 0 <= exponent < math.inf:
        raise ValueError(f"exponent={exponent!r}: must be at least 0, and finite")
    return [max(1, round(largest * rank**-exponent)) for rank in range(1, num_classes + 1)]


def draw_long_tail(labels: Tensor, counts: list[int], generator: torch.Generator) -> Tensor:
    """Return the indices of a random subset with ``counts[c]`` images of class c, in random order.

    Raises a ValueError where a count is negative or exceeds its class, or all are 0.
    """
    available = _class_counts(labels, len(counts)).tolist()
    for label, (asked, there) in enumerate(zip(counts, available, strict=True)):
        if not 0 <= asked <= there:
            raise ValueError(f"class {label}: {asked} images asked for; there are {there}")
    if not any(counts):
        raise ValueError("no image asked for: at least one count must be greater than 0")
    order = torch.randperm(len(labels), generator=generator)
    drawn = torch.cat([order[labels[order] == c][:count] for c, count in enumerate(counts)])
    return drawn[torch.randperm(len(drawn), generator=generator)]


def resample(
    labels: Tensor, num_classes: int, rule: str, n: int, generator: torch.Generator
) -> Tensor:
    """Draw ``n`` indices so that a class with m images gets a share in proportion to m, √m or 1.

    The `RESAMPLING_RULES` of Mahajan et al. 2018: natural, square-root and uniform sampling. Shares
    are rounded (largest remainder), and within a class every image is drawn equally often, give or
    take one: "natural" with n = N, the number of labels, is every image once; with n > N images
    repeat. The indices, shape (n,), int64, are in random order. Raises a ValueError where the rule
    is unknown, ``n`` is below 1, or a label is out of range.
    """
    if rule not in RESAMPLING_RULES:
        raise ValueError(f"unknown rule {rule!r}: choose one of {', '.join(RESAMPLING_RULES)}")
    check_whole_number("n", n)
    counts = _class_counts(labels, num_classes).double()
    weights = torch.where(counts > 0, counts ** RESAMPLING_RULES[rule], 0.0)
    shares = n * weights / weights.sum()
    draws = shares.floor().long()
    left = n - int(draws.sum())
    draws[(shares - draws).argsort(descending=True, stable=True)[:left]] += 1
    parts = []
    for label in torch.nonzero(draws).flatten().tolist():
        members = torch.nonzero(labels == label).flatten()
        times, extra = divmod(int(draws[label]), len(members))
        shuffled = members[torch.randperm(len(members), generator=generator)]
        parts += [members.repeat(times), shuffled[:extra]]
    drawn = torch.cat(parts)
    return drawn[torch.randperm(n, generator=generator)]


def _class_counts(labels: Tensor, num_classes: int) -> Tensor:
    """Return the number of labels of each class; raises a ValueError where labels are none."""
    if labels.dtype != torch.int64 or labels.ndim != 1 or len(labels) == 0:
        raise ValueError("labels must be a non-empty one-dimensional int64 tensor")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f"labels lie in {low}..{high}, allowed are 0..{num_classes - 1}")
    return torch.bincount(labels, minlength=num_classes)
