"""Files that are either whole or absent: atomic writing, and reading that checks what it reads.

For bytes on a disk. What the bytes mean (tensors, tables) is the caller's business.
"""

import hashlib
import os
import tempfile
from pathlib import Path

__all__ = ["CorruptFileError", "file_sha256", "read_checked", "write_atomically", "write_checked"]

_DIGEST_BYTES = hashlib.sha256().digest_size


class CorruptFileError(Exception):
    """A file is truncated or altered: its content does not match the digest stored in it."""


def write_atomically(path: Path, content: bytes) -> Path:
    """Write ``content`` to ``path``: a kill at any moment leaves the old file or the new one.

    The bytes go to a temporary name in the same folder, reach the disk, and are then renamed.
    Missing parent folders are made.

    Raises
    ------
    OSError
        The folder cannot be written to, or the disk is full. No temporary file stays behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
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

    Raises
    ------
    FileNotFoundError
        There is no such file.
    CorruptFileError
        The file was truncated or altered since it was written.
    """
    stored = Path(path).read_bytes()
    digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise CorruptFileError(f"{path} is truncated or altered; delete it and run again")
    return content


def file_sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal, reading it in chunks of 1 MiB."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
