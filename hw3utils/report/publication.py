"""How a finished run becomes the committed one: checked first, then replaced whole or not at all.

The committed run is what a reader sees who runs nothing: ``notebooks/``, ``figures/``,
``answers/results/``, and the computed numbers in the READMEs and the write-ups.
"""

import contextlib
import io
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat

from hw3utils import files, paths
from hw3utils.report import notebooks

PROFILES = ("overnight", "laptop")  # of which a run may be published
_FIGURES = Path("figures")
_RESULTS = Path("answers") / "results"
_COMMITTED = ("notebooks", "figures", "answers", "README.md", "benchmarks/README.md")


def publish(problems: Sequence[str], output: Path) -> list[Path]:
    """Make a run of some problems the committed one, and return the files written or deleted.

    All is checked and written under temporary names before a committed file is touched. What the
    notebooks no longer make is deleted last. After an error everything is as it was; after a kill
    the same command does the rest. Raises a ValueError where a run is not fit for it, as
    `_finished_run` says, or cog could not compute a text, and an OSError where a file could not be
    read or written.
    """
    root = paths.project_root()
    runs = {problem: _finished_run(problem, output) for problem in problems}
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=".publish-") as folder:
            new, old = Path(folder) / "new", Path(folder) / "old"
            for tree in (new, old):
                _copy_committed(root, tree)
            for problem, run in runs.items():
                for kind in (_FIGURES, _RESULTS):
                    for before in (new / kind).glob(f"{problem}*"):
                        before.unlink()
                for name, content in run.items():
                    files.write_atomically(new / name, content)
            if not refresh_texts(new):
                raise ValueError("a text could not be computed (see above): nothing was published")
            return _replace(root, new, old)
    except OSError as error:
        raise OSError(
            f"{error}\nNothing was published: mend the cause and give the same command again. "
            "(Should git status show a change, git restore takes it back.)"
        ) from error


def refresh_texts(folder: Path | None = None, *, check_only: bool = False) -> bool:
    """Bring the computed numbers in the READMEs and ``answers/*.md`` up to date, with cog.

    ``folder`` holds the texts and the results, in the places where the project has its own, which
    are the default. Returns whether all are up to date now; ``check_only`` writes nothing.
    """
    from cogapp import Cog

    root = paths.project_root()
    folder = folder or root
    texts = [folder / "README.md", folder / "benchmarks" / "README.md"]
    texts = [str(text) for text in [*texts, *(folder / "answers").glob("*.md")] if text.is_file()]
    command = ["cog", "--check" if check_only else "-r", "-n", "UTF-8", "-I", str(root), *texts]
    with (
        notebooks.environment_variable("HW3_HOME", str(folder)),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        return not texts or Cog().main(command) == 0


def named_files(notebook: nbformat.NotebookNode, problem: str) -> list[Path]:
    """Return the figures and results that a notebook's code names, by their places in the project.

    A name with a suffix is that of a table or a record, one without that of a figure.
    """
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    names = sorted(set(re.findall(rf'"({problem}[_.][\w.]*)"', code)) | {f"{problem}.json"})
    return [_RESULTS / name if "." in name else _FIGURES / f"{name}.png" for name in names]


def _finished_run(problem: str, output: Path) -> dict[Path, bytes]:
    """Return what a run makes of a problem: the content of each file, by its place in the project.

    Raises a ValueError unless it is a whole run of today's notebook in one of `PROFILES`, without
    a changed number, and all files that the notebook names are there.
    """
    place = output / f"{problem}.ipynb"
    if not place.is_file():
        raise ValueError(f"{output} holds no executed {problem}: run it first")
    executed = nbformat.read(place, as_version=4)
    cleaned = notebooks.clean(executed)
    committed = nbformat.read(paths.notebooks_dir() / place.name, as_version=4)
    named = named_files(cleaned, problem)
    profile = executed.metadata.get("papermill", {}).get("parameters", {}).get("profile")
    faults = []
    if not notebooks.is_finished(executed):
        faults.append("not every cell was executed without an error")
    if profile not in PROFILES:
        faults.append(f"its profile is {profile}, not {' or '.join(PROFILES)}")
    if [cell.source for cell in cleaned.cells] != [cell.source for cell in committed.cells]:
        faults.append("the notebook has been changed since")
    if missing := [str(name) for name in named if not (output / name).is_file()]:
        faults.append(f"missing: {', '.join(missing)}")
    else:
        record = json.loads((output / _RESULTS / f"{problem}.json").read_text(encoding="utf-8"))
        if record.get("profile") != profile:
            faults.append(f"its results are of profile {record.get('profile')}")
        if changed := record.get("settings", {}).get("changed"):
            faults.append(f"numbers were changed: {', '.join(changed)}")
    if faults:
        raise ValueError(f"{problem} in {output} is not fit to be published: {'; '.join(faults)}")
    text = nbformat.writes(cleaned) + "\n"
    contents = {name: (output / name).read_bytes() for name in named}
    return {Path("notebooks") / place.name: text.encode()} | contents


def _copy_committed(root: Path, tree: Path) -> None:
    for name in _COMMITTED:
        if (root / name).is_dir():
            shutil.copytree(root / name, tree / name)
        elif (root / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, tree / name)


def _replace(root: Path, new: Path, old: Path) -> list[Path]:
    """Move the files in which ``new`` differs from ``old`` into the project, and return them.

    They are only renamed, which needs no room on the disk. On any failure ``old`` is moved back.
    """
    names = {
        path.relative_to(tree) for tree in (new, old) for path in tree.rglob("*") if path.is_file()
    }
    changed = sorted(name for name in names if _content(new / name) != _content(old / name))
    stale = [name for name in changed if not (new / name).is_file()]
    try:
        for name in changed:
            if name not in stale:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).replace(root / name)
        for name in stale:
            (root / name).unlink()
    except BaseException:
        for name in changed:
            if (old / name).is_file():
                (old / name).replace(root / name)
            else:
                (root / name).unlink(missing_ok=True)
        raise
    return [root / name for name in changed]


def _content(place: Path) -> bytes | None:
    return place.read_bytes() if place.is_file() else None
