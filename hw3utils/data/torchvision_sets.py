"""CIFAR-100, DTD, Flowers102, Aircraft, GTSRB, SVHN: as torchvision fetches and verifies them.

For reading them into tensors. Downloads go to a temporary folder and are renamed when complete.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets as tv

from hw3utils.data.downloads import SourcesExhaustedError, limited_stall
from hw3utils.data.image_folders import OfficialParts, decode
from hw3utils.data.images import ImageSet

NAMES = ("cifar100", "dtd", "flowers102", "aircraft", "gtsrb", "svhn")


def load(name: str, size: int, data_dir: Path) -> OfficialParts:
    """Load one of `NAMES`; ``size`` counts for the sets whose images vary in size.

    Raises a SourcesExhaustedError where the files are not in the data folder and torchvision cannot
    fetch them.
    """
    kind, parts = _SETS[name]
    root = data_dir / "torchvision" / name
    opened = [part and _opened(name, kind, root, part) for part in parts]
    train, validation, test = (dataset and _READERS[name](dataset, size) for dataset in opened)
    return OfficialParts(train, validation, test)


def _opened(name: str, kind: Callable[..., Any], root: Path, part: dict[str, Any]) -> Any:
    """Return torchvision's dataset, fetched first where its files are not there as they should."""
    try:
        return kind(str(root), download=False, **part)
    except (RuntimeError, OSError):
        pass
    root.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(dir=root, prefix=".fetching-") as scratch,
            limited_stall(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            kind(scratch, download=True, **part)
            for fetched in Path(scratch).iterdir():
                _replace(fetched, root / fetched.name)
        return kind(str(root), download=False, **part)
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourcesExhaustedError(
            f"{name} could not be had. Tried: 1. already in {root}: missing or damaged; "
            f"2. torchvision's download: {type(error).__name__}: {reason}. "
            f"Put the files that torchvision.datasets.{kind.__name__} expects there by hand."
        ) from error


def _replace(fetched: Path, place: Path) -> None:
    """Move a file or folder over what may be there already."""
    if place.is_dir():
        for inside in fetched.iterdir():
            _replace(inside, place / inside.name)
    else:
        os.replace(fetched, place)  # noqa: PTH105 - overwrites, on Windows too


def _from_arrays(dataset: Any, size: int) -> ImageSet:
    """Read CIFAR-100 (N, 32, 32, 3), held in memory."""
    images = torch.from_numpy(np.ascontiguousarray(dataset.data.transpose(0, 3, 1, 2)))
    return ImageSet(images, torch.tensor(dataset.targets), tuple(dataset.classes))


def _from_svhn(dataset: Any, size: int) -> ImageSet:
    """Read SVHN (N, 3, 32, 32), held in memory."""
    images = torch.from_numpy(np.ascontiguousarray(dataset.data))
    labels = torch.from_numpy(np.asarray(dataset.labels).astype(np.int64))
    return ImageSet(images, labels, tuple(str(digit) for digit in range(10)))


def _from_files(dataset: Any, size: int) -> ImageSet:
    """Read a set of image files with its own labels."""
    files, labels = [], []
    for file, label in _files_and_labels(dataset):
        files.append(Path(file))
        labels.append(int(label))
    names = getattr(dataset, "classes", None) or range(1, 1 + _NUM_CLASSES[type(dataset)])
    names = tuple(str(name) for name in names)
    return ImageSet(decode(files, size), torch.tensor(labels), names)


def _files_and_labels(dataset: Any) -> list[tuple[Any, int]]:
    if isinstance(dataset, tv.GTSRB):
        return dataset._samples
    return list(zip(dataset._image_files, dataset._labels, strict=True))


_NUM_CLASSES = {tv.GTSRB: 43, tv.Flowers102: 102}
_SETS = {
    "cifar100": (tv.CIFAR100, [{"train": True}, None, {"train": False}]),
    "dtd": (tv.DTD, [{"split": "train"}, {"split": "val"}, {"split": "test"}]),
    "flowers102": (tv.Flowers102, [{"split": "train"}, {"split": "val"}, {"split": "test"}]),
    "aircraft": (tv.FGVCAircraft, [{"split": "train"}, {"split": "val"}, {"split": "test"}]),
    "gtsrb": (tv.GTSRB, [{"split": "train"}, None, {"split": "test"}]),
    "svhn": (tv.SVHN, [{"split": "train"}, None, {"split": "test"}]),
}
_READERS = {"cifar100": _from_arrays, "svhn": _from_svhn} | {
    name: _from_files for name in ("dtd", "flowers102", "aircraft", "gtsrb")
}
