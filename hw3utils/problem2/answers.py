"""The answers of Problem 2: the record that is saved, sentences made from it, the report's rows."""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hw3utils import files
from hw3utils.problem2.experiments import (
    INCEPTION_INPUT,
    TrainedNetworks,
    branch_channels,
    inception_saving,
)
from hw3utils.problem2.layers import layer_table, totals
from hw3utils.problem2.proposals import boxes, measures, network, scenes
from hw3utils.problem2.proposals.measures import ProposalExample
from hw3utils.problem2.proposals.suppression import BEFORE
from hw3utils.problem2.receptive_field import receptive_field, stack_of, stacked_receptive_field
from hw3utils.settings import Problem2
from hw3utils.training.intervals import Interval, mean_interval

BANDS = (22, 40, 66, 114)  # pixels: limits of an object's longer side, in `tables.fired`
AT = 100  # proposals at which arms are compared


def counted(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Return the part of the record that no training changes: every total that is counted.

    ``tables`` are from `experiments.layer_tables`.
    """
    vgg = totals(tables["VGG-19"])
    inception = {}
    for kind in ("naive", "reduced"):
        table = tables[f"Inception {kind}"]
        inception[kind] = {"output_shape": [*INCEPTION_INPUT[1:], sum(branch_channels(table))]}
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
        "anchors": {f"600x{width}": anchor_counts(600, width) for width in (600, 1000)},
    }


def anchor_counts(height: int, width: int) -> dict[str, int]:
    """Return the paper's anchors of an image, and of those inside how each label is given.

    There is a position for every 16 pixels, as with VGG-16. The objects are those marked on the
    photograph. Training leaves out anchors that cross the border, so that only those inside get a
    label.
    """
    anchors = boxes.anchor_grid(height // 16, width // 16, 16, boxes.anchor_shapes())
    inside = anchors[boxes.inside_image(anchors, height, width)]
    labels = boxes.label_anchors(inside, scenes.marked_boxes())
    names = {"positive": 1, "negative": 0, "ignored": -1}
    counts = {name: int((labels == label).sum()) for name, label in names.items()}
    return {"all": len(anchors), "inside": len(inside), **counts}


def record(
    tables: dict[str, pd.DataFrame],
    found: TrainedNetworks,
    example: ProposalExample,
    settings: Problem2,
) -> dict[str, Any]:
    """Return what ``answers/results/problem2.json`` holds: every number that the write-up states.

    ``example`` is what the first network makes of one canvas.
    """
    model = network.ProposalNetwork()
    trunk = stack_of(layer_table(model.trunk, (1, scenes.SIDE, scenes.SIDE)))
    run = network.ProposalRun(0, settings.rpn_canvases, settings.rpn_epochs)
    rpn = {
        "anchors": len(example.anchors),
        "parameters": sum(p.numel() for p in model.parameters()),
        "receptive_field": int(receptive_field([*trunk, (3, 1, 1)])["size"].iloc[-1]),
        "images": settings.rpn_canvases,
        "updates": run.updates,
        "unseen_images": settings.unseen_canvases,
        "objects": len(found.measured[0]["objects"]),
        "seconds": [round(result["seconds"]) for result in found.trained],
        "counts": measures.COUNTS,
        "recall": _by_network([result["recall"] for result in found.measured]),
        "left": _by_network([result["left"] for result in found.measured]),
        "fired": _by_size([result["objects"] for result in found.measured]),
        "example": _example(example),
    }
    return {
        "profile": settings.profile,
        "settings": dataclasses.asdict(settings),
        "environment": files.environment(),
        "seconds": sum(result["seconds"] for result in found.trained),
        **counted(tables),
        "rpn": rpn,
    }


def _by_network(results: list[Any]) -> Any:
    """Return nested dicts with the same keys as one, with a list over the networks at each leaf."""
    if not isinstance(results[0], dict):
        return results
    return {name: _by_network([result[name] for result in results]) for name in results[0]}


def _by_size(by_network: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return, for each of `BANDS`, what fires for an object on average.

    All networks are shown the same objects, which are counted once.
    """
    rows = []
    for low, high in pairwise(BANDS):
        band = [row for objects in by_network for row in objects if low <= row["side"] < high]
        if band:
            rows.append(
                {
                    "sides": f"{low} to {high - 1}",
                    "objects": len(band) // len(by_network),
                    "fired": mean(row["fired"] for row in band),
                    "none": mean(row["fired"] == 0 for row in band),
                    "0.7": mean(row["kept"]["0.7"] for row in band),
                    "0.3": mean(row["kept"]["0.3"] for row in band),
                }
            )
    return rows


def followed(example: ProposalExample) -> int:
    """Return the anchor to follow: inside, it fires and survives, and its box gains most."""
    kept = example.proposals.kept
    before, after = (
        boxes.iou(stage[kept], example.canvas.objects).max(dim=1).values
        for stage in (example.anchors, example.proposals.clipped)
    )
    fires = example.scores[kept] > measures.HALF
    fires &= boxes.inside_image(example.anchors[kept], scenes.SIDE, scenes.SIDE)
    return int(kept[torch.where(fires, after - before, -1.0).argmax()])


def _example(example: ProposalExample) -> dict[str, Any]:
    """Return the one anchor that is followed, and the six boxes to suppress by hand."""
    proposals, one, six = example.proposals, followed(example), example.handful
    return {
        "score": round(float(example.scores[one]), 4),
        "offsets": _rounded(example.offsets[one], 4),
        "anchor": _rounded(example.anchors[one], 2),
        "decoded": _rounded(proposals.decoded[one], 2),
        "clipped": _rounded(proposals.clipped[one], 2),
        "objects": [_rounded(box, 2) for box in example.canvas.objects],
        "six": [_rounded(box, 4) for box in proposals.clipped[six]],
        "scores": _rounded(example.scores[six], 4),
    }


def _rounded(numbers: Tensor, digits: int) -> list[float]:
    return [round(number, digits) for number in numbers.tolist()]


def methods(found: dict[str, Any]) -> str:
    """Return how the region proposal networks were trained and measured, in one paragraph."""
    rpn, sizes = found["rpn"], found["settings"]
    seconds = rpn["seconds"]
    areas = ", ".join(f"{scale}²" for scale in network.SCALES)
    shapes = len(network.SCALES) * len(network.RATIOS)
    return (
        f"**Methods.** {len(seconds)} networks (seeds) of {rpn['parameters']:,} parameters: for "
        f"every {network.STRIDE} pixels a position that sees {rpn['receptive_field']}×"
        f"{rpn['receptive_field']} of them and has {shapes} anchors (areas "
        f"{areas}). Each was trained for {rpn['updates']:,} updates of "
        f"{network.ProposalRun.batch_size} canvases (Adam) on {rpn['images']:,} canvases of "
        f"{scenes.SIDE}×{scenes.SIDE} pixels, with garments from {sizes['n_train']:,} training "
        f"images, in {min(seconds)} to {max(seconds)} seconds of one CPU core. Measured on "
        f"{rpn['unseen_images']} canvases of test garments with {rpn['objects']:,} objects, the "
        f"same for all. Intervals: 95 %, Student's t, paired by network, n = {len(seconds)}."
    )


def left_answer(rpn: dict[str, Any]) -> str:
    """Return what suppression at 0.7 leaves of all boxes, and what the network says of them."""
    left = {name: mean(counts) for name, counts in rpn["left"]["0.7"].items()}
    on_objects = sum(row["objects"] * row["0.7"] for row in rpn["fired"]) / rpn["unseen_images"]
    paper = 2_000  # proposals in training (Ren et al. 2015, Sec. 3.3)
    more = "more than the paper's" if left["kept"] > paper else "not more than the paper's"
    return (
        f"At 0.7 the {rpn['anchors']:,} boxes of a canvas become {left['uncut']:,.0f}, the best "
        f"{BEFORE:,} of them {left['kept']:,.0f}. That is {more} {paper:,} (for other images and "
        f"anchors). **The network itself calls {1 - left['fired'] / left['kept']:.1%} of them "
        f"background**: {left['fired']:,.0f} have a "
        f"score above 0.5, of which at most {on_objects:,.0f} lie on an object (IoU at least 0.5)."
    )


def fired_answer(rpn: dict[str, Any]) -> str:
    """Return how many boxes fire for large and for small objects, from the rows of `fired`."""
    small, large = rpn["fired"][0], rpn["fired"][-1]
    return (
        f"Of the largest objects' {large['fired']:.1f} boxes on average, suppression at 0.7 leaves "
        f"{large['0.7']:.1f}, at 0.3 {large['0.3']:.1f}; for {small['none']:.0%} of the smallest "
        f"no box fires."
    )


def recall_answer(rpn: dict[str, Any]) -> str:
    """Return which arm finds more objects, and which threshold at few proposals and at many."""
    counts = rpn["counts"]
    lines = [
        f"With {AT} proposals, suppression at 0.7 (also used in the last two) finds, compared "
        "with:\n"
    ]
    others = [f"suppression at {threshold}" for threshold in measures.THRESHOLDS[:-1]]
    for other in (*others, measures.NONE, measures.SHUFFLED, measures.UNTRAINED):
        lines.append(f"- {other}: {compared(rpn, 'suppression at 0.7', other)}")

    def share(arm: str, at: int) -> float:
        return mean(seed[at] for seed in rpn["recall"][arm]["0.5"])

    arms = [f"suppression at {threshold}" for threshold in measures.THRESHOLDS]
    few, many = (max(arms, key=lambda arm, at=at: share(arm, at)) for at in (0, -1))
    none_few, none_many = (
        compared(rpn, "suppression at 0.7", measures.NONE, "0.7", at) for at in (AT, counts[-1])
    )
    lines.append(
        f"\nThreshold {few.split()[-1]} finds most with {counts[0]:,} proposals, "
        f"{many.split()[-1]} with {counts[-1]:,} (where shuffled scores find "
        f"{share(measures.SHUFFLED, -1):.0%}). What is dropped may fit better than what is kept: "
        f"where IoU 0.7 is asked (right), suppression at 0.7 against none finds with {AT} "
        f"proposals {none_few}, with {counts[-1]:,} {none_many}."
    )
    return "\n".join(lines)


def difference(
    rpn: dict[str, Any], arm: str, other: str, overlap: str = "0.5", proposals: int = AT
) -> Interval:
    """Return two arms' difference in recall at an IoU, in points, paired by seed."""
    at = list(rpn["counts"]).index(proposals)
    one, two = ([seed[at] for seed in rpn["recall"][name][overlap]] for name in (arm, other))
    return mean_interval([100 * (a - b) for a, b in zip(one, two, strict=True)])


def compared(rpn: dict[str, Any], arm: str, other: str, *where: Any) -> str:
    """Return that `difference` in words, and whether it can be told from none."""
    mean_, low, high = interval = difference(rpn, arm, other, *where)
    verdict = {1: "more", -1: "fewer", 0: "more or fewer cannot be told"}[interval.sign]
    numbers = f"{mean_:+.1f} points" + ("" if low != low else f", {low:+.1f} to {high:+.1f}")
    return f"{verdict} ({numbers})".replace("-", "−")


def report_rows(found: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    """Return question, points, answer and the start of its heading: the report's first page."""
    naive, reduced = (found["inception"][name] for name in ("naive", "reduced"))
    operations = [f"{module['multiply_accumulates'] / 1e6:,.0f}" for module in (naive, reduced)]
    sizes = ["×".join(map(str, module["output_shape"])) for module in (naive, reduced)]
    counts = found["anchors"]["600x600"]
    left = {name: mean(counts) for name, counts in found["rpn"]["left"]["0.7"].items()}
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
        ("2.4d", 4, "Naive modules get more expensive from stage to stage; 1×1 reductions save "
         f"{found['inception_saving']:.1%} of the operations.", "(d) The problem"),
        ("2.5a", 2, "Proposals come from a small network that shares the detector's "
         "convolutions, in place of Selective Search.", "(a) What makes it"),
        ("2.5b", 2, "A 3×3 convolution, then two sibling 1×1 convolutions: scores and "
         f"offsets; {found['region_proposal_network_parameters']:,} parameters on VGG-16.",
         "(b) The region"),
        ("2.5c", 3, f"A 600×600 image has {counts['all']:,} anchors, "
         f"{counts['inside']:,} of them inside.", "(c) How proposals"),
        ("2.5d", 3, "Non-maximum suppression: in our own RPN it leaves "
         f"{left['kept']:,.0f} of the best 6,000 boxes, {left['fired']:,.0f} of them with a "
         "score over 0.5.", "(d) From many"),
    ]  # fmt: skip
