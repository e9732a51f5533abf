"""Datasets by name, each as a train, a validation and a test part.

For choosing, splitting and checking; what the parts are is defined in `images`. Other projects'
layouts are read by `image_folders` and `torchvision_sets`, and fetching is done by `downloads`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from hw3utils import paths
from hw3utils.data import artefacts, downloads, image_folders, torchvision_sets
from hw3utils.data.images import ImageSet, OfficialParts, Splits, split, stratified_order, take

DECATHLON_PREFIX = "decathlon/"
DATASETS = (
    "cifar10",
    *torchvision_sets.NAMES,
    *(f"{DECATHLON_PREFIX}{name}" for name in image_folders.DECATHLON),
)
VALIDATION_FRACTION = 0.2
# Sets in which a mirror image means something else, or nothing: digits, arrows on signs, letters.
HANDED = ("gtsrb", "omniglot", "svhn")
FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


class Target(NamedTuple):
    """A dataset as it was found: its name, its parts, and why wanted ones could not be had."""

    name: str
    parts: Splits
    not_found: dict[str, str]

    @property
    def mirrors(self) -> bool:
        """Whether the mirror image of an image belongs to the same class (see `HANDED`)."""
        return self.name.removeprefix(DECATHLON_PREFIX) not in HANDED


def load_fashion_mnist(
    generator: Generator,
    n_train: int = 48_000,
    n_validation: int = 12_000,
    n_test: int = 10_000,
    data_dir: Path | None = None,
) -> Splits:
    """Load FashionMNIST (28×28, grey, 10 classes), fetching it first where it is not there.

    The 60,000 official training images are split at random, with ``generator``, into 48,000 for
    training and 12,000 for validation; smaller numbers take the first images of each part. Raises
    a ValueError where a part holds fewer, or where none are asked for, and see `downloads.fetch`.
    """
    folder = downloads.fetch(artefacts.FASHION_MNIST, data_dir)
    train, validation = split(_read_fashion_mnist(folder, "train"), 12_000, generator)
    test = _read_fashion_mnist(folder, "t10k")
    return Splits(take(train, n_train), take(validation, n_validation), take(test, n_test))


def load_target(wanted: str, **options: Any) -> Target:
    """Load the dataset named by ``wanted``; of ``"A or B"`` the first one that can be had.

    The options are those of `load_dataset`, and so are the errors; where none can be had, the
    `downloads.SourcesExhaustedError` says why for each.
    """
    names = check_names(wanted)
    not_found: dict[str, str] = {}
    for name in names:
        try:
            return Target(name, load_dataset(name, **options), not_found)
        except downloads.SourcesExhaustedError as error:
            not_found[name] = str(error)
    raise downloads.SourcesExhaustedError("\n".join(not_found.values()))


def check_names(wanted: str) -> list[str]:
    """Return the names in ``"A or B"``; raises a ValueError where one is not of `DATASETS`."""
    names = [name.strip() for name in wanted.split(" or ")]
    for name in names:
        _check_name(name)
    return names


def load_dataset(
    name: str, *, seed: int = 0, size: int = 64, data_dir: Path | None = None
) -> Splits:
    """Load one of `DATASETS`, fetching it first where it can be fetched.

    Images of varying size are decoded to squares of ``size`` pixels a side (shorter side scaled,
    centre cut out); CIFAR and SVHN keep their 32 pixels.

    Where the set has no official validation part, a fifth of the training images of each class
    becomes one; images that show the same object (the frames of a track of GTSRB) stay together.
    Each part comes in an `images.stratified_order` of its own: whoever needs fewer images takes the
    first, and gets the same ones whatever is taken of the other parts. ``seed`` decides both. The
    Visual Decathlon withholds its test labels, so its own archives give the official validation
    part as the test part; which of its GTSRB frames belong together its file names do not tell.

    Raises a ValueError for an unknown name or a class without images in some part, and a
    `downloads.SourcesExhaustedError` where the files are not there and no source supplied them.
    """
    _check_name(name)
    data_dir = Path(data_dir) if data_dir else paths.data_dir()
    if name == "cifar10":
        official = _load_cifar10(data_dir)
    elif name.startswith(DECATHLON_PREFIX):
        inside = name.removeprefix(DECATHLON_PREFIX)
        official = image_folders.load_decathlon(inside, size, data_dir)
    else:
        official = torchvision_sets.load(name, size, data_dir)
    splitter, *orders = (torch.Generator().manual_seed(4 * seed + index) for index in range(4))
    train, validation = official.train, official.validation
    if validation is None:
        train, validation = _part_validation(train, official.groups, splitter)
    parts = Splits(train, validation, official.test)
    for part, images in parts._asdict().items():
        if empty := torch.nonzero(images.class_counts() == 0).flatten().tolist():
            names = ", ".join(images.class_names[label] for label in empty[:5])
            raise ValueError(f"{name}, {part}: no image of {len(empty)} classes ({names}…)")
    return Splits(
        *(
            images.subset(stratified_order(images.labels, generator))
            for images, generator in zip(parts, orders, strict=True)
        )
    )


def _part_validation(
    images: ImageSet, groups: Tensor | None, generator: Generator
) -> tuple[ImageSet, ImageSet]:
    """Part a fifth of each class from the rest, whole groups of images at a time."""
    if groups is None:
        groups = torch.arange(len(images))
    names, member = groups.unique(return_inverse=True)
    labels = torch.zeros(len(names), dtype=torch.int64).scatter_(0, member, images.labels)
    order = stratified_order(labels, generator)
    chosen = torch.zeros(len(names), dtype=torch.bool)
    chosen[order[: round(VALIDATION_FRACTION * len(names))]] = True
    away = chosen[member]
    return images.subset(torch.nonzero(~away).flatten()), images.subset(away.nonzero().flatten())


def _check_name(name: str) -> None:
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}: choose from {', '.join(DATASETS)}")


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


def _load_cifar10(data_dir: Path) -> OfficialParts:
    folder = downloads.fetch(artefacts.CIFAR10, data_dir)
    train = _read_cifar10([folder / f"data_batch_{index}.bin" for index in range(1, 6)])
    return OfficialParts(train, None, _read_cifar10([folder / "test_batch.bin"]))


def _read_cifar10(files: list[Path]) -> ImageSet:
    """Read CIFAR-10's binary form: rows of one label and 3×32×32 pixels."""
    rows = np.concatenate([np.fromfile(file, dtype=np.uint8).reshape(-1, 3073) for file in files])
    images = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy())
    return ImageSet(images, torch.from_numpy(rows[:, 0].astype(np.int64)), CIFAR10_CLASSES)
