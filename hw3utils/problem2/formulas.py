"""One layer's row of the layer table: its numbers, and each count written out as a formula.

For one layer at a time; `layers.layer_table` runs the network and puts the rows together.
"""

import math
from typing import Any

from torch import Tensor, nn

WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)  # have a kernel that slides
ADAPTIVE = (nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)

_NO_OUTPUT = {"activation_formula": "0", "activations": 0}
# Also the order of the table's columns.
_EMPTY = {
    "layer": "",
    "kind": "",
    "pool": None,
    "kernel": None,
    "stride": None,
    "padding": None,
    "dilation": None,
    "groups": None,
    "output_shape": None,
    **_NO_OUTPUT,
    "weight_formula": "0",
    "weights": 0,
    "parameter_formula": "0",
    "biases": 0,
    "parameters": 0,
    "operation_formula": "0",
    "multiply_accumulates": 0,
    "chained": False,
}


def input_row(shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return the row of an input image: activations and nothing else."""
    return _EMPTY | {"layer": "input", "kind": "input"} | _output(shape)


def layer_row(
    name: str, layer: nn.Module, x: Tensor, output: Tensor, counted: set[int]
) -> dict[str, Any]:
    """Return the row of a layer that has made ``output`` from ``x``.

    ``counted`` holds the ids of layers, weights and biases that a row before has counted: here they
    add no parameters.
    """
    shape = tuple(output.shape[1:])
    row = _EMPTY | {"layer": name} | _output(shape)
    if isinstance(layer, nn.Conv2d):
        height, width = layer.kernel_size
        fan_in = f"{height}·{width}·{layer.in_channels // layer.groups}"
        weights = f"({fan_in})·{layer.out_channels}"
        return row | {
            "kind": "conv",
            **_window(layer),
            "groups": layer.groups,
            **_parameters(layer, counted, weights, f"({fan_in} + 1)·{layer.out_channels}"),
            "operation_formula": f"{shape[1]}·{shape[2]}·{weights}",
            "multiply_accumulates": shape[1] * shape[2] * layer.weight.numel(),
        }
    if isinstance(layer, nn.Linear):
        inputs, outputs = layer.in_features, layer.out_features
        weights = f"{inputs}·{outputs}"
        return row | {
            "kind": "fc",
            **_parameters(layer, counted, weights, f"({inputs} + 1)·{outputs}"),
            "operation_formula": "·".join([*map(str, shape[:-1]), weights]),
            "multiply_accumulates": math.prod(shape[:-1]) * layer.weight.numel(),
        }
    if isinstance(layer, nn.BatchNorm2d):
        features = layer.num_features
        formulas = _parameters(layer, counted, f"{features}", f"2·{features}")
        return row | _NO_OUTPUT | {"kind": "norm"} | formulas
    pool = "max" if isinstance(layer, (nn.MaxPool2d, nn.AdaptiveMaxPool2d)) else "average"
    row |= {"kind": "pool", "pool": pool}
    if isinstance(layer, WINDOWS):
        return row | _window(layer)
    # An adaptive pool that keeps the size passes its input on: nothing new is stored.
    return row | (_NO_OUTPUT if x.shape == output.shape else {})


def _output(shape: tuple[int, ...]) -> dict[str, Any]:
    """Return an output's shape and its number of activations, written out channels last."""
    formula = "·".join(str(n) for n in (*shape[1:], shape[0]))
    return {
        "output_shape": shape,
        "activation_formula": formula,
        "activations": math.prod(shape),
    }


def _parameters(
    layer: nn.Module, counted: set[int], weight_formula: str, both_formula: str
) -> dict[str, Any]:
    """Return how many weights and biases a layer adds to those counted, and how to compute it."""
    weights, biases = (
        0 if tensor is None or counted & {id(layer), id(tensor)} else tensor.numel()
        for tensor in (layer.weight, layer.bias)
    )
    one_formula = weight_formula if weights else str(biases)
    return {
        "weight_formula": weight_formula if weights else "0",
        "weights": weights,
        "parameter_formula": both_formula if weights and biases else one_formula,
        "biases": biases,
        "parameters": weights + biases,
    }


def _window(layer: nn.Module) -> dict[str, Any]:
    """Return kernel, stride, padding and dilation, as one number where height and width agree."""
    sides = {
        "kernel": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,  # perhaps "same" or "valid"
        "dilation": getattr(layer, "dilation", 1),  # average pools have none
    }
    return {
        name: side if isinstance(side, str) or len(set(pair(side))) > 1 else pair(side)[0]
        for name, side in sides.items()
    }


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width of what torch may hold as one number."""
    return (value, value) if isinstance(value, int) else tuple(value)
