"""Receptive fields of stacks of convolutions and pools: by formula, and measured with gradients.

A stack is a list of (kernel, stride, padding). For one chain of layers: networks with branches have
one receptive field for each path.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hw3utils.checks import check_whole_number

Layer = tuple[int, int, int]

# torch's functions (a trailing underscore for "in place" left out) whose outputs read one
# position of the input each, so that they widen no receptive field.
_KEEP_PLACES = {
    *("relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus"),
    *("softsign", "sigmoid", "log_sigmoid", "tanh", "tanhshrink", "hardtanh", "hardsigmoid"),
    *("hardswish", "dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_alpha_dropout"),
    *("local_response_norm", "contiguous"),
}
_FLATTEN = {"flatten", "reshape", "view"}  # so do these, where they make one row for each image


def receptive_field(layers: Sequence[Layer]) -> pd.DataFrame:
    """Return how size, jump and start of the receptive field grow, layer by layer.

    With r the receptive field's size, j the jump (distance in input pixels between neighbouring
    outputs) and s the start (centre of the first output's field), a layer of kernel k, stride t and
    padding p makes

        r ← r + (k − 1)·j,   s ← s + ((k − 1)/2 − p)·j,   j ← j·t,

    beginning with r = 1, j = 1, s = 0 (Araujo, Norris & Sim 2019, *Computing Receptive Fields of
    Convolutional Neural Networks*).

    Parameters
    ----------
    layers : sequence of (int, int, int)
        Kernel, stride and padding of each layer, from the input on. A kernel with dilation d counts
        as the d·(k − 1) + 1 pixels that it spans.

    Returns
    -------
    pandas.DataFrame
        One row for the input and one for each layer: ``kernel``, ``stride``, ``padding`` (0 kernel
        for the input), ``size`` and ``jump`` in input pixels (int), ``start`` as the index of the
        input pixel on which the first output is centred (float; negative: in the padding).

    Raises
    ------
    ValueError
        A layer is not three integers, a kernel or stride is smaller than 1, or a padding is
        smaller than 0 or so large that a window would see nothing but padding.
    """
    size, jump, start = 1, 1, 0.0
    rows = [(0, 1, 0, size, jump, start)]
    for kernel, stride, padding in _checked(layers):
        size += (kernel - 1) * jump
        start += ((kernel - 1) / 2 - padding) * jump
        jump *= stride
        rows.append((kernel, stride, padding, size, jump, start))
    return pd.DataFrame(rows, columns=["kernel", "stride", "padding", "size", "jump", "start"])


def stacked_receptive_field(depth: int, kernel: int) -> int:
    """Return N·F − N + 1, the receptive field of N stacked F×F convolutions of stride 1.

    ``depth`` is N (0: the input itself), and ``kernel`` is F.
    """
    check_whole_number("depth", depth, at_least=0)
    check_whole_number("kernel", kernel)
    return depth * kernel - depth + 1


def gradient_receptive_field(layers: Sequence[Layer]) -> tuple[int, int]:
    """Measure the receptive field: find the input pixels that change one output in the middle.

    No formula is used. The stack is built from convolutions in one dimension with all weights 1
    (also for pools), and the gradient of the middle output is taken: it differs from 0 exactly on
    the pixels that reach that output. The input is made longer until the field and the next
    output's lie inside. Layers are refused as in `receptive_field`.

    Returns
    -------
    tuple of int
        The size of the field, and the jump to the next output's field, in input pixels.
    """
    stack = nn.Sequential(*[_ones(*layer) for layer in _checked(layers)])
    length = 8
    while True:
        length *= 2
        x = torch.zeros(1, 1, length, dtype=torch.float64, requires_grad=True)
        try:
            y = stack(x)
        except RuntimeError:  # the input is still smaller than a kernel
            continue
        middle = (y.shape[-1] - 1) // 2
        if middle + 1 >= y.shape[-1]:
            continue
        fields = []
        for unit in (middle, middle + 1):
            (gradient,) = torch.autograd.grad(y[0, 0, unit], x, retain_graph=True)
            touched = gradient[0, 0].nonzero().flatten()
            fields.append((int(touched[0]), int(touched[-1])))
        (first, last), (next_first, next_last) = fields
        if first > 0 and next_last < length - 1:
            return last - first + 1, next_first - first


def stack_of(table: pd.DataFrame) -> list[Layer]:
    """Return the (kernel, stride, padding) of a `layer_table`'s convolutions and pools, in order.

    A dilated kernel counts as what it spans. The stack ends with the last layer that has a kernel:
    linear layers and global pools behind it read the whole map.

    Raises
    ------
    ValueError
        The network is no single chain of layers, a layer has different numbers for height and
        width, or one that reads the whole map stands before one with a kernel.
    """
    if not table["passed_on"].all():
        name = table.loc[~table["passed_on"], "layer"].iloc[0]
        raise ValueError(
            f"the output of {name} is not simply what the next layer reads (or the network "
            "returns): there are branches, additions, or other functions between layers, and so no "
            "one stack; give layer_table a single path of this network, made of layers"
        )
    layers, whole_map = [], None
    for row in table.iloc[1:].itertuples():
        if pd.isna(row.kernel):
            if row.kind != "norm" and row.activations:  # not an adaptive pool that changes nothing
                whole_map = row.layer
            continue
        sides = (row.kernel, row.stride, row.padding, row.dilation)
        if any(isinstance(side, tuple) for side in sides):
            raise ValueError(f"layer {row.layer}: {sides} differs between height and width")
        if whole_map:
            raise ValueError(f"layer {row.layer} comes after {whole_map}, which reads a whole map")
        kernel = row.dilation * (row.kernel - 1) + 1
        # What torch pads at the start; behind an even kernel "same" pads one more at the end.
        named = {"valid": 0, "same": (kernel - 1) // 2}
        layers.append((kernel, row.stride, named.get(row.padding, row.padding)))
    return layers


class Followed(TorchFunctionMode):
    """The latest layer's output, followed through functions that leave every value in its place.

    What any other function returns (an addition, `torch.cat`, a pool that is no layer) is another
    tensor, and what one changes in place has another version: neither is followed.
    """

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.start(tensor)

    def start(self, tensor: Tensor) -> None:
        """Follow this tensor from now on."""
        self.tensor, self.version = tensor, tensor._version

    def is_now(self, result: Any) -> bool:
        """Return whether what a layer reads, or a network returns, is the followed tensor."""
        return result is self.tensor and result._version == self.version

    def __torch_function__(self, function, types, args=(), kwargs=None) -> Any:
        """Run one of torch's functions."""
        known = bool(args) and self.is_now(args[0])
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "").rstrip("_")
        if known and (name in _KEEP_PLACES or (name in _FLATTEN and result.ndim == 2)):
            self.start(result)
        return result


def _ones(kernel: int, stride: int, padding: int) -> nn.Conv1d:
    """Return a convolution in one dimension with all weights 1."""
    layer = nn.Conv1d(1, 1, kernel, stride, padding, bias=False, dtype=torch.float64)
    nn.init.ones_(layer.weight)
    return layer.requires_grad_(False)


def _checked(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers as a list, or refuse them with the number of the first bad one."""
    layers = list(layers)
    for number, layer in enumerate(layers, start=1):
        if len(layer) != 3 or any(isinstance(n, bool) or not isinstance(n, int) for n in layer):
            raise ValueError(
                f"layer {number}: {layer!r} is not (kernel, stride, padding), integers"
            )
        kernel, stride, padding = layer
        if kernel < 1 or stride < 1:
            raise ValueError(
                f"layer {number}: kernel={kernel}, stride={stride}; both must be 1 or more"
            )
        if not 0 <= padding < kernel:
            raise ValueError(
                f"layer {number}: padding={padding} must lie between 0 and {kernel - 1}, one less "
                "than the kernel"
            )
    return layers
