"""Files that are either whole or absent: atomic writing, and reading that checks what it reads.

For bytes, tensors, tables and results on a disk, and for the machine that results come from.
"""

import dataclasses
import hashlib
import io
import json
import math
import os
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

_DIGEST_BYTES = hashlib.sha256().digest_size


class CorruptFileError(Exception):
    """A file is truncated or altered: its content does not match the digest stored in it."""


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], None]) -> Path:
    """Write ``content`` to ``path``: a kill at any moment leaves the old file or the new one.

    The bytes go to a temporary name in the same folder, reach the disk, and are then renamed; a
    function writes them there itself. Missing parent folders are made. Raises an OSError where the
    folder cannot be written to or the disk is full; no temporary file stays behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w+b") as file:
            content(file) if callable(content) else file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp's 0600 would shut out other readers
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def write_checked(path: Path, content: bytes) -> Path:
    """Write ``content`` with its SHA-256 digest before it, for `read_checked`, atomically."""
    return write_atomically(path, hashlib.sha256(content).digest() + content)


def read_checked(path: Path) -> bytes:
    """Return what `write_checked` wrote.

    Raises a FileNotFoundError, or a CorruptFileError where the file was truncated or altered since.
    """
    stored = Path(path).read_bytes()
    digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise CorruptFileError(f"{path} is truncated or altered; delete it and run again")
    return content


def write_tensors(path: Path, content: dict[str, Any]) -> Path:
    """Write a dict of tensors and plain values, for `read_tensors`, atomically and checked.

    As `write_checked` would write what torch saves, without a copy of it in memory.
    """
    import torch

    def write(file: BinaryIO) -> None:
        file.write(bytes(_DIGEST_BYTES))  # the place of the digest, which is known at the end
        torch.save(content, file)
        file.seek(_DIGEST_BYTES)
        digest = _sha256(file).digest()
        file.seek(0)
        file.write(digest)

    return write_atomically(path, write)


def read_tensors(path: Path) -> dict[str, Any] | None:
    """Return what `write_tensors` wrote; None where there is no such file, or a damaged one."""
    try:
        return unpack_tensors(read_checked(path))
    except (FileNotFoundError, CorruptFileError):
        return None


def unpack_tensors(content: bytes) -> dict[str, Any]:
    """Return what torch saved as ``content``: tensors and plain values, never code."""
    import torch

    return torch.load(io.BytesIO(content), weights_only=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal, reading it in chunks of 1 MiB."""
    with Path(path).open("rb") as file:
        return _sha256(file).hexdigest()


def _sha256(file: BinaryIO) -> Any:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest


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

    Raises a TypeError where a value has no place in JSON.
    """
    text = json.dumps(_plain(results), indent=2, allow_nan=False, ensure_ascii=False)
    return write_atomically(path, f"{text}\n".encode())


def save_csv(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV without its index, atomically, floats with six significant digits."""
    text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return write_atomically(path, text.encode())


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
