"""Boxes as rows (x1, y1, x2, y2): overlap, offsets from anchors, cutting at an image's borders.

Coordinates are pixels in floating point, with x1 ≤ x2 and y1 ≤ y2. Written to be read;
torchvision's compiled operators give the same results. What is done with boxes is in `detection`.
"""

import math

import torch

__all__ = [
    "check_boxes",
    "check_finite",
    "check_lengths",
    "clip_boxes",
    "decode",
    "encode",
    "inside_image",
    "iou",
    "unchecked_iou",
]

# exp of a larger offset would overflow or leave every image; torchvision's limit.
_LARGEST_LOG_RATIO = math.log(1000 / 16)


def encode(boxes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Return the offsets (t_x, t_y, t_w, t_h) that turn each anchor into its box.

    t_x = (x − x_a)/w_a, t_y = (y − y_a)/h_a, t_w = log(w/w_a), t_h = log(h/h_a), with x, y the
    centre (Ren et al. 2015, Eq. 2).

    Parameters
    ----------
    boxes, anchors : torch.Tensor
        n×4 each: the i-th box belongs to the i-th anchor.

    Raises
    ------
    ValueError
        The lengths differ, or a box or an anchor has a side that is not positive.
    """
    check_boxes("boxes", boxes, positive=True)
    check_boxes("anchors", anchors, positive=True)
    check_lengths(boxes=boxes, anchors=anchors)
    centre, size = _centre_and_size(boxes)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    return torch.cat([(centre - anchor_centre) / anchor_size, (size / anchor_size).log()], dim=1)


def decode(offsets: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Return the boxes that the offsets make of the anchors; the inverse of `encode`.

    x = t_x·w_a + x_a, y = t_y·h_a + y_a, w = w_a·exp(t_w), h = h_a·exp(t_h). t_w and t_h are cut at
    log(1000/16), as in torchvision, so that a wild offset cannot overflow.

    Parameters
    ----------
    offsets, anchors : torch.Tensor
        n×4 each.

    Raises
    ------
    ValueError
        The lengths differ, an offset is not finite, or an anchor has a side that is not positive.
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


def clip_boxes(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the boxes cut at the borders of an image; one outside it gets an area of 0."""
    check_boxes("boxes", boxes)
    limits = torch.tensor([width, height, width, height], dtype=boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limits)


def inside_image(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return for each box whether it lies wholly inside the image (bool, n)."""
    check_boxes("boxes", boxes)
    limits = torch.tensor([width, height], dtype=boxes.dtype)
    return ((boxes[:, :2] >= 0) & (boxes[:, 2:] <= limits)).all(dim=1)


def iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the overlap of every box of ``first`` with every box of ``second``.

    The area of the intersection divided by that of the union; 0 where both areas are 0.

    Returns
    -------
    torch.Tensor
        n×m, between 0 and 1, in the boxes' type.

    Raises
    ------
    ValueError
        Not n×4, not floating point, not finite, or a box with a negative side.
    """
    check_boxes("first", first)
    check_boxes("second", second)
    return unchecked_iou(first, second)


def unchecked_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return what `iou` does, for boxes that a caller in a loop has checked once."""
    top_left = torch.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = (bottom_right - top_left).clamp(min=0)
    intersection = sides[..., 0] * sides[..., 1]
    union = _areas(first)[:, None] + _areas(second)[None, :] - intersection
    return (intersection / union).nan_to_num(0.0)  # 0/0: both areas are 0


def _areas(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _centre_and_size(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + size / 2, size


def check_boxes(name: str, boxes: torch.Tensor, positive: bool = False) -> None:
    """Refuse what are not boxes; ``positive`` also refuses sides of length 0."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(
            f"{name}: expected n×4 floating-point numbers (x1, y1, x2, y2), "
            f"got {tuple(boxes.shape)} {boxes.dtype}"
        )
    check_finite(name, boxes)
    sides = boxes[:, 2:] - boxes[:, :2]
    bad = (sides <= 0 if positive else sides < 0).any(dim=1).nonzero().flatten()
    if len(bad):
        needed = "greater than 0" if positive else "0 or more"
        raise ValueError(
            f"{name}: box {int(bad[0])} {boxes[bad[0]].tolist()} has a width or height that is not "
            f"{needed}; x1 must come before x2 and y1 before y2"
        )


def check_finite(name: str, numbers: torch.Tensor) -> None:
    """Refuse NaN and infinity, and say in which row the first one is."""
    bad = (~torch.isfinite(numbers)).nonzero()
    if len(bad):
        raise ValueError(f"{name}: row {int(bad[0, 0])} is NaN or infinite; all must be finite")


def check_lengths(**tensors: torch.Tensor) -> None:
    """Refuse tensors that should go together row by row and differ in length."""
    for name, tensor in tensors.items():
        if tensor.ndim == 0:
            raise ValueError(f"{name}: a single number; one row for each box expected")
    lengths = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"lengths differ: {counts}; row i of each must belong together")
