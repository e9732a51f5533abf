"""Whether a network is one chain of layers: which layer's output each of its tensors still is.

For `layers.layer_table`, which asks this of what every layer reads.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_HARDSWISH = (torch.ops.aten.hardswish.default, torch.ops.aten.hardswish_.default)
# What may stand between a layer and the linear layers at the end of a chain, or after these.
_FLATTENING = (
    torch.ops.aten.view.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.mean.dim,
    torch.ops.aten._softmax.default,
    torch.ops.aten._log_softmax.default,
)


class Source(NamedTuple):
    """The layer whose output a tensor still is."""

    layer: int | None  # row of the layer table; None: several layers', or moved, or cut
    flat: bool = False  # one row of numbers for each image; only a linear layer goes on from here


_MIXED = Source(None)


class Sources(TorchDispatchMode):
    """Follow every tensor back to the layer whose output it is, through torch's operations.

    Activation functions and products of them leave every number in its place. What else an
    operation makes (an addition of two layers, a cut, a pool that is no layer) has no one layer.
    """

    def __init__(self) -> None:
        super().__init__()
        # By id, with the tensor itself, so that no other gets its id.
        self._known: dict[int, tuple[Tensor, Source]] = {}

    def __getitem__(self, tensor: Tensor) -> Source:
        return self._known.get(id(tensor), (tensor, _MIXED))[1]

    def __setitem__(self, tensor: Tensor, source: Source) -> None:
        self._known[id(tensor)] = (tensor, source)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None) -> Any:
        """Run one of torch's operations."""
        result = operation(*args, **(kwargs or {}))
        inputs = [x for x in tensors((args, kwargs)) if id(x) in self._known]
        if inputs:
            source = self._source_after(operation, inputs, tensors(result))
            if source == _MIXED and operation._schema.is_mutable:
                self._known.clear()  # other tensors may be views of what has been changed
            for output in tensors(result):
                self[output] = source
        return result

    def _source_after(self, operation, inputs: list[Tensor], outputs: list[Tensor]) -> Source:
        """Return the source of what an operation has made of inputs with known sources."""
        sources = {self[x] for x in inputs}
        if len(sources) > 1:
            return _MIXED
        (source,) = sources
        # torch does not tag hardswish, which is pointwise as well.
        if torch.Tag.pointwise in operation.tags or operation in _HARDSWISH:
            same_shape = all(y.shape == x.shape for x in inputs for y in outputs)
            return source if same_shape else _MIXED
        if operation in _FLATTENING and all(y.ndim == 2 or y.shape[2:] == (1, 1) for y in outputs):
            return source._replace(flat=True)
        return _MIXED


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in an operation's arguments or results, however nested."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
