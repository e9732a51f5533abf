"""Images whose objects' boxes are known: canvases of garments, and a photograph marked by hand.

A canvas costs nothing to label: who pastes an object knows where its borders are.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from skimage import data
from torch import Generator, Tensor
from torch.nn import functional as F

from hw3utils.problem2.proposals.boxes import iou

SIDE = 256  # pixels of a canvas
OBJECTS = (4, 10)  # fewest and most garments on one
SIZES = (24, 112)  # pixels of a garment's longer side, each factor as likely as every other
SCRAPS = 12  # pieces cut out of garments, which are no objects
VISIBLE = 40  # grey level above which a garment's pixel is pasted; the rest is its background
MOST_OVERLAP = 0.4  # IoU of two garments

PHOTOGRAPH_SIDE = 600  # Faster R-CNN's shorter side
# Marked by hand on the 512×512 photograph: x1, y1, x2, y2 in its pixels.
MARKED = {
    "astronaut": (20, 14, 366, 512),
    "helmet": (277, 343, 511, 512),
    "shuttle model": (354, 0, 474, 290),
}


@dataclass(frozen=True)
class Canvas:
    """An image and the boxes of the objects on it."""

    image: Tensor  # 1×SIDE×SIDE, uint8
    objects: Tensor  # m×4, float64, in pixels: as if no object covered another


def compose(garments: Tensor, generator: Generator) -> Canvas:
    """Return a canvas of garments: real photographs, pasted at several sizes on a noisy ground.

    ``garments`` are FashionMNIST's images, N×1×28×28 uint8. The larger ones are pasted first, so
    that none is hidden by a larger one; two never overlap by more than `MOST_OVERLAP`. Scraps of
    garments lie below them: texture alone makes no object. Raises a ValueError for other images.
    """
    if garments.ndim != 4 or garments.shape[1:] != (1, 28, 28) or len(garments) == 0:
        raise ValueError(f"garments: N×1×28×28 with N at least 1, not {tuple(garments.shape)}")
    canvas = _ground(generator)
    for _ in range(SCRAPS):
        _paste(canvas, _scrap(_pick(garments, generator), generator), generator)
    count = int(torch.randint(OBJECTS[0], OBJECTS[1] + 1, (1,), generator=generator))
    low, high = map(math.log, SIZES)
    sides = (low + (high - low) * torch.rand(count, generator=generator)).exp()
    objects = torch.zeros(0, 4, dtype=torch.float64)
    for side in sides.sort(descending=True).values.tolist():
        garment = _resized(_cut_out(_pick(garments, generator)), round(side))
        objects = _paste(canvas, garment, generator, objects)
    return Canvas(canvas.round().clamp(0, 255).byte(), objects)


def compose_all(garments: Tensor, count: int, generator: Generator) -> list[Canvas]:
    """Return ``count`` canvases."""
    return [compose(garments, generator) for _ in range(count)]


def _ground(generator: Generator) -> Tensor:
    """Return an empty canvas: a grey level that changes slowly, and noise."""
    coarse = 100 * torch.rand(1, 1, 5, 5, generator=generator)
    smooth = F.interpolate(coarse, (SIDE, SIDE), mode="bilinear", align_corners=True)[0]
    return smooth + 8 * torch.randn(1, SIDE, SIDE, generator=generator)


def _pick(garments: Tensor, generator: Generator) -> Tensor:
    """Return one of the garments, 1×28×28 float32."""
    return garments[torch.randint(len(garments), (1,), generator=generator)][0].float()


def _cut_out(garment: Tensor) -> Tensor:
    """Return the smallest part of an image that holds everything visible in it."""
    seen = garment[0] > VISIBLE
    rows, columns = (seen.any(dim=dim).nonzero().flatten() for dim in (1, 0))
    if len(rows) == 0:  # nothing but darkness
        return garment
    return garment[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _resized(garment: Tensor, longer: int) -> Tensor:
    """Return an image whose longer side has ``longer`` pixels."""
    scale = longer / max(garment.shape[1:])
    size = [max(3, round(side * scale)) for side in garment.shape[1:]]
    return F.interpolate(garment[None], size, mode="bilinear", antialias=scale < 1)[0]


def _scrap(garment: Tensor, generator: Generator) -> Tensor:
    """Return a piece of 6 to 12 pixels' side out of a garment, up to five times as large."""
    side, y, x = (
        int(torch.randint(low, high, (1,), generator=generator))
        for low, high in ((6, 13), (4, 12), (4, 12))
    )
    larger = 1 + 4 * float(torch.rand(1, generator=generator))
    return _resized(garment[:, y : y + side, x : x + side], round(side * larger))


def _paste(
    canvas: Tensor, picture: Tensor, generator: Generator, objects: Tensor | None = None
) -> Tensor | None:
    """Paste the visible pixels of a picture at a random place and return ``objects`` and its box.

    Where there are objects, a place is looked for that overlaps them little; without one the
    picture is left out. Without ``objects`` any place will do.
    """
    seen = picture[0] > VISIBLE
    if not seen.any():
        return objects
    rows, columns = (seen.any(dim=dim).nonzero().flatten() for dim in (1, 0))
    within = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    height, width = seen.shape
    for _ in range(20):
        x, y = (
            int(torch.randint(SIDE - side + 1, (1,), generator=generator))
            for side in (width, height)
        )
        box = torch.tensor([within], dtype=torch.float64) + torch.tensor([x, y, x, y])
        if objects is None or not (iou(box, objects) > MOST_OVERLAP).any():
            place = canvas[:, y : y + height, x : x + width]
            place.copy_(torch.where(seen, picture, place))
            return None if objects is None else torch.cat([objects, box])
    return objects


def photograph() -> np.ndarray:
    """Return the photograph, 600×600×3 uint8: a portrait of an astronaut by NASA, public domain.

    It comes with scikit-image, needs no network, and is enlarged to Faster R-CNN's image size.
    """
    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1).unsqueeze(0).float()
    size = (PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE)
    enlarged = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
    return enlarged[0].permute(1, 2, 0).round().byte().numpy()


def marked_boxes() -> Tensor:
    """Return the boxes of `MARKED` on the enlarged photograph, 3×4 float64, in pixels."""
    return torch.tensor(list(MARKED.values()), dtype=torch.float64) * PHOTOGRAPH_SIDE / 512
