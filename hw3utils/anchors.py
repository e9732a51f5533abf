"""Anchors: the boxes that a region proposal network starts from, and what it is trained to say.

Boxes are rows (x1, y1, x2, y2), as in `boxes`.
"""

import math
from collections.abc import Sequence

import torch

from hw3utils.boxes import check_finite, iou

__all__ = ["anchor_grid", "anchor_shapes", "label_anchors"]


def anchor_shapes(
    scales: Sequence[float] = (128, 256, 512), ratios: Sequence[float] = (0.5, 1.0, 2.0)
) -> torch.Tensor:
    """Return width and height of every anchor: area scale², height : width = ratio.

    The defaults are those of Ren et al. 2015, Sec. 3.1.1: k = 9.

    Returns
    -------
    torch.Tensor
        (len(ratios)·len(scales))×2, float64, in pixels; the scale changes fastest.

    Raises
    ------
    ValueError
        There is no scale or no ratio, or one of them is not a positive number.
    """
    for name, numbers in (("scales", scales), ("ratios", ratios)):
        if not len(numbers) or any(not (n > 0 and math.isfinite(n)) for n in numbers):
            raise ValueError(f"{name}={tuple(numbers)}: expected one or more positive numbers")
    shapes = torch.tensor(
        [(s / math.sqrt(r), s * math.sqrt(r)) for r in ratios for s in scales], dtype=torch.float64
    )
    if not bool((torch.isfinite(shapes) & (shapes > 0)).all()):
        raise ValueError(f"scales={tuple(scales)} with ratios={tuple(ratios)}: beyond all numbers")
    return shapes


def anchor_grid(rows: int, columns: int, stride: int, shapes: torch.Tensor) -> torch.Tensor:
    """Return all anchors: every shape, centred on the cell of every position of a feature map.

    Parameters
    ----------
    rows, columns : int
        Height and width of the feature map.
    stride : int
        Image pixels from one position to the next: 16 for VGG-16 and ZF.
    shapes : torch.Tensor
        k×2, widths and heights, from `anchor_shapes`.

    Returns
    -------
    torch.Tensor
        (rows·columns·k)×4, float64: row by row, and at each position the shapes in their order.

    Raises
    ------
    ValueError
        A number is not a positive integer, or the shapes are not positive.
    """
    for name, number in (("rows", rows), ("columns", columns), ("stride", stride)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name}={number!r}: expected a positive integer")
    if shapes.ndim != 2 or shapes.shape[1] != 2 or not bool((shapes > 0).all()):
        raise ValueError(f"shapes: k×2 positive numbers expected, not {tuple(shapes.shape)}")
    check_finite("shapes", shapes)
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) * stride
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) * stride
    centres = torch.cartesian_prod(y, x).flip(1).unsqueeze(1)  # (rows·columns)×1×2, x before y
    return torch.cat([centres - shapes / 2, centres + shapes / 2], dim=2).reshape(-1, 4)


def label_anchors(
    anchors: torch.Tensor, objects: torch.Tensor, positive: float = 0.7, negative: float = 0.3
) -> torch.Tensor:
    """Return what an RPN is trained to say of each anchor: 1 object, 0 background, −1 no matter.

    An anchor is positive if its IoU with some object is ``positive`` or more, or if no anchor
    overlaps that object more; it is negative if its IoU with every object is below ``negative``
    (Ren et al. 2015, Sec. 3.1.2).

    Returns
    -------
    torch.Tensor
        int64, one for each anchor. Without objects every anchor is background.

    Raises
    ------
    ValueError
        The boxes are malformed, or the thresholds are not 0 ≤ negative ≤ positive ≤ 1.
    """
    if not 0 <= negative <= positive <= 1:
        raise ValueError(
            f"negative={negative}, positive={positive}: expected 0 ≤ negative ≤ positive ≤ 1"
        )
    overlaps = iou(anchors, objects)
    labels = torch.zeros(len(anchors), dtype=torch.int64)
    if len(anchors) == 0 or len(objects) == 0:
        return labels
    best = overlaps.max(dim=1).values
    labels[best >= negative] = -1
    best_for_object = overlaps.max(dim=0).values
    closest = ((overlaps == best_for_object) & (best_for_object > 0)).any(dim=1)
    labels[(best >= positive) | closest] = 1
    return labels
