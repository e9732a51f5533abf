"""Image sets as tensors: decoded once, kept in memory, indexed by minibatch.

For loading, splitting and scaling images. Fetching is done by `sources`, training by `training`.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hw3utils import sources

__all__ = ["ImageSet", "Scale", "Splits", "load_fashion_mnist", "split", "take"]

FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels.

    Attributes
    ----------
    images : Tensor
        Shape (N, C, H, W), uint8, 0..255.
    labels : Tensor
        Shape (N,), int64, in 0..number of classes − 1.
    class_names : tuple of str
        One name for each class.

    Raises
    ------
    TypeError
        Images are not uint8, labels not int64, or class names not a tuple of str.
    ValueError
        A shape is wrong, the set or its images are empty, or a label is out of range.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

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
        """Number of classes, whether or not each has an image here."""
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
        """Return the number of images of each class: shape (num_classes,), int64."""
        return torch.bincount(self.labels, minlength=self.num_classes)


class Splits(NamedTuple):
    """The three parts of a dataset: choose on ``validation``, touch ``test`` once."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


@dataclass(frozen=True)
class Scale:
    """Turn uint8 images into floats: ``(image / 255 − mean) / std`` for each channel.

    Attributes
    ----------
    mean, std : tuple of float
        One value for each channel, on the scale 0..1; each std is greater than 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

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


def split(images: ImageSet, n_second: int, generator: torch.Generator) -> tuple[ImageSet, ImageSet]:
    """Split a set at random in two parts that share no image; the second has ``n_second`` images.

    Raises
    ------
    ValueError
        ``n_second`` would leave one of the parts empty.
    """
    if not 0 < n_second < len(images):
        raise ValueError(f"n_second={n_second}: must lie in 1..{len(images) - 1}")
    order = torch.randperm(len(images), generator=generator)
    return images.subset(order[n_second:]), images.subset(order[:n_second])


def take(images: ImageSet, n: int) -> ImageSet:
    """Return the first ``n`` images; the set itself when ``n`` is its size.

    Raises
    ------
    ValueError
        ``n`` is less than 1 or more than there are.
    """
    if not 1 <= n <= len(images):
        raise ValueError(f"{n} images asked for; there are {len(images)}")
    return images if n == len(images) else images.subset(torch.arange(n))


def load_fashion_mnist(
    generator: torch.Generator,
    n_train: int = 48_000,
    n_validation: int = 12_000,
    n_test: int = 10_000,
    data_dir: Path | None = None,
) -> Splits:
    """Load FashionMNIST (28×28, grey, 10 classes), fetching it first where it is not there.

    The 60,000 official training images are split at random, with ``generator``, into 48,000 for
    training and 12,000 for validation; smaller numbers take the first images of each part.

    Raises
    ------
    hw3utils.sources.SourcesExhaustedError
        The files are not there and no source supplied them.
    ValueError
        More images were asked for than a part holds, or none.
    """
    folder = sources.fetch(sources.FASHION_MNIST, data_dir)
    official = _read_fashion_mnist(folder, "train")
    train, validation = split(official, 12_000, generator)
    test = _read_fashion_mnist(folder, "t10k")
    return Splits(take(train, n_train), take(validation, n_validation), take(test, n_test))


def _read_fashion_mnist(folder: Path, part: str) -> ImageSet:
    images = _read_idx(folder / f"{part}-images-idx3-ubyte")
    labels = _read_idx(folder / f"{part}-labels-idx1-ubyte")
    return ImageSet(images.unsqueeze(1), labels.long(), FASHION_MNIST_CLASSES)


def _read_idx(path: Path) -> Tensor:
    """Read an IDX file of unsigned bytes: magic 0, 0, 8, rank; big-endian sizes; the values."""
    content = path.read_bytes()
    rank = content[3]
    sizes = np.frombuffer(content, dtype=">u4", count=rank, offset=4).astype(int)
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank)
    return torch.from_numpy(values.reshape(sizes).copy())
