"""Each notebook in a real JupyterLab, in a real browser: opened, run from top to bottom, saved."""

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
NEWS = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
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


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    for problem in notebooks.PROBLEMS:
        notebook = nbformat.read(paths.notebooks_dir() / f"{problem}.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / f"{problem}.ipynb")
    own = {name: tmp_path_factory.mktemp(name.lower()) for name in
           ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR", "JUPYTER_RUNTIME_DIR", "HW3_OUTPUT")}  # fmt: skip
    chosen = {
        "apputils-extension/notification": NEWS,
        "docmanager-extension/plugin": {"autosave": False},  # it may save as the test does
    }
    for name, settings in chosen.items():
        place = own["JUPYTERLAB_SETTINGS_DIR"] / "@jupyterlab" / f"{name}.jupyterlab-settings"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(settings))
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", "--allow-root",
        f"--ServerApp.root_dir={folder}",
    ]  # fmt: skip
    environment = os.environ | {name: str(place) for name, place in own.items()}
    environment |= {"HW3_PROFILE": "smoke", "HW3_HOME": str(paths.project_root())}
    log = (folder / "server.log").open("w")
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
        log.close()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which(BROWSER), args=FLAGS)
        yield browser
        browser.close()


def run_all_cells(lab, page, notebook):
    """Open a notebook in the page, run it, wait until its kernel rests, and save it."""
    page.goto(f"{lab.address}/lab/tree/{notebook}?token={TOKEN}&reset")
    wait_for(lambda: lab.kernel_state(notebook) == "idle", 120, f"a kernel for {notebook}")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    idle, worked = 0, False  # on a busy machine the first cell starts seconds after the click

    def rests():
        nonlocal idle, worked
        state = lab.kernel_state(notebook)
        idle, worked = (idle + 1 if state == "idle" else 0), worked or state == "busy"
        prompts = page.locator(".jp-InputPrompt", has_text="[*]").count()
        return worked and idle >= 4 and prompts == 0

    wait_for(rests, 480, f"{notebook} to finish (kernel: {lab.kernel_state(notebook)})")
    page.keyboard.press("Control+s")
    wait_for(lambda: saved(lab, notebook)[-1]["execution_count"], 60, f"{notebook} to be saved")


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
