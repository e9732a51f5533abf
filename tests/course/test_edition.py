"""The students' edition: made from the model, without its answers, and whole once it is solved."""

import ast
import os
import subprocess
import sys
from collections import Counter

import nbformat
import pytest

from course import __main__, edition, judge, notebooks, tasks
from course.cutting import cut, raising
from hw3utils import paths
from hw3utils.checking.places import PACKAGE, find
from hw3utils.checking.running import TASKS
from hw3utils.report.notebooks import PROBLEMS
from hw3utils.training.schedules import DecayingCyclical, learning_rates


def call(folder, *words, **more):
    """Run a command in an edition, with nothing of this checkout on its path."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("HW3_")}
    variables |= {"PYTHONPATH": str(folder), "HW3_HOME": str(folder), **more}
    variables["HW3_DATA"] = str(paths.data_dir())
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=variables, capture_output=True, text=True
    )


def test_what_is_not_cut_stays_as_it_was_byte_for_byte():
    found = judge.cut_package()
    assert len(TASKS) == 15
    for file, (text, removed) in found.items():
        original = (PACKAGE / file).read_text(encoding="utf-8").splitlines(keepends=True)
        lost = Counter(original) - Counter(text.splitlines(keepends=True))
        assert lost and lost <= Counter(removed)


def test_signature_docstring_and_input_checks_stay():
    source = (
        "def f(a: int, b=2):\n    # why\n    '''Say it.'''\n    check_it(a)\n"
        "    if b < 0:\n        raise ValueError(b)\n    # the trick\n    return a * b  # yes\n\n\n"
        "x = 1\n"
    )
    text, removed = cut(source, {"f": raising("write f")})
    kept, _, after = source.partition("    # the trick\n    return a * b  # yes\n")
    assert text == f"{kept}    raise NotImplementedError(\n        'write f'\n    )\n{after}"
    assert removed == ["    # the trick\n", "    return a * b  # yes\n"]
    with pytest.raises(LookupError):
        cut(source, {"g": ""})


def test_nothing_leaks(written):
    assert edition.leaks(written) == []
    names = {str(path.relative_to(written)) for path in written.rglob("*")}
    assert not [n for n in names if n.endswith("answers.py")]
    assert not [n for n in names if n.startswith(("tests", "figures", "course"))]
    assert not (written / "answers" / "results").exists() and not (written / ".git").exists()
    for path in (written / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs")
    assert "60965224" not in (written / "hw3utils/checking/expected.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("place", "planted"),
    [
        ("README.md", "level = fallen_to(start, values[best], progress)"),
        ("answers/results/problem1.json", "{}"),
        ("hw3utils/problem1/answers.py", ""),
        ("tests/x.py", ""),
    ],
)  # fmt: skip
def test_a_leak_is_found(written, place, planted):
    path = written / place
    before = path.read_text("utf-8") if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.parent
    path.write_text((before or "") + planted, encoding="utf-8")
    try:
        assert edition.leaks(written)
    finally:
        path.unlink()
        if before is not None:
            path.write_text(before, encoding="utf-8")
        elif not any(made.iterdir()):
            made.rmdir()


def test_an_answers_sentence_is_found(written):
    sentence = sorted(edition.answer_sentences(paths.project_root()))[0]
    path = written / "answers" / "problem2.md"
    before = path.read_text("utf-8")
    path.write_text(f"{before}\n{sentence}\n", encoding="utf-8")
    assert any("holds an answer" in leak for leak in edition.leaks(written))
    path.write_text(before, encoding="utf-8")


def test_the_schedule_that_students_get_whole_follows_their_own(written):
    """Both bounds decay: written as in the model it would show how a cycle is made."""
    program = (
        "from hw3utils.training import schedules as s\n"
        "def build(self, optimizer, n):\n"
        "    def factor(t):\n"
        "        height = 1 - abs(t / (n / self.cycles / 2) % 2 - 1)\n"
        "        return 1 + height * (self.lr_max / self.lr - 1)\n"
        "    return s.lr_scheduler.LambdaLR(optimizer, factor)\n"
        "s.Cyclical.build = build\n"
        "made = s.DecayingCyclical(0.01, lr_max=0.5, cycles=2, final_amplitude=0.3)\n"
        "print(*s.learning_rates(made, 40))"
    )
    done = call(written, "-c", program)
    expected = learning_rates(DecayingCyclical(0.01, lr_max=0.5, cycles=2, final_amplitude=0.3), 40)
    assert [float(rate) for rate in done.stdout.split()] == pytest.approx(expected), done.stderr


def test_every_file_of_the_edition_can_be_imported(written):
    program = (
        "import importlib, pkgutil, hw3utils\n"
        "for found in pkgutil.walk_packages(hw3utils.__path__, 'hw3utils.'):\n"
        "    importlib.import_module(found.name)"
    )
    done = call(written, "-c", program)
    assert done.returncode == 0, done.stderr


def test_the_edition_is_only_written_into_an_empty_folder(written):
    with pytest.raises(ValueError, match="not empty"):
        edition.write(written)


@pytest.mark.parametrize("words", [["student"], ["grade", "submissions", "--output"]])
def test_nothing_is_written_into_the_repository(words, capsys):
    place = paths.project_root() / "written-by-mistake"
    with pytest.raises(SystemExit):
        __main__.main([*words, str(place)])
    assert "is in this repository" in capsys.readouterr().err and not place.exists()


def test_each_item_has_room_for_an_answer_and_each_task_a_check(written):
    books = {p: nbformat.read(written / "notebooks" / f"{p}.ipynb", as_version=4) for p in PROBLEMS}
    prose = "\n".join(cell.source for book in books.values() for cell in book.cells)
    sheets = "\n".join(path.read_text("utf-8") for path in (written / "answers").glob("*.md"))
    for row in tasks.RUBRIC:
        if row["kind"] == "hand":
            assert (prose + sheets).count(f"### Answer {row['item']}\n") == 1
        else:
            assert prose.count(f'"{row["item"]}"') >= 1
    for book in books.values():
        nbformat.validate(book)
        code = [cell.source for cell in book.cells if cell.cell_type == "code"]
        assert not any("answers." in source for source in code)
        offered = {"check", "progress", "record", "submit"}
        assert any(offered <= imported(source) for source in code)
        assert not any(offered & assigned(source) for source in code)


def parsed(source):
    """Return the nodes of a cell's code, without its magics."""
    lines = [line for line in source.splitlines() if not line.startswith("%")]
    return list(ast.walk(ast.parse("\n".join(lines))))


def imported(source):
    return {n.name for node in parsed(source) if isinstance(node, ast.ImportFrom)
            for n in node.names}  # fmt: skip


def assigned(source):
    return {node.id for node in parsed(source) if isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Store)}  # fmt: skip


def test_the_untouched_edition_says_where_to_write(written):
    done = call(written, "-m", "hw3utils", "check")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 23 and not any("pass" in line for line in lines)
    assert "2.5 iou: write unchecked_iou in hw3utils/problem2/" in done.stdout
    done = call(written, "-m", "hw3utils", "submit")
    assert (written / "submission.zip").is_file()
    assert "missing: answers/records.json" in done.stdout and "still empty: 1.1a" in done.stdout
    (written / "submission.zip").unlink()
    assert "0.00 of 41" in call(written, "-m", "hw3utils", "progress").stdout
    assert call(written, "-m", "hw3utils", "check", "9.9").returncode == 1


def test_a_mistake_in_the_syntax_is_told_with_file_and_line(tmp_path):
    (tmp_path / "problem4").mkdir()
    (tmp_path / "problem4" / "labels.py").write_text("x = 1\n\ndef select(k:\n    return k\n")
    with pytest.raises(LookupError, match=r"syntax of \S+/problem4/labels.py, line 3: "):
        find(tmp_path, "problem4:select")


def test_an_endless_loop_is_stopped_and_said(solved):
    program = (
        "from dataclasses import replace\n"
        "from hw3utils.checking import check, desk\n"
        "def loops(request):\n"
        "    while True:\n"
        "        pass\n"
        "desk.answer = loops\n"
        "desk.TASKS['2.5 iou'] = replace(desk.TASKS['2.5 iou'], seconds=0.2)\n"
        "check('2.5 iou')\n"
    )
    done = call(solved, "-c", program)
    assert "no answer within 0 seconds: is there an endless loop?" in done.stdout, done.stderr


def test_the_solved_edition_passes_its_checks_and_records(solved):
    program = (
        "from hw3utils.checking import check, record\n"
        "record('2.4 saving', 0.5)\ncheck('2.4 saving')\n"
        "record('2.4 size', {'naive': (16, 16, 672), 'reduced': (16, 16, 480)})\n"
        "check('2.4 size')\n"
    )
    done = call(solved, "-c", program)
    assert "2.4 saving: percent: 50 is not right" in done.stdout, done.stderr
    assert "the pool has stride 1 here" in done.stdout
    done = call(solved, "-m", "hw3utils", "check", *TASKS)
    assert done.stdout.splitlines() == [f"{name}: pass" for name in TASKS] or sorted(
        done.stdout.splitlines()
    ) == sorted(f"{name}: pass" for name in TASKS), done.stdout


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_solved_edition_runs_in_smoke(solved, in_turn, problem):
    without_pdf = {"PATH": ""} if problem != PROBLEMS[-1] else {}  # once is enough
    with in_turn(problem):
        done = call(solved, "-m", "hw3utils", "run", problem, "--profile", "smoke", **without_pdf)
    assert done.returncode == 0, done.stderr[-3000:]
    made = nbformat.read(solved / "output" / "smoke" / f"{problem}.ipynb", as_version=4)
    said = "".join(o.get("text", "") for c in made.cells for o in c.get("outputs", []))
    for name in TASKS:
        if name[0] == problem[-1]:
            assert f"{name}: pass" in said


def test_prose_is_split_into_cells_of_one_role():
    text = (
        "## 1.1 What? (asked, 5 points)\n\n**Question.** Why?\n\n**What we expect.** This.\n\nSo."
    )
    book = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# Title\n\nAn introduction."),
        nbformat.v4.new_markdown_cell(text),
        nbformat.v4.new_code_cell("x = answers.say()\ny = 2\nprint(x)\nprint(y)"),
    ])  # fmt: skip
    made = notebooks.split(book)
    roles = [cell.metadata.get("tags", [None])[0] for cell in made.cells]
    assert roles == [None, "question", "expectation", "answer", None]
    shown = notebooks.for_students(book, "problem1")
    code = [cell.source for cell in shown.cells if cell.cell_type == "code"]
    assert "y = 2\nprint(y)" in code
    assert "So." not in [cell.source for cell in shown.cells]
