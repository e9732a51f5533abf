"""What several test files need: the folders to import from, and small made-up image sets."""

import os
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings

from hw3utils.data.images import Scale
from hw3utils.training import workers

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of what a test starts: others test beside it

# Values are made up in the same way each time, unless more of them are asked for; how long that
# takes is the machine's affair.
settings.register_profile(
    "hw3",
    deadline=None,
    derandomize="HW3_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("hw3")

# Programs that a test starts import what the tests import.
_HERE = Path(__file__).parent
_FOLDERS = [str(_HERE), *(str(folder) for folder in sorted(_HERE.iterdir()) if folder.is_dir())]
os.environ["PYTHONPATH"] = os.pathsep.join([*_FOLDERS, os.environ.get("PYTHONPATH", "")])
sys.path += _FOLDERS

from made_up import make_images  # noqa: E402


@pytest.fixture(autouse=True)
def no_task_writes_into_what_all_share(monkeypatch):
    """In this process a task is given the caller's own tensors, and not copies."""
    results = workers.results

    def watched(function, tasks, shared, n_jobs=None):
        before = [tensor.clone() for tensor in shared]
        yield from results(function, tasks, shared, n_jobs)
        assert all(map(torch.equal, before, shared)), f"{function.__name__} wrote into its tensors"

    monkeypatch.setattr(workers, "results", watched)


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
