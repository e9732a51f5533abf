"""Running the notebooks from top to bottom with papermill, and what becomes of their outputs.

The committed notebooks are never written to by a run: executed copies, HTML, figures and results
go into the run's output folder. `publish` carries a finished laptop run over into the project.
"""

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode

from hw3utils import files, paths

PROBLEMS = ("problem1", "problem2", "problem3", "problem4")
COLAB_TAG = "colab"
_KEPT_METADATA = ("tags", "cellView", "jupyter")  # the last two fold the set-up cell for Colab


class _QuietKernelManager(AsyncKernelManager):
    """Starts kernels that do not warn, at every start, that they talk over unencrypted TCP."""

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        return [*super().format_kernel_cmd(extra_arguments), "--IPKernelApp.log_level=ERROR"]


class NotebookFailed(RuntimeError):  # noqa: N818 - it is what happened
    """A cell raised an error; the message names the cell, and the partial notebook is kept."""


def find_problems(names: Sequence[str] = ()) -> list[str]:
    """Return the problems to run, in the handout's order: those named, or all that there are.

    Raises
    ------
    ValueError
        A name is unknown.
    """
    present = [name for name in PROBLEMS if (paths.notebooks_dir() / f"{name}.ipynb").is_file()]
    if unknown := [name for name in names if name not in present]:
        raise ValueError(f"unknown problem {', '.join(unknown)}: choose from {', '.join(present)}")
    return [name for name in present if name in names or not names]


def check_parameters(problem: str, parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that the notebook's parameters cell does not name.

    Raises
    ------
    ValueError
        A name is unknown; the message lists the allowed ones.
    """
    import papermill

    notebook = paths.notebooks_dir() / f"{problem}.ipynb"
    allowed = sorted(papermill.inspect_notebook(str(notebook)))
    if unknown := sorted(set(parameters) - set(allowed)):
        raise ValueError(
            f"{problem} has no parameter {', '.join(unknown)}: choose from {', '.join(allowed)}"
        )


def run_notebook(problem: str, output: Path, parameters: Mapping[str, Any]) -> Path:
    """Execute one notebook into ``output/<problem>.ipynb``, with a progress bar over its cells.

    The kernel runs in the notebooks' folder and is told by ``HW3_OUTPUT`` where to write. Cells
    are saved as they finish, so a failed or killed run leaves a readable partial notebook.

    Returns
    -------
    Path
        The executed notebook.

    Raises
    ------
    ValueError
        A parameter is unknown; nothing has run then.
    NotebookFailed
        A cell raised an error, or the kernel died.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    check_parameters(problem, parameters)
    output.mkdir(parents=True, exist_ok=True)
    target = output / f"{problem}.ipynb"
    before = os.environ.get("HW3_OUTPUT")
    os.environ["HW3_OUTPUT"] = str(output)
    try:
        papermill.execute_notebook(
            str(paths.notebooks_dir() / f"{problem}.ipynb"),
            str(target),
            parameters=dict(parameters),
            cwd=str(paths.notebooks_dir()),
            kernel_name="python3",
            progress_bar={"desc": problem},
            log_output=False,
            kernel_manager_class=_QuietKernelManager,
        )
    except PapermillExecutionError as error:
        raise NotebookFailed(
            f"{problem}: cell {error.cell_index + 1} failed with {error.ename}: {error.evalue}\n"
            f"The notebook up to that cell is in {target}"
        ) from error
    except DeadKernelError as error:
        raise NotebookFailed(
            f"{problem}: the kernel died (out of memory?). The notebook so far is in {target}"
        ) from error
    finally:
        if before is None:
            del os.environ["HW3_OUTPUT"]
        else:
            os.environ["HW3_OUTPUT"] = before
    return target


def write_html(notebook: Path) -> Path:
    """Export an executed notebook as one HTML file beside it, its figures embedded."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(embed_images=True)
    page, _ = exporter.from_notebook_node(for_readers(nbformat.read(notebook, as_version=4)))
    return files.write_atomically(notebook.with_suffix(".html"), page.encode())


def clean(notebook: NotebookNode) -> NotebookNode:
    """Return a copy without what only the run itself needed, fit to be read and committed.

    Gone are: timings and papermill's metadata, injected parameters, widget state, progress bars and
    warnings on stderr, and the interpreter's version.
    """
    notebook = nbformat.from_dict(notebook)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        }
    )
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {name: cell.metadata[name] for name in _KEPT_METADATA if cell.metadata.get(name)}
        )
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        cell.outputs = [
            output
            for output in cell.outputs
            if output.get("name") != "stderr"
            and "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
        ]
        cell.execution_count = number + 1
        for output in cell.outputs:
            if "execution_count" in output:
                output["execution_count"] = number + 1
    return notebook


def for_readers(notebook: NotebookNode) -> NotebookNode:
    """Return a cleaned copy without the set-up cell for Colab, to be read and not to be run."""
    notebook = clean(notebook)
    notebook.cells = [
        cell for cell in notebook.cells if COLAB_TAG not in cell.metadata.get("tags", [])
    ]
    return notebook


def is_finished(notebook: NotebookNode) -> bool:
    """Tell whether all code cells of a notebook were executed, and none ended with an error."""
    return all(
        cell.execution_count and all(output.output_type != "error" for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip()
    )


def refresh_texts(*, check_only: bool = False) -> bool:
    """Bring the computed numbers in the READMEs and ``answers/*.md`` up to date, with cog.

    Returns
    -------
    bool
        Whether all texts are up to date now; with ``check_only`` nothing is written.
    """
    from cogapp import Cog

    root = paths.project_root()
    texts = [
        root / "README.md",
        root / "benchmarks" / "README.md",
        *sorted((root / "answers").glob("*.md")),
    ]
    texts = [str(text) for text in texts if text.is_file()]
    if not texts:
        return True
    command = ["cog", "--check" if check_only else "-r", "-n", "UTF-8", "-I", str(root), *texts]
    with contextlib.redirect_stdout(io.StringIO()):
        return Cog().main(command) == 0


def publish(problems: Sequence[str], output: Path) -> list[Path]:
    """Carry a finished run over into ``notebooks/``, ``figures/`` and ``answers/results/``.

    Of each problem named, the executed notebook (cleaned), its figures and its results replace the
    committed ones; figures and results that the run no longer makes are deleted. The numbers in the
    README and the write-ups follow.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        The run's output holds no executed notebook of a problem.
    """
    root = paths.project_root()
    for problem in problems:
        if not (output / f"{problem}.ipynb").is_file():
            raise ValueError(f"{output} holds no executed {problem}: run it first")
    written = []
    for problem in problems:
        executed = clean(nbformat.read(output / f"{problem}.ipynb", as_version=4))
        text = nbformat.writes(executed) + "\n"
        written.append(
            files.write_atomically(root / "notebooks" / f"{problem}.ipynb", text.encode())
        )
        for folder in (Path("figures"), Path("answers") / "results"):
            fresh = {
                path.name: path for path in (output / folder).glob(f"{problem}*") if path.is_file()
            }
            for old in (root / folder).glob(f"{problem}*"):
                if old.name not in fresh:
                    old.unlink()
            for name, path in sorted(fresh.items()):
                written.append(files.write_atomically(root / folder / name, path.read_bytes()))
    if not refresh_texts():
        raise ValueError("a computed text could not be made: see cog's message above")
    return written
