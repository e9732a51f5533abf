"""bf16 where it is both faster and faithful: measured on this machine, never assumed.

For choosing the arithmetic of a network. Weights, updates and losses stay float32.
"""

import time
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FASTER_BY", "Parity", "choose", "compare", "under_autocast"]

FASTER_BY = 1.2
LARGEST_LOSS_DIFFERENCE = 0.02
SMALLEST_GRADIENT_COSINE = 0.95


class Parity(NamedTuple):
    """bf16 autocast against float32 on one batch.

    Attributes
    ----------
    speed_up : float
        Seconds of a float32 forward and backward pass divided by those in bf16.
    loss_difference : float
        Relative.
    gradient_cosine : float
        Between the two gradients of all parameters.
    """

    speed_up: float
    loss_difference: float
    gradient_cosine: float

    @property
    def faithful(self) -> bool:
        """Whether bf16 computes the same but for rounding."""
        return (
            self.loss_difference <= LARGEST_LOSS_DIFFERENCE
            and self.gradient_cosine >= SMALLEST_GRADIENT_COSINE
        )

    @property
    def use(self) -> bool:
        """Whether bf16 is to be used: faithful, and faster by at least `FASTER_BY`."""
        return self.faithful and self.speed_up >= FASTER_BY


def under_autocast(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """Make the model's forward pass run in ``dtype`` where torch deems that safe; logits float32.

    None changes nothing. Works with every function that calls the model.
    """
    if dtype is None:
        return model
    device = next(model.parameters()).device.type
    forward = type(model).forward

    def mixed(images: Tensor) -> Tensor:
        with torch.autocast(device, dtype):
            return forward(model, images).float()

    model.forward = mixed
    return model


def compare(model: nn.Module, images: Tensor, labels: Tensor) -> Parity:
    """Run one batch through the model both ways; its weights and statistics stay as they were.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W) float32, as the network takes them.
    labels : Tensor
        (N,) int64.
    """
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses, gradients, seconds = [], [], []
    for dtype in (None, torch.bfloat16):
        under_autocast(model, dtype)
        try:
            _gradient(model, images[:2], labels[:2])  # kernels are chosen on the first call
            began = time.perf_counter()
            loss, gradient = _gradient(model, images, labels)
            seconds.append(time.perf_counter() - began)
        finally:
            model.__dict__.pop("forward", None)
            model.zero_grad(set_to_none=True)
        losses.append(loss)
        gradients.append(gradient)
        model.load_state_dict(state)
    return Parity(
        speed_up=seconds[0] / seconds[1],
        loss_difference=abs(losses[1] - losses[0]) / abs(losses[0]),
        gradient_cosine=float(F.cosine_similarity(*gradients, dim=0)),
    )


def choose(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[torch.dtype | None, Parity]:
    """Return bf16 where `compare` says so, else None (float32), and the comparison."""
    parity = compare(model, images, labels)
    return (torch.bfloat16 if parity.use else None), parity


def _gradient(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    model.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    parameters = [p for p in model.parameters() if p.grad is not None]
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
    return loss.item(), flat.double().cpu()
