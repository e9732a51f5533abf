"""The answers of Problem 2: the record that is saved, and the report's rows made from it."""

from typing import Any

import pandas as pd

from hw3utils.problem2.experiments import INCEPTION_INPUT, branch_channels, inception_saving
from hw3utils.problem2.layers import totals
from hw3utils.problem2.proposals.example import ProposalExample
from hw3utils.problem2.receptive_field import receptive_field, stack_of, stacked_receptive_field


def record(
    tables: dict[str, pd.DataFrame], example: ProposalExample, wide: ProposalExample
) -> dict[str, Any]:
    """Return what ``answers/results/problem2.json`` holds: every total that the write-up states.

    ``tables`` are from `experiments.layer_tables`; the examples are the photograph, and the same
    simulation in a frame of 600×1000.
    """
    vgg = totals(tables["VGG-19"])
    inception = {}
    height, width = INCEPTION_INPUT[1:]
    for kind in ("naive", "reduced"):
        table = tables[f"Inception {kind}"]
        inception[kind] = {"output_shape": [height, width, sum(branch_channels(table))]}
        for count in ("multiply_accumulates", "parameters", "weights"):
            inception[kind][count] = totals(table)[count]
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


def report_rows(found: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    """Return question, points, answer and the start of its heading: the report's first page."""
    naive, reduced = (found["inception"][name] for name in ("naive", "reduced"))
    operations = [f"{module['multiply_accumulates'] / 1e6:,.0f}" for module in (naive, reduced)]
    sizes = ["×".join(map(str, module["output_shape"])) for module in (naive, reduced)]
    counts = found["proposals"]["600x600"]
    receptive = found["receptive_field_three_5x5"]
    return [
        ("2.1", 4, f"{found['alexnet_parameters']['grouped']:,} parameters.", "2.1"),
        ("2.2", 6, f"{found['vgg19_activations']:,} activations and "
         f"{found['vgg19_parameters_without_biases']:,} parameters without biases.", "2.2"),
        ("2.3", 3, f"By induction; three 5×5 filters see {receptive}×{receptive}.",
         "2.3"),
        ("2.4a", 2, "Look at several scales at once, with filters of several sizes "
         "side by side.", "(a) The general idea"),
        ("2.4b", 3, f"Naive {sizes[0]}, with reductions {sizes[1]}.",
         "(b) The output size"),
        ("2.4c", 3, f"Naive {operations[0]} million, with reductions {operations[1]} "
         "million multiply–accumulates.", "(c) The number"),
        ("2.4d", 4, "The naive module's channels and operations grow from stage to "
         f"stage; the reductions save {found['inception_saving']:.1%}.", "(d) The problem"),
        ("2.5a", 2, "Proposals come from a small network that shares the detector's "
         "convolutions, in place of Selective Search.", "(a) What makes it"),
        ("2.5b", 2, "A 3×3 convolution, then two sibling 1×1 convolutions: scores and "
         f"offsets; {found['region_proposal_network_parameters']:,} parameters on VGG-16.",
         "(b) The region"),
        ("2.5c", 3, f"A 600×600 image has {counts['anchors']:,} anchors, "
         f"{counts['anchors_inside']:,} of them inside.", "(c) How proposals"),
        ("2.5d", 3, "Non-maximum suppression: it leaves "
         f"{counts['after_suppression']:,} proposals there, and "
         f"{found['proposals']['600x1000']['after_suppression']:,} of a 600×1000 image.",
         "(d) From many"),
    ]  # fmt: skip
