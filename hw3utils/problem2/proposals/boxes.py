"""Boxes as rows (x1, y1, x2, y2): anchors, overlap, offsets, cutting at an image's borders.

Coordinates are pixels in floating point, with x1 ≤ x2 and y1 ≤ y2. Written to be read;
torchvision's compiled operators give the same results. A ValueError refuses what are no boxes: not
n×4, not floating point, not finite, with a side that is negative, or 0 where one divides by it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hw3utils.checks import check_whole_number

# exp of a larger offset would overflow or leave every image; torchvision's limit.
_LARGEST_LOG_RATIO = math.log(1000 / 16)
_LARGEST_AREA = torch.finfo(torch.float64).max / 2  # the union of two boxes must still be a number


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the offsets (t_x, t_y, t_w, t_h), n×4, that turn the i-th anchor into the i-th box.

    t_x = (x − x_a)/w_a, t_y = (y − y_a)/h_a, t_w = log(w/w_a), t_h = log(h/h_a), with x, y the
    centre (Ren et al. 2015, Eq. 2).
    """
    check_boxes("boxes", boxes, positive=True)
    check_boxes("anchors", anchors, positive=True)
    check_lengths(boxes=boxes, anchors=anchors)
    centre, size = _centre_and_size(boxes)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    return torch.cat([(centre - anchor_centre) / anchor_size, (size / anchor_size).log()], dim=1)


def decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Return the boxes that the offsets (n×4) make of the anchors (n×4); the inverse of `encode`.

    x = t_x·w_a + x_a, y = t_y·h_a + y_a, w = w_a·exp(t_w), h = h_a·exp(t_h). t_w and t_h are cut at
    log(1000/16), as in torchvision, so that a wild offset cannot overflow.
    """
    check_boxes("anchors", anchors, positive=True)
    if offsets.ndim != 2 or offsets.shape[1] != 4:
        raise ValueError(f"offsets: expected n×4, got {tuple(offsets.shape)}")
    check_lengths(offsets=offsets, anchors=anchors)
    check_finite("offsets", offsets)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    centre = offsets[:, :2] * anchor_size + anchor_centre
    size = anchor_size * offsets[:, 2:].clamp(max=_LARGEST_LOG_RATIO).exp()
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return the boxes cut at the borders of an image; one outside it gets an area of 0."""
    check_boxes("boxes", boxes)
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)


def inside_image(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return for each box whether it lies wholly inside the image (bool, n)."""
    check_boxes("boxes", boxes)
    limits = boxes.new_tensor([width, height])
    return ((boxes[:, :2] >= 0) & (boxes[:, 2:] <= limits)).all(dim=1)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the overlap of every box of ``first`` (n×4) with every box of ``second`` (m×4).

    The area of the intersection divided by that of the union, n×m, between 0 and 1; 0 where both
    areas are 0. Computed in float64, returned in the boxes' own type.
    """
    check_boxes("first", first)
    check_boxes("second", second)
    return unchecked_iou(first, second)


def unchecked_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return what `iou` does, for boxes that a caller in a loop has checked once."""
    own_type = torch.promote_types(first.dtype, second.dtype)
    # Areas are squares: 300×300 pixels are beyond float16, sides of 1e20 beyond float32.
    first, second = first.double(), second.double()
    top_left = torch.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = (bottom_right - top_left).clamp(min=0)
    intersection = sides[..., 0] * sides[..., 1]
    union = _areas(first)[:, None] + _areas(second)[None, :] - intersection
    return torch.where(union > 0, intersection / union, 0.0).to(own_type)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + size / 2, size


def check_boxes(name: str, boxes: Tensor, positive: bool = False) -> None:
    """Refuse what are not boxes; ``positive`` also refuses sides of length 0."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(
            f"{name}: expected n×4 floating-point numbers (x1, y1, x2, y2), "
            f"got {tuple(boxes.shape)} {boxes.dtype}"
        )
    check_finite(name, boxes)
    sides = boxes[:, 2:].double() - boxes[:, :2].double()
    bad = (sides <= 0 if positive else sides < 0).any(dim=1).nonzero().flatten()
    if len(bad):
        needed = "greater than 0" if positive else "0 or more"
        raise ValueError(
            f"{name}: box {int(bad[0])} {boxes[bad[0]].tolist()} has a width or height that is not "
            f"{needed}; x1 must come before x2 and y1 before y2"
        )
    huge = (sides.prod(dim=1) > _LARGEST_AREA).nonzero().flatten()
    if len(huge):
        raise ValueError(f"{name}: the area of box {int(huge[0])} is too large for float64")


def check_finite(name: str, numbers: Tensor) -> None:
    """Refuse NaN and infinity, and say in which row the first one is."""
    bad = (~torch.isfinite(numbers)).nonzero()
    if len(bad):
        raise ValueError(f"{name}: row {int(bad[0, 0])} is NaN or infinite; all must be finite")


def check_lengths(**tensors: Tensor) -> None:
    """Refuse tensors that should go together row by row and differ in length."""
    for name, tensor in tensors.items():
        if tensor.ndim == 0:
            raise ValueError(f"{name}: a single number; one row for each box expected")
    lengths = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"lengths differ: {counts}; row i of each must belong together")


def anchor_shapes(
    scales: Sequence[float] = (128, 256, 512), ratios: Sequence[float] = (0.5, 1.0, 2.0)
) -> Tensor:
    """Return width and height of every anchor: area scale², height : width = ratio.

    (len(ratios)·len(scales))×2, float64, in pixels; the scale changes fastest. The defaults are
    those of Ren et al. 2015, Sec. 3.1.1: k = 9. Raises a ValueError unless all are positive.
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


def anchor_grid(rows: int, columns: int, stride: int, shapes: Tensor) -> Tensor:
    """Return all anchors: every shape, centred on the cell of every position of a feature map.

    ``stride`` image pixels lie between positions (16 for VGG-16 and ZF); ``shapes`` are k×2, from
    `anchor_shapes`. (rows·columns·k)×4, float64: row by row, and at each position the shapes in
    their order.
    """
    for name, number in (("rows", rows), ("columns", columns), ("stride", stride)):
        check_whole_number(name, number)
    if shapes.ndim != 2 or shapes.shape[1] != 2 or not bool((shapes > 0).all()):
        raise ValueError(f"shapes: k×2 positive numbers expected, not {tuple(shapes.shape)}")
    check_finite("shapes", shapes)
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) * stride
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) * stride
    centres = torch.cartesian_prod(y, x).flip(1).unsqueeze(1)  # (rows·columns)×1×2, x before y
    return torch.cat([centres - shapes / 2, centres + shapes / 2], dim=2).reshape(-1, 4)


def label_anchors(
    anchors: Tensor, objects: Tensor, positive: float = 0.7, negative: float = 0.3
) -> Tensor:
    """Return what an RPN is trained to say of each anchor: 1 object, 0 background, −1 no matter.

    An anchor is positive if its IoU with some object is above ``positive``, or if no anchor
    overlaps that object more; it is negative if its IoU with every object is below ``negative``
    (Ren et al. 2015, Sec. 3.1.2; torchvision's ``Matcher`` also takes an IoU of just ``positive``).
    int64; without objects every anchor is background. Raises a ValueError where the thresholds are
    not 0 ≤ negative ≤ positive ≤ 1.
    """
    if not 0 <= negative <= positive <= 1:
        raise ValueError(
            f"negative={negative}, positive={positive}: expected 0 ≤ negative ≤ positive ≤ 1"
        )
    overlaps = iou(anchors, objects)
    labels = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    if len(anchors) == 0 or len(objects) == 0:
        return labels
    best = overlaps.max(dim=1).values
    labels[best >= negative] = -1
    best_for_object = overlaps.max(dim=0).values
    closest = ((overlaps == best_for_object) & (best_for_object > 0)).any(dim=1)
    labels[(best > positive) | closest] = 1
    return labels
