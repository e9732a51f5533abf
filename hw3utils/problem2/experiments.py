"""The calculations of Problem 2: the networks that are counted, and what follows from their counts.

Numbers only, laid out in `tables` and drawn in `figures`; the photograph of 2.5 is in
`proposals.example`.
"""

from itertools import product

import pandas as pd

from hw3utils.problem2.layers import layer_table, memory, totals
from hw3utils.problem2.networks import (
    RegionProposalHead,
    alexnet,
    inception_naive,
    inception_reduced,
    torchvision_network,
    vgg19,
)
from hw3utils.problem2.receptive_field import gradient_receptive_field, stacked_receptive_field
from hw3utils.training import networks

INCEPTION_INPUT = (256, 32, 32)


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
        "LeNet-5": layer_table(networks.LeNet5(), (1, 28, 28)),
        "Inception naive": layer_table(inception_naive(), INCEPTION_INPUT),
        "Inception reduced": layer_table(inception_reduced(), INCEPTION_INPUT),
        "RPN": layer_table(RegionProposalHead(), (512, 37, 37)),
    }


def compare_networks(tables: dict[str, pd.DataFrame], batch_size: int = 64) -> pd.DataFrame:
    """Return one row of costs for each network: counts for one image, bytes in float32.

    Indexed by name: ``input``, ``weight_layers`` (convolutions and linear layers), ``parameters``,
    ``bias_share`` (fraction), ``activations``, ``multiply_accumulates``, ``forward_bytes`` (one
    image) and ``training_bytes`` (a minibatch, with gradients and momentum).
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
