"""The README and the write-ups: their numbers, their links, and the commands that they give."""

import importlib.util
import os
import re
import shlex
from pathlib import Path

import pytest

from hw3utils import __main__, paths
from hw3utils.report import publication

ROOT = paths.project_root()
TEXTS = [
    *(ROOT / name for name in ("README.md", "RUNNING.md", "CONTRIBUTING.md")),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "data", "tests")),
    *sorted((ROOT / "answers").glob("*.md")),
]

_SPEC = importlib.util.spec_from_file_location("run", ROOT / "run.py")
RUN = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(RUN)


def command_lines(text):
    """Return the lines of a page's code that call run.py or hw3utils; shell variables become 1."""
    code = re.findall(r"^```\n(.*?)^```|`([^`]+)`", text, re.DOTALL | re.MULTILINE)
    lines = [line for block, _ in code for line in block.splitlines()]
    lines += [" ".join(inline.split()) for _, inline in code]
    called = [re.search(r"python3? (run\.py|-m hw3utils)\b[^#&|;]*", line) for line in lines]
    return [re.sub(r"\$\w+", "1", match[0]).strip() for match in called if match]


def parse(line):
    """Let a command line be read as far as a run would read it before any work."""
    words = shlex.split(line)[1:]
    if words[0] == "run.py":
        command, words = RUN.parse(words[1:])
        if command != "run":
            return [word for word in words if word.startswith("tests/")]
        words = ["-m", "hw3utils", "run", *words]
    __main__.read(words[2:])
    return []


def automated_lines():
    """Return the same of what git's hooks and GitHub run, which are no pages."""
    files = (".pre-commit-config.yaml", ".github/workflows/tests.yml")
    lines = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in files)
    return command_lines(f"```\n{lines}\n```\n")


LINES = {line for text in TEXTS for line in command_lines(text.read_text(encoding="utf-8"))}
LINES = sorted(LINES | set(automated_lines()))


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_is_one_that_is_understood(line):
    for path in parse(line):
        assert (ROOT / path).exists(), path


def test_hooks_and_workflow_call_what_is_there():
    assert {line.split()[-1] for line in automated_lines()} == {"check", "output/report"}
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert "run: .ci/run\n" in workflow and os.access(ROOT / ".ci" / "run", os.X_OK)
    kept = re.findall(r"^ +data/(\S+)$", workflow, re.MULTILINE)
    assert kept
    for folder in kept:
        assert f"`{folder}/" in (ROOT / "data" / "README.md").read_text(encoding="utf-8"), folder


def test_the_command_lines_of_the_pages_are_found():
    assert len(LINES) > 15
    assert "python3 run.py --output ~/my-run -p seeds=3 --only problem1" in LINES
    assert "python -m hw3utils run problem1 --output runs/seeds-1 -p seeds=1" in LINES


@pytest.mark.parametrize(
    "line",
    [
        "python3 run.py -p",
        "python3 run.py seeds=3",
        "python3 run.py problem1",
        "python3 run.py --onyl problem1",
        "python3 run.py --only problem9",
        "python3 run.py --profile huge",
        "python3 run.py -p seeds=3",  # Problem 2 has no seeds
        "python3 run.py --only problem1 -p seed=3",
        "python3 run.py --only problem1 -p seeds:3",
        "python3 run.py check -p seeds=3",
        "python3 run.py test --only problem1",
        "python3 run.py test tests/no_such_file.py",
        "python3 run.py -p seeds 3",
        "python -m hw3utils",
        "python -m hw3utils publsh",
        "python -m hw3utils run problem1 -p profile=smoke",
        "python -m hw3utils data --output DIR",
    ],
)
def test_a_wrong_command_line_is_refused(line):
    with pytest.raises((SystemExit, ValueError)):
        parse(line)


def test_every_computed_number_is_up_to_date():
    assert publication.refresh_texts(check_only=True), (
        "run: .venv/bin/cog -r -n UTF-8 -I . README.md benchmarks/README.md answers/*.md"
    )


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_into_the_project_leads_somewhere(text):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text.read_text(encoding="utf-8")):
        assert (text.parent / target).exists(), f"{text.name} links to {target}, which is not there"


def test_every_link_within_a_page_leads_to_a_heading():
    text = (ROOT / "RUNNING.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
    assert anchors >= set(re.findall(r"\]\(#([^)]+)\)", text))


def test_the_table_of_environment_variables_is_complete():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "hw3utils").rglob("*.py"))
    text = (ROOT / "RUNNING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(HW3_\w+)`", text, re.MULTILINE)) == set(
        re.findall(r"HW3_[A-Z]+", code)
    )


@pytest.mark.parametrize("name", ["README.md", "RUNNING.md", "CONTRIBUTING.md"])
def test_a_text_names_only_commands_and_files_that_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:hw3utils|tests)/[\w/]+\.py|data/|answers/\w*|figures/)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`((?:data|training|problem\d|report|checking)/[\w/]+\.py)`", text):
        assert (ROOT / "hw3utils" / path).exists(), path
    for module in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file(), module


def test_the_tables_of_faults_and_of_equality_name_tests_that_exist():
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    there = "".join(path.read_text(encoding="utf-8") for path in tests)
    named = re.findall(r"`(test_\w+)`", (ROOT / "tests" / "README.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    for name in named:
        stands = f"def {name}(" in there or name in {path.stem for path in tests}
        assert stands, name
