"""Writing down what a run found: JSON, CSV, and the machine that it ran on."""

import dataclasses
import json
import math
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from hw3utils import storage

__all__ = ["environment", "save_csv", "save_json"]

_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "matplotlib", "scikit-image")


def environment() -> dict[str, Any]:
    """Return hardware and versions: what a reader needs to judge seconds and last digits."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def save_json(results: dict[str, Any], path: Path) -> Path:
    """Write results as JSON, atomically; numpy and torch scalars become numbers, NaN becomes null.

    Raises
    ------
    TypeError
        A value has no place in JSON.
    """
    text = json.dumps(_plain(results), indent=2, allow_nan=False, ensure_ascii=False)
    return storage.write_atomically(path, f"{text}\n".encode())


def save_csv(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV without its index, atomically, floats with six significant digits."""
    text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return storage.write_atomically(path, text.encode())


def _plain(value: Any) -> Any:
    """Return ``value`` made of dicts, lists, strings, numbers, booleans and None alone."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
