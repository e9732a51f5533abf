"""Grading a folder of submissions: run in sandboxes, judged, kept, tabulated.

What is done is kept in ``work/`` and not done again, unless submission, seed or grader have
changed.
"""

import ast
import hashlib
import io
import json
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from course import judge, sandbox, tasks
from course.judge import Judge
from course.submissions import Submission, prose, read_all
from hw3utils import files
from hw3utils.checking import records
from hw3utils.checking.places import PACKAGE
from hw3utils.checking.running import TASKS, plain

NOTHING = "nothing written"  # the comment on an item without text and figure


def grade_one(submission: Submission, known: Judge, box: sandbox.Sandbox) -> dict[str, Any]:
    """Return points, messages and flags of a submission's automatic checks, and what is unwritten.

    Raises a GraderError where the grader is at fault.
    """
    own = prose(submission)
    notes, texts = [*submission.notes, *own.notes], {}
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
    unwritten = [
        row["item"]
        for row in tasks.BY_HAND
        if not own.texts.get(row["item"]) and not own.figures.get(row["part"])
    ]
    return {"results": results, "notes": notes, "unwritten": unwritten}


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
        return plain(json.loads(submission.contents.get(name, b"{}")))
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
        grader = _grader_digest(known)

        def one(submission: Submission) -> tuple[str, dict[str, Any]]:
            kept = work / f"{submission.student}.json"
            key = f"{grader} {submission.digest}"
            if kept.is_file():
                found = json.loads(kept.read_text(encoding="utf-8"))
                if found["key"] == key:
                    return submission.student, found
            with sandbox.Sandbox(code, trusted) as box:
                try:
                    found = {"key": key} | grade_one(submission, known, box)
                except Exception as error:  # whatever it is, no submission may be blamed for it
                    said = f"{submission.student}: {type(error).__name__}: {error}"
                    raise sandbox.GraderError(said) from error
            files.save_json(found, kept)
            return submission.student, found

        pool = ThreadPoolExecutor(jobs)
        try:
            done = tqdm(pool.map(one, submissions), total=len(submissions), desc="grading")
            graded = dict(done)
        finally:  # after an error, or Ctrl-C, no other is begun
            pool.shutdown(cancel_futures=True)
    write_tables(graded, output)
    return graded


def _seed(output: Path, seed: int | None) -> int:
    """Return the secret seed of this grading, the same for all and for each time."""
    path = output / "seed"
    if seed is None:
        seed = int(path.read_text("utf-8")) if path.is_file() else secrets.randbelow(2**31)
    path.touch(0o600)  # nobody else reads it, not even while it is written
    path.write_text(f"{seed}\n", encoding="utf-8")
    return seed


def _grader_digest(known: Judge) -> str:
    """Return what tells that grading again would give something else, without the seed itself."""
    parts = [known.seed, *sorted(known.editions.items()), *sorted(known.models.items())]
    for path in [*tasks.HERE.glob("*.[pc]*"), *(PACKAGE / "checking").glob("*.py")]:
        parts.append((path.name, path.read_text(encoding="utf-8")))
    return hashlib.sha256(repr(sorted(map(str, parts))).encode()).hexdigest()


def code_name(student: str, seed: int) -> str:
    """Return the name under which a student's work is shown to those who judge it.

    It begins with a letter: a spreadsheet would take 12345678 or 1234e567 for a number.
    """
    return "s" + hashlib.sha256(f"{seed} {student}".encode()).hexdigest()[:8]


def write_tables(graded: Mapping[str, dict[str, Any]], output: Path) -> None:
    """Write ``automatic.csv``, and ``manual.csv`` with a row for each item judged by hand.

    Points and comments that stand in ``manual.csv`` already stay, also those of students whose
    submission is not there this time. Where neither text nor figure was found the comment says so.
    """
    seed = int((output / "seed").read_text("utf-8"))
    rows = []
    for student, found in sorted(graded.items()):
        points = {name: result["points"] for name, result in found["results"].items()}
        flags = [flag for result in found["results"].values() for flag in result["flags"]]
        rows.append(
            {"student": student, **points, "total": round(sum(points.values()), 2),
             "flags": "; ".join(flags), "notes": "; ".join(found["notes"])}
        )  # fmt: skip
    files.save_csv(pd.DataFrame(rows), output / "automatic.csv")
    before = {(row["code"], row["item"]): row for row in read_csv(output / "manual.csv")}
    rows = []
    for item in tasks.BY_HAND:
        for code, student in sorted((code_name(student, seed), student) for student in graded):
            comment = NOTHING if item["item"] in graded[student]["unwritten"] else ""
            row = {"code": code, "item": item["item"], "most": item["points"],
                   "points": "", "comment": comment}  # fmt: skip
            old = before.pop((code, item["item"]), row)
            touched = old["points"].strip() or old["comment"] not in ("", NOTHING)
            rows.append(old if touched else row)
    rows += [row for row in before.values() if row["points"].strip()]  # of who is not here now
    files.save_csv(pd.DataFrame(rows), output / "manual.csv")


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file as texts, none where there is no file.

    Where the comma is the decimal mark spreadsheets separate columns with semicolons.
    """
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8-sig")
    between = ";" if ";" in text.partition("\n")[0] else ","
    rows = pd.read_csv(io.StringIO(text), sep=between, dtype=str, keep_default_na=False)
    return rows.to_dict("records")
