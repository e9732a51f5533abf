"""Grading a folder of submissions: read with care, run in sandboxes, judged, kept, tabulated.

Nothing of a submission is ever unpacked onto the disk. What is done is kept in ``work/`` and not
done again, unless submission, seed or grader have changed.
"""

import csv
import hashlib
import io
import json
import re
import secrets
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from course import judge, sandbox, tasks
from course.judge import Judge
from hw3utils import files
from hw3utils.checking import records
from hw3utils.checking.places import PACKAGE
from hw3utils.checking.running import TASKS

KINDS = {"py": 400_000, "json": 2_000_000, "md": 2_000_000, "ipynb": 40_000_000}  # most bytes
MOST_FILES = 5_000
WANTED = re.compile(r"(hw3utils/[\w/]+\.py|answers/(?:records\.json|problem\d\.md)|"
                    r"notebooks/problem\d\.ipynb)$")  # fmt: skip


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
    found = sorted(p for p in folder.iterdir() if p.is_dir() or p.suffix == ".zip")
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
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        return Submission(path.stem, {}, [f"the zip file cannot be read: {error}"])


def _limited(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as member:
        return member.read(info.file_size + 1)


def _read(student: str, members: Iterable[tuple[str, int, Any]]) -> Submission:
    contents: dict[str, bytes] = {}
    notes: list[str] = []
    for name, size, get in sorted(members, key=lambda member: (len(member[0]), member[0])):
        if ".." in name.split("/") or name.startswith("/"):
            notes.append(f"{name[:80]!r} leads out of the zip file: ignored")
        elif match := WANTED.search(name):
            most = KINDS[name.rpartition(".")[2]]
            if size > most:
                notes.append(f"{match[1]} has {size:,} bytes, at most {most:,}: ignored")
            elif match[1] not in contents:
                try:
                    contents[match[1]] = get()
                except (zipfile.BadZipFile, OSError, RuntimeError, EOFError) as error:
                    notes.append(f"{match[1]} cannot be read: {error}")
    if not contents:
        notes.append("nothing of what is asked for was found")
    for wanted in ("answers/records.json", *(f"notebooks/problem{n}.ipynb" for n in (1, 2, 3, 4))):
        if wanted not in contents:
            notes.append(f"{wanted} is missing")
    return Submission(student, contents, notes)


def grade_one(submission: Submission, known: Judge, box: sandbox.Sandbox) -> dict[str, Any]:
    """Return points, messages and flags of a submission's automatic checks.

    Raises a GraderError where the grader is at fault.
    """
    notes, texts = list(submission.notes), {}
    for name, content in submission.contents.items():
        if name.endswith(".py"):
            texts[name.removeprefix("hw3utils/")] = content.decode("utf-8", errors="replace")
    recorded = _json(submission, "answers/records.json", notes)
    results = {}
    for name in (row["item"] for row in tasks.RUBRIC if row["kind"] == "automatic"):
        flags: list[str] = []
        if name in TASKS:
            needed = [known.files[function] for function in TASKS[name].functions]
            if missing := [file for file in dict.fromkeys(needed) if file not in texts]:
                got = {"preparation": {"error": f"hw3utils/{', '.join(missing)} is missing"}}
            else:
                got = box.ask(known.request(name, texts))
            if name == "2.5 nms" and any("torchvision" in texts.get(file, "") for file in needed):
                flags.append("uses torchvision's own operator: somebody should look at it")
        else:
            recording = recorded.get(name) if isinstance(recorded, dict) else None
            got = records.cases(name, recording)
        verdict = known.verdict(name, got)
        points = round(verdict.share * tasks.POINTS[name], 2)
        results[name] = {"points": points, "messages": verdict.messages, "flags": flags}
    return {"results": results, "notes": notes}


def _json(submission: Submission, name: str, notes: list[str]) -> Any:
    try:
        return json.loads(submission.contents.get(name, b"{}"))
    except (ValueError, RecursionError) as error:
        notes.append(f"{name} is no JSON: {str(error)[:100]}")
        return {}


def grade(
    folder: Path, output: Path, *, jobs: int = 1, trusted: bool = False, seed: int | None = None
) -> dict[str, dict[str, Any]]:
    """Grade all submissions, and return each student's results, which lie in ``output``, too.

    Raises a ValueError where there are none, a NoSandboxError without a sandbox (unless
    ``trusted``), and a GraderError, which is nobody's score.
    """
    submissions = read_all(folder)
    work = output / "work"
    work.mkdir(parents=True, exist_ok=True)
    editions = {file: text for file, (text, _) in judge.cut_package().items()}
    with sandbox.package_copy(PACKAGE, editions) as code:
        if not trusted:
            sandbox.check_works(code)
        known = judge.known(_seed(output, seed))
        state = f"{known.seed} {_grader_digest(known)}"

        def one(submission: Submission) -> tuple[str, dict[str, Any]]:
            kept = work / f"{submission.student}.json"
            key = f"{state} {submission.digest}"
            if kept.is_file():
                found = json.loads(kept.read_text(encoding="utf-8"))
                if found["key"] == key:
                    return submission.student, found
            with sandbox.Sandbox(code, trusted) as box:
                found = {"key": key} | grade_one(submission, known, box)
            files.save_json(found, kept)
            return submission.student, found

        with ThreadPoolExecutor(jobs) as pool:
            done = tqdm(pool.map(one, submissions), total=len(submissions), desc="grading")
            graded = dict(done)
    write_tables(graded, output)
    return graded


def _seed(output: Path, seed: int | None) -> int:
    """Return the secret seed of this grading, the same for all and for each time."""
    path = output / "seed"
    if seed is None:
        seed = int(path.read_text("utf-8")) if path.is_file() else secrets.randbelow(2**31)
    path.write_text(f"{seed}\n", encoding="utf-8")
    path.chmod(0o600)
    return seed


def _grader_digest(known: Judge) -> str:
    parts = [*sorted(known.editions.items()), *sorted(known.models.items())]
    for path in [*tasks.HERE.glob("*.[pc]*"), *(known.package / "checking").glob("*.py")]:
        parts.append((path.name, path.read_text(encoding="utf-8")))
    return hashlib.sha256(repr(sorted(map(str, parts))).encode()).hexdigest()[:16]


def code_name(student: str, seed: int) -> str:
    """Return the name under which a student's work is shown to those who judge it."""
    return hashlib.sha256(f"{seed} {student}".encode()).hexdigest()[:6]


def write_tables(graded: Mapping[str, dict[str, Any]], output: Path) -> None:
    """Write ``automatic.csv``, and ``manual.csv`` with a row for each item judged by hand.

    Points and comments that stand in ``manual.csv`` already stay.
    """
    seed = int((output / "seed").read_text("utf-8"))
    names = [row["item"] for row in tasks.RUBRIC if row["kind"] == "automatic"]
    rows = [
        {"student": student, **{name: found["results"][name]["points"] for name in names},
         "total": round(sum(found["results"][name]["points"] for name in names), 2),
         "flags": "; ".join(f for name in names for f in found["results"][name]["flags"]),
         "notes": "; ".join(found["notes"])}
        for student, found in sorted(graded.items())
    ]  # fmt: skip
    write_csv(output / "automatic.csv", rows)
    before = {(row["code"], row["item"]): row for row in read_csv(output / "manual.csv")}
    rows = []
    for item in (row for row in tasks.RUBRIC if row["kind"] == "hand"):
        for student in sorted(graded, key=lambda name: code_name(name, seed)):
            code = code_name(student, seed)
            new = {"code": code, "item": item["item"], "most": item["points"],
                   "points": "", "comment": ""}  # fmt: skip
            rows.append(before.get((code, item["item"]), new))
    write_csv(output / "manual.csv", rows)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows with the same keys, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_atomically(path, text.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file, none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
