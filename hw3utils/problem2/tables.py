"""The tables of Problem 2 as a reader sees them: calculations written out, totals, units.

From layer tables, boxes, and the record of the trained networks to DataFrames or lines of text.
"""

import math
from itertools import combinations
from statistics import mean
from string import ascii_uppercase
from typing import Any

import pandas as pd
from torch import Tensor

from hw3utils.problem2.experiments import branch_layers
from hw3utils.problem2.formulas import pair
from hw3utils.problem2.proposals.boxes import iou
from hw3utils.problem2.proposals.suppression import non_maximum_suppression


def parameters(table: pd.DataFrame) -> pd.DataFrame:
    """Return the parameters of each layer that has some, the calculation written out, and the sum.

    The form of question 2.1: layer, filters, output, calculation, parameters with biases.
    """
    layers = table[table["kind"].isin(["conv", "fc"]) | (table["parameters"] > 0)]
    frame = pd.DataFrame(
        {
            "layer": layers["layer"],
            "filters": [layer_description(layer) for layer in layers.itertuples()],
            "output": layers["output_shape"].map(size),
            "calculation": layers["parameter_formula"],
            "parameters": layers["parameters"].map(_integer),
        }
    )
    return _with_total(frame, parameters=layers["parameters"])


def activations_and_weights(table: pd.DataFrame) -> pd.DataFrame:
    """Return activations and weights of every layer, without biases: the table of question 2.2."""
    names, activations, weights = [], [], []
    for layer in table.itertuples():
        words = "" if layer.kind == "input" else f" ({layer_description(layer)})"
        names.append(layer.layer + words)
        activations.append(_equation(layer.activation_formula, layer.activations))
        weights.append(_equation(layer.weight_formula, layer.weights))
    memory, compute = "activations (memory)", "parameters (compute)"
    frame = pd.DataFrame({"layer": names, memory: activations, compute: weights})
    return _with_total(frame, **{memory: table["activations"], compute: table["weights"]})


def operations(table: pd.DataFrame) -> pd.DataFrame:
    """Return the multiply–accumulates of an Inception module, layer by layer: question 2.4(c)."""
    layers = branch_layers(table)
    pools = layers["pool"].map({"max": "none: maxima", "average": "none: means"})
    frame = pd.DataFrame(
        {
            "branch": layers["branch"].str.replace("x", "×"),
            "layer": [layer_description(layer) for layer in layers.itertuples()],
            "output": layers["output_shape"].map(size),
            "calculation": pools.fillna(layers["operation_formula"]),
            "operations": layers["multiply_accumulates"].map(_integer),
        }
    )
    return _with_total(frame, operations=layers["multiply_accumulates"])


def network_costs(costs: pd.DataFrame, batch_size: int) -> pd.DataFrame:
    """Return the counts and bytes of `experiments.compare_networks`: millions, MB of 10⁶ bytes.

    ``batch_size`` is what it was made for, and stands in the heading.
    """
    return pd.DataFrame(
        {
            "network": costs.index,
            "parameters [M]": costs["parameters"].map(_millions),
            "of them biases [%]": costs["bias_share"].map(lambda share: f"{100 * share:.3f}"),
            "activations [M]": costs["activations"].map(_millions),
            "operations [M]": costs["multiply_accumulates"].map(_millions),
            "kept for the backward pass [MB]": costs["saved_bytes"].map(_millions),
            f"training, batch {batch_size} [MB]": costs["training_bytes"].map(_millions),
        }
    ).reset_index(drop=True)


def decoding(anchor: Tensor, offsets: Tensor) -> pd.DataFrame:
    """Return how (t_x, t_y, t_w, t_h) turn one anchor's corners into a box, each line written out.

    The centre and the sides of the box, as `boxes.decode` computes them.
    """
    x1, y1, x2, y2 = anchor.tolist()
    width, height = x2 - x1, y2 - y1
    t_x, t_y, t_w, t_h = offsets.tolist()
    x, y = x1 + width / 2, y1 + height / 2
    lines = [
        ("centre x", x, t_x, f"{_minus(t_x)} · {width:.1f} + {x:.1f}", t_x * width + x),
        ("centre y", y, t_y, f"{_minus(t_y)} · {height:.1f} + {y:.1f}", t_y * height + y),
        ("width", width, t_w, f"{width:.1f} · exp({_minus(t_w)})", width * math.exp(t_w)),
        ("height", height, t_h, f"{height:.1f} · exp({_minus(t_h)})", height * math.exp(t_h)),
    ]
    rows = [
        (name, f"{number:.1f}", _minus(offset), calculation, f"{result:.1f}")
        for name, number, offset, calculation, result in lines
    ]
    return pd.DataFrame(rows, columns=["", "anchor", "offset t", "calculation", "box"])


def recall(rpn: dict[str, Any], overlap: float) -> pd.DataFrame:
    """Return the recall of each arm, in percent, at each number of proposals: means over seeds.

    ``rpn`` is the part of `answers.record` about the trained networks; an object counts as found
    where a proposal has an IoU of at least ``overlap`` with it.
    """
    rows = []
    for arm, overlaps in rpn["recall"].items():
        columns = zip(*overlaps[str(overlap)], strict=True)
        rows.append((arm, *(f"{100 * mean(values):.0f}" for values in columns)))
    return pd.DataFrame(rows, columns=["proposals:", *(f"{n:,}" for n in rpn["counts"])])


def left(rpn: dict[str, Any]) -> pd.DataFrame:
    """Return what each threshold of suppression leaves of a canvas, in means over seeds."""
    rows = [
        (threshold, *(f"{mean(counts[name]):,.0f}" for name in ("uncut", "kept", "fired")))
        for threshold, counts in rpn["left"].items()
    ]
    names = ["threshold", "left of all", "left of the best 6,000", "of these with a score over 0.5"]
    return pd.DataFrame(rows, columns=names)


def fired(rpn: dict[str, Any]) -> pd.DataFrame:
    """Return how many boxes fire for an object, by its size: means over objects and seeds."""
    rows = [
        (
            row["sides"],
            f"{row['objects']:,}",
            *(f"{row[name]:.1f}" for name in ("fired", "0.7", "0.3")),
            f"{100 * row['none']:.0f}",
        )
        for row in rpn["fired"]
    ]
    names = ["longer side [pixels]", "objects", "boxes that fire", "left at 0.7", "left at 0.3"]
    return pd.DataFrame(rows, columns=[*names, "nothing fires [%]"])


def overlaps(boxes: Tensor, scores: Tensor, names: list[str]) -> pd.DataFrame:
    """Return boxes and scores, in the order given, and the IoU of every pair."""
    frame = pd.DataFrame(
        {
            "box": names,
            "corners (x1, y1, x2, y2)": [_corners(box) for box in boxes],
            "score": [f"{float(score):.3f}" for score in scores],
        }
    )
    for name, column in zip(names, iou(boxes, boxes).T, strict=True):
        frame[f"IoU with {name}"] = [f"{float(value):.3f}" for value in column]
    return frame


def by_hand(boxes: Tensor, scores: Tensor, objects: Tensor, threshold: float = 0.7) -> str:
    """Return what suppression does to a handful of boxes (n×4), in Markdown, round by round.

    They are called A, B, … in the order given, and belong to the object (m×4) that they overlap
    most. The last line says which boxes stay on one object, and why.
    """
    steps = non_maximum_suppression(boxes, scores, threshold).steps
    lines = []
    for number, step in enumerate(steps, start=1):
        dropped = [
            f"{ascii_uppercase[i]} (IoU {overlap:.3f})"
            for i, overlap in zip(step.suppressed, step.overlaps, strict=True)
        ]
        lines.append(
            f"- *Round {number}:* keep {ascii_uppercase[step.kept]}; drop "
            f"{' and '.join(dropped) or 'nothing'}; {step.left} left."
        )
    nearest, overlaps = iou(boxes, objects).argmax(dim=1), iou(boxes, boxes)
    stay = [
        f"{ascii_uppercase[a]} and {ascii_uppercase[b]} ({overlaps[a, b]:.3f})"
        for a, b in combinations([step.kept for step in steps], 2)
        if nearest[a] == nearest[b]
    ]
    if stay:
        lines.append(
            f"\nTwo boxes stay on one garment where their IoU is not greater than {threshold:g}: "
            f"{'; '.join(stay)}."
        )
    return "\n".join(lines)


def _with_total(frame: pd.DataFrame, **counts: pd.Series) -> pd.DataFrame:
    """Return the frame with a last row in bold: "total", and the sums of the counts by column."""
    row = dict.fromkeys(frame.columns, "") | {frame.columns[0]: "**total**"}
    row |= {column: f"**{_integer(numbers.sum())}**" for column, numbers in counts.items()}
    return pd.concat([frame, pd.DataFrame([row])], ignore_index=True)


def layer_description(layer) -> str:
    """Return a row of a layer table in a few words: kernel, filters, stride, dilation, groups."""
    shape = layer.output_shape
    if layer.kind == "fc":
        return f"{shape[-1]} outputs"
    if layer.kind == "norm":
        return f"batch normalisation, {shape[0]} channels"
    if layer.kernel is None:
        return f"{layer.pool} pool to {shape[1]}×{shape[2]}"
    kernel = "×".join(map(str, pair(layer.kernel)))
    words = [f"{kernel} {layer.pool} pool"]
    if layer.kind == "conv":
        words = [kernel, f"{shape[0]} filters"]
    for name, sides in (("stride", layer.stride), ("dilation", layer.dilation)):
        if sides != 1:
            words.append(f"{name} {sides}")
    if layer.kind == "conv" and layer.groups > 1:
        words.append(f"{layer.groups} groups")
    return ", ".join(words)


def _equation(formula: str, value: int) -> str:
    return f"{formula} = {_integer(value)}" if "·" in formula else _integer(value)


def _integer(value: int) -> str:
    return f"{int(value):,}"


def _millions(value: float) -> str:
    return f"{value / 1e6:,.2f}"


def size(shape: tuple[int, ...]) -> str:
    """Return channels×height×width as height×width×channels."""
    return "×".join(str(n) for n in (*shape[1:], shape[0]))


def _minus(value: float) -> str:
    """Return a number to four digits, with a true minus sign."""
    return f"{value:.4f}".replace("-", "−")


def _corners(box: Tensor) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in box.tolist()) + ")"
