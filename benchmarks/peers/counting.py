"""Parameters and multiply–accumulates, by torchinfo, by fvcore and by `layer_table`."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
import torchinfo
import torchvision
from fvcore.nn import FlopCountAnalysis, parameter_count

from benchmarks.rows import Turn
from hw3utils.problem2.layers import layer_table, totals

SHAPE = (3, 224, 224)
OURS = ("conv", "linear")  # what ours counts, by fvcore's names


def count(turn: Turn) -> dict[str, Callable[[], dict[str, Any]]]:
    """Count both networks, and say what beyond ours a peer has counted."""
    names = ["vgg11"] if turn.tiny else ["vgg19", "resnet50"]
    networks = {name: torchvision.models.get_model(name).eval() for name in names}
    tables = {name: layer_table(network, SHAPE) for name, network in networks.items()}

    def ours() -> dict[str, Any]:
        found = {name: totals(layer_table(network, SHAPE)) for name, network in networks.items()}
        return _told(
            {
                name: (each["parameters"], each["multiply_accumulates"], {})
                for name, each in found.items()
            }
        )

    def by_torchinfo() -> Callable[[], dict[str, Any]]:
        found = {
            name: torchinfo.summary(network, (1, *SHAPE), verbose=0)
            for name, network in networks.items()
        }
        return lambda: _told(
            {
                name: (each.total_params, each.total_mult_adds, _additions(tables[name]))
                for name, each in found.items()
            },
            tables,
        )

    def by_fvcore() -> Callable[[], dict[str, Any]]:
        found = {}
        for name, network in networks.items():
            analysis = FlopCountAnalysis(network, torch.zeros(1, *SHAPE))
            analysis.unsupported_ops_warnings(False)
            found[name] = parameter_count(network)[""], analysis.by_operator()
        return lambda: _told(
            {
                name: (
                    parameters,
                    sum(operations.values()),
                    {kind: n for kind, n in operations.items() if kind not in OURS},
                )
                for name, (parameters, operations) in found.items()
            },
            tables,
        )

    return {"ours": ours, "torchinfo": by_torchinfo, "fvcore": by_fvcore}


def _additions(table: pd.DataFrame) -> dict[str, int]:
    """Return what torchinfo counts as multiply–accumulates beside those of the weights.

    It multiplies a convolution's parameters, biases among them, by its positions, and takes the
    parameters of every other layer once.
    """
    areas = table["output_shape"].map(lambda shape: shape[-1] * shape[-2] if len(shape) == 3 else 1)
    biases = (table["biases"] * areas)[table["kind"].isin(["conv", "fc"])].sum()
    return {
        "biases": int(biases),
        "batch_norm": int(table.loc[table["kind"] == "norm", "parameters"].sum()),
    }


def _told(
    found: dict[str, tuple[int, int, dict[str, int]]], tables: dict[str, pd.DataFrame] | None = None
) -> dict[str, Any]:
    """Return both counts of each network, and which part of a difference from ours is explained."""
    told: dict[str, Any] = {}
    for name, (parameters, operations, beyond) in found.items():
        told |= {f"{name}: parameters": parameters, f"{name}: operations": operations}
        if tables is not None:
            ours = totals(tables[name])["multiply_accumulates"]
            parts = [f"{kind} {n:,}" for kind, n in beyond.items() if n]
            rest = operations - ours - sum(beyond.values())
            told[f"{name}: beyond ours"] = ", ".join(
                [*parts, f"unexplained {rest:,}" if rest else ""]
            )
    return told
