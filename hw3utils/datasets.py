"""Targets of transfer learning by name, each as a train, a validation and a test part.

For choosing, splitting and checking. Decoding other projects' layouts is done by `image_folders`
and `torchvision_sets`; `data` holds what they are turned into.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from hw3utils import image_folders, paths, sources, torchvision_sets
from hw3utils.data import ImageSet, Splits
from hw3utils.sources_transfer import CIFAR10
from hw3utils.torchvision_sets import OfficialParts

__all__ = ["DATASETS", "Target", "load_dataset", "load_target", "stratified_split"]

DECATHLON_PREFIX = "decathlon/"
DATASETS = (
    "cifar10",
    *torchvision_sets.NAMES,
    *(f"{DECATHLON_PREFIX}{name}" for name in image_folders.DECATHLON),
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
    hw3utils.sources.SourcesExhaustedError
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
        except sources.SourcesExhaustedError as error:
            not_found[name] = str(error)
    raise sources.SourcesExhaustedError("\n".join(not_found.values()))


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
    hw3utils.sources.SourcesExhaustedError
        The files are not there and no source supplied them.
    """
    _check_name(name)
    data_dir = Path(data_dir) if data_dir else paths.data_dir()
    if name == "cifar10":
        parts = _load_cifar10(data_dir)
    elif name.startswith(DECATHLON_PREFIX):
        parts = image_folders.load_decathlon(name.removeprefix(DECATHLON_PREFIX), size, data_dir)
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


def stratified_split(
    images: ImageSet, n_second: int, generator: Generator
) -> tuple[ImageSet, ImageSet]:
    """Split a set in two without overlap, both with (almost) the proportions of its classes.

    Each class gives its share of ``n_second``, rounded down; what is then missing comes from the
    classes with the largest remainders. Both parts are in random order.

    Raises
    ------
    ValueError
        ``n_second`` would leave one of the parts empty.
    """
    if not 0 < n_second < len(images):
        raise ValueError(f"n_second={n_second}: must lie in 1..{len(images) - 1}")
    quotas = _quotas(images.class_counts(), n_second)
    order = torch.randperm(len(images), generator=generator)
    labels = images.labels[order]
    second = torch.zeros(len(images), dtype=torch.bool)
    for label, quota in enumerate(quotas.tolist()):
        second[torch.nonzero(labels == label).flatten()[:quota]] = True
    return images.subset(order[~second]), images.subset(order[second])


def _quotas(counts: Tensor, total: int) -> Tensor:
    """Return how many of ``total`` fall to each class: largest remainders, one each at least."""
    exact = counts.double() * total / counts.sum()
    quotas = exact.floor().long()
    if total >= int((counts > 0).sum()):
        quotas = torch.maximum(quotas, (counts > 0).long())
    missing = total - int(quotas.sum())
    if missing > 0:
        quotas[torch.argsort(exact - quotas, descending=True, stable=True)[:missing]] += 1
    while int(quotas.sum()) > total:
        quotas[int(torch.argmax(quotas))] -= 1
    return quotas


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
    folder = sources.fetch(CIFAR10, data_dir)

    def read(names: list[str]) -> ImageSet:
        rows = np.concatenate(
            [np.fromfile(folder / name, dtype=np.uint8).reshape(-1, 3073) for name in names]
        )
        images = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy())
        return ImageSet(images, torch.from_numpy(rows[:, 0].astype(np.int64)), CIFAR10_CLASSES)

    train = read([f"data_batch_{index}.bin" for index in range(1, 6)])
    return OfficialParts(train, None, read(["test_batch.bin"]))
