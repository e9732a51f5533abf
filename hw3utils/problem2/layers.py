"""What a convolutional network costs, layer by layer, read off the network itself.

For any network of convolutions, pools, normalisations and linear layers. The network runs once on
the ``meta`` device: tensors there have shapes and no data, so nothing is computed or trained. The
networks of the papers are in `networks`, totals and bytes in `layers`.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_POOLS = (nn.MaxPool2d, nn.AvgPool2d)
_ADAPTIVE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_AVERAGE = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, *_POOLS, *_ADAPTIVE)
# What may stand between a layer and the linear layers at the end of a chain, or after these.
_FLATTENING = (
    torch.ops.aten.view.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.mean.dim,
    torch.ops.aten._softmax.default,
    torch.ops.aten._log_softmax.default,
)
_NO_OUTPUT = {"activation_formula": "0", "activations": 0}
_NO_PARAMETERS = {
    "weight_formula": "0",
    "weights": 0,
    "parameter_formula": "0",
    "biases": 0,
    "parameters": 0,
}
# Also the order of the table's columns.
_EMPTY = {
    "layer": "",
    "kind": "",
    "kernel": None,
    "stride": None,
    "padding": None,
    "dilation": None,
    "groups": None,
    "pool": None,
    "output_shape": None,
    **_NO_OUTPUT,
    **_NO_PARAMETERS,
    "operation_formula": "0",
    "multiply_accumulates": 0,
    "chained": True,
}


def layer_table(network: nn.Module, input_shape: Sequence[int]) -> pd.DataFrame:
    """Return one row for the input and one for each layer, in the order in which they run.

    Layers are convolutions, pools, linear layers and batch normalisations. Activation functions,
    dropout, local response normalisation and additions have no parameters and are no rows; like a
    batch normalisation they work on a layer's output, which is counted once, where it is made.

    Parameters
    ----------
    network : torch.nn.Module
        Any network of such layers. It is copied, not changed; it runs in evaluation mode.
    input_shape : sequence of int
        Channels, height and width of one input image.

    Returns
    -------
    pandas.DataFrame
        ``layer`` (name), ``kind``, ``kernel``, ``stride``, ``padding``, ``dilation``, ``groups``
        (None where a layer has none; pairs where height and width differ), ``pool`` ("max" or
        "average", None for other layers), ``output_shape`` (without the batch),
        ``activations`` (numbers in the output), ``weights``, ``biases``, ``parameters`` (weights
        and biases), ``multiply_accumulates`` (for one image; additions of biases, pools and
        normalisations are not counted), and each count written out: ``activation_formula``,
        ``weight_formula``, ``parameter_formula``, ``operation_formula``. ``chained`` (bool): the
        layer takes the output of the row before, and its own output is only activated,
        flattened or given to a layer, not cut, joined or added to another.

    Raises
    ------
    ValueError
        The shape is not three positive integers, an input is smaller than a kernel or does not
        fit a layer, or the network has parameters that no row could account for.

    Notes
    -----
    A convolution K×K from C to M channels in G groups has (K·K·C/G + 1)·M parameters, and makes
    each of its H·W·M outputs with K·K·C/G multiply–accumulates (Krizhevsky et al. 2012, Sec. 3.5
    for the groups). A second use of the same module, or of the same `torch.nn.Parameter` in another
    module, adds operations and no parameters.
    """
    shape = _checked_shape(input_shape)
    original, network = network, copy.deepcopy(network).to("meta").eval()
    rows = [_input_row(shape)]
    flow = _Flow(rows)
    seen: set[nn.Parameter] = set()

    def before(name: str):
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            _check_fits(name, module, tuple(_input(args, kwargs).shape[1:]))
            flow.pause()

        return hook

    def after(name: str, own: dict[str, nn.Parameter | None]):
        def hook(module: nn.Module, args: tuple, kwargs: dict, output: torch.Tensor) -> None:
            x = _input(args, kwargs)
            row = _row(name, module, x, output)
            rows.append(row | _without_counted(row, own, seen))
            seen.update(parameter for parameter in own.values() if parameter is not None)
            flow.add_layer(x, output, flattens=isinstance(module, nn.Linear))

        return hook

    # Moved to another device, a parameter of two modules becomes two: the original knows better.
    originals = dict(original.named_modules())
    for name, module in network.named_modules():
        if isinstance(module, _LAYERS):
            label = name or type(module).__name__  # a network that is one layer has no name for it
            own = {kind: originals[name]._parameters.get(kind) for kind in ("weight", "bias")}
            module.register_forward_pre_hook(before(label), with_kwargs=True)
            module.register_forward_hook(after(label, own), with_kwargs=True)
        elif isinstance(module, nn.LocalResponseNorm):  # made of many operations that are no rows
            module.register_forward_pre_hook(lambda *_: flow.pause(), with_kwargs=True)
            module.register_forward_hook(
                lambda _, args, kwargs, output: flow.resume(_input(args, kwargs), output),
                with_kwargs=True,
            )
    image = torch.empty(1, *shape, device="meta")
    flow.start(image)
    with torch.no_grad(), flow:
        network(image)

    # Columns of objects, where None stays None and 3 does not turn into 3.0.
    table = pd.DataFrame(rows, dtype=object)
    table = table.astype({c: "int64" for c, empty in _EMPTY.items() if empty == 0})
    table["chained"] = table["chained"].astype(bool)
    missing = sum(p.numel() for p in original.parameters()) - int(table["parameters"].sum())
    if missing:
        raise ValueError(
            f"{missing:,} parameters of {type(network).__name__} are in layers that did not run or "
            "are of another kind than Conv2d, Linear and BatchNorm2d: no row accounts for them"
        )
    return table


class _Flow(TorchDispatchMode):
    """Follow every tensor back to the row whose output it is, through each of torch's operations.

    Rows whose output is cut, joined or added to another's lose their mark ``chained``; so do layers
    that do not take the output of the row before.
    """

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self._paused = False
        self._rows = rows
        # By id: the tensor (held, so that no other gets its id), its rows, and whether it is flat.
        self._known: dict[int, tuple[torch.Tensor, frozenset[int], bool]] = {}

    def start(self, image: torch.Tensor) -> None:
        """Take a tensor for the output of the first row."""
        self._known[id(image)] = (image, frozenset({0}), False)

    def pause(self) -> None:
        """Look away while a module runs whose effect is known."""
        self._paused = True

    def resume(self, x: torch.Tensor, output: torch.Tensor) -> None:
        """Take a module's output for its activated input."""
        self._paused = False
        if id(x) in self._known:
            _, rows, flat = self._known[id(x)]
            self._known[id(output)] = (output, rows, flat)

    def add_layer(self, x: torch.Tensor, output: torch.Tensor, flattens: bool) -> None:
        """Mark the newest row, which made ``output`` from ``x``."""
        self._paused = False
        newest = len(self._rows) - 1
        _, rows, flat = self._known.get(id(x), (x, frozenset(), False))
        self._rows[newest]["chained"] = rows == {newest - 1} and (flattens or not flat)
        self._known[id(output)] = (output, frozenset({newest}), False)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if self._paused:
            return output
        used = [self._known[id(x)] for x in _tensors((args, kwargs)) if id(x) in self._known]
        rows = frozenset().union(*(rows for _, rows, _ in used))
        flattened = func in _FLATTENING
        keeps_shape = torch.Tag.pointwise in func.tags and all(
            y.shape == x.shape for x, _, _ in used for y in _tensors(output)
        )
        joins = len(rows) > 1 or len({flat for _, _, flat in used}) > 1
        if joins or not (flattened or keeps_shape):
            for row in rows:
                self._rows[row]["chained"] = False
        flat = flattened or any(flat for _, _, flat in used)
        if used:
            self._known |= {id(y): (y, rows, flat) for y in _tensors(output)}
        return output


def _tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in an operation's arguments or results, however nested."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _input(args: tuple, kwargs: dict[str, Any]) -> torch.Tensor:
    """Return what a layer was called with, by place or by name."""
    return args[0] if args else kwargs["input"]


def _without_counted(
    row: dict[str, Any], own: dict[str, nn.Parameter | None], seen: set[nn.Parameter]
) -> dict[str, Any]:
    """Return the counts of a row without the parameters that a row before has counted."""
    weight_counted, bias_counted = own["weight"] in seen, own["bias"] in seen
    if not weight_counted and not bias_counted:
        return {}
    if weight_counted:
        biases = 0 if bias_counted else row["biases"]
        only_biases = {"parameter_formula": str(biases), "biases": biases, "parameters": biases}
        return _NO_PARAMETERS | only_biases
    formula, weights = row["weight_formula"], row["weights"]
    return {"parameter_formula": formula, "biases": 0, "parameters": weights}


def _input_row(shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return the row of the input image: activations and nothing else."""
    return _EMPTY | {"layer": "input", "kind": "input"} | _output(shape)


def _row(name: str, module: nn.Module, x: torch.Tensor, output: torch.Tensor) -> dict[str, Any]:
    """Return one row of the layer table."""
    shape = tuple(output.shape[1:])
    row = _EMPTY | {"layer": name} | _output(shape) | _parameters(module)
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        fan_in = f"{height}·{width}·{module.in_channels // module.groups}"
        weights = f"({fan_in})·{module.out_channels}"
        return row | {
            "kind": "conv",
            **_spatial(module),
            "groups": module.groups,
            "weight_formula": weights,
            "parameter_formula": _with_bias(fan_in, module.out_channels, module.bias),
            "operation_formula": f"{shape[1]}·{shape[2]}·{weights}",
            "multiply_accumulates": shape[1] * shape[2] * module.weight.numel(),
        }
    if isinstance(module, nn.Linear):
        weights = f"{module.in_features}·{module.out_features}"
        return row | {
            "kind": "fc",
            "weight_formula": weights,
            "parameter_formula": _with_bias(
                str(module.in_features), module.out_features, module.bias
            ),
            "operation_formula": weights,
            "multiply_accumulates": math.prod(shape[:-1]) * module.weight.numel(),
        }
    if isinstance(module, nn.BatchNorm2d):
        features = module.num_features if module.affine else 0
        formulas = {"weight_formula": f"{features}", "parameter_formula": f"2·{features}"}
        return row | _NO_OUTPUT | {"kind": "norm", **formulas}
    if isinstance(module, _ADAPTIVE):
        # One that keeps the size passes its input on: nothing new is stored.
        row |= _NO_OUTPUT if x.shape == output.shape else {}
    else:
        row |= _spatial(module)
    return row | {"kind": "pool", "pool": "average" if isinstance(module, _AVERAGE) else "max"}


def _output(shape: tuple[int, ...]) -> dict[str, Any]:
    """Return an output's shape and its number of activations, written out channels last."""
    formula = "·".join(str(n) for n in (*shape[1:], shape[0]))
    count = math.prod(shape)
    return {"output_shape": shape, "activation_formula": formula, "activations": count}


def _parameters(module: nn.Module) -> dict[str, int]:
    """Return how many weights and biases a layer has."""
    weights, biases = (
        0 if parameter is None else parameter.numel()
        for parameter in (getattr(module, "weight", None), getattr(module, "bias", None))
    )
    return {"weights": weights, "biases": biases, "parameters": weights + biases}


def _with_bias(fan_in: str, outputs: int, bias: torch.Tensor | None) -> str:
    """Write out a layer's parameters: (inputs + 1)·outputs, or without the 1."""
    return f"({fan_in})·{outputs}" if bias is None else f"({fan_in} + 1)·{outputs}"


def _spatial(module: nn.Module) -> dict[str, Any]:
    """Return kernel, stride, padding, dilation: single numbers where height and width agree."""
    pairs = {
        "kernel": _pair(module.kernel_size),
        "stride": _pair(module.stride),
        "padding": module.padding if isinstance(module.padding, str) else _pair(module.padding),
        "dilation": _pair(getattr(module, "dilation", 1)),  # average pools have none
    }
    return {name: pair[0] if pair[0] == pair[1] else pair for name, pair in pairs.items()}


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _checked_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the input shape as a tuple, or refuse it."""
    shape = tuple(input_shape)
    if len(shape) != 3 or any(not isinstance(n, int) or n < 1 for n in shape):
        raise ValueError(
            f"input_shape={shape}: expected channels, height and width as three positive integers, "
            "such as (3, 224, 224)"
        )
    return shape


def _check_fits(name: str, module: nn.Module, shape: tuple[int, ...]) -> None:
    """Refuse, before a layer runs, an input that it cannot take."""
    if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
        wanted = module.in_channels if isinstance(module, nn.Conv2d) else module.num_features
        if shape[0] != wanted:
            raise ValueError(f"layer {name} expects {wanted} channels and got {shape[0]}")
    if isinstance(module, nn.Linear) and shape[-1] != module.in_features:
        raise ValueError(
            f"layer {name} expects {module.in_features} inputs and got {shape[-1]}: the input "
            "image has another size than this network was made for"
        )
    if isinstance(module, (nn.Conv2d, *_POOLS)):
        if min(_pair(module.stride)) < 1:
            raise ValueError(f"layer {name}: stride={module.stride}; it must be 1 or more")
        kernel, padding = _pair(module.kernel_size), module.padding
        if padding == "same":
            return
        padding = (0, 0) if padding == "valid" else _pair(padding)
        dilation = _pair(getattr(module, "dilation", 1))
        for size, k, p, d in zip(shape[-2:], kernel, padding, dilation, strict=True):
            if size + 2 * p < d * (k - 1) + 1:
                raise ValueError(
                    f"layer {name}: its kernel of {k} is larger than its input of {size} with "
                    f"padding {p} on both sides; give the network a larger input image"
                )


_COUNTS = ("activations", "weights", "biases", "parameters", "multiply_accumulates")


def totals(table: pd.DataFrame) -> dict[str, int]:
    """Return the sums of a layer table's columns of counts.

    Returns
    -------
    dict
        ``activations`` (the input's own numbers included), ``weights``, ``biases``,
        ``parameters`` and ``multiply_accumulates``.
    """
    return {name: int(table[name].sum()) for name in _COUNTS}


def memory(table: pd.DataFrame, batch_size: int = 1, bytes_per_number: int = 4) -> dict[str, int]:
    """Return the bytes that prediction and training keep, as estimated from a layer table.

    Training with SGD and momentum keeps every layer's output until the backward pass has used it,
    as many gradients again, and for each parameter its value, its gradient and its momentum. What
    an implementation adds (work space, fragmentation) or saves (a prediction drops each output
    once it is used, gradients are freed on the way) is not in it: real numbers differ.

    Parameters
    ----------
    table : pandas.DataFrame
        From `layers.layer_table`.
    batch_size : int
        Images in a minibatch; the activations grow with it, the parameters do not.
    bytes_per_number : int
        4 for float32, 2 for bfloat16.

    Returns
    -------
    dict
        Bytes: ``activations``, ``activation_gradients``, ``parameters``, ``parameter_gradients``,
        ``momentum``, and the sums ``forward`` and ``forward_and_backward``.

    Raises
    ------
    ValueError
        A number is not a positive integer.
    """
    _check_positive(batch_size=batch_size, bytes_per_number=bytes_per_number)
    counts = totals(table)
    activations = counts["activations"] * batch_size * bytes_per_number
    parameters = counts["parameters"] * bytes_per_number
    return {
        "activations": activations,
        "activation_gradients": activations,
        "parameters": parameters,
        "parameter_gradients": parameters,
        "momentum": parameters,
        "forward": activations + parameters,
        "forward_and_backward": 2 * activations + 3 * parameters,
    }


def stack_savings(kernel: int, channels: int) -> pd.DataFrame:
    """Compare one K×K convolution with the stack of 3×3 convolutions of the same receptive field.

    All convolutions have ``channels`` inputs and outputs, stride 1 and no biases. The stack has
    N = (K − 1)/2 layers, because 3N − N + 1 = K (Simonyan & Zisserman 2015, Sec. 2.3).

    Raises a ValueError where the kernel is even (no stack of 3×3 has an even receptive field) or
    smaller than 3, or a number is not a positive integer.

    Returns
    -------
    pandas.DataFrame
        Two rows, the single layer and the stack: ``design``, ``layers``, ``formula``, ``weights``
        (also the multiply–accumulates at each position), ``relus``, ``saving`` (fraction of the
        single layer's weights).
    """
    _check_positive(kernel=kernel, channels=channels)
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(
            f"kernel={kernel}: a stack of 3×3 convolutions has an odd receptive field of 3 or "
            "more; choose 3, 5, 7, …"
        )
    depth = (kernel - 1) // 2
    single, stacked = kernel**2 * channels**2, depth * 9 * channels**2
    rows = [
        (f"one {kernel}×{kernel}", 1, f"{kernel}²·{channels}²", single, 1, 0.0),
        (f"{depth} × 3×3", depth, f"{depth}·3²·{channels}²", stacked, depth, 1 - stacked / single),
    ]
    columns = ["design", "layers", "formula", "weights", "relus", "saving"]
    return pd.DataFrame(rows, columns=columns)


def _check_positive(**numbers: int) -> None:
    """Refuse anything but positive integers, by name."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name}={number!r}: expected a positive integer")
