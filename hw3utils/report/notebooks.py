"""Running the notebooks from top to bottom with papermill, and what becomes of their outputs.

The committed notebooks are never written to by a run: executed copies, HTML, figures and results
go into the run's output folder. What makes a run the committed one is in `publication`.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode

from hw3utils import files, paths

PROBLEMS = ("problem1", "problem2", "problem3", "problem4")
COLAB_TAG = "colab"
_METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}
_KEPT_METADATA = ("tags", "cellView", "jupyter")  # the last two fold the set-up cell for Colab


class _QuietKernelManager(AsyncKernelManager):
    """Starts kernels that do not warn, at every start, that they talk over unencrypted TCP.

    And ends them without interrupting them first, as jupyter_client does: an idle kernel reports
    that as an error, and a busy one's workers print a traceback each.
    """

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        quiet = "import logging; logging.getLogger('asyncio').setLevel(logging.CRITICAL)"
        return [
            *super().format_kernel_cmd(extra_arguments),
            "--IPKernelApp.log_level=ERROR",
            f"--IPKernelApp.exec_lines={quiet}",  # no report of the task that an end cuts off
        ]

    async def _async_interrupt_kernel(self) -> None:
        """Do nothing: papermill interrupts no kernel but the one that it is about to end."""


class NotebookFailed(RuntimeError):  # noqa: N818 - it is what happened
    """A cell raised an error; the message names the cell, and the partial notebook is kept."""


def find_problems(names: Sequence[str] = ()) -> list[str]:
    """Return the problems to run, in the handout's order: those named, or all that there are.

    Raises a ValueError where a name is unknown.
    """
    present = [name for name in PROBLEMS if (paths.notebooks_dir() / f"{name}.ipynb").is_file()]
    if unknown := [name for name in names if name not in present]:
        raise ValueError(f"unknown problem {', '.join(unknown)}: choose from {', '.join(present)}")
    return [name for name in present if name in names or not names]


def check_parameters(problem: str, parameters: Mapping[str, Any]) -> None:
    """Raise a ValueError where the notebook's parameters cell does not name a parameter."""
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
    ``parameters`` have passed `check_parameters`. Returns the path of the executed notebook;
    raises NotebookFailed where a cell raises an error or the kernel dies.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what fails is said here, once
    output.mkdir(parents=True, exist_ok=True)
    target = output / f"{problem}.ipynb"
    try:
        with environment_variable("HW3_OUTPUT", str(output)):
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
    return target


@contextlib.contextmanager
def environment_variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for as long as the block lasts."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def is_finished(notebook: NotebookNode) -> bool:
    """Tell whether all code cells of a notebook were executed, and none ended with an error."""
    return all(
        cell.execution_count and all(output.output_type != "error" for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip()
    )


def write_html(notebook: Path) -> Path:
    """Export an executed notebook as one HTML file beside it, its figures embedded.

    Links to the write-ups lead into the report, which lies beside it.
    """
    from nbconvert import HTMLExporter

    shown = for_readers(nbformat.read(notebook, as_version=4))
    for cell in shown.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\.\./answers/(problem\d)\.md", r"report.html#\1", cell.source)
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(shown)
    return files.write_atomically(notebook.with_suffix(".html"), page.encode())


def clean(notebook: NotebookNode) -> NotebookNode:
    """Return a copy without what only the run itself needed, fit to be read and committed.

    Gone are: timings and papermill's metadata, injected parameters, widget state, progress bars and
    warnings on stderr, and the interpreter's version.
    """
    notebook = nbformat.from_dict(notebook)
    notebook.metadata = nbformat.from_dict(_METADATA)
    _remove_tagged(notebook, "injected-parameters")
    for cell in notebook.cells:
        for name in list(cell.metadata):
            if name not in _KEPT_METADATA or not cell.metadata[name]:
                del cell.metadata[name]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.outputs = [
            output
            for output in cell.outputs
            if output.get("name") != "stderr"
            and "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
        ]
        for numbered in [cell, *cell.outputs]:
            if "execution_count" in numbered:
                numbered.execution_count = number
    return notebook


def for_readers(notebook: NotebookNode) -> NotebookNode:
    """Return a cleaned copy without the set-up cell for Colab, to be read and not to be run."""
    notebook = clean(notebook)
    _remove_tagged(notebook, COLAB_TAG)
    return notebook


def _remove_tagged(notebook: NotebookNode, tag: str) -> None:
    notebook.cells = [cell for cell in notebook.cells if tag not in cell.metadata.get("tags", [])]
