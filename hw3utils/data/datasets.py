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
from hw3utils.data.images import ImageSet, OfficialParts, Splits, split, stratified_split, take

DECATHLON_PREFIX = "decathlon/"
DATASETS = (
    "cifar10",
    *torchvision_sets.NAMES,
    *(f"{DECATHLON_PREFIX}{name}" for name in image_folders.DECATHLON),
)
VALIDATION_FRACTION = 0.2
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


def load_target(wanted: str, generator: Generator, **options: Any) -> Target:
    """Load the dataset named by ``wanted``; of ``"A or B"`` the first one that can be had.

    The options are those of `load_dataset`, and so are the errors; where none can be had, the
    `downloads.SourcesExhaustedError` says why for each.
    """
    names = [name.strip() for name in wanted.split(" or ")]
    for name in names:
        _check_name(name)
    not_found: dict[str, str] = {}
    for name in names:
        try:
            return Target(name, load_dataset(name, generator, **options), not_found)
        except downloads.SourcesExhaustedError as error:
            not_found[name] = str(error)
    raise downloads.SourcesExhaustedError("\n".join(not_found.values()))


def load_dataset(
    name: str,
    generator: Generator,
    *,
    n_train: int | None = None,
    n_validation: int | None = None,
    n_test: int | None = None,
    size: int = 64,
    data_dir: Path | None = None,
) -> Splits:
    """Load a target of transfer learning, fetching it first where it can be fetched.

    Where the set has no official validation part, a fifth of the training images of each class
    becomes one. The Visual Decathlon withholds its test labels, so its own archives give the
    official validation part as the test part.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    generator : Generator
        Draws the validation part and smaller numbers of images, class by class.
    n_train, n_validation, n_test : int, optional
        At most so many images of a part, in the part's own proportions; by default all.
    size : int
        Pixels of a side: images of varying size are decoded to squares (shorter side scaled, centre
        cut out). CIFAR and SVHN keep their 32 pixels.

    Raises
    ------
    ValueError
        Unknown name, fewer images than classes, or a class without images in some part.
    downloads.SourcesExhaustedError
        The files are not there and no source supplied them.
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
    train, validation, test = official
    if validation is None:
        n_second = round(VALIDATION_FRACTION * len(train))
        train, validation = stratified_split(train, n_second, generator)
    return Splits(
        _at_most(n_train, train, f"{name}, train", generator),
        _at_most(n_validation, validation, f"{name}, validation", generator),
        _at_most(n_test, test, f"{name}, test", generator),
    )


def _check_name(name: str) -> None:
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}: choose from {', '.join(DATASETS)}")


def _at_most(n: int | None, images: ImageSet, where: str, generator: Generator) -> ImageSet:
    """Return at most ``n`` of the images, every class among them, in (almost) its proportion."""
    empty = torch.nonzero(images.class_counts() == 0).flatten().tolist()
    if empty:
        names = ", ".join(images.class_names[label] for label in empty[:5])
        raise ValueError(f"{where}: no image of {len(empty)} classes ({names}…)")
    if n is None or n >= len(images):
        return images
    if n < images.num_classes:
        raise ValueError(f"{where}: {n} images cannot cover {images.num_classes} classes")
    return stratified_split(images, n, generator)[1]


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
