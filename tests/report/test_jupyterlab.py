"""Each notebook in a real JupyterLab, in a real browser: opened, run from top to bottom, saved."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from hw3utils import paths
from hw3utils.report import notebooks, page

BROWSER = page.find_browser()
TOKEN = "a-token-for-this-test"
OWN_PLACES = [
    "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR",
]  # fmt: skip
SETTINGS = {
    "apputils-extension/notification": {
        "fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True,
    },
    "docmanager-extension/plugin": {"autosave": False},  # it may save as the test does
}  # fmt: skip
LAST_CELL_HAS_RUN = """() => {
    const cells = [...jupyterapp.shell.currentWidget.content.model.cells];
    const code = cells.filter(cell => cell.type === "code");
    const failed = code.some(
        cell => cell.outputs.toJSON().some(output => output.output_type === "error"));
    return code.at(-1).executionCount || failed;
}"""
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium, Chrome or Edge is installed to open JupyterLab in"
)


class Lab:
    """A running JupyterLab: its address, its folder, and its REST interface."""

    def __init__(self, folder, port):
        self.folder = folder
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, path):
        request = urllib.request.Request(
            f"{self.address}/api/{path}", headers={"Authorization": f"token {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def kernel_state(self, notebook):
        states = [s["kernel"]["execution_state"] for s in self.ask("sessions")
                  if s["path"] == notebook]  # fmt: skip
        return states[0] if states else "no session"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds} s for {what}")


@contextlib.contextmanager
def running_lab(folder, home, own, **variables):
    """Yield a JupyterLab that serves `folder`; what it writes down about itself goes into `own`."""
    places = {name: own / name for name in OWN_PLACES}
    chosen = places["JUPYTERLAB_SETTINGS_DIR"] / "@jupyterlab"
    for name, settings in SETTINGS.items():
        place = chosen / f"{name}.jupyterlab-settings"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(settings))
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", "--allow-root",
        f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    environment = os.environ | {name: str(place) for name, place in places.items()}
    environment |= {"HW3_PROFILE": "smoke", "HW3_HOME": str(home)} | variables
    with (own / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            lab = Lab(folder, port)
            wait_for(lambda: lab.ask("status"), 90, f"JupyterLab to start (log: {log.name})")
            yield lab
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder, own = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("own")
    for problem in notebooks.PROBLEMS:
        notebook = nbformat.read(paths.notebooks_dir() / f"{problem}.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / f"{problem}.ipynb")
    with running_lab(folder, paths.project_root(), own, HW3_OUTPUT=str(own / "output")) as lab:
        yield lab


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which(BROWSER), args=FLAGS)
        yield browser
        browser.close()


def run_all_cells(lab, page, notebook):
    """Open a notebook in the page, run it, wait until its last cell has run, and save it once.

    Nobody may ask for the file while it is saved: the server writes it in place, and who reads half
    a notebook makes the server put the old one back, upon which the page says "File Changed".
    """
    page.goto(f"{lab.address}/lab/tree/{notebook}?token={TOKEN}&reset")
    wait_for(lambda: lab.kernel_state(notebook) == "idle", 120, f"a kernel for {notebook}")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(LAST_CELL_HAS_RUN, polling=500, timeout=540_000)
    with page.expect_response(lambda answer: is_save(answer, notebook), timeout=60_000):
        page.keyboard.press("Control+s")


def is_save(answer, notebook):
    asked = answer.request
    return asked.method == "PUT" and f"/api/contents/{notebook}" in asked.url


def saved(lab, notebook):
    content = lab.ask(f"contents/{notebook}")["content"]
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def texts(cell):
    """Return what a cell shows as text, and how many pictures."""
    found = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in cell["outputs"]
        if output["output_type"] in ("stream", "execute_result", "display_data")
        and output.get("name") != "stderr"
    ]
    return "".join("".join(part) for part in found)


@pytest.mark.parametrize("problem", notebooks.PROBLEMS)
def test_a_notebook_runs_in_jupyterlab(lab, browser, in_turn, problem, tmp_path):
    notebook = f"{problem}.ipynb"
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    try:
        with in_turn(problem):
            run_all_cells(lab, page, notebook)
        assert page.locator(".jp-Dialog").count() == 0
    except Exception as error:
        picture = tmp_path / "page.png"
        page.screenshot(path=picture)
        raise AssertionError(f"{error}; the page then: {picture}") from error
    finally:
        if keep := os.environ.get("HW3_SCREENSHOTS"):
            page.screenshot(path=f"{keep}/{problem}.png")
        page.close()
    committed = nbformat.read(paths.notebooks_dir() / notebook, as_version=4)
    expected = [cell for cell in committed.cells if cell.cell_type == "code"]
    cells = saved(lab, notebook)
    assert len(cells) == len(expected)
    for cell, before in zip(cells, expected, strict=True):
        assert cell["execution_count"], cell["source"]
        assert not [o for o in cell["outputs"] if o["output_type"] == "error"], cell["source"]
        if "nbval-check-output" in before.metadata.get("tags", []):
            assert texts(cell).split() == texts(before).split(), cell["source"]
    pictures = [o for cell in cells for o in cell["outputs"] if "image/png" in o.get("data", {})]
    assert len(pictures) >= 5
