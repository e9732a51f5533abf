"""Parameters and multiply–accumulates, by torchinfo, by fvcore and by `layer_table`."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import torch
import torchinfo
import torchvision
from fvcore.nn import FlopCountAnalysis, parameter_count
from torch import nn

from benchmarks.rows import Turn
from hw3utils.problem2.layers import layer_table, totals

SHAPE = (3, 224, 224)


class Counted(NamedTuple):
    """What is counted for one network."""

    parameters: int
    operations: int
    beyond: Callable[[pd.DataFrame], dict[str, int]]  # what ours leaves out, from our layer table


def count(turn: Turn) -> dict[str, Callable]:
    """Count, and afterwards say what makes a peer's number of operations another than ours."""
    names = ["vgg11"] if turn.tiny else ["vgg19", "resnet50"]
    networks = {name: torchvision.models.get_model(name).eval() for name in names}

    def work(counter: Callable[[nn.Module], Counted]) -> Callable[[], dict[str, Any]]:
        found = {name: counter(network) for name, network in networks.items()}
        return lambda: {
            f"{name}: {what}": value
            for name, counted in found.items()
            for what, value in _told(counted, layer_table(networks[name], SHAPE)).items()
        }

    counters = {"ours": _by_ours, "torchinfo": _by_torchinfo, "fvcore": _by_fvcore}
    return {way: functools.partial(work, counter) for way, counter in counters.items()}


def _by_ours(network: nn.Module) -> Counted:
    sums = totals(layer_table(network, SHAPE))
    return Counted(sums["parameters"], sums["multiply_accumulates"], lambda table: {})


def _by_torchinfo(network: nn.Module) -> Counted:
    found = torchinfo.summary(network, (1, *SHAPE), verbose=0)
    return Counted(found.total_params, found.total_mult_adds, _additions)


def _by_fvcore(network: nn.Module) -> Counted:
    analysis = FlopCountAnalysis(network, torch.zeros(1, *SHAPE)).unsupported_ops_warnings(False)
    operations = analysis.by_operator()
    others = {kind: int(n) for kind, n in operations.items() if kind not in ("conv", "linear")}
    return Counted(
        parameter_count(network)[""], int(sum(operations.values())), lambda table: others
    )


def _additions(table: pd.DataFrame) -> dict[str, int]:
    """Return what torchinfo counts beside the products with weights.

    It multiplies all parameters of a convolution, biases among them, by its positions, and takes
    the parameters of every other layer once.
    """
    positions = [shape[1] * shape[2] if len(shape) == 3 else 1 for shape in table["output_shape"]]
    biases = (table["biases"] * positions)[table["kind"].isin(["conv", "fc"])]
    norms = table["parameters"][table["kind"] == "norm"]
    return {"additions of biases": int(biases.sum()), "normalisation": int(norms.sum())}


def _told(counted: Counted, table: pd.DataFrame) -> dict[str, Any]:
    """Return the counts, and what explains a difference from ours."""
    beyond = counted.beyond(table)
    sums = totals(table)
    rest = counted.operations - sums["multiply_accumulates"] - sum(beyond.values())
    parts = [f"{name} {n:,}" for name, n in (beyond | {"not explained": rest}).items() if n]
    return {
        "parameters": counted.parameters,
        "operations": counted.operations,
        "beyond ours": ", ".join(parts) or "nothing",
    }
