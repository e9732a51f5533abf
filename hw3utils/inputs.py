"""From stored images to what a network sees: enlarging, flips and crops, on batches of tensors.

Pure functions of images and a generator. Nothing here knows a network.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from hw3utils.data import ImageSet, Scale

__all__ = ["FlipAndCrop", "ResizedScale", "mirrored"]

SMALLEST_IMAGE = 32
_CHUNK = 4_096


@dataclass(frozen=True)
class ResizedScale(Scale):
    """Scale images as `Scale` does, after bringing them to ``size`` × ``size`` pixels.

    Images stay small in memory and are enlarged as they are used (bilinear, smoothed when shrunk).

    Attributes
    ----------
    size : int
        Pixels of a side, at least 32: ResNet-50 divides each side by 32.
    """

    size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < SMALLEST_IMAGE:
            raise ValueError(
                f"image size {self.size}: ResNet-50 divides each side by {SMALLEST_IMAGE}, so it "
                f"must be at least {SMALLEST_IMAGE}"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Turn uint8 images (N, C, H, W) into float32 (N, C, size, size), channels last."""
        scaled = super().__call__(images)
        if scaled.shape[2:] == (self.size, self.size):
            return scaled
        shrinks = self.size < min(scaled.shape[2:])
        resized = F.interpolate(scaled, (self.size, self.size), mode="bilinear", antialias=shrinks)
        return resized.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class FlipAndCrop:
    """Mirror each image with probability 1/2, and shift it by up to ``padding`` pixels each way.

    The shift is the random crop of the image padded with ``padding`` black pixels on each side. It
    happens at the size at which the images are stored, before any enlarging.

    Attributes
    ----------
    padding : int
        At least 0.
    """

    padding: int = 4

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"padding={self.padding}: must be at least 0")

    def __call__(self, images: ImageSet, generator: Generator) -> ImageSet:
        """Return the whole set as one epoch sees it; draws are made on the CPU, image by image."""
        n = len(images)
        device = images.images.device
        flip = (torch.rand(n, generator=generator) < 0.5).to(device)
        shifts = torch.randint(0, 2 * self.padding + 1, (2, n), generator=generator).to(device)
        changed = [
            self._change(images.images[part], flip[part], shifts[:, part])
            for part in torch.arange(n, device=device).split(_CHUNK)
        ]
        return ImageSet(torch.cat(changed), images.labels, images.class_names)

    def _change(self, pixels: Tensor, flip: Tensor, shifts: Tensor) -> Tensor:
        """Flip and crop uint8 images (N, C, H, W): ``flip`` (N,) bool, ``shifts`` (2, N) int64."""
        n, channels, height, width = pixels.shape
        pixels = torch.where(flip.view(-1, 1, 1, 1), pixels.flip(3), pixels)
        padded = F.pad(pixels, [self.padding] * 4)
        rows = (shifts[0][:, None] + torch.arange(height, device=pixels.device)).view(n, 1, -1, 1)
        columns = (shifts[1][:, None] + torch.arange(width, device=pixels.device)).view(n, 1, 1, -1)
        image = torch.arange(n, device=pixels.device).view(n, 1, 1, 1)
        channel = torch.arange(channels, device=pixels.device).view(1, -1, 1, 1)
        return padded[image, channel, rows, columns]


def mirrored(images: ImageSet) -> ImageSet:
    """Return the mirror image of every image."""
    return ImageSet(images.images.flip(3), images.labels, images.class_names)
