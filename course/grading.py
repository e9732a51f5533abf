"""Grading a folder of submissions: run in sandboxes, judged, kept, tabulated.

What is done is kept in ``work/`` and not done again, unless submission, seed or grader have
changed.
"""

import ast
import csv
import hashlib
import io
import json
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from course import judge, sandbox, tasks
from course.judge import Judge
from course.submissions import Submission, prose, read_all
from hw3utils import files
from hw3utils.checking import records
from hw3utils.checking.places import PACKAGE
from hw3utils.checking.running import TASKS


def grade_one(submission: Submission, known: Judge, box: sandbox.Sandbox) -> dict[str, Any]:
    """Return points, messages and flags of a submission's automatic checks.

    Raises a GraderError where the grader is at fault.
    """
    notes, texts = [*submission.notes, *prose(submission).notes], {}
    for name, content in submission.contents.items():
        if name.endswith(".py"):
            texts[name.removeprefix("hw3utils/")] = content.decode("utf-8", errors="replace")
    recorded = _json(submission, "answers/records.json", notes)
    results = {}
    for name in (row["item"] for row in tasks.AUTOMATIC):
        flags: list[str] = []
        if name in TASKS:
            needed = [known.files[function] for function in TASKS[name].functions]
            if missing := [file for file in dict.fromkeys(needed) if file not in texts]:
                got = {"preparation": {"error": f"hw3utils/{', '.join(missing)} is missing"}}
            else:
                got = box.ask(known.request(name, texts))
            if name == "2.5 nms" and any(_uses_torchvision(texts.get(f, "")) for f in needed):
                flags.append("uses torchvision's own operator: somebody should look at it")
        else:
            recording = recorded.get(name) if isinstance(recorded, dict) else None
            got = records.cases(name, recording)
        verdict = known.verdict(name, got)
        points = round(verdict.share * tasks.POINTS[name], 2)
        results[name] = {"points": points, "messages": verdict.messages, "flags": flags}
    return {"results": results, "notes": notes}


def _uses_torchvision(text: str) -> bool:
    """Tell whether code imports torchvision; its comments and docstrings may well name it."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return any("torchvision" in ast.unparse(node) for node in imports)


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
    return hashlib.sha256(f"{seed} {student}".encode()).hexdigest()[:8]


def write_tables(graded: Mapping[str, dict[str, Any]], output: Path) -> None:
    """Write ``automatic.csv``, and ``manual.csv`` with a row for each item judged by hand.

    Points and comments that stand in ``manual.csv`` already stay, also those of students whose
    submission is not there this time.
    """
    seed = int((output / "seed").read_text("utf-8"))
    names = [row["item"] for row in tasks.AUTOMATIC]
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
    for item in tasks.BY_HAND:
        for student in sorted(graded, key=lambda name: code_name(name, seed)):
            code = code_name(student, seed)
            new = {"code": code, "item": item["item"], "most": item["points"],
                   "points": "", "comment": ""}  # fmt: skip
            rows.append(before.pop((code, item["item"]), new))
    rows += [row for row in before.values() if row["points"].strip()]  # of who is not here now
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
