"""Receptive fields of stacks of convolutions and pools: by formula, and measured with gradients.

A stack is a list of (kernel, stride, padding); a dilated kernel counts with all that it spans. For
one chain of layers: networks with branches have one receptive field for each path.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

Layer = tuple[int, int, int]


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
        Kernel, stride and padding of each layer, from the input on.

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

    Parameters
    ----------
    depth : int
        N, the number of convolutions; 0 is the input itself.
    kernel : int
        F, the side of each convolution.

    Raises
    ------
    ValueError
        ``depth`` is not an integer of 0 or more, or ``kernel`` not one of 1 or more.
    """
    for name, number, least in (("depth", depth, 0), ("kernel", kernel, 1)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise ValueError(f"{name}={number!r}: expected an integer of {least} or more")
    return depth * kernel - depth + 1


def gradient_receptive_field(layers: Sequence[Layer]) -> tuple[int, int]:
    """Measure the receptive field: find the input pixels that change one output in the middle.

    No formula is used. The stack is built from convolutions in one dimension with all weights 1
    (also for pools), and the gradient of the middle output is taken: it differs from 0 exactly on
    the pixels that reach that output. The input is made longer until the field and the next
    output's lie inside.

    Returns
    -------
    tuple of int
        The size of the field, and the jump to the next output's field, in input pixels.

    Raises
    ------
    ValueError
        As in `receptive_field`.
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

    A kernel of k with dilation d is returned as the d·(k − 1) + 1 that it spans.

    Raises a ValueError where a layer has different numbers for height and width; or the network is
    no single chain: it has branches or joins, or looks at the whole image before its last
    convolution or pool.
    """
    if not table["chained"].all():
        name = table["layer"][~table["chained"]].iloc[0]
        raise ValueError(
            f"layer {name}: its input or output is shared, joined or changed on the way: only a "
            "single chain of layers has one receptive field"
        )
    stack = []
    whole_image = None  # the first layer that sees all of it
    for layer in table.itertuples():
        if layer.kernel is not None:
            if whole_image is not None:
                raise ValueError(f"layer {layer.layer}: {whole_image} before it sees everything")
            stack.append(_spanned(layer))
        elif layer.kind == "fc" or (layer.kind == "pool" and layer.activations > 0):
            whole_image = layer.layer
    return stack


def _spanned(layer) -> Layer:
    """Return the kernel with what its dilation spans, stride and padding, from a table's row."""
    numbers = (layer.kernel, layer.stride, layer.padding, layer.dilation)
    if any(isinstance(number, tuple) for number in numbers):
        raise ValueError(f"layer {layer.layer}: {numbers} differs between height and width")
    kernel = layer.dilation * (layer.kernel - 1) + 1
    # Where the two sides cannot be equal, torch's "same" adds the odd one at the end.
    padding = {"same": (kernel - 1) // 2, "valid": 0}.get(layer.padding, layer.padding)
    return kernel, layer.stride, padding


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
