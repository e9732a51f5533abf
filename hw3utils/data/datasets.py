"""Targets of transfer learning by name, each as a train, a validation and a test part.

For choosing, splitting and checking. Decoding other projects' layouts is done by `image_folders`
and `torchvision_sets`; `data` holds what they are turned into.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from hw3utils import paths
from hw3utils.data import artefacts, downloads, torchvision_sets
from hw3utils.data.artefacts import CIFAR10
from hw3utils.data.image_folders import DECATHLON, OfficialParts, load_decathlon
from hw3utils.data.images import ImageSet, Splits, split, stratified_split, take

DECATHLON_PREFIX = "decathlon/"
DATASETS = (
    "cifar10",
    *torchvision_sets.NAMES,
    *(f"{DECATHLON_PREFIX}{name}" for name in DECATHLON),
)
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
VALIDATION_FRACTION = 0.2


class Target(NamedTuple):
    """A dataset as it was found: its name, its parts, and why wanted ones could not be had."""

    name: str
    parts: Splits
    not_found: dict[str, str]


def load_target(
    wanted: str,
    generator: Generator,
    *,
    n_train: int | None = None,
    n_validation: int | None = None,
    n_test: int | None = None,
    size: int = 64,
    data_dir: Path | None = None,
) -> Target:
    """Load the dataset named by ``wanted``; of ``"A or B"`` the first one that can be had.

    Raises
    ------
    ValueError
        A name is unknown, or see `load_dataset`.
    downloads.SourcesExhaustedError
        None of them can be had; the message says why for each.
    """
    names = [name.strip() for name in wanted.split(" or ")]
    for name in names:
        _check_name(name)
    not_found: dict[str, str] = {}
    for name in names:
        try:
            parts = load_dataset(
                name, generator, n_train=n_train, n_validation=n_validation, n_test=n_test,
                size=size, data_dir=data_dir,
            )  # fmt: skip
            return Target(name, parts, not_found)
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
    """Load a dataset by name, fetching it first where it is not there and where that is possible.

    Where the set has no official validation part, a fifth of the training images of each class
    becomes one, drawn with ``generator``. The Visual Decathlon withholds its test labels, so its
    own archives give the official validation part as the test part.

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
        parts = _load_cifar10(data_dir)
    elif name.startswith(DECATHLON_PREFIX):
        parts = load_decathlon(name.removeprefix(DECATHLON_PREFIX), size, data_dir)
    else:
        parts = torchvision_sets.load(name, size, data_dir)
    train, validation, test = parts
    if validation is None:
        _check_every_class(train, f"{name}, train")
        train, validation = stratified_split(
            train, round(VALIDATION_FRACTION * len(train)), generator
        )
    wanted = {"train": n_train, "validation": n_validation, "test": n_test}
    chosen = []
    for (part, n), images in zip(wanted.items(), (train, validation, test), strict=True):
        _check_every_class(images, f"{name}, {part}")
        if n is not None and n < len(images):
            if n < images.num_classes:
                raise ValueError(
                    f"{name}, {part}: {n} images cannot cover {images.num_classes} classes"
                )
            images = stratified_split(images, n, generator)[1]
            _check_every_class(images, f"{name}, {part}, {n} images")
        chosen.append(images)
    return Splits(*chosen)


def _check_name(name: str) -> None:
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}: choose from {', '.join(DATASETS)}")


def _check_every_class(images: ImageSet, where: str) -> None:
    """Refuse a set in which a class has no image."""
    empty = torch.nonzero(images.class_counts() == 0).flatten().tolist()
    if empty:
        names = ", ".join(images.class_names[label] for label in empty[:5])
        raise ValueError(f"{where}: no image of {len(empty)} classes ({names}…)")


def _load_cifar10(data_dir: Path) -> OfficialParts:
    """Read CIFAR-10's binary form: rows of one label and 3×32×32 pixels."""
    folder = downloads.fetch(CIFAR10, data_dir)

    def read(names: list[str]) -> ImageSet:
        rows = np.concatenate(
            [np.fromfile(folder / name, dtype=np.uint8).reshape(-1, 3073) for name in names]
        )
        images = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy())
        return ImageSet(images, torch.from_numpy(rows[:, 0].astype(np.int64)), CIFAR10_CLASSES)

    train = read([f"data_batch_{index}.bin" for index in range(1, 6)])
    return OfficialParts(train, None, read(["test_batch.bin"]))


FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


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
    downloads.SourcesExhaustedError
        The files are not there and no source supplied them.
    ValueError
        More images were asked for than a part holds, or none.
    """
    folder = downloads.fetch(artefacts.FASHION_MNIST, data_dir)
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
