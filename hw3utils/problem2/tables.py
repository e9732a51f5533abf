"""The tables of Problem 2 as a reader sees them: calculations written out, totals, units.

From layer tables and suppression steps to DataFrames of text, and from those to Markdown.
"""

import math

import pandas as pd
import torch

from hw3utils.problem2.proposals.boxes import iou
from hw3utils.problem2.proposals.example import Suppression


def parameters(table: pd.DataFrame) -> pd.DataFrame:
    """Return the parameters of each layer that has some, the calculation written out, and the sum.

    The form of question 2.1: layer, filters, output, calculation, parameters with biases.
    """
    layers = table[table["kind"].isin(["conv", "norm", "fc"])]
    frame = pd.DataFrame(
        {
            "layer": layers["layer"],
            "filters": [layer_description(layer) for layer in layers.itertuples()],
            "output": layers["output_shape"].map(_size),
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
    layers = table[table["kind"] != "input"]
    pools = layers["pool"].map({"max": "none: maxima", "average": "none: means"})
    frame = pd.DataFrame(
        {
            "branch": layers["layer"].str.split(".").str[1].str.replace("x", "×"),
            "layer": [layer_description(layer) for layer in layers.itertuples()],
            "output": layers["output_shape"].map(_size),
            "calculation": pools.fillna(layers["operation_formula"]),
            "operations": layers["multiply_accumulates"].map(_integer),
        }
    )
    return _with_total(frame, operations=layers["multiply_accumulates"])


def network_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """Return the counts of `problem2.compare_networks`, in millions and percent."""
    return pd.DataFrame(
        {
            "network": costs.index,
            "input": costs["input"].map(_size),
            "layers with weights": costs["weight_layers"],
            "parameters [M]": costs["parameters"].map(_millions),
            "of them biases [%]": costs["bias_share"].map(lambda share: f"{100 * share:.3f}"),
            "activations [M]": costs["activations"].map(_millions),
            "operations [M]": costs["multiply_accumulates"].map(_millions),
        }
    ).reset_index(drop=True)


def network_memory(costs: pd.DataFrame, batch_size: int) -> pd.DataFrame:
    """Return the bytes of `problem2.compare_networks`, in MB of 10⁶ bytes.

    Parameters
    ----------
    costs : pandas.DataFrame
        From `problem2.compare_networks`.
    batch_size : int
        For which it was made, for the heading.
    """
    return pd.DataFrame(
        {
            "network": costs.index,
            "one image forward [MB]": costs["forward_bytes"].map(_millions),
            f"training with batch size {batch_size} [MB]": costs["training_bytes"].map(_millions),
        }
    ).reset_index(drop=True)


def decoding(anchor: torch.Tensor, offsets: torch.Tensor) -> pd.DataFrame:
    """Return how four offsets turn one anchor into a box, each coordinate written out.

    Parameters
    ----------
    anchor, offsets : torch.Tensor
        4 each: corners, and (t_x, t_y, t_w, t_h).
    """
    x1, y1, x2, y2 = anchor.tolist()
    width, height = x2 - x1, y2 - y1
    rows = []
    for name, centre, side, offset in (
        ("centre x", x1 + width / 2, width, float(offsets[0])),
        ("centre y", y1 + height / 2, height, float(offsets[1])),
    ):
        shown = f"{_minus(offset, 4)} · {side:.0f} + {centre:.0f}"
        rows.append((name, f"{centre:.0f}", _minus(offset, 4), shown, offset * side + centre))
    for name, side, offset in (
        ("width", width, float(offsets[2])),
        ("height", height, float(offsets[3])),
    ):
        shown = f"{side:.0f} · exp({_minus(offset, 4)})"
        rows.append((name, f"{side:.0f}", _minus(offset, 4), shown, side * math.exp(offset)))
    frame = pd.DataFrame(rows, columns=["", "anchor", "offset t", "calculation", "box"])
    return frame.assign(box=frame["box"].map(lambda value: f"{value:.1f}"))


def rounds(
    result: Suppression, boxes: torch.Tensor, objects: dict[str, torch.Tensor]
) -> pd.DataFrame:
    """Return one row for each round of a suppression.

    Parameters
    ----------
    result : Suppression
        From `detection.non_maximum_suppression` on ``boxes``.
    boxes : torch.Tensor
        n×4.
    objects : dict of str to torch.Tensor
        Names and boxes (4) of the marked objects; each kept box is said to show the one that it
        overlaps most.
    """
    names, targets = list(objects), torch.stack(list(objects.values()))
    overlap = iou(boxes, targets)
    return pd.DataFrame(
        {
            "round": range(1, len(result.steps) + 1),
            "kept box": [_corners(boxes[step.kept]) for step in result.steps],
            "score": [f"{step.score:.3f}" for step in result.steps],
            "object": [names[int(overlap[step.kept].argmax())] for step in result.steps],
            "IoU with it": [f"{float(overlap[step.kept].max()):.2f}" for step in result.steps],
            "dropped": [len(step.suppressed) for step in result.steps],
            "their IoU": [
                f"{min(step.overlaps):.2f} to {max(step.overlaps):.2f}" if step.overlaps else "none"
                for step in result.steps
            ],
            "left": [step.left for step in result.steps],
        }
    )


def overlaps(boxes: torch.Tensor, scores: torch.Tensor, names: list[str]) -> pd.DataFrame:
    """Return boxes and scores, in the order given, and the IoU of every pair."""
    frame = pd.DataFrame(
        {
            "box": names,
            "corners (x1, y1, x2, y2)": [_corners(box) for box in boxes],
            "score": [f"{float(score):.3f}" for score in scores],
        }
    )
    for name, column in zip(names, iou(boxes, boxes).T, strict=True):
        frame[f"IoU with {name}"] = [f"{float(value):.2f}" for value in column]
    return frame


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
        return "batch normalisation"
    if layer.kernel is None:
        return f"{layer.pool} pool to {shape[1]}×{shape[2]}"
    words = [f"{_sides(layer.kernel)} {layer.pool} pool"]
    if layer.kind == "conv":
        words = [_sides(layer.kernel), f"{shape[0]} filters"]
    for name, sides in (("stride", layer.stride), ("dilation", layer.dilation)):
        if sides != 1:
            words.append(f"{name} {sides if isinstance(sides, int) else _sides(sides)}")
    if layer.kind == "conv" and layer.groups > 1:
        words.append(f"{layer.groups} groups")
    return ", ".join(words)


def _sides(sides: int | tuple[int, int]) -> str:
    """Return a layer table's number, or pair of numbers, as height×width."""
    height, width = (sides, sides) if isinstance(sides, int) else sides
    return f"{height}×{width}"


def _equation(formula: str, value: int) -> str:
    return f"{formula} = {_integer(value)}" if "·" in formula else _integer(value)


def _integer(value: int) -> str:
    return f"{int(value):,}"


def _millions(value: float) -> str:
    return f"{value / 1e6:,.2f}"


def _size(shape: tuple[int, ...]) -> str:
    """Return channels×height×width as height×width×channels."""
    return "×".join(str(n) for n in (*shape[1:], shape[0]))


def _minus(value: float, digits: int) -> str:
    """Return a number with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "−")


def _corners(box: torch.Tensor) -> str:
    return "(" + ", ".join(f"{float(value):.0f}" for value in box) + ")"
