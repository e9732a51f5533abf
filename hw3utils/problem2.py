"""The calculations of Problem 2: the networks that are counted, and the answers.

The photograph of 2.5 is in `rpn_example`. Numbers only: they are laid out by `tables_problem2` and
drawn by the modules in `plots`.
"""

from typing import Any

import pandas as pd

from hw3utils import models
from hw3utils.architectures import layer_table
from hw3utils.network_costs import memory, totals
from hw3utils.paper_networks import (
    RegionProposalHead,
    alexnet,
    inception_naive,
    inception_reduced,
    torchvision_network,
    vgg19,
)
from hw3utils.receptive_field import (
    gradient_receptive_field,
    receptive_field,
    stack_of,
    stacked_receptive_field,
)
from hw3utils.rpn_example import ProposalExample

__all__ = [
    "INCEPTION_INPUT",
    "answers",
    "branch_channels",
    "compare_networks",
    "growth_over_stages",
    "inception_saving",
    "layer_tables",
    "receptive_field_check",
]

INCEPTION_INPUT = (256, 32, 32)
"""Channels, height and width of the handout's input to the Inception modules."""


def layer_tables() -> dict[str, pd.DataFrame]:
    """Return the layer table of every network that the problem counts, by name.

    The paper's AlexNet takes 227×227 pixels (its text says 224, from which its own 55×55 maps do
    not follow without padding); all others take the size that their papers give.
    """
    return {
        "AlexNet": layer_table(alexnet(groups=2), (3, 227, 227)),
        "AlexNet ungrouped": layer_table(alexnet(groups=1), (3, 227, 227)),
        "AlexNet torchvision": layer_table(torchvision_network("alexnet"), (3, 224, 224)),
        "VGG-19": layer_table(vgg19(), (3, 224, 224)),
        "VGG-19 torchvision": layer_table(torchvision_network("vgg19"), (3, 224, 224)),
        "ResNet-50": layer_table(torchvision_network("resnet50"), (3, 224, 224)),
        "LeNet-5": layer_table(models.LeNet5(), (1, 28, 28)),
        "Inception naive": layer_table(inception_naive(), INCEPTION_INPUT),
        "Inception reduced": layer_table(inception_reduced(), INCEPTION_INPUT),
        "RPN": layer_table(RegionProposalHead(), (512, 37, 37)),
    }


def compare_networks(tables: dict[str, pd.DataFrame], batch_size: int = 64) -> pd.DataFrame:
    """Return one row of costs for each network: counts for one image, bytes in float32.

    Returns
    -------
    pandas.DataFrame
        Indexed by name: ``input``, ``weight_layers`` (convolutions and linear layers),
        ``parameters``, ``bias_share`` (fraction), ``activations``, ``multiply_accumulates``,
        ``forward_bytes`` (one image) and ``training_bytes`` (a minibatch, with gradients and
        momentum).
    """
    rows = {}
    for name, table in tables.items():
        counts = totals(table)
        rows[name] = {
            "input": table.loc[0, "output_shape"],
            "weight_layers": int(table["kind"].isin(["conv", "fc"]).sum()),
            "parameters": counts["parameters"],
            "bias_share": counts["biases"] / counts["parameters"],
            "activations": counts["activations"],
            "multiply_accumulates": counts["multiply_accumulates"],
            "forward_bytes": memory(table)["forward"],
            "training_bytes": memory(table, batch_size)["forward_and_backward"],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def receptive_field_check(depths: tuple[int, ...], kernels: tuple[int, ...]) -> pd.DataFrame:
    """Return N·F − N + 1 beside the size that gradients measure, for stacks of stride 1.

    Returns
    -------
    pandas.DataFrame
        ``depth``, ``kernel``, ``formula``, ``measured``.
    """
    rows = []
    for depth in depths:
        for kernel in kernels:
            measured, _ = gradient_receptive_field([(kernel, 1, 0)] * depth)
            rows.append((depth, kernel, stacked_receptive_field(depth, kernel), measured))
    return pd.DataFrame(rows, columns=["depth", "kernel", "formula", "measured"])


def inception_saving(tables: dict[str, pd.DataFrame], count: str) -> float:
    """Return the fraction of a count that dimension reduction saves; negative: it costs more."""
    naive, reduced = (totals(tables[f"Inception {kind}"])[count] for kind in ("naive", "reduced"))
    return 1 - reduced / naive


def growth_over_stages(stages: int = 5) -> pd.DataFrame:
    """Return channels and operations when the same module is stacked on its own output.

    Returns
    -------
    pandas.DataFrame
        ``stage`` (from 1), and for both modules the channels that come out and the
        multiply–accumulates of the stage: ``naive_channels``, ``naive_operations``,
        ``reduced_channels``, ``reduced_operations``.
    """
    channels = {"naive": INCEPTION_INPUT[0], "reduced": INCEPTION_INPUT[0]}
    build = {"naive": inception_naive, "reduced": inception_reduced}
    rows = []
    for stage in range(1, stages + 1):
        row: dict[str, int] = {"stage": stage}
        for name, inputs in channels.items():
            shape = (inputs, *INCEPTION_INPUT[1:])
            table = layer_table(build[name](channels=inputs), shape)
            row[f"{name}_operations"] = totals(table)["multiply_accumulates"]
            channels[name] = row[f"{name}_channels"] = sum(branch_channels(table))
        rows.append(row)
    return pd.DataFrame(rows)


def branch_channels(table: pd.DataFrame) -> list[int]:
    """Return the channels that each branch of an Inception module adds to the joined output."""
    layers = table[table["kind"] != "input"]
    branches = layers["layer"].str.split(".").str[1]
    return [shape[0] for shape in layers.groupby(branches, sort=False)["output_shape"].last()]


def answers(
    tables: dict[str, pd.DataFrame], example: ProposalExample, wide: ProposalExample
) -> dict[str, Any]:
    """Return what ``answers/results/problem2.json`` holds: every total that the write-up states.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        From `layer_tables`.
    example, wide : ProposalExample
        The photograph, and the same simulation in a frame of 600×1000.
    """
    vgg = totals(tables["VGG-19"])
    inception = {}
    for kind in ("naive", "reduced"):
        counts = totals(tables[f"Inception {kind}"])
        height, width = INCEPTION_INPUT[1:]
        inception[kind] = {
            "output_shape": [height, width, sum(branch_channels(tables[f"Inception {kind}"]))],
            "multiply_accumulates": counts["multiply_accumulates"],
            "parameters": counts["parameters"],
            "weights": counts["weights"],
        }
    return {
        "alexnet_parameters": {
            "grouped": totals(tables["AlexNet"])["parameters"],
            "ungrouped": totals(tables["AlexNet ungrouped"])["parameters"],
            "torchvision": totals(tables["AlexNet torchvision"])["parameters"],
        },
        "vgg19_activations": vgg["activations"],
        "vgg19_parameters_without_biases": vgg["weights"],
        "vgg19_parameters": vgg["parameters"],
        "vgg19_multiply_accumulates": vgg["multiply_accumulates"],
        "receptive_field_three_5x5": stacked_receptive_field(3, 5),
        "receptive_field_last_pool": {
            name: int(receptive_field(stack_of(tables[name]))["size"].iloc[-1])
            for name in ("AlexNet", "VGG-19")
        },
        "inception": inception,
        "inception_saving": inception_saving(tables, "multiply_accumulates"),
        "region_proposal_network_parameters": totals(tables["RPN"])["parameters"],
        "proposals": {
            name: {
                "anchors": len(case.anchors),
                "anchors_inside": int(case.inside.sum()),
                "after_suppression": len(case.proposals.kept),
            }
            for name, case in (("600x600", example), ("600x1000", wide))
        },
    }
