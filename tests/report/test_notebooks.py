"""Guards for the committed notebooks: without outputs, nbval would pass and check nothing."""

import ast
import base64
import importlib
import inspect
import re

import nbformat
import pytest
from PIL import Image

from hw3utils import paths
from hw3utils.report import notebooks, publication

NOTEBOOKS = sorted(paths.notebooks_dir().glob("*.ipynb"))
FEWEST_CHECKED_CELLS = 4
UNPUBLISHED = "the notebook was changed: run and publish it (CONTRIBUTING.md, Re-running)"
SETUP_METADATA = {
    "tags": [notebooks.COLAB_TAG], "cellView": "form", "jupyter": {"source_hidden": True}
}  # fmt: skip


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def checked_cells(notebook):
    return [c for c in code_cells(notebook) if "nbval-check-output" in c.metadata.get("tags", [])]


def test_every_cell_was_executed_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), UNPUBLISHED


def test_a_notebook_names_only_what_the_package_has(notebook):
    """A rename that leaves a cell behind is told here, and not by the cell minutes later."""
    modules = {}
    trees = [ast.parse(cell.source) for cell in code_cells(notebook)]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("hw3utils"):
            package = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(package, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                modules[alias.asname or alias.name] = getattr(package, alias.name)
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if inspect.ismodule(module):
                assert hasattr(module, node.attr), f"{module.__name__} has no {node.attr}"


def test_no_cell_failed(notebook):
    kinds = {output.output_type for cell in code_cells(notebook) for output in cell.outputs}
    assert "error" not in kinds


def test_enough_cells_are_compared_and_each_has_something_to_compare(notebook):
    checked = checked_cells(notebook)
    assert len(checked) >= FEWEST_CHECKED_CELLS
    for cell in checked:
        assert any(output.get("text") or output.get("data") for output in cell.outputs), cell.source


def test_nothing_is_compared_that_differs_between_machines(notebook):
    for cell in checked_cells(notebook):
        assert not any("image/png" in output.get("data", {}) for output in cell.outputs), (
            cell.source
        )


def test_a_figure_is_shown_as_the_file_that_is_saved_and_at_one_size(notebook):
    for cell in code_cells(notebook):
        if named := re.findall(r'show_figure\(figure, "(\w+)"', cell.source):
            [name] = named
            pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
            assert len(pictures) == 1, UNPUBLISHED
            [shown] = pictures
            saved = paths.project_root() / "figures" / f"{name}.png"
            assert base64.b64decode(shown.data["image/png"]) == saved.read_bytes(), name
            with Image.open(saved) as picture:  # 150 dots an inch, shown at 110
                assert shown.metadata["image/png"]["width"] == round(picture.width * 110 / 150)


@pytest.mark.parametrize("problem", notebooks.PROBLEMS)
def test_the_committed_figures_are_those_that_the_notebook_shows(problem):
    notebook = nbformat.read(paths.notebooks_dir() / f"{problem}.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in code_cells(notebook))
    committed = {path.stem for path in (paths.project_root() / "figures").glob(f"{problem}_*")}
    assert set(re.findall(r'show_figure\(figure, "(\w+)"', code)) == committed, UNPUBLISHED
    assert "save_figure" not in code, "style.show_figure saves it and shows the file"


def test_the_committed_run_had_a_profile_that_may_be_published(notebook):
    shown = "".join(
        "".join(output.get("data", {}).get(kind, "") for kind in ("text/plain", "text/markdown"))
        + output.get("text", "")
        for cell in code_cells(notebook)
        for output in cell.outputs
    )
    [profile] = set(re.findall(r"(?:\(profile='|the profile \*\*`)(\w+)", shown))
    assert profile in publication.PROFILES, "publish another run: python -m hw3utils publish"


def test_the_metadata_hold_nothing_of_the_machine(notebook):
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"} or cell.metadata == SETUP_METADATA
    text = nbformat.writes(notebook)
    assert not re.search(r"/(home|root|work|tmp|Users)/\w+|[A-Z]:\\\\", text)
    assert '"stderr"' not in text
    assert "widget-view" not in text


def test_cells_are_short_and_define_no_functions(notebook):
    for cell in code_cells(notebook):
        if cell.metadata == SETUP_METADATA:
            continue
        assert len(cell.source.splitlines()) <= 12, cell.source
        assert not re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE), cell.source


def test_the_first_code_cell_is_the_folded_set_up_for_colab(notebook):
    first, *others = code_cells(notebook)
    assert notebook.cells.index(first) == 1, "the title comes first, then this cell"
    assert first.metadata == SETUP_METADATA and first.outputs == []
    assert first.source == code_cells(nbformat.read(NOTEBOOKS[0], as_version=4))[0].source
    assert not any(notebooks.COLAB_TAG in cell.metadata.get("tags", []) for cell in others)


def test_the_parameters_cell_explains_each_number(notebook):
    (cell,) = [c for c in code_cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    for line in cell.source.splitlines():
        assert re.fullmatch(r"\w+ = .+  # .+", line), line


@pytest.mark.parametrize(
    "figure", sorted((paths.project_root() / "figures").glob("*.png")), ids=lambda path: path.name
)
def test_a_figure_has_an_opaque_light_background(figure):
    """So that it reads in JupyterLab's dark theme, too."""
    with Image.open(figure) as picture:
        pixels = picture.convert("RGBA")
        corners = [(x, y) for x in (0, pixels.width - 1) for y in (0, pixels.height - 1)]
        for corner in corners:
            assert min(pixels.getpixel(corner)) >= 245, corner
