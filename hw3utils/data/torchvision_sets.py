"""CIFAR-100, DTD, Flowers102, Aircraft, GTSRB, SVHN: as torchvision fetches and verifies them.

For turning torchvision's datasets into image sets. Where their files come to lie is left to
`downloads`.
"""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hw3utils.data import downloads
from hw3utils.data.artefacts import told_in_one_line
from hw3utils.data.image_folders import decode
from hw3utils.data.images import ImageSet, OfficialParts


def load(name: str, size: int, data_dir: Path) -> OfficialParts:
    """Load one of `NAMES`; ``size`` counts for the sets whose images vary in size.

    Raises a `downloads.SourcesExhaustedError` where the files are not in the data folder and
    torchvision cannot fetch them.
    """
    import torchvision.datasets

    wanted = _SETS[name]
    folder = data_dir / "torchvision" / name
    kind = getattr(torchvision.datasets, wanted.kind)
    opened = [None if part is None else _opened(name, kind, part, folder) for part in wanted.parts]
    parts = [None if part is None else wanted.read(part, size) for part in opened]
    return OfficialParts(*parts, _tracks(opened[0]) if name == "gtsrb" else None)


def _tracks(dataset: Any) -> Tensor:
    """Return each image's track in GTSRB: some 30 frames of a sign, in files CLASS/TRACK_FRAME."""
    files = [Path(file) for file, _ in dataset._samples]
    tracks = [(file.parent.name, file.name.partition("_")[0]) for file in files]
    numbers = {track: number for number, track in enumerate(sorted(set(tracks)))}
    return torch.tensor([numbers[track] for track in tracks])


def _opened(name: str, kind: Callable[..., Any], part: dict[str, Any], folder: Path) -> Any:
    """Return torchvision's dataset, fetched first where its files are not there as they should."""

    def supply(scratch: Path) -> None:
        said = io.StringIO()  # progress bars, which no notebook should keep
        quiet = contextlib.redirect_stdout(said), contextlib.redirect_stderr(said)
        with quiet[0], quiet[1], told_in_one_line():
            kind(str(scratch), download=True, **part)

    return downloads.obtain(
        name,
        folder,
        lambda where: kind(str(where), download=False, **part),
        [downloads.Source("torchvision's download", supply)],
        f"Put the files that torchvision.datasets.{kind.__name__} expects into {folder} by hand.",
    )


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
    """Read a set of image files with its own labels; classes without a name are numbered from 1."""
    if type(dataset).__name__ == "GTSRB":
        files, labels = zip(*dataset._samples, strict=True)
        num_classes = 43
    else:
        files, labels = dataset._image_files, dataset._labels
        num_classes = 102  # of Flowers102, whose names older versions of torchvision do not hold
    names = getattr(dataset, "classes", None) or range(1, 1 + num_classes)
    images = decode([Path(file) for file in files], size)
    return ImageSet(images, torch.tensor(labels), tuple(str(name) for name in names))


class _Set(NamedTuple):
    """How torchvision names a set's parts (None: there is no such part), and how it is read."""

    kind: str  # its class in torchvision.datasets
    read: Callable[[Any, int], ImageSet]
    parts: tuple[dict[str, Any] | None, ...]


_TWO = ({"split": "train"}, None, {"split": "test"})
_THREE = ({"split": "train"}, {"split": "val"}, {"split": "test"})
_SETS = {
    "cifar100": _Set("CIFAR100", _from_arrays, ({"train": True}, None, {"train": False})),
    "dtd": _Set("DTD", _from_files, _THREE),
    "flowers102": _Set("Flowers102", _from_files, _THREE),
    "aircraft": _Set("FGVCAircraft", _from_files, _THREE),
    "gtsrb": _Set("GTSRB", _from_files, _TWO),
    "svhn": _Set("SVHN", _from_svhn, _TWO),
}
NAMES = tuple(_SETS)
