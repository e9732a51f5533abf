"""A run becomes the committed one only if it is fit for it, and then whole or not at all."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from hw3utils import __main__, paths
from hw3utils.report import notebooks, publication

CODE = 'save("problem1_new"); save("problem1_table.csv"); save("problem1.json")'
README = """Hello.
<!-- [[[cog
from hw3utils.text import committed_results
cog.outl(str(committed_results("problem1")["score"]))
]]] -->
1
<!-- [[[end]]] -->
"""


def write(place, content):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content, encoding="utf-8")


def write_results(folder, score, profile="laptop", changed=()):
    found = {"profile": profile, "settings": {"changed": changed}, "score": score}
    write(folder / "answers" / "results" / "problem1.json", json.dumps(found))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder in which the score is 1."""
    root = tmp_path / "project"
    monkeypatch.setenv("HW3_HOME", str(root))
    write(root / "README.md", README)
    write(root / "figures" / "problem1_old.png", "old")
    write(root / "figures" / "problem2_kept.png", "kept")
    write(root / "answers" / "results" / "problem1_table.csv", "old")
    write_results(root, score=1)
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), new_code_cell(CODE)])
    write(root / "notebooks" / "problem1.ipynb", nbformat.writes(notebook))
    return root


@pytest.fixture
def run(project, tmp_path):
    """A finished laptop run of that project's notebook, in which the score is 2."""
    output = tmp_path / "run"
    write(output / "figures" / "problem1_new.png", "new")
    write(output / "figures" / "problem1_left_by_an_older_notebook.png", "stray")
    write(output / "answers" / "results" / "problem1_table.csv", "new")
    write_results(output, score=2)
    notebook = nbformat.read(project / "notebooks" / "problem1.ipynb", as_version=4)
    notebook.metadata.papermill = {"parameters": {"profile": "laptop"}}
    notebook.cells[1].update(execution_count=1, outputs=[new_output("stream", text="2")])
    nbformat.write(notebook, output / "problem1.ipynb")
    return output


def edit(run, change):
    notebook = nbformat.read(run / "problem1.ipynb", as_version=4)
    change(notebook)
    nbformat.write(notebook, run / "problem1.ipynb")


def content(root):
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def publish(run):
    return __main__.main(["publish", "--output", str(run)])


def test_a_run_replaces_what_it_makes_deletes_what_it_no_longer_makes_and_corrects_texts(
    project, run, capsys
):
    assert publish(run) == 0
    told = capsys.readouterr().out
    after = content(project)
    assert set(after) == {
        "README.md", "figures/problem1_new.png", "figures/problem2_kept.png",
        "answers/results/problem1.json", "answers/results/problem1_table.csv",
        "notebooks/problem1.ipynb",
    }  # fmt: skip
    assert after["README.md"].decode() == README.replace("\n1\n", "\n2\n")
    assert after["answers/results/problem1_table.csv"] == b"new"
    assert "deleted: figures/problem1_old.png" in told and "written: README.md" in told
    assert "kept" not in told
    assert publish(run) == 0
    assert "nothing to do" in capsys.readouterr().out and content(project) == after


UNFIT = {
    "profile is smoke": lambda run: edit(
        run, lambda it: it.metadata.papermill.parameters.update(profile="smoke")
    ),
    "profile is None": lambda run: edit(run, lambda it: it.metadata.pop("papermill")),
    "results are of profile smoke": lambda run: write_results(run, 2, profile="smoke"),
    "numbers were changed: seeds=3": lambda run: write_results(run, 2, changed=["seeds=3"]),
    "not every cell was executed": lambda run: edit(
        run, lambda it: it.cells[1].update(execution_count=None, outputs=[])
    ),
    "without an error": lambda run: edit(
        run, lambda it: it.cells[1].outputs.append(new_output("error", ename="E", evalue="x"))
    ),
    "notebook has been changed since": lambda run: edit(
        run, lambda it: it.cells[0].update(source="# Another title")
    ),
    "missing: figures/problem1_new.png": lambda run: (run / "figures/problem1_new.png").unlink(),
    "missing: answers/results/problem1_table.csv": lambda run: (
        run / "answers/results/problem1_table.csv"
    ).unlink(),
    "missing: answers/results/problem1.json": lambda run: (
        run / "answers/results/problem1.json"
    ).unlink(),
    "holds no executed problem1": lambda run: (run / "problem1.ipynb").unlink(),
}


@pytest.mark.parametrize("words", UNFIT)
def test_a_run_that_is_not_fit_is_refused_and_nothing_is_touched(project, run, capsys, words):
    before = content(project)
    UNFIT[words](run)
    assert publish(run) == 2
    assert words in capsys.readouterr().err
    assert content(project) == before


def test_a_text_that_cannot_be_computed_leaves_all_as_it_was(project, run, capsys):
    write(project / "README.md", README.replace("score", "no such key"))
    before = content(project)
    assert publish(run) == 2
    assert "nothing was published" in capsys.readouterr().err
    assert content(project) == before


def fail_at(monkeypatch, owner, name, k, error, *, and_after):
    """Let the k-th call of a function raise an error, and those after it, too, where asked."""
    calls, real = [], getattr(owner, name)

    def called(*args, **kwargs):
        calls.append(args)
        if len(calls) == k or (and_after and len(calls) > k):
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, called)
    return calls


@pytest.mark.parametrize(
    ("owner", "name", "error", "and_after"),
    [
        (os, "fsync", OSError(errno.ENOSPC, "No space left on device"), True),
        (Path, "replace", OSError(errno.EIO, "Input/output error"), False),
        (Path, "replace", KeyboardInterrupt(), False),
        (Path, "unlink", OSError(errno.EIO, "Input/output error"), False),
    ],
    ids=["full disk", "rename", "interrupt", "delete"],
)
def test_an_error_at_any_step_leaves_all_as_it_was_and_says_what_to_do(
    project, run, capsys, owner, name, error, and_after
):
    before, k = content(project), 0
    while True:
        k += 1
        with pytest.MonkeyPatch.context() as patch:
            calls = fail_at(patch, owner, name, k, error, and_after=and_after)
            status = publish(run)
        told = capsys.readouterr()
        if len(calls) < k:
            break
        assert status == (130 if isinstance(error, KeyboardInterrupt) else 1), f"step {k}"
        assert re.search("give the same command again|the same command goes on", told.err)
        assert content(project) == before, f"step {k}"
        assert not list(project.glob(".publish-*")), f"step {k} left something"
    assert k > 3 and status == 0
    assert b"2" in content(project)["README.md"] and content(project) != before


def test_the_same_command_completes_what_a_kill_left_half_done(project, run):
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from hw3utils import __main__\n"
        "real, calls = Path.replace, []\n"
        "def replace(*places):\n"
        "    calls.append(places)\n"
        "    if len(calls) == 7: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*places)\n"
        "Path.replace = replace\n"
        "__main__.main(['publish', '--output', sys.argv[1]])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(run)])
    assert done.returncode == -signal.SIGKILL
    half = content(project)
    assert b"\n2\n" in half["README.md"] and "figures/problem1_new.png" not in half
    assert publish(run) == 0
    whole = content(project)
    assert "figures/problem1_new.png" in whole and "figures/problem1_old.png" not in whole


@pytest.mark.parametrize("problem", notebooks.PROBLEMS)
def test_the_committed_files_are_those_that_the_notebook_names(problem):
    root = paths.project_root()
    notebook = nbformat.read(root / "notebooks" / f"{problem}.ipynb", as_version=4)
    there = [*root.glob(f"figures/{problem}*"), *root.glob(f"answers/results/{problem}*")]
    assert {path.relative_to(root) for path in there} == set(
        publication.named_files(notebook, problem)
    )
