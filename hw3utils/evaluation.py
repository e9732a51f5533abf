"""Scores of a trained network: on validation data as often as needed, on the test set once.

Never trains, never chooses.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw3utils.checks import check_whole_number
from hw3utils.data import ImageSet, Scale

__all__ = ["Evaluation", "evaluate", "evaluate_on_test_set_once", "images_at_once", "zero_totals"]

VALUES_AT_ONCE = 3 * 64 * 64 * 512


class Evaluation(NamedTuple):
    """Mean cross-entropy in nats, and the fraction of images classified correctly."""

    loss: float
    accuracy: float


@torch.no_grad()
def evaluate(
    model: nn.Module, images: ImageSet, scale: Scale, batch_size: int | None = None
) -> Evaluation:
    """Return mean loss and accuracy in evaluation mode; the model's mode is put back afterwards.

    ``batch_size`` is `images_at_once` unless it is given.

    Raises
    ------
    ValueError
        The batch size is not a whole number of at least 1.
    """
    if batch_size is not None:
        check_whole_number("batch_size", batch_size)
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    totals = zero_totals(device)
    everything = torch.arange(len(images), device=images.labels.device)
    for indices in everything.split(batch_size or images_at_once(images, scale)):
        labels = images.labels[indices].to(device)
        logits = model(scale(images.images[indices].to(device)))
        totals[0] += F.cross_entropy(logits, labels, reduction="sum")
        totals[1] += (logits.argmax(dim=1) == labels).sum()
    for module, mode in modes:
        module.training = mode
    loss, correct = (totals / len(images)).tolist()
    return Evaluation(loss, correct)


def evaluate_on_test_set_once(
    model: nn.Module, state: dict[str, Tensor], test: ImageSet, scale: Scale
) -> Evaluation:
    """Load ``state`` and evaluate it on the test set: the last thing done with a finished model.

    Nothing may be chosen by what this returns; choices are made on validation images.
    """
    model.load_state_dict(state)
    return evaluate(model, test, scale)


def images_at_once(images: ImageSet, scale: Scale) -> int:
    """Return how many images to pass through a network at a time: up to 1,000, by their size.

    Counted after ``scale``, which may enlarge them: 512 RGB images of 64×64, 41 of 224×224.
    """
    return max(1, min(1_000, VALUES_AT_ONCE // scale(images.images[:1]).numel()))


def zero_totals(device: torch.device) -> Tensor:
    """Return two zeros to sum losses and hits in: float64, or float32 where mps has no float64."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return torch.zeros(2, dtype=dtype, device=device)
