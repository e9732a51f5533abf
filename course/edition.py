"""The students' edition: written whole from the model, and scanned for leaks each time.

Never committed: it is made anew whenever the model has changed.
"""

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat

from course import judge, notebooks, tasks
from course.cutting import Piece
from hw3utils import paths
from hw3utils.checking.judging import digest
from hw3utils.checking.records import EXAMPLE_RUNS, RECORDS

COPIED = ("pyproject.toml", "environment.yml", "requirements.lock", "data/README.md", ".gitignore")
STAND_IN = '"""Not part of the students\' edition: its names, for those who import them."""\n'
SHORTEST = 25  # characters of a cut line that must not be found; shorter ones stand anywhere


def write(out: Path) -> list[Path]:
    """Write the edition into a folder that is new or empty, and return its files.

    Raises a ValueError where the folder is not empty, or something leaks.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty: the edition is always written whole")
    root = paths.project_root()
    ignored = shutil.ignore_patterns("__pycache__", *tasks.DROPPED)
    shutil.copytree(root / "hw3utils", out / "hw3utils", ignore=ignored, dirs_exist_ok=True)
    for file, (text, _) in judge.cut_package().items():
        (out / "hw3utils" / file).write_text(text, encoding="utf-8")
    _stand_in(out / "hw3utils")
    main = root / "hw3utils" / "checking" / "__main__.py"
    shutil.copy(main, out / "hw3utils" / "__main__.py")
    expected = json.dumps(visible(), ensure_ascii=False)  # NaN stays NaN
    (out / "hw3utils" / "checking" / "expected.json").write_text(expected, encoding="utf-8")
    for name in COPIED:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, out / name)
    project = (out / "pyproject.toml").read_text(encoding="utf-8")
    project = project.replace('"hw3utils.report" = ["*.css"]', '"hw3utils.checking" = ["*.json"]')
    (out / "pyproject.toml").write_text(project, encoding="utf-8")
    shutil.copy(tasks.HERE / "STUDENTS.md", out / "README.md")
    (out / "answers").mkdir()
    (out / "notebooks").mkdir()
    for place in sorted(paths.notebooks_dir().glob("*.ipynb")):
        made = notebooks.for_students(nbformat.read(place, as_version=4), place.stem)
        nbformat.write(made, out / "notebooks" / place.name)
    for problem in notebooks.SHEETS:
        rooms = [notebooks.room(row) for row in tasks.BY_HAND if row["item"][0] == problem[-1]]
        text = "\n\n".join([f"# Problem {problem[-1]}: your answers", *rooms])
        (out / "answers" / f"{problem}.md").write_text(text + "\n", encoding="utf-8")
    if found := leaks(out):
        raise ValueError("the edition leaks:\n" + "\n".join(found))
    return sorted(path for path in out.rglob("*") if path.is_file())


def _stand_in(package: Path) -> None:
    """Write an empty class for each name that a file still imports from one that is not shipped."""
    wanted: dict[Path, set[str]] = {}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hw3utils."):
                place = package.parent / Path(*node.module.split(".")).with_suffix(".py")
                if not place.exists() and not place.with_suffix("").is_dir():
                    wanted.setdefault(place, set()).update(alias.name for alias in node.names)
    for place, names in wanted.items():
        if place.parent.name != "report":
            text = "".join(f"\n\nclass {name}:\n    pass\n" for name in sorted(names))
            place.write_text(STAND_IN + text, encoding="utf-8")


def visible() -> dict[str, Any]:
    """Return the expected values of the visible checks; answers that are numbers as digests."""
    known = judge.known(judge.VISIBLE_SEED)
    expected = {}
    for name, task in known.expected.items():
        hide = name in RECORDS and name not in EXAMPLE_RUNS
        expected[name] = {
            "cases": _digests(task.cases) if hide else task.cases,
            "mistakes": [[text, _digests(w) if hide else w] for text, w in task.mistakes],
        }
    points = {row["item"]: [row["part"], int(row["points"])] for row in tasks.AUTOMATIC}
    rooms = [row["item"] for row in tasks.BY_HAND]
    return {"seed": known.seed, "points": points, "rooms": rooms, "expected": expected}


def _digests(cases: dict[str, Any]) -> dict[str, Any]:
    return {label: digest(value) for label, value in cases.items() if value is not None}


def leaks(out: Path) -> list[str]:
    """Return what an edition must not hold: cut lines, sentences of answers, outputs, history."""
    root, found = paths.project_root(), []
    texts = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and path.suffix in (".py", ".md", ".ipynb", ".json", ".toml", ".yml"):
            text = path.read_text(encoding="utf-8")
            texts[path] = _prose(text) if path.suffix == ".ipynb" else text
    cut = judge.cut_package()
    whole = {str(path.relative_to(judge.PACKAGE)): path for path in judge.PACKAGE.rglob("*.py")}
    elsewhere = "\n".join(
        cut[file][0] if file in cut else path.read_text(encoding="utf-8")
        for file, path in whole.items()
    )
    for file, (_, pieces) in cut.items():
        for line in _cut_lines(pieces):
            for path, text in texts.items():
                if line in text and line not in elsewhere:
                    found.append(f"{path.relative_to(out)} holds a line cut from {file}: {line}")
    for path, text in texts.items():
        found += [
            f"{path.relative_to(out)} holds an answer: {sentence[:80]}"
            for sentence in answer_sentences(root)
            if sentence in text
        ]
    for path in (out / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        if any(cell.get("outputs") or cell.get("execution_count") for cell in cells):
            found.append(f"{path.name} holds outputs")
    names = [str(path.relative_to(out)) for path in out.rglob("*")]
    forbidden = r"(^|/)(\.git|tests|course|figures|results|benchmarks)$|answers\.py$"
    found += [
        f"{name} does not belong there"
        for name in names
        if re.search(forbidden, name) and not texts.get(out / name, "").startswith(STAND_IN)
    ]
    return found


def _cut_lines(pieces: list[Piece]) -> set[str]:
    lines = {line.strip() for piece in pieces for line in piece.original}
    return {line for line in lines - {""} if len(line) >= SHORTEST}


def answer_sentences(root: Path) -> set[str]:
    """Return the sentences of the write-ups and of the notebooks' answers that are long enough."""
    texts = [path.read_text(encoding="utf-8") for path in (root / "answers").glob("problem*.md")]
    for path in (root / "notebooks").glob("*.ipynb"):
        cells = notebooks.split(nbformat.read(path, as_version=4)).cells
        texts += [cell.source for cell in cells if "answer" in cell.metadata.get("tags", [])]
    blocks = [block for text in texts for block in re.split(r"\n\s*\n", text)]
    sentences = {part.strip() for block in blocks for part in re.split(r"(?<=[.!?])\s", block)}
    return {sentence for sentence in sentences if len(sentence) > 60 and sentence[0] != "#"}


def _prose(notebook: str) -> str:
    return "\n".join(cell.source for cell in nbformat.reads(notebook, as_version=4).cells)
