"""The gradient of a minibatch, in as many pieces as memory asks for.

For the arithmetic of one update's gradient. The loop round it is `training.fit`.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw3utils.checks import check_whole_number
from hw3utils.data.images import ImageSet, Scale


def accumulate_gradient(
    model: nn.Module,
    images: ImageSet,
    batch: Tensor,
    scale: Scale,
    micro_batch_size: int | None = None,
) -> Tensor:
    """Add the gradient of the mean cross-entropy over ``batch`` to the parameters' gradients.

    The batch goes through the network in micro-batches. Each one's *summed* loss is divided by the
    number of images in the whole batch, so the sum of the gradients is that of the full batch also
    when the last micro-batch is smaller. (Statistics of BatchNorm remain those of a micro-batch.)

    Parameters
    ----------
    batch : Tensor
        Indices into ``images``: shape (batch size,), int64.

    Returns
    -------
    Tensor
        Shape (2,), without gradient: the summed loss and the number of correct images.

    Raises
    ------
    ValueError
        The micro-batch size is not a whole number of at least 1, or the batch is empty.
    """
    if batch.ndim != 1:
        raise ValueError(f"batch of shape {tuple(batch.shape)}: indices (batch size,) expected")
    check_whole_number("batch size", len(batch))
    if micro_batch_size is not None:
        check_whole_number("micro_batch_size", micro_batch_size)
    totals = zero_totals(images.labels.device)
    for indices in batch.split(micro_batch_size or len(batch)):
        labels = images.labels[indices]
        logits = model(scale(images.images[indices]))
        loss = F.cross_entropy(logits, labels, reduction="sum")
        (loss / len(batch)).backward()
        totals[0] += loss.detach()
        totals[1] += (logits.detach().argmax(dim=1) == labels).sum()
    return totals


def accumulate_within_memory(
    model: nn.Module,
    images: ImageSet,
    batch: Tensor,
    scale: Scale,
    micro_batch_size: int | None = None,
) -> tuple[Tensor, int | None]:
    """Do as `accumulate_gradient`; where a GPU's memory does not suffice, halve the micro-batch.

    The effective batch stays, and a warning says so. The gradients must be empty before: a failed
    attempt is thrown away as a whole. (Its forward pass may have updated BatchNorm's running
    statistics once more than the others did.)

    Returns
    -------
    totals : Tensor
        See `accumulate_gradient`.
    micro_batch_size : int, optional
        What was used in the end, for the next batch to begin with.

    Raises
    ------
    torch.OutOfMemoryError
        Not even a single image fits.
    """
    while True:
        try:
            totals = accumulate_gradient(model, images, batch, scale, micro_batch_size)
            return totals, micro_batch_size
        except torch.OutOfMemoryError:
            tried = min(micro_batch_size or len(batch), len(batch))
            if tried == 1:
                raise
        micro_batch_size = (tried + 1) // 2
        model.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        warnings.warn(
            f"out of GPU memory: {micro_batch_size} images at a time instead of {tried}; "
            f"the batch of {len(batch)} stays",
            stacklevel=2,
        )


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
