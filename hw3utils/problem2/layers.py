"""What a convolutional network costs, layer by layer, read off the network itself.

For any network of convolutions, pools, normalisations and linear layers. The network runs once on
the ``meta`` device: tensors there have shapes and no data, so nothing is computed or trained.
"""

import copy
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from hw3utils.checks import check_whole_number
from hw3utils.problem2.chains import Sources, tensors
from hw3utils.problem2.formulas import ADAPTIVE, WINDOWS, input_row, layer_row, pair

_LAYERS = (*WINDOWS, *ADAPTIVE, nn.Linear, nn.BatchNorm2d)
_COUNTS = ("activations", "weights", "biases", "parameters", "multiply_accumulates")


def layer_table(network: nn.Module, input_shape: Sequence[int]) -> pd.DataFrame:
    """Return one row for the input and one for each layer, in the order in which they run.

    Layers are convolutions, pools, linear layers and batch normalisations. Activation functions,
    dropout, local response normalisation and additions have no parameters and are no rows; like a
    batch normalisation they work on a layer's output, which is counted once, where it is made. The
    network is copied, not changed, and runs in evaluation mode; ``input_shape`` is channels, height
    and width of one image.

    Columns: ``layer`` (name), ``kind`` (input, conv, pool, norm, fc), ``pool`` (max, average),
    ``kernel``, ``stride``, ``padding``, ``dilation``, ``groups`` (None where a layer has none, as
    an adaptive pool; pairs where height and width differ), ``output_shape`` (without the batch),
    ``activations`` (numbers in the output), ``weights``, ``biases``, ``parameters`` (weights and
    biases), ``multiply_accumulates`` (for one image; additions of biases, pools and normalisations
    are not counted), and each count written out: ``activation_formula``, ``weight_formula``,
    ``parameter_formula``, ``operation_formula``. ``chained`` says whether the output, but for
    activation functions and the like, is what the next layer reads; in the last row, what the
    network returns. Where all are true the network is one chain of layers.

    Raises a ValueError where the shape is not three positive integers, an input is smaller than a
    kernel or does not fit a layer, or the network has parameters that no row could account for.

    A convolution K×K from C to M channels in G groups has (K·K·C/G + 1)·M parameters, and makes
    each of its H·W·M outputs with K·K·C/G multiply–accumulates (Krizhevsky et al. 2012, Sec. 3.5
    for the groups). A second use of the same layer, or of the weights of another one, adds
    operations and no parameters.
    """
    shape = _checked_shape(input_shape)
    network = _without_data(network).eval()
    image = torch.empty(1, *shape, device="meta")
    sources = Sources()
    sources[image] = 0
    rows = [input_row(shape)]
    counted: set[int] = set()  # ids of the layers, weights and biases of earlier rows
    # A network that is a single layer has no name for it.
    names = {module: name or type(module).__name__ for name, module in network.named_modules()}

    def before(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        x = _input(args, kwargs)
        read = tuple(x.shape[1:])
        _check_fits(names[layer], layer, read)
        # Only linear layers go on from a map that has been flattened on the way.
        fits = isinstance(layer, nn.Linear) or read == rows[-1]["output_shape"]
        rows[-1]["chained"] = fits and sources[x] == len(rows) - 1

    def after(layer: nn.Module, args: tuple, kwargs: dict[str, Any], output: Tensor) -> None:
        sources[output] = len(rows)
        rows.append(layer_row(names[layer], layer, _input(args, kwargs), output, counted))
        counted.update(id(counts) for counts in (layer, *layer.parameters()))

    def after_response(layer: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
        sources[output] = sources[_input(args, kwargs)]

    for module in names:
        if isinstance(module, _LAYERS):
            module.register_forward_pre_hook(before, with_kwargs=True)
            module.register_forward_hook(after, with_kwargs=True)
        elif isinstance(module, nn.LocalResponseNorm):  # made of operations of other kinds
            module.register_forward_hook(after_response, with_kwargs=True)
    with torch.no_grad(), sources:
        returned = tensors(network(image))
    rows[-1]["chained"] = all(sources[x] == len(rows) - 1 for x in returned)

    missing = sum(p.numel() for p in network.parameters()) - sum(row["parameters"] for row in rows)
    if missing:
        raise ValueError(
            f"{missing:,} parameters of {type(network).__name__} are in layers that did not run or "
            "are of another kind than Conv2d, Linear and BatchNorm2d: no row accounts for them"
        )
    # Columns of objects, where None stays None and 3 does not turn into 3.0.
    table = pd.DataFrame(rows, dtype=object)
    return table.astype(dict.fromkeys(_COUNTS, "int64") | {"chained": bool})


def _without_data(network: nn.Module) -> nn.Module:
    """Return a copy on the ``meta`` device in which shared parameters are still shared."""
    copies: dict[int, Tensor] = {}  # by the original's id, as `copy.deepcopy` looks them up
    for parameter in network.parameters():
        empty = torch.empty_like(parameter, device="meta")
        copies[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in network.buffers():
        copies[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, copies)


def _input(args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """Return what a layer was called with, by place or by name."""
    return args[0] if args else kwargs["input"]


def _checked_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the input shape as a tuple, or refuse it."""
    shape = tuple(input_shape)
    if len(shape) != 3 or any(type(n) is not int or n < 1 for n in shape):
        raise ValueError(
            f"input_shape={shape}: expected channels, height and width as three positive integers, "
            "such as (3, 224, 224)"
        )
    return shape


def _check_fits(name: str, layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Refuse, before a layer runs, an input that it cannot take."""
    if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
        wanted = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.num_features
        if shape[0] != wanted:
            raise ValueError(f"layer {name} expects {wanted} channels and got {shape[0]}")
    if isinstance(layer, nn.Linear) and shape[-1] != layer.in_features:
        raise ValueError(
            f"layer {name} expects {layer.in_features} inputs and got {shape[-1]}: the input "
            "image has another size than this network was made for"
        )
    if isinstance(layer, WINDOWS):
        if min(pair(layer.stride)) < 1:
            raise ValueError(f"layer {name}: stride={layer.stride}; it must be 1 or more")
        if layer.padding == "same":
            return
        padding = (0, 0) if layer.padding == "valid" else pair(layer.padding)
        dilation = pair(getattr(layer, "dilation", 1))
        for size, k, p, d in zip(
            shape[-2:], pair(layer.kernel_size), padding, dilation, strict=True
        ):
            if size + 2 * p < d * (k - 1) + 1:
                raise ValueError(
                    f"layer {name}: its kernel of {k} is larger than its input of {size} with "
                    f"padding {p} on both sides; give the network a larger input image"
                )


def totals(table: pd.DataFrame) -> dict[str, int]:
    """Return the sums of a layer table's columns of counts, by column.

    ``activations`` (the input's own numbers included), ``weights``, ``biases``, ``parameters`` and
    ``multiply_accumulates``.
    """
    return {name: int(table[name].sum()) for name in _COUNTS}


def saved_bytes(network: nn.Module, input_shape: Sequence[int], batch_size: int = 1) -> int:
    """Return the bytes that autograd keeps from the forward to the backward pass of a minibatch.

    Counted while the network (a copy, in training mode) runs on the ``meta`` device: every tensor
    that an operation saves for its gradient, once, parameters and buffers aside. Among them are
    inputs of convolutions, outputs of ReLUs, and the places of the maxima in pools (8 bytes each).
    """
    check_whole_number("batch_size", batch_size)
    shape = _checked_shape(input_shape)
    network = _without_data(network).train()
    own = {x.untyped_storage()._cdata for x in (*network.parameters(), *network.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}  # by address: views of a tensor share a storage

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.empty(batch_size, *shape, device="meta"))
    return sum(storage.nbytes() for storage in saved.values())
