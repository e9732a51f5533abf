"""Fetching real data and weights: every source in order, every checksum in full.

`fetch` makes sure that an `Artefact` is in place; `filling` is how anything that is downloaded or
unpacked comes into the data folder. What there is to fetch stands in `artefacts`.
"""

import contextlib
import gzip
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw3utils import paths
from hw3utils.files import file_sha256

STALL_SECONDS = 30
COMMAND_SECONDS = 600
MOST_BYTES = 16 * 2**30  # that an archive may take when it is unpacked
_CHUNK = 2**20


class SourcesExhaustedError(RuntimeError):
    """No source supplied the right files; the message lists each source and why it failed."""


@dataclass(frozen=True)
class Source:
    """One place that may hold what is wanted."""

    name: str  # shown in messages
    supply: Callable[[Path], None]  # puts the files, and maybe others, into a folder; or raises


@dataclass(frozen=True)
class Artefact:
    """A set of files that is fetched as a whole."""

    name: str  # shown in messages
    folder: str  # where the files belong, relative to the data folder
    files: Mapping[str, str]  # file name to SHA-256 digest (hexadecimal) of its content
    sources: tuple[Source, ...]  # tried in this order


def fetch(artefact: Artefact, data_dir: Path | None = None) -> Path:
    """Make sure that the artefact's files are in place, and return their folder.

    Files that are there are verified in full each time; where one is truncated or altered, the
    sources are asked as in `obtain`.
    """
    folder = (Path(data_dir) if data_dir else paths.data_dir()) / artefact.folder

    def verified(where: Path) -> Path:
        if reasons := missing_files(artefact, where):
            raise ValueError("; ".join(f"{name} {reason}" for name, reason in reasons.items()))
        return where

    wanted = "\n".join(f"  {name}  (SHA-256 {digest})" for name, digest in artefact.files.items())
    by_hand = f"Put these files by hand into {folder} and run again:\n{wanted}"
    return obtain(artefact.name, folder, verified, artefact.sources, by_hand, artefact.files)


def missing_files(artefact: Artefact, folder: Path) -> dict[str, str]:
    """Return the artefact's files that are not in ``folder`` as they should be, with the reason."""
    reasons = {}
    for name, digest in artefact.files.items():
        path = folder / name
        if not path.is_file():
            reasons[name] = "missing"
        elif (found := file_sha256(path)) != digest:
            reasons[name] = f"wrong content (SHA-256 {found[:12]}…, expected {digest[:12]}…)"
    return reasons


def obtain(
    name: str,
    folder: Path,
    opened: Callable[[Path], Any],
    sources: Iterable[Source],
    by_hand: str,
    names: Iterable[str] | None = None,
) -> Any:
    """Return ``opened(folder)``; where that raises, let one source after the other fill the folder.

    ``opened`` raises where a folder does not hold what is wanted, whole and right; it is asked
    about what a source supplied, too, before any of it is moved. ``names`` is as for `filling`.
    Where no source helps, a `SourcesExhaustedError` tells what was tried, and ``by_hand``: what to
    do. A file in the place of a folder is refused with a NotADirectoryError.
    """
    for place in (folder, *folder.parents):
        if place.is_file():
            raise NotADirectoryError(f"{place} is a file: the data need a folder of that name")
    try:
        return opened(folder)
    except Exception as error:
        failures = [f"already in {folder}: {_first_line(error)}"]
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        try:
            with filling(folder, names) as scratch:
                source.supply(scratch)
                opened(scratch)
            return opened(folder)
        except Exception as error:  # whatever went wrong, the next source is tried
            failures.append(f"{source.name}: {type(error).__name__}: {_first_line(error)}")
    tried = "\n".join(f"  {number}. {failure}" for number, failure in enumerate(failures, 1))
    raise SourcesExhaustedError(
        f"{name} could not be had. Tried in this order:\n{tried}\n{by_hand}"
    )


@contextlib.contextmanager
def filling(folder: Path, names: Iterable[str] | None = None) -> Iterator[Path]:
    """Give the block a temporary folder, and move what it leaves there into ``folder``.

    Nothing is moved where the block raises, so it should end by verifying. Each file or folder is
    moved by one rename, over what was there: a kill at any moment loses nothing and leaves nothing
    wrong. ``names`` says what is to be moved, by default everything; a link is refused with a
    ValueError. No connection that the block opens may stall for longer than `STALL_SECONDS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as scratch:
        with limited_stall():
            yield Path(scratch)
        found = [Path(scratch) / name for name in names] if names else Path(scratch).iterdir()
        supplied = sorted(found)
        if links := [path.name for path in supplied if path.is_symlink()]:
            raise ValueError(f"{', '.join(links)}: links instead of files")
        for path in supplied:
            _move(path, folder / path.name)


def _move(source: Path, target: Path) -> None:
    """Move a file or folder; into a folder that is there already, piece by piece."""
    if source.is_dir() and target.is_dir():
        for inside in source.iterdir():
            _move(inside, target / inside.name)
    else:
        source.replace(target)


@contextlib.contextmanager
def limited_stall() -> Iterator[None]:
    """Let no connection opened in this block stall for longer than `STALL_SECONDS`."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def run_command(*command: str, cwd: Path) -> None:
    """Run a client program such as ``apt-get`` or ``npm``.

    Raises a RuntimeError where the program is not installed, takes longer than `COMMAND_SECONDS`,
    or fails; then with its last words.
    """
    program = shutil.which(command[0])
    if program is None:
        raise RuntimeError(f"{command[0]} is not installed")
    try:
        subprocess.run(
            [program, *command[1:]],
            cwd=cwd,
            check=True,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.CalledProcessError as error:
        words = (error.stderr or error.stdout or "").strip().splitlines() or ["no message"]
        raise RuntimeError(f"{' '.join(command[:2])} failed: {words[-1]}") from error
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{command[0]} took longer than {COMMAND_SECONDS} s") from error


def unpack_gzip(folder: Path, into: Path, most_bytes: int = MOST_BYTES) -> None:
    """Unpack every ``*.gz`` file of ``folder`` into ``into`` under its name without ``.gz``.

    Raises a ValueError as soon as one of them takes more than ``most_bytes``.
    """
    for packed in folder.glob("*.gz"):
        with gzip.open(packed) as source, (into / packed.stem).open("wb") as target:
            while chunk := source.read(_CHUNK):
                target.write(chunk)
                if target.tell() > most_bytes:
                    raise ValueError(f"{packed.name} unpacks to more than {most_bytes:,} bytes")


def unpack_tar(archive: Path, into: Path, most_bytes: int = MOST_BYTES) -> None:
    """Unpack a tar archive, refusing members that would land outside of ``into``.

    Raises a `tarfile.TarError` before anything is unpacked where the archive is damaged, a member
    is unsafe (see `tarfile.data_filter`), or all would take more than ``most_bytes``.
    """
    with tarfile.open(archive) as tar:
        unpacked = 0
        for member in tar:
            tarfile.data_filter(member, str(into))
            unpacked += member.size
            if unpacked > most_bytes:
                raise tarfile.TarError(
                    f"{archive.name} would take more than {most_bytes / 2**30:.1f} GiB"
                )
        tar.extractall(into, filter="data")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
