"""The students' edition: written whole from the model, and scanned for leaks each time.

Never committed: it is made anew whenever the model has changed.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat

from course import judge, notebooks, tasks
from hw3utils import paths
from hw3utils.checking.judging import digest
from hw3utils.checking.records import EXAMPLE_RUNS, RECORDS

COPIED = ("pyproject.toml", "environment.yml", "requirements.lock", "data/README.md", ".gitignore")
FORBIDDEN = re.compile(r"(^|/)(\.git|tests|course|figures|results|benchmarks)$|answers\.py$")
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
    found, texts = [], {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if FORBIDDEN.search(name):
            found.append(f"{name} does not belong there")
        if path.suffix == ".ipynb":
            cells = nbformat.read(path, as_version=4).cells
            texts[name] = "\n".join(cell.source for cell in cells)
            if any(cell.get("outputs") or cell.get("execution_count") for cell in cells):
                found.append(f"{name} holds outputs")
        elif path.is_file() and path.suffix in (".py", ".md", ".json", ".toml", ".yml"):
            texts[name] = path.read_text(encoding="utf-8")
    lines, sentences = _cut_lines(), answer_sentences(paths.project_root())
    for name, text in texts.items():
        found += [f"{name} holds a line cut from {lines[x]}: {x}" for x in lines if x in text]
        found += [f"{name} holds an answer: {x[:80]}" for x in sentences if x in text]
    return found


def _cut_lines() -> dict[str, str]:
    """Return which file each line was cut from that stands nowhere else in the model."""
    cut = judge.cut_package()
    texts = {
        file: path.read_text(encoding="utf-8")
        for path in judge.PACKAGE.rglob("*.py")
        for file in [path.relative_to(judge.PACKAGE).as_posix()]
    }
    elsewhere = "\n".join((texts | {file: text for file, (text, _) in cut.items()}).values())
    return {
        line: file
        for file, (_, removed) in cut.items()
        for line in map(str.strip, removed)
        if len(line) >= SHORTEST and line not in elsewhere
    }


def answer_sentences(root: Path) -> set[str]:
    """Return the sentences of the write-ups and of the notebooks' answers that are long enough."""
    texts = [path.read_text(encoding="utf-8") for path in (root / "answers").glob("problem*.md")]
    for path in (root / "notebooks").glob("*.ipynb"):
        cells = notebooks.split(nbformat.read(path, as_version=4)).cells
        texts += [cell.source for cell in cells if "answer" in cell.metadata.get("tags", [])]
    blocks = [block for text in texts for block in re.split(r"\n\s*\n", text)]
    sentences = {part.strip() for block in blocks for part in re.split(r"(?<=[.!?])\s", block)}
    return {sentence for sentence in sentences if len(sentence) > 60 and sentence[0] != "#"}
