"""bf16 or float32: whether the faster arithmetic trains as well, judged by minibatch noise.

Half the digits make every gradient a little wrong. That is harmless as long as it is small beside
what every gradient is wrong by anyway, since it comes from a minibatch, and not to one side.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FASTER_BY = 1.2
FAR_SLOWER = 0.5
FEW = 8  # images that show whether bf16 is far slower
LARGEST_ROUNDING = 0.25
LARGEST_BIAS = 0.1


class Arithmetic(NamedTuple):
    """bf16 autocast against float32, over several minibatches with the same weights."""

    batches: int  # 0: bf16 is far slower, and nothing else was measured
    speed_up: float  # seconds of float32's forward and backward passes divided by those of bf16
    rounding: float  # variance of the gradient's rounding error / its variance between minibatches
    # Length of the mean rounding error, less what chance adds to it (0 where that is more), divided
    # by the standard deviation of the gradient between minibatches. With 0.1 the mean gradient of
    # 100 minibatches would not show it.
    bias: float
    cosine: float  # between the gradients of one minibatch, the mean

    @property
    def use(self) -> bool:
        """Whether to use bf16: clearly faster, with little rounding, not to one side."""
        return (
            self.speed_up >= FASTER_BY
            and self.rounding <= LARGEST_ROUNDING
            and self.bias <= LARGEST_BIAS
        )


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


def speed_up(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the seconds of float32's forward and backward pass divided by those of bf16.

    On one minibatch, after a first pass in which kernels are chosen. The model is as in
    `compare_arithmetic`.
    """
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seconds = []
    for dtype in (None, torch.bfloat16):
        for _ in range(2):
            began = time.perf_counter()
            _gradient(model, dtype, images, labels)
            took = time.perf_counter() - began
        seconds.append(took)
    model.load_state_dict(state)
    return seconds[0] / seconds[1]


def compare_arithmetic(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> Arithmetic:
    """Run each minibatch through the model both ways; its weights and statistics stay as they were.

    A minibatch is images (N, C, H, W) float32, as the network takes them, and labels (N,) int64.
    Raises a ValueError where there are fewer than two: they have no variance.
    """
    if len(batches) < 2:
        raise ValueError(f"{len(batches)} minibatches: at least two expected")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seconds = [0.0, 0.0]
    cosines, gradients, errors = [], _Moments(), _Moments()
    _gradient(model, torch.bfloat16, *batches[0])  # kernels are chosen on the first call
    for images, labels in batches:
        both = []
        for index, dtype in enumerate((None, torch.bfloat16)):
            model.load_state_dict(state)
            began = time.perf_counter()
            both.append(_gradient(model, dtype, images, labels))
            seconds[index] += time.perf_counter() - began
        cosines.append(float(F.cosine_similarity(*both, dim=0)))
        gradients.add(both[0])
        errors.add(both[1] - both[0])
    model.load_state_dict(state)
    return Arithmetic(
        batches=len(batches),
        speed_up=seconds[0] / seconds[1],
        rounding=errors.variance / gradients.variance,
        bias=(errors.squared_mean / gradients.variance) ** 0.5,
        cosine=sum(cosines) / len(cosines),
    )


class _Moments:
    """Mean and variance of vectors, summed over their entries, without keeping the vectors."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def add(self, vector: Tensor) -> None:
        self.count += 1
        self.total = self.total + vector
        self.squares += float(vector.square().sum())

    @property
    def variance(self) -> float:
        """The unbiased variance."""
        spread = self.squares - float(self.total.square().sum()) / self.count
        return spread / (self.count - 1)

    @property
    def squared_mean(self) -> float:
        """The squared length of the mean less what chance adds to it; at least 0."""
        length = float((self.total / self.count).square().sum())
        return max(0.0, length - self.variance / self.count)


def _gradient(
    model: nn.Module, dtype: torch.dtype | None, images: Tensor, labels: Tensor
) -> Tensor:
    """Return the gradient of all parameters in one vector, float64 on the CPU."""
    under_autocast(model, dtype)
    try:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        kept = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return torch.cat([gradient.flatten() for gradient in kept]).double().cpu()
    finally:
        model.__dict__.pop("forward", None)
        model.zero_grad(set_to_none=True)
