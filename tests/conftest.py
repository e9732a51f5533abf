"""What several test files need: small made-up image sets, and a cache of their own."""

import os
import sys
from pathlib import Path

import pytest
import torch

from hw3utils.data.images import ImageSet, Scale

torch.set_num_threads(1)

# Programs that a test starts import what the tests import.
_HERE = Path(__file__).parent
_FOLDERS = [str(_HERE), *(str(folder) for folder in sorted(_HERE.iterdir()) if folder.is_dir())]
os.environ["PYTHONPATH"] = os.pathsep.join([*_FOLDERS, os.environ.get("PYTHONPATH", "")])
sys.path += _FOLDERS


def make_images(n: int, num_classes: int = 10, seed: int = 0, shape=(1, 28, 28)) -> ImageSet:
    """Noise with one bright stripe whose place tells the class: quickly learned, never trivial."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_classes, (n,), generator=generator)
    images = torch.randint(0, 120, (n, *shape), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * int(label) + 2 : 2 * int(label) + 5, :] += 100
    return ImageSet(images, labels, tuple(f"class {index}" for index in range(num_classes)))


@pytest.fixture(scope="session")
def train():
    return make_images(384, seed=1)


@pytest.fixture(scope="session")
def validation():
    return make_images(100, seed=2)


@pytest.fixture(scope="session")
def scale():
    return Scale((0.5,), (0.5,))
