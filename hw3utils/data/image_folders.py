"""Images in files: decoded to squares of one size, and the Visual Decathlon's archives.

For reading what lies on a disk. Which set is wanted, and its parts, are decided by `datasets`.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hw3utils import files
from hw3utils.checks import check_whole_number
from hw3utils.data.downloads import SourcesExhaustedError, unpack_tar
from hw3utils.data.images import ImageSet

DECATHLON = (
    "aircraft", "cifar100", "daimlerpedcls", "dtd", "gtsrb", "omniglot", "svhn", "ucf101",
    "vgg-flowers",
)  # fmt: skip
DECATHLON_ARCHIVE = "decathlon-1.0-data.tar.gz"
DECATHLON_SHA256 = "8eca928bda025d855c91a78db45b3b18bc322efd7b1462a041e62c27b3c83c25"
SHORTER_SIDE = 72
_IMAGE_TYPES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp"}


class OfficialParts(NamedTuple):
    """The parts of a dataset as its authors made them; some have no ``validation`` part."""

    train: ImageSet
    validation: ImageSet | None
    test: ImageSet


def square(image: Image.Image, size: int) -> Tensor:
    """Return an image as a square: shorter side scaled to ``size``, the centre cut out.

    Raises a ValueError where the size is not a whole number of at least 1.

    Returns
    -------
    Tensor
        Shape (3, size, size), uint8.
    """
    check_whole_number("size", size)
    image = image.convert("RGB")
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def decode(files: Sequence[Path], size: int) -> Tensor:
    """Decode image files to one tensor: shape (N, 3, size, size), uint8.

    Raises an OSError where a file is no image; the message names it.
    """
    images = torch.empty((len(files), 3, size, size), dtype=torch.uint8)
    for index, file in enumerate(files):
        try:
            with Image.open(file) as image:
                images[index] = square(image, size)
        except OSError as error:
            raise OSError(f"{file} cannot be read as an image: {error}") from error
    return images


def load_decathlon(name: str, size: int, data_dir: Path) -> OfficialParts:
    """Load one set of the Visual Decathlon (Rebuffi et al. 2017, 1705.08045) from its archive.

    The archive, or the inner ``<name>.tar``, must have been put into ``<data>/decathlon``: it is
    only given to those who ask for it. ``train`` and ``val`` hold a folder for each class; the test
    labels are withheld, so ``val`` is returned as the test part.

    Raises a SourcesExhaustedError where neither the folder nor an archive is there, or the archive
    is another one.
    """
    folder = data_dir / "decathlon"
    if not (folder / name / "train").is_dir():
        _unpack_decathlon(name, folder)
    size = min(size, SHORTER_SIDE)
    class_names = tuple(sorted(p.name for p in (folder / name / "train").iterdir() if p.is_dir()))
    parts = {}
    for part in ("train", "val"):
        files, labels = [], []
        for label, class_name in enumerate(class_names):
            inside = folder / name / part / class_name
            found = sorted(inside.iterdir()) if inside.is_dir() else []
            found = [file for file in found if file.suffix.lower() in _IMAGE_TYPES]
            files += found
            labels += [label] * len(found)
        if not files:
            raise ValueError(f"{folder / name / part} holds no images")
        parts[part] = ImageSet(decode(files, size), torch.tensor(labels), class_names)
    return OfficialParts(parts["train"], None, parts["val"])


def _unpack_decathlon(name: str, folder: Path) -> None:
    """Unpack one set beside its archive: at once or not at all."""
    outer, inner = folder / DECATHLON_ARCHIVE, folder / f"{name}.tar"
    if not outer.is_file() and not inner.is_file():
        raise SourcesExhaustedError(
            f"The Visual Decathlon's {name} is not in {folder}. Its archive is given out by its "
            f"authors; put {DECATHLON_ARCHIVE} (SHA-256 {DECATHLON_SHA256}), or its inner "
            f"{name}.tar, there by hand and run again."
        )
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as scratch:
        if not inner.is_file():
            if (found := files.file_sha256(outer)) != DECATHLON_SHA256:
                raise SourcesExhaustedError(
                    f"{outer} has SHA-256 {found}, expected {DECATHLON_SHA256}: truncated?"
                )
            unpack_tar(outer, Path(scratch))
            inner = next(Path(scratch).rglob(f"{name}.tar"))
        unpack_tar(inner, Path(scratch))
        unpacked = next(path.parent for path in Path(scratch).rglob("train") if path.is_dir())
        os.replace(unpacked, folder / name)  # noqa: PTH105 - fails where rename would nest
