"""The students' edition where students open it: JupyterLab in a browser, and a made-up Colab."""

import os
import subprocess

import nbformat
import pytest
from test_colab import made_up_colab
from test_jupyterlab import BROWSER, FLAGS, run_all_cells, running_lab, saved, texts

from hw3utils import paths


@pytest.fixture
def lab(solved, tmp_path):
    variables = {"PYTHONPATH": str(solved), "HW3_DATA": str(paths.data_dir())}
    with running_lab(solved / "notebooks", solved, tmp_path, **variables) as lab:
        yield lab


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed to open JupyterLab in")
def test_a_student_works_in_jupyterlab(lab, solved, tmp_path):
    """All checks pass; then a file is edited, and the next run names the mistake, unprompted."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        try:
            run_all_cells(lab, page, "problem2.ipynb")
        except Exception as error:
            page.screenshot(path=tmp_path / "page.png", full_page=True)
            raise AssertionError(f"{error}; the page then: {tmp_path / 'page.png'}") from error
        if keep := os.environ.get("HW3_SCREENSHOTS"):
            page.screenshot(path=f"{keep}/edition.png")
        shown = "".join(texts(cell) for cell in saved(lab, "problem2.ipynb"))
        for name in ("2.3 receptive field", "2.5 anchors", "2.5 iou", "2.5 nms"):
            assert f"{name}: pass" in shown
        assert "2.1 layers: fill in the cell" in shown
        place = solved / "hw3utils" / "problem2" / "receptive_field.py"
        text = place.read_text(encoding="utf-8")
        place.write_text(text.replace("size += (kernel - 1) * jump", "size += kernel - 1"), "utf-8")
        try:
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            told = page.get_by_text("strides of earlier layers are ignored: multiply by the jump")
            told.wait_for(timeout=120_000, state="attached")
        finally:
            place.write_text(text, encoding="utf-8")
        browser.close()


def test_on_colab_the_edition_is_installed_with_its_expected_values(solved, tmp_path):
    books = [paths.notebooks_dir() / "problem1.ipynb", solved / "notebooks" / "problem1.ipynb"]
    cells = [nbformat.read(book, as_version=4).cells for book in books]
    first, second = (next(c for c in book if c.cell_type == "code").source for book in cells)
    assert first == second
    program = "from hw3utils.checking import check, submit; check('1.1 rates'); submit()"
    with made_up_colab(tmp_path, solved) as (python, variables, site):
        done = subprocess.run(
            [python, "-c", program], env=variables | {"HW3_HOME": str(tmp_path)}, cwd=tmp_path,
            capture_output=True, text=True,
        )  # fmt: skip
    assert (site / "hw3utils" / "checking" / "expected.json").is_file()
    assert "1.1 rates: pass" in done.stdout, done.stderr
    assert (tmp_path / "submission.zip").is_file()
