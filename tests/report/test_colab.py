"""The notebooks' first cell: on a made-up Colab it installs hw3utils, elsewhere it does nothing."""

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import threading
import venv
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote

import nbformat
import pytest

from hw3utils import paths
from hw3utils.report import notebooks

CELL = nbformat.read(paths.notebooks_dir() / "problem1.ipynb", as_version=4).cells[1].source
COLAB = ("COLAB_RELEASE_TAG", "COLAB_JUPYTER_IP", "KMP_TARGET_PORT")
OPENED = "fileId=" + quote("https://github.com/ann/hw3/blob/main/notebooks/problem1.ipynb", safe="")
ASKS = "Set REPOSITORY above"


@contextlib.contextmanager
def session_server(answer):
    """Answer ``/api/sessions`` as Colab's Jupyter server does, and yield what tells its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/api/sessions" else 404)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    values = ("release-colab-for-tests", "127.0.0.1", str(server.server_port))
    try:
        yield dict(zip(COLAB, values, strict=True))
    finally:
        server.shutdown()
        server.server_close()


def sessions(*opened):
    return json.dumps([{"id": "1", "path": path, "type": "notebook"} for path in opened]).encode()


@pytest.fixture
def commands(monkeypatch):
    """Collect the commands that the cell would run; nothing is installed."""
    for name in (*COLAB, "HW3_HOME", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HW3_HOME", "")  # so that what the cell sets is undone after the test
    monkeypatch.delenv("HW3_HOME")
    found = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: found.append(command))
    return found


def run_cell(repository=""):
    exec(CELL.replace('REPOSITORY = ""', f"REPOSITORY = {repository!r}"), {})


def run_on_colab(monkeypatch, answer, repository=""):
    with session_server(answer) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        run_cell(repository)


def test_anywhere_else_the_cell_does_nothing(commands):
    run_cell()
    assert commands == [] and "HW3_HOME" not in os.environ


@pytest.mark.parametrize(
    ("opened", "package"),
    [
        (OPENED, "git+https://github.com/ann/hw3@main"),
        (quote(OPENED, safe="="), "git+https://github.com/ann/hw3@main"),
        (
            "fileId=https%3A//github.com/a-b/h.w_3/blob/feature/x-1.2/notebooks/problem4.ipynb",
            "git+https://github.com/a-b/h.w_3@feature/x-1.2",
        ),
        (
            "fileId=https://github.com/ann/hw3/blob/a/notebooks/b/notebooks/problem2.ipynb",
            "git+https://github.com/ann/hw3@a/notebooks/b",
        ),
    ],
)
def test_repository_and_branch_come_from_the_session(commands, monkeypatch, opened, package):
    run_on_colab(monkeypatch, sessions(opened))
    [command] = commands
    assert command[:5] == [sys.executable, "-m", "pip", "install", "--quiet"]
    assert command[5] == package
    assert os.environ["HW3_HOME"] == "/content"


def test_torch_torchvision_and_numpy_stay_as_they_are(commands, monkeypatch):
    run_on_colab(monkeypatch, sessions(OPENED))
    kept = [f"{name}=={importlib.metadata.version(name)}" for name in
            ("torch", "torchvision", "numpy")]  # fmt: skip
    assert commands[0][6:] == kept


def test_a_second_time_installs_nothing(commands, monkeypatch):
    run_on_colab(monkeypatch, sessions(OPENED))
    run_on_colab(monkeypatch, sessions(OPENED))
    assert len(commands) == 1


@pytest.mark.parametrize(
    ("repository", "package"),
    [
        ("https://github.com/ann/hw3", "git+https://github.com/ann/hw3"),
        (" https://github.com/ann/hw3/ ", "git+https://github.com/ann/hw3"),
        ("https://github.com/ann/hw3.git", "git+https://github.com/ann/hw3.git"),
        ("https://github.com/ann/hw3/tree/a/b", "git+https://github.com/ann/hw3@a/b"),
    ],
)
def test_a_copy_takes_the_repository_that_was_set(commands, monkeypatch, repository, package):
    run_on_colab(monkeypatch, sessions("fileId=1AbCdEf"), repository)
    assert commands[0][5] == package


@pytest.mark.parametrize(
    "answer",
    [
        sessions("fileId=1AbCdEf-copy_in_Drive"),
        sessions(),
        sessions("notebooks/problem1.ipynb"),
        sessions(OPENED, OPENED.replace("ann", "bob")),
        sessions("fileId=https://notgithub.com/ann/hw3/blob/main/notebooks/problem1.ipynb"),
        sessions("fileId=https://github.com.evil.org/ann/hw3/blob/main/notebooks/problem1.ipynb"),
        sessions("fileId=https://github.com/ann/hw3/blob/main;reboot/notebooks/problem1.ipynb"),
        sessions("fileId=https://github.com/ann/hw3/blob/--help/notebooks/problem1.ipynb"),
        sessions("fileId=https://github.com/ann/hw3/blob/a b/notebooks/problem1.ipynb"),
        sessions("fileId=https://github.com/ann/hw3/blob/main\n/notebooks/problem1.ipynb"),
        sessions("fileId=https://github.com/../hw3/blob/main/notebooks/problem1.ipynb"),
        b'[{"id": "1"}]',
        b'[{"path": 7}]',
        b'{"path": "x"}',
        b"null",
        b"<html>not JSON</html>",
        b"",
    ],
)
def test_whatever_else_the_server_says_one_sentence_asks(commands, monkeypatch, answer):
    with pytest.raises(RuntimeError, match=ASKS) as told:
        run_on_colab(monkeypatch, answer)
    assert "\n" not in str(told.value)
    assert commands == [] and "HW3_HOME" not in os.environ


def test_no_server_no_variables_or_a_strange_setting_ask_too(commands, monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    with pytest.raises(RuntimeError, match=ASKS):
        run_cell()
    monkeypatch.setenv("COLAB_JUPYTER_IP", "127.0.0.1")
    monkeypatch.setenv("KMP_TARGET_PORT", "9")
    with pytest.raises(RuntimeError, match=ASKS):
        run_cell()
    for repository in ("hw3", "https://example.org/ann/hw3", "--upgrade", "https://github.com/ann"):
        with pytest.raises(RuntimeError, match=ASKS):
            run_cell(repository)
    assert commands == []


@contextlib.contextmanager
def made_up_colab(folder, project):
    """An environment as Colab's: all packages but hw3utils, which the cell installs by real pip.

    git is told that the repository of the session is one made here, from the project's folder.
    Yields the environment's Python, its variables, and where it installs.
    """
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    repository = folder / "repository"
    shutil.copytree(
        project / "hw3utils", repository / "hw3utils", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(project / name, repository)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(repository)]
    for command in (["init", "--quiet", "--initial-branch=a/branch"], ["add", "."],
                    ["commit", "--quiet", "--message=x"]):  # fmt: skip
        subprocess.run([*git, *command], check=True)

    environment = folder / "environment"
    venv.EnvBuilder(with_pip=False).create(environment)
    bin_folder, python = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    python = environment / bin_folder / python
    [site] = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    own = importlib.metadata.distribution("torch").locate_file("")
    (Path(site) / "packages.pth").write_text(f"{Path(own).resolve()}\n", encoding="utf-8")

    dropped = ("HW3_HOME", "HW3_OUTPUT", "PYTHONPATH", "http_proxy", "HTTP_PROXY")
    variables = {name: value for name, value in os.environ.items() if name not in dropped}
    variables |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/ann/hw3",
        "PIP_NO_BUILD_ISOLATION": "1",  # setuptools is here already
        "HW3_DATA": str(paths.data_dir()),
        "HW3_PROFILE": "smoke",
    }
    opened = "fileId=https%3A//github.com/ann/hw3/blob/a/branch/notebooks/problem1.ipynb"
    with session_server(sessions(opened)) as told:
        cell = folder / "cell.py"
        cell.write_text(CELL, encoding="utf-8")
        for _ in range(2):
            done = subprocess.run(
                [python, cell], env=variables | told, cwd=folder, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
        yield python, variables, Path(site)


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    with made_up_colab(tmp_path_factory.mktemp("colab"), paths.project_root()) as made:
        yield made


def test_pip_really_installs_hw3utils_and_replaces_nothing(colab):
    _, _, site = colab
    installed = {path.name.partition("-")[0] for path in site.glob("*.dist-info")}
    assert installed == {"hw3utils"}


def test_all_notebooks_begin_with_the_same_cell_and_all_of_the_package_is_installed(colab):
    """So what the next test sees of one notebook holds for the others, too."""
    _, _, site = colab
    for problem in notebooks.PROBLEMS:
        cells = nbformat.read(paths.notebooks_dir() / f"{problem}.ipynb", as_version=4).cells
        assert cells[1].source == CELL
    ours = paths.project_root() / "hw3utils"
    files = {path.relative_to(ours) for path in ours.rglob("*") if path.suffix in (".py", ".css")}
    assert files == {path.relative_to(site / "hw3utils")
                     for path in (site / "hw3utils").rglob("*")
                     if path.suffix in (".py", ".css")}  # fmt: skip


def test_a_notebook_runs_from_a_folder_that_holds_nothing_else(colab, in_turn, tmp_path):
    python, variables, site = colab
    shutil.copy(paths.notebooks_dir() / "problem1.ipynb", tmp_path)
    program = (
        "import sys, nbformat, nbclient\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "asked = nbformat.v4.new_code_cell('import hw3utils; print(hw3utils.__file__)')\n"
        "notebook.cells.append(asked)\n"
        "nbclient.NotebookClient(notebook, timeout=600, kernel_name='python3').execute()\n"
        "print(notebook.cells[-1].outputs[0].text)\n"
    )
    with in_turn("problem1"):
        done = subprocess.run(
            [python, "-c", program, "problem1.ipynb"],
            env=variables, cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(site), "another copy of hw3utils was used"
    made = tmp_path / "output" / "smoke"
    assert (made / "answers" / "results" / "problem1.json").is_file()
    assert list((made / "figures").glob("problem1*.png"))
    assert {path.name for path in tmp_path.iterdir()} == {"problem1.ipynb", "output"}
