"""What students hand in: zip files and folders, read with care, and the prose in them.

Nothing is unpacked onto the disk, and whatever is odd becomes a note. A student's prose is found by
the headings "Answer 1.3a", in whatever notebook or sheet they stand.
"""

import base64
import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course.notebooks import parts_of

KINDS = {"py": 400_000, "json": 2_000_000, "md": 2_000_000, "ipynb": 40_000_000}  # most bytes
MOST_FILES, MOST_BYTES = 5_000, 200_000_000  # in all
WANTED = re.compile(r"(hw3utils/[\w/]+\.py|answers/(?:records\.json|problem\d\.md)|"
                    r"notebooks/problem\d\.ipynb)$")  # fmt: skip
_HEADING = re.compile(r"^#+ *Answer +(\d\.\d[a-d]?)\b.*$", re.MULTILINE)
PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST_PICTURE, _MOST_PICTURES, _LONGEST = 3_000_000, 12, 40_000


@dataclass(frozen=True)
class Submission:
    """What somebody handed in, by place in the project, and what was wrong with it."""

    student: str
    contents: dict[str, bytes]
    notes: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        digest = hashlib.sha256()
        for name, content in sorted(self.contents.items()):
            digest.update(f"{name} {len(content)} ".encode() + content)
        return digest.hexdigest()


def read_all(folder: Path) -> list[Submission]:
    """Return the submissions in a folder: zip files, and folders. Raises a ValueError for none."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    found = sorted(p for p in folder.iterdir() if p.is_dir() or p.suffix.lower() == ".zip")
    if not found:
        raise ValueError(f"{folder} holds no zip file and no folder")
    names = [path.stem if path.is_file() else path.name for path in found]
    if len(set(names)) < len(names):
        raise ValueError(f"two submissions have one name: {sorted(names)}")
    return [read(path) for path in found]


def read(path: Path) -> Submission:
    """Return one submission, without what is too large, odd or not asked for."""
    if path.is_dir():
        inside = [p for p in path.rglob("*") if p.is_file() and not p.is_symlink()]
        members = [(p.relative_to(path).as_posix(), p.stat().st_size, p.read_bytes) for p in inside]
        return _read(path.name, members)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if len(infos) > MOST_FILES:
                return Submission(path.stem, {}, [f"the zip file holds {len(infos)} files"])
            members = [(i.filename, i.file_size, lambda i=i: _limited(archive, i)) for i in infos]
            return _read(path.stem, members)
    except Exception as error:  # what a damaged file makes zipfile raise is not documented
        return Submission(path.stem, {}, [f"the zip file cannot be read: {error}"])


def _limited(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as member:
        return member.read(info.file_size + 1)


def _read(student: str, members: Iterable[tuple[str, int, Callable[[], bytes]]]) -> Submission:
    contents: dict[str, bytes] = {}
    notes: list[str] = []
    left = MOST_BYTES
    for name, size, get in sorted(members, key=lambda member: (len(member[0]), member[0])):
        if ".." in name.split("/") or name.startswith("/"):
            notes.append(f"{name[:80]!r} leads out of the zip file: ignored")
        elif match := WANTED.search(name):
            most = min(KINDS[name.rpartition(".")[2]], left)
            if size > most:
                notes.append(f"{match[1]} has {size:,} bytes, at most {most:,}: ignored")
            elif match[1] not in contents:
                try:
                    contents[match[1]] = get()
                    left -= len(contents[match[1]])
                except Exception as error:  # zlib.error among others
                    notes.append(f"{match[1]} cannot be read: {error}")
    if not contents:
        notes.append("nothing of what is asked for was found")
    for wanted in ("answers/records.json", *(f"notebooks/problem{n}.ipynb" for n in (1, 2, 3, 4))):
        if wanted not in contents:
            notes.append(f"{wanted} is missing")
    return Submission(student, contents, notes)


@dataclass(frozen=True)
class Prose:
    """What somebody wrote and drew, by item and by part, and what could not be read."""

    texts: dict[str, str]
    figures: dict[str, list[bytes]]  # PNG
    notes: list[str]


def prose(submission: Submission) -> Prose:
    """Return the text under each item's heading, and the figures under each part's.

    Cells may be doubled, moved or without metadata. What stands twice counts once.
    """
    texts: dict[str, list[str]] = {}
    figures: dict[str, list[bytes]] = {}
    notes = []
    for name, content in sorted(submission.contents.items()):
        if name.endswith(".md"):
            _collect(content.decode("utf-8", errors="replace"), texts)
        elif name.endswith(".ipynb"):
            try:
                parts: list[str] = []
                for cell in json.loads(content)["cells"]:
                    source = "".join(cell.get("source", ""))
                    if cell.get("cell_type") == "markdown":
                        _collect(source, texts)
                        parts = parts_of(source) or parts
                    for part in parts:
                        figures.setdefault(part, []).extend(pictures(cell))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                notes.append(f"{name} is no notebook that can be read: {str(error)[:100]}")
    return Prose(
        {item: "\n\n".join(dict.fromkeys(found)) for item, found in texts.items()},
        {part: list(dict.fromkeys(found))[:_MOST_PICTURES] for part, found in figures.items()},
        notes,
    )


def _collect(text: str, texts: dict[str, list[str]]) -> None:
    """Add what stands under each heading, but for the room's own lines."""
    marks = list(_HEADING.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)] * bool(marks)
    for mark, end in zip(marks, ends, strict=True):
        written = text[mark.end() : end]
        own = [line for line in written.splitlines()
               if not re.match(r"\(write .* here\)$|\*.*points?\)\*$", line)]  # fmt: skip
        if "".join(own).strip():
            kept = "\n".join(own).strip()[:_LONGEST]
            texts.setdefault(mark[1], []).append(kept.encode("utf-8", "replace").decode())


def pictures(cell: Mapping[str, Any]) -> list[bytes]:
    """Return the figures (PNG) of a notebook's cell."""
    found = []
    for output in cell.get("outputs", []):
        coded = "".join(output.get("data", {}).get("image/png", ""))
        try:
            picture = base64.b64decode(coded)
        except ValueError:
            continue
        if picture.startswith(PNG) and len(picture) <= _LARGEST_PICTURE:
            found.append(picture)
    return found
