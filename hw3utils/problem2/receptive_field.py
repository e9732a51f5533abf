"""Receptive fields of stacks of convolutions and pools: by formula, and measured with gradients.

A stack is a list of (kernel, stride, padding). For one chain of layers: networks with branches have
one receptive field for each path.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

from hw3utils.checks import check_whole_number

Layer = tuple[int, int, int]


def receptive_field(layers: Sequence[Layer]) -> pd.DataFrame:
    """Return how size, jump and start of the receptive field grow, layer by layer.

    With r the receptive field's size, j the jump (distance in input pixels between neighbouring
    outputs) and s the start (centre of the first output's field), a layer of kernel k, stride t and
    padding p makes

        r ← r + (k − 1)·j,   s ← s + ((k − 1)/2 − p)·j,   j ← j·t,

    beginning with r = 1, j = 1, s = 0 (Araujo, Norris & Sim 2019, *Computing Receptive Fields of
    Convolutional Neural Networks*).

    A kernel with dilation d counts as the d·(k − 1) + 1 pixels that it spans. Returns one row for
    the input and one for each layer: ``kernel``, ``stride``, ``padding`` (0, 1 and 0 for the
    input), ``size`` and ``jump`` in input pixels (int), ``start`` as the index of the input pixel
    on which the first output is centred (float; negative: in the padding). Raises a ValueError
    where a layer is not three integers, a kernel or stride is smaller than 1, or a padding is
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
    output's lie inside. Returns the size of the field and the jump to the next output's field, in
    input pixels. Layers are refused as in `receptive_field`.
    """
    stack = nn.Sequential(
        *[nn.Conv1d(1, 1, *layer, bias=False, dtype=torch.float64) for layer in _checked(layers)]
    )
    for weight in stack.parameters():
        nn.init.ones_(weight)
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
    linear layers and global pools behind it read the whole map. Raises a ValueError where the
    network is no single chain of layers, a layer has different numbers for height and width, or
    one that reads the whole map stands before one with a kernel.
    """
    if not table["chained"].all():
        name = table.loc[~table["chained"], "layer"].iloc[0]
        raise ValueError(
            f"the output of {name} is not simply what the next layer reads, or the network "
            "returns: with branches, additions or other functions on the way this is no single "
            "chain of layers; give layer_table one path of the network"
        )
    stack = []
    whole_map = None  # the first layer that reads all of it
    for layer in table.iloc[1:].itertuples():
        if layer.kernel is not None:
            if whole_map is not None:
                raise ValueError(
                    f"layer {layer.layer} is no part of a stack: layer {whole_map} before it sees "
                    "everything"
                )
            stack.append(_spanned(layer))
        elif layer.kind == "fc" or (layer.kind == "pool" and layer.activations):
            whole_map = layer.layer
    return stack


def _spanned(layer) -> Layer:
    """Return what a row's dilated kernel spans, its stride and its padding."""
    numbers = (layer.kernel, layer.stride, layer.padding, layer.dilation)
    if any(isinstance(number, tuple) for number in numbers):
        raise ValueError(f"layer {layer.layer}: {numbers} differs between height and width")
    kernel = layer.dilation * (layer.kernel - 1) + 1
    # What torch pads at the start; behind an even kernel "same" pads one more at the end.
    padding = {"same": (kernel - 1) // 2, "valid": 0}.get(layer.padding, layer.padding)
    return kernel, layer.stride, padding


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
