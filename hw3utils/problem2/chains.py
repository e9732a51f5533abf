"""Whether a network is one chain of layers: which layer's output each of its tensors still is.

For `layers.layer_table`, which asks this of what every layer reads.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_MIXED = None  # the source of what is made of several layers, or has been moved or cut
_HARDSWISH = (torch.ops.aten.hardswish.default, torch.ops.aten.hardswish_.default)
# What may stand between a layer and the linear layers at the end of a chain, or after these.
_FLATTENING = (
    torch.ops.aten.view.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.mean.dim,
    torch.ops.aten._softmax.default,
    torch.ops.aten._log_softmax.default,
)


class Sources(TorchDispatchMode):
    """Follow every tensor back to the layer whose output it is, through torch's operations.

    ``sources[tensor]`` is that layer's number. Activation functions and products of them leave
    every number in its place, and a flattened output still has its layer. What else an operation
    makes (an addition of two layers, a cut, a pool that is no layer) has none: ``None``.
    """

    def __init__(self) -> None:
        super().__init__()
        # By id, with the tensor itself, so that no other gets its id.
        self._known: dict[int, tuple[Tensor, int | None]] = {}

    def __getitem__(self, tensor: Tensor) -> int | None:
        return self._known.get(id(tensor), (tensor, _MIXED))[1]

    def __setitem__(self, tensor: Tensor, source: int | None) -> None:
        self._known[id(tensor)] = (tensor, source)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None) -> Any:
        """Run one of torch's operations."""
        result = operation(*args, **(kwargs or {}))
        inputs = [x for x in tensors((args, kwargs)) if id(x) in self._known]
        if not inputs:
            return result
        outputs = tensors(result)
        found = {self[x] for x in inputs}
        source = found.pop() if len(found) == 1 and _keeps(operation, inputs, outputs) else _MIXED
        if source is _MIXED and operation._schema.is_mutable:
            self._known.clear()  # other tensors may be views of what has been changed
        for output in outputs:
            self[output] = source
        return result


def _keeps(operation, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Return whether an operation leaves every number in its place, or makes one row of all."""
    # torch does not tag hardswish, which is pointwise as well.
    if torch.Tag.pointwise in operation.tags or operation in _HARDSWISH:
        return all(x.shape == y.shape for x in inputs for y in outputs)
    flat = all(y.ndim == 2 or y.shape[2:] == (1, 1) for y in outputs)
    return operation in _FLATTENING and flat


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in an operation's arguments or results, however nested."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
