"""One minibatch: its gradient, in as many pieces as memory asks for; and scores of a network.

The loop round it is `loop.fit`. A test set is scored once, at the end, by a function that says so.
"""

import contextlib
import random
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw3utils.checks import check_whole_number
from hw3utils.data.images import ImageSet, Scale

VALUES_AT_ONCE = 3 * 64 * 64 * 512
CPU_VALUES_AT_ONCE = VALUES_AT_ONCE // 4  # what lies between two layers stays in the cache


def accumulate_gradient(
    model: nn.Module,
    images: ImageSet,
    batch: Tensor,
    scale: Scale,
    micro_batch_size: int | None = None,
) -> Tensor:
    """Add the gradient of the mean cross-entropy over ``batch`` to the parameters' gradients.

    ``batch`` holds indices into ``images``: shape (batch size,), int64. It goes through the network
    in micro-batches. Each one's *summed* loss is divided by the number of images in the whole
    batch, so the sum of the gradients is that of the full batch also when the last micro-batch is
    smaller. (Statistics of BatchNorm remain those of a micro-batch.)

    Returns the summed loss and the number of correct images, shape (2,), without gradient. Raises a
    ValueError where the micro-batch size is not a whole number of at least 1, or the batch empty.
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
    statistics once more than the others did.) Returns the totals, and the micro-batch size for the
    next batch to begin with; raises torch's OutOfMemoryError where not even a single image fits.
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


class Evaluation(NamedTuple):
    """Mean cross-entropy in nats, and the fraction of images classified correctly."""

    loss: float
    accuracy: float


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Within this block: evaluation mode, no gradients; then each module's own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def random_states_put_back() -> Iterator[None]:
    """Within this block anything; then torch, Python and NumPy draw as if it had not been."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def evaluate(
    model: nn.Module, images: ImageSet, scale: Scale, batch_size: int | None = None
) -> Evaluation:
    """Return mean loss and accuracy in evaluation mode; ``batch_size``: `images_at_once` if None.

    Raises a ValueError where the batch size is not a whole number of at least 1.
    """
    if batch_size is not None:
        check_whole_number("batch_size", batch_size)
    device = next(model.parameters()).device
    totals = zero_totals(device)
    everything = torch.arange(len(images), device=images.labels.device)
    with evaluation_mode(model):
        for indices in everything.split(batch_size or images_at_once(images, scale, device)):
            labels = images.labels[indices].to(device)
            logits = model(scale(images.images[indices].to(device)))
            totals[0] += F.cross_entropy(logits, labels, reduction="sum")
            totals[1] += (logits.argmax(dim=1) == labels).sum()
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


def images_at_once(images: ImageSet, scale: Scale, device: torch.device) -> int:
    """Return how many images to pass through a network at a time: up to 1,000, by their size.

    Counted after ``scale``, which may enlarge them: 512 RGB images of 64×64, 41 of 224×224; on a
    CPU a quarter of that.
    """
    values = CPU_VALUES_AT_ONCE if device.type == "cpu" else VALUES_AT_ONCE
    return max(1, min(1_000, values // scale(images.images[:1]).numel()))


def zero_totals(device: torch.device) -> Tensor:
    """Return two zeros to sum losses and hits in: float64, or float32 where mps has no float64."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return torch.zeros(2, dtype=dtype, device=device)
