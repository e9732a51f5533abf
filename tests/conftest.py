"""What several test files need: the folders to import from, and small made-up image sets."""

import os
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from hw3utils.data.images import Scale

torch.set_num_threads(1)

# Programs that a test starts import what the tests import.
_HERE = Path(__file__).parent
_FOLDERS = [str(_HERE), *(str(folder) for folder in sorted(_HERE.iterdir()) if folder.is_dir())]
os.environ["PYTHONPATH"] = os.pathsep.join([*_FOLDERS, os.environ.get("PYTHONPATH", "")])
sys.path += _FOLDERS

from made_up import make_images  # noqa: E402


@pytest.fixture(scope="session")
def train():
    return make_images(384, seed=1)


@pytest.fixture(scope="session")
def validation():
    return make_images(100, seed=2)


@pytest.fixture(scope="session")
def scale():
    return Scale((0.5,), (0.5,))


@pytest.fixture(scope="session")
def in_turn(tmp_path_factory):
    """Return what lets tests of several processes run a problem's notebook one after the other.

    The first trains its networks, the others find them in the cache.
    """
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    return lambda problem: FileLock(shared / f"{problem}.lock")
