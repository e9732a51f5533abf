"""Image sets as tensors: decoded once, kept in memory, indexed by minibatch.

For holding, scaling, changing and splitting them. Which images there are is decided by `datasets`.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

SMALLEST_IMAGE = 32  # ResNet-50 divides each side by 32
_IMAGES_AT_ONCE = 4_096


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels.

    Raises a TypeError for a wrong type, and a ValueError where a shape is wrong, the set or its
    images are empty, or a label is out of range.
    """

    images: Tensor  # (N, C, H, W), uint8, 0..255
    labels: Tensor  # (N,), int64, in 0..number of classes − 1
    class_names: tuple[str, ...]  # one for each class, whether or not it has an image here

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8:
            raise TypeError(f"images must be uint8 (0..255), not {self.images.dtype}")
        if self.labels.dtype != torch.int64:
            raise TypeError(f"labels must be int64, not {self.labels.dtype}")
        if self.images.ndim != 4:
            raise ValueError(f"images must be N×C×H×W, not {tuple(self.images.shape)}")
        if 0 in self.images.shape:
            raise ValueError(
                f"an image set needs at least one image of at least one pixel, not "
                f"{tuple(self.images.shape)}"
            )
        names = self.class_names
        if not (isinstance(names, tuple) and all(isinstance(name, str) for name in names)):
            raise TypeError(f"class names must be a tuple of str, not {names!r}")
        if self.labels.shape != (len(self.images),):
            raise ValueError(
                f"{len(self.images)} images need as many labels, not {tuple(self.labels.shape)}"
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.num_classes:
            raise ValueError(f"labels lie in {low}..{high}, allowed are 0..{self.num_classes - 1}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """Number of classes, with and without images."""
        return len(self.class_names)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 digest of images, labels and class names, in hexadecimal."""
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.class_names)).encode())
        digest.update(np.ascontiguousarray(self.images.cpu().numpy()))
        digest.update(np.ascontiguousarray(self.labels.cpu().numpy()))
        return digest.hexdigest()

    def subset(self, indices: Tensor) -> "ImageSet":
        """Return the images at ``indices`` (int64), in that order."""
        return ImageSet(self.images[indices], self.labels[indices], self.class_names)

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the set with its tensors on ``device``."""
        return ImageSet(self.images.to(device), self.labels.to(device), self.class_names)

    def class_counts(self) -> Tensor:
        """Return the number of images of each class: (num_classes,), int64."""
        return torch.bincount(self.labels, minlength=self.num_classes)


class Splits(NamedTuple):
    """The three parts of a dataset: choose on ``validation``, touch ``test`` once."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet

    def at_most(self, *numbers: int) -> "Splits":
        """Return the first images of each part, as many as ``numbers`` says, or all there are.

        Raises a ValueError where so many cannot hold an image of every class.
        """
        for name, part, n in zip(self._fields, self, numbers, strict=True):
            if n < part.num_classes:
                raise ValueError(f"{name}: {n} images cannot cover {part.num_classes} classes")
        wanted = zip(self, numbers, strict=True)
        return Splits(*(take(part, min(n, len(part))) for part, n in wanted))


class OfficialParts(NamedTuple):
    """The parts of a dataset as its authors made them; some have no ``validation`` part."""

    train: ImageSet
    validation: ImageSet | None
    test: ImageSet
    groups: Tensor | None = None  # (training images,) int64: equal where they show one object


@dataclass(frozen=True)
class Scale:
    """Turn uint8 images into floats: ``(image / 255 − mean) / std`` for each channel."""

    mean: tuple[float, ...]  # one value for each channel, on the scale 0..1
    std: tuple[float, ...]  # likewise; each greater than 0

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"one mean and one std for each channel: {self.mean}, {self.std}")
        if not all(abs(value) <= 1e6 for value in (*self.mean, *self.std)):
            raise ValueError(f"each mean and std must be finite: {self.mean}, {self.std}")
        if not all(value > 1e-6 for value in self.std):
            raise ValueError(f"each std must be greater than 0: {self.std}")

    def __call__(self, images: Tensor) -> Tensor:
        """Scale uint8 images (N, C, H, W) to float32 of the same shape, channels last in memory."""
        if images.shape[1] != len(self.mean):
            raise ValueError(f"{len(self.mean)} channels expected, not {images.shape[1]}")
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1) * 255
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1) * 255
        return images.to(torch.float32, memory_format=torch.channels_last).sub_(mean).div_(std)


@dataclass(frozen=True)
class ResizedScale(Scale):
    """Scale images as `Scale` does, and bring them to ``size`` × ``size`` pixels.

    Images stay small in memory and are enlarged as they are used (bilinear, smoothed when shrunk).
    """

    size: int = 64  # pixels of a side, at least `SMALLEST_IMAGE`

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
    """Mirror each image with probability ``mirror``, and shift it by up to ``padding`` pixels.

    The shift is the random crop of the image padded with ``padding`` black pixels on each side. It
    happens at the size at which the images are stored, before any enlarging.
    """

    padding: int = 4  # pixels each way, at least 0
    mirror: float = 0.5  # 0 where a mirror image means something else, as for digits

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"padding={self.padding}: must be at least 0")
        if not 0 <= self.mirror <= 1:
            raise ValueError(f"mirror={self.mirror}: must lie in 0..1")

    def __call__(self, images: ImageSet, generator: Generator) -> ImageSet:
        """Return the whole set as one epoch sees it; draws are made on the CPU, image by image."""
        n = len(images)
        device = images.images.device
        flip = (torch.rand(n, generator=generator) < self.mirror).to(device)
        shifts = torch.randint(0, 2 * self.padding + 1, (2, n), generator=generator).to(device)
        changed = [
            self._change(images.images[part], flip[part], shifts[:, part])
            for part in torch.arange(n, device=device).split(_IMAGES_AT_ONCE)
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


def take(images: ImageSet, n: int) -> ImageSet:
    """Return the first ``n`` images; raises a ValueError where there are fewer, or ``n`` < 1."""
    if not 1 <= n <= len(images):
        raise ValueError(f"{n} images asked for; there are {len(images)}")
    return images if n == len(images) else images.subset(torch.arange(n))


def split(images: ImageSet, n_second: int, generator: Generator) -> tuple[ImageSet, ImageSet]:
    """Split a set at random in two parts that share no image; the second has ``n_second`` images.

    Raises a ValueError where that would leave one of the parts empty.
    """
    if not 0 < n_second < len(images):
        raise ValueError(f"n_second={n_second}: must lie in 1..{len(images) - 1}")
    order = torch.randperm(len(images), generator=generator)
    return images.subset(order[n_second:]), images.subset(order[:n_second])


def stratified_order(labels: Tensor, generator: Generator) -> Tensor:
    """Return a random order of all images of which every beginning has the classes' proportions.

    Of a class with the share p, between n·p − 1 and n·p + 1 of the first n images (almost: the
    first of every class come before all others). So the first 100 are among the first 1,000.
    """
    order = torch.randperm(len(labels), generator=generator)
    shuffled = labels[order]
    place = torch.empty(len(labels), dtype=torch.float64)  # 0..1, within the image's class
    for label in shuffled.unique():
        members = torch.nonzero(shuffled == label).flatten()
        place[members] = torch.arange(len(members)).double() / len(members)
    return order[torch.argsort(place, stable=True)]
