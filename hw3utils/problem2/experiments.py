"""The calculations of Problem 2: networks that are counted, and proposal networks that are trained.

Numbers only, laid out in `tables` and drawn in `figures`.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import nn

from hw3utils.data.images import Splits
from hw3utils.problem2.layers import layer_table, saved_bytes, totals
from hw3utils.problem2.networks import (
    RegionProposalHead,
    alexnet,
    inception_naive,
    inception_reduced,
    torchvision_network,
    vgg19,
)
from hw3utils.problem2.proposals.measures import measure_network
from hw3utils.problem2.proposals.network import ProposalRun, train_network
from hw3utils.problem2.receptive_field import gradient_receptive_field, stacked_receptive_field
from hw3utils.settings import Problem2
from hw3utils.training import networks, sweeps

INCEPTION_INPUT = (256, 32, 32)
# By name: what makes the network, and its input. The paper's AlexNet takes 227×227 pixels (its text
# says 224, from which its own 55×55 maps do not follow without padding).
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "AlexNet": (lambda: alexnet(groups=2), (3, 227, 227)),
    "AlexNet ungrouped": (lambda: alexnet(groups=1), (3, 227, 227)),
    "AlexNet torchvision": (lambda: torchvision_network("alexnet"), (3, 224, 224)),
    "VGG-19": (vgg19, (3, 224, 224)),
    "VGG-19 torchvision": (lambda: torchvision_network("vgg19"), (3, 224, 224)),
    "ResNet-50": (lambda: torchvision_network("resnet50"), (3, 224, 224)),
    "LeNet-5": (networks.LeNet5, (1, 28, 28)),
    "Inception naive": (inception_naive, INCEPTION_INPUT),
    "Inception reduced": (inception_reduced, INCEPTION_INPUT),
    "RPN": (RegionProposalHead, (512, 37, 37)),
}


def layer_tables() -> dict[str, pd.DataFrame]:
    """Return the layer table of every network that the problem counts, by name."""
    with torch.device("meta"):
        return {name: layer_table(build(), shape) for name, (build, shape) in NETWORKS.items()}


def compare_networks(
    tables: dict[str, pd.DataFrame], names: Sequence[str], batch_size: int = 64
) -> pd.DataFrame:
    """Return one row of costs for each of the `NETWORKS` named: counts and bytes in float32.

    Indexed by name: ``parameters``, ``bias_share`` (fraction), ``activations``,
    ``multiply_accumulates`` and ``saved_bytes`` (for the backward pass) of one image, and
    ``training_bytes``: what is saved for a minibatch, and each parameter's value, gradient and
    momentum.
    """
    rows = {}
    for name in names:
        build, shape = NETWORKS[name]
        counts = totals(tables[name])
        with torch.device("meta"):
            network = build()
        rows[name] = {
            "parameters": counts["parameters"],
            "bias_share": counts["biases"] / counts["parameters"],
            "activations": counts["activations"],
            "multiply_accumulates": counts["multiply_accumulates"],
            "saved_bytes": saved_bytes(network, shape),
            "training_bytes": saved_bytes(network, shape, batch_size) + 12 * counts["parameters"],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


class TrainedNetworks(NamedTuple):
    """What each seed's training and measuring gave."""

    trained: list[dict[str, Any]]  # from `network.train_network`
    measured: list[dict[str, Any]]  # from `measures.measure_network`


def train_proposal_networks(garments: Splits, settings: Problem2) -> TrainedNetworks:
    """Train and measure a region proposal network for each seed, unless the cache has it.

    Training composes its canvases of the training garments, the loss on unseen ones is that on
    validation garments, and the proposals are measured on canvases of test garments.
    """
    parts = [part.images for part in garments]
    checksums = [part.checksum for part in garments]
    runs = {
        seed: ProposalRun(seed, settings.rpn_canvases, settings.rpn_epochs)
        for seed in range(settings.rpn_seeds)
    }
    trained = sweeps.map_cached(
        train_network, {seed: (run,) for seed, run in runs.items()}, parts[:2], checksums[:2],
        title="proposal networks",
    )  # fmt: skip
    measured = sweeps.map_cached(
        measure_network,
        {seed: (trained[seed]["state"], seed, settings.unseen_canvases) for seed in runs},
        parts[2:], checksums[2:], title="proposals measured",
    )  # fmt: skip
    return TrainedNetworks(list(trained.values()), list(measured.values()))


def receptive_field_check(depths: tuple[int, ...], kernels: tuple[int, ...]) -> pd.DataFrame:
    """Return N·F − N + 1 beside the size that gradients measure, for stacks of stride 1.

    A row for each pair: ``depth``, ``kernel``, ``formula``, ``measured``.
    """
    rows = []
    for depth, kernel in product(depths, kernels):
        measured, _ = gradient_receptive_field([(kernel, 1, 0)] * depth)
        rows.append((depth, kernel, stacked_receptive_field(depth, kernel), measured))
    return pd.DataFrame(rows, columns=["depth", "kernel", "formula", "measured"])


def inception_saving(tables: dict[str, pd.DataFrame], count: str) -> float:
    """Return the fraction of a count that dimension reduction saves; negative: it costs more."""
    naive, reduced = (totals(tables[f"Inception {kind}"])[count] for kind in ("naive", "reduced"))
    return 1 - reduced / naive


def growth_over_stages(stages: int = 5) -> pd.DataFrame:
    """Return channels and operations when the same module is stacked on its own output.

    A row for each ``stage`` (from 1) with the channels that come out and the multiply–accumulates
    of the stage, for both modules: ``naive_channels``, ``naive_operations``, ``reduced_channels``,
    ``reduced_operations``.
    """
    rows = [{"stage": stage} for stage in range(1, stages + 1)]
    for name, build in (("naive", inception_naive), ("reduced", inception_reduced)):
        channels, *size = INCEPTION_INPUT
        for row in rows:
            table = layer_table(build(channels), (channels, *size))
            channels = sum(branch_channels(table))
            row[f"{name}_operations"] = totals(table)["multiply_accumulates"]
            row[f"{name}_channels"] = channels
    return pd.DataFrame(rows)


def branch_channels(table: pd.DataFrame) -> list[int]:
    """Return the channels that each branch of an Inception module adds to the joined output."""
    last = branch_layers(table).groupby("branch", sort=False)["output_shape"].last()
    return [shape[0] for shape in last]


def branch_layers(table: pd.DataFrame) -> pd.DataFrame:
    """Return the layers of an Inception module's layer table, with what their names say.

    The names are ``branches.<branch>.<layer>``: ``branch`` is the second part, and ``reduces`` says
    whether the third begins with "reduce" or "project".
    """
    layers = table[table["kind"] != "input"]
    names = layers["layer"].str.split(".")
    return layers.assign(
        branch=names.str[1], reduces=names.str[2].str.startswith(("reduce", "project"))
    )
