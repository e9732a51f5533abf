"""The README and the write-ups: their numbers, their links, and what they must not contain."""

import re
from pathlib import Path

import pytest

from hw3utils import paths
from hw3utils.report import publication

ROOT = paths.project_root()
TEXTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "data", "tests")),
    *sorted((ROOT / "answers").glob("*.md")),
]


def test_every_computed_number_is_up_to_date():
    assert publication.refresh_texts(check_only=True), "run: python -m hw3utils publish, or cog -r"


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_into_the_project_leads_somewhere(text):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text.read_text(encoding="utf-8")):
        assert (text.parent / target).exists(), f"{text.name} links to {target}, which is not there"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_a_text_names_only_commands_and_files_that_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:hw3utils|tests)/[\w/]+\.py|data/|answers/\w*|figures/)`", text):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file(), module


def test_the_tables_of_faults_and_of_equality_name_tests_that_exist():
    there = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")
    )
    files = " ".join(path.as_posix() for path in (ROOT / "tests").rglob("*.py"))
    named = re.findall(r"`(test_\w+)`", (ROOT / "tests" / "README.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    for name in named:
        assert f"def {name}(" in there or f"/{name}.py" in files, name
