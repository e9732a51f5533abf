"""Where things lie: the project, its data, its cache, and the output of a run.

For locating folders only: nothing here reads or creates what the folders hold.
"""

import os
from pathlib import Path


def project_root() -> Path:
    """Return the project's top folder.

    ``HW3_HOME`` wins when it is set. Otherwise it is the checkout that holds this package; where
    the package is installed without a checkout (Colab, say), the current folder serves.
    """
    if home := os.environ.get("HW3_HOME"):
        return Path(home).expanduser().resolve()
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


def notebooks_dir() -> Path:
    """Return the folder of the committed notebooks."""
    return project_root() / "notebooks"


def data_dir() -> Path:
    """Return the folder for downloads: ``HW3_DATA`` if set, else the project's ``data/``."""
    if folder := os.environ.get("HW3_DATA"):
        return Path(folder).expanduser().resolve()
    return project_root() / "data"


def cache_dir() -> Path:
    """Return the folder for results of finished training runs."""
    return data_dir() / "cache"


def output_dir(profile: str) -> Path:
    """Return the folder into which a run writes: ``HW3_OUTPUT``, else ``output/<profile>``.

    Its inside mirrors the project: ``figures/`` and ``answers/results/``.
    """
    if folder := os.environ.get("HW3_OUTPUT"):
        return Path(folder).expanduser().resolve()
    return project_root() / "output" / profile
