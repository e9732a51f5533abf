"""Images in files: decoded to squares of one size, and the Visual Decathlon's archives.

For reading what lies on a disk. Which set is wanted, and its parts, are decided by `datasets`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hw3utils.checks import check_whole_number
from hw3utils.data.downloads import SourcesExhaustedError, filling, unpack_tar
from hw3utils.data.images import ImageSet, OfficialParts
from hw3utils.files import file_sha256

DECATHLON = (
    "aircraft", "cifar100", "daimlerpedcls", "dtd", "gtsrb", "omniglot", "svhn", "ucf101",
    "vgg-flowers",
)  # fmt: skip
DECATHLON_ARCHIVE = "decathlon-1.0-data.tar.gz"
DECATHLON_SHA256 = "8eca928bda025d855c91a78db45b3b18bc322efd7b1462a041e62c27b3c83c25"
SHORTER_SIDE = 72  # pixels of the Decathlon's images: more would be invented
_IMAGE_TYPES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp"}


def square(image: Image.Image, size: int) -> Tensor:
    """Return an image as uint8 (3, size, size): shorter side scaled, the centre cut out.

    Raises a ValueError where the size is not a whole number of at least 1.
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
    """Decode image files to uint8 (N, 3, size, size); an OSError names a file that is no image."""
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

    Raises a `SourcesExhaustedError` where neither the folder nor an archive is there or it is
    another one, a `tarfile.TarError` where it is damaged or unsafe, and a ValueError where a part
    holds no images.
    """
    folder = data_dir / "decathlon"
    if not (folder / name / "train").is_dir():
        _unpack_decathlon(name, folder)
    class_names = tuple(sorted(p.name for p in (folder / name / "train").iterdir() if p.is_dir()))
    train, test = (
        _read_classes(folder / name / part, class_names, min(size, SHORTER_SIDE))
        for part in ("train", "val")
    )
    return OfficialParts(train, None, test)


def _read_classes(folder: Path, class_names: tuple[str, ...], size: int) -> ImageSet:
    """Read the images of a folder that holds a folder for each class."""
    files, labels = [], []
    for label, class_name in enumerate(class_names):
        for file in sorted((folder / class_name).glob("*")):
            if file.suffix.lower() in _IMAGE_TYPES:
                files.append(file)
                labels.append(label)
    if not files:
        raise ValueError(f"{folder} holds no images")
    return ImageSet(decode(files, size), torch.tensor(labels), class_names)


def _unpack_decathlon(name: str, folder: Path) -> None:
    """Unpack one set beside its archive: at once or not at all."""
    outer, inner = folder / DECATHLON_ARCHIVE, folder / f"{name}.tar"
    if not outer.is_file() and not inner.is_file():
        raise SourcesExhaustedError(
            f"The Visual Decathlon's {name} is not in {folder}. Its archive is given out by its "
            f"authors; put {DECATHLON_ARCHIVE} (SHA-256 {DECATHLON_SHA256}), or its inner "
            f"{name}.tar, there by hand and run again."
        )
    with filling(folder, [name]) as scratch:
        if not inner.is_file():
            if (found := file_sha256(outer)) != DECATHLON_SHA256:
                raise SourcesExhaustedError(
                    f"{outer} has SHA-256 {found}, expected {DECATHLON_SHA256}: truncated?"
                )
            unpack_tar(outer, scratch / "outer")
            inner = next((scratch / "outer").rglob(f"{name}.tar"))
        unpack_tar(inner, scratch / "inner")
        unpacked = [path.parent for path in (scratch / "inner").rglob("train") if path.is_dir()]
        if not unpacked:
            raise SourcesExhaustedError(f"{inner} holds no folder named train: not {name}'s?")
        unpacked[0].replace(scratch / name)
