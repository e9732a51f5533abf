"""Fetching real data and weights: every source in order, every checksum in full.

An `Artefact` lists its files with their SHA-256 digests and the sources that may supply them.
`fetch` returns its folder as soon as all files are there and right. Decoding is not done here.
"""

import contextlib
import gzip
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

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
    """One place that may hold an artefact."""

    name: str  # shown in messages
    # ``supply(folder)`` puts the artefact's files into ``folder``, or raises. It may leave other
    # files there too.
    supply: Callable[[Path], None]


@dataclass(frozen=True)
class Artefact:
    """A set of files that is fetched as a whole."""

    name: str  # shown in messages
    folder: str  # where the files belong, relative to the data folder
    files: Mapping[str, str]  # file name to SHA-256 digest (hexadecimal) of its content
    sources: tuple[Source, ...]  # tried in this order


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


def fetch(artefact: Artefact, data_dir: Path | None = None) -> Path:
    """Make sure that the artefact's files are in place, and return their folder.

    Files that are there are verified in full each time; a truncated or altered one is fetched
    again. A source works in a temporary folder, and only files with the right checksum are moved
    out of it, each by one rename: a kill at any moment loses nothing and leaves nothing wrong.

    Raises
    ------
    SourcesExhaustedError
        No source supplied the right files.
    NotADirectoryError
        A file stands where the data folder should be.
    """
    data_dir = Path(data_dir) if data_dir else paths.data_dir()
    folder = data_dir / artefact.folder
    for place in (folder, *folder.parents):
        if place.is_file():
            raise NotADirectoryError(f"{place} is a file: the data need a folder of that name")
    missing = missing_files(artefact, folder)
    if not missing:
        return folder
    failures = [f"already in {folder}: {_listed(missing)}"]
    folder.mkdir(parents=True, exist_ok=True)
    for source in artefact.sources:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as scratch:
            try:
                source.supply(Path(scratch))
                if links := [n for n in artefact.files if (Path(scratch) / n).is_symlink()]:
                    raise ValueError(f"{', '.join(links)}: links instead of files")
                if wrong := missing_files(artefact, Path(scratch)):
                    raise ValueError(_listed(wrong))
            except Exception as error:  # noqa: BLE001, B902 - whatever went wrong, the next source is tried
                failures.append(f"{source.name}: {_first_line(error)}")
                continue
            for name in artefact.files:
                (Path(scratch) / name).replace(folder / name)
            return folder
    tried = "\n".join(f"  {number}. {failure}" for number, failure in enumerate(failures, 1))
    wanted = "\n".join(f"  {name}  (SHA-256 {digest})" for name, digest in artefact.files.items())
    raise SourcesExhaustedError(
        f"{artefact.name} could not be had. Tried in this order:\n{tried}\n"
        f"Put these files by hand into {folder} and run again:\n{wanted}"
    )


def run_command(*command: str, cwd: Path) -> None:
    """Run a client program such as ``apt-get`` or ``npm``; raise with its last words if it fails.

    Raises a RuntimeError where the program is not installed, fails, or takes longer than
    `COMMAND_SECONDS`.
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


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {reason}" for name, reason in reasons.items())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def unpack_gzip(folder: Path, into: Path, most_bytes: int = MOST_BYTES) -> None:
    """Unpack every ``*.gz`` file of ``folder`` into ``into`` under its name without ``.gz``."""
    for packed in folder.glob("*.gz"):
        with gzip.open(packed) as source, (into / packed.stem).open("wb") as target:
            while chunk := source.read(_CHUNK):
                target.write(chunk)
                if target.tell() > most_bytes:
                    raise ValueError(f"{packed.name} unpacks to more than {most_bytes:,} bytes")


@contextlib.contextmanager
def limited_stall() -> Iterator[None]:
    """Let no connection opened in this block stall for longer than `STALL_SECONDS`."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def unpack_tar(archive: Path, into: Path, most_bytes: int = MOST_BYTES) -> None:
    """Unpack a tar archive, refusing members that would land outside of ``into``.

    Raises a tarfile.TarError where the archive is damaged, a member is unsafe (see
    `tarfile.data_filter`), or the members would take more than ``most_bytes``; then nothing was
    unpacked.
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
