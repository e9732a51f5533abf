"""What breaks in real life, made to happen: full disks, dead workers, interrupts, bad downloads.

Each test says what is kept and what the user is told. Kills by ``SIGKILL`` are in `test_sweeps` and
`test_checkpoints`, damaged files in `test_files`, lost clusters in `test_workers`.
"""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from jupyter_client.manager import start_new_kernel
from test_sweeps import six_runs
from torchvision.datasets import FashionMNIST

from hw3utils import paths
from hw3utils.data import artefacts, downloads
from hw3utils.training import sweeps

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX limits and signals")
HERE = Path(__file__).parent
SET_UP = """
import sys
from pathlib import Path
from made_up import make_images
from hw3utils import style
from hw3utils.data.images import Scale
from hw3utils.training import loop, networks, sweeps
from test_sweeps import six_runs
TRAIN, VALIDATION, SCALE = make_images(384, seed=1), make_images(100, seed=2), Scale((0.5,), (0.5,))
"""


def run(program, **options):
    command = [sys.executable, "-c", SET_UP + textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def wait_for(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")


def full_disk(most_bytes):
    """Return what to call in a child so that each of its files can hold no more than that."""
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


@posix
@pytest.mark.parametrize(
    ("what", "program"),
    [
        ("cache entry", "sweeps.fit_all(six_runs()[:1], TRAIN, VALIDATION, SCALE, n_jobs=1, "
                        "cache_dir=FOLDER)"),
        ("checkpoint", "loop.fit(networks.build('lenet5', 10, 0), six_runs()[0], TRAIN, "
                       "VALIDATION, SCALE, checkpoint=FOLDER / 'run.checkpoint')"),
        ("figure", "import matplotlib.pyplot as plt; style.save_figure(plt.subplots()[0], 'f', "
                   "FOLDER)"),
    ],
)  # fmt: skip
def test_a_full_disk_is_an_error_and_leaves_the_old_file_and_no_litter(tmp_path, what, program):
    old = tmp_path / ("f.png" if what == "figure" else "old")
    old.write_bytes(b"old")
    program = f"FOLDER = Path({str(tmp_path)!r})\n{program}"
    done = run(program, preexec_fn=full_disk(1_000))
    assert done.returncode == 1
    assert "OSError" in done.stderr.splitlines()[-1], done.stderr
    assert old.read_bytes() == b"old" and list(tmp_path.iterdir()) == [old]
    assert run(program).returncode == 0, "with room on the disk it works"


def test_two_runs_at_once_in_one_folder_end_with_the_same_whole_results(tmp_path):
    program = SET_UP + textwrap.dedent(f"""
        sweeps.fit_all(six_runs(), TRAIN, VALIDATION, SCALE, n_jobs=1,
                       cache_dir=Path({str(tmp_path / "shared")!r}))
    """)
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(list((tmp_path / "shared").iterdir())) == 6
    done = run(f"""
        folder = Path({str(tmp_path)!r})
        ours, alone = (sweeps.fit_all(six_runs(), TRAIN, VALIDATION, SCALE, n_jobs=1,
                                      cache_dir=folder / name) for name in ("shared", "alone"))
        from test_sweeps import same
        assert all(same(a, b) for a, b in zip(ours, alone))
    """)
    assert done.returncode == 0, done.stderr


@posix
def test_a_dead_worker_is_an_error_and_the_same_call_goes_on(train, validation, scale, tmp_path):
    def kill_one():
        wait_for(lambda: list(tmp_path.glob("*.pt")), "a first result")
        workers = [
            child for child in psutil.Process().children(recursive=True)
            if "loky" in " ".join(child.cmdline()) and "resource_tracker" not in child.cmdline()[-1]
        ]  # fmt: skip
        max(workers, key=lambda worker: worker.cpu_times().user).kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(Exception, match="unexpectedly terminated"):
        sweeps.fit_all(six_runs(), train, validation, scale, n_jobs=2, cache_dir=tmp_path)
    killer.join()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt")}
    assert 1 <= len(kept) < 6
    sweeps.fit_all(six_runs(), train, validation, scale, n_jobs=2, cache_dir=tmp_path)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert len(list(tmp_path.iterdir())) == 6


@posix
def test_an_interrupted_cell_can_be_run_again_and_goes_on(tmp_path):
    """A real kernel, as the stop button of JupyterLab interrupts it."""
    manager, client = start_new_kernel(kernel_name="python3")
    told = []
    cell = (
        "found = sweeps.fit_all(six_runs(), TRAIN, VALIDATION, SCALE, n_jobs=2, "
        f"cache_dir=Path({str(tmp_path)!r}))\nprint(len(found))"
    )

    def listen(message):
        told.append(message["content"].get("ename") or message["content"].get("text", ""))

    try:
        client.execute_interactive(SET_UP, timeout=60)
        stop = threading.Timer(0, lambda: (
            wait_for(lambda: list(tmp_path.glob("*.pt")), "a result"), manager.interrupt_kernel()
        ))  # fmt: skip
        stop.start()
        reply = client.execute_interactive(cell, timeout=120, output_hook=listen)
        assert reply["content"]["status"] == "error" and "KeyboardInterrupt" in told
        kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt")}
        assert 1 <= len(kept) < 6
        reply = client.execute_interactive(cell, timeout=120, output_hook=listen)
        assert reply["content"]["status"] == "ok" and "6\n" in told
        assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture
def bad_server(monkeypatch):
    """torchvision's mirror, replaced by one that answers wrongly in the way that is asked for."""
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.server.way == "stalls":
                self.server.patience_ended |= not released.wait(60)
                return
            body = b"<html>please log in</html>"
            self.send_response(200)
            claimed = len(body) * (2 if self.server.way == "sends half" else 1)
            self.send_header("Content-Length", str(claimed))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.patience_ended = False  # of a client that waits for a stalled answer
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(downloads, "STALL_SECONDS", 1)
    yield server
    released.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("way", ["stalls", "answers with a web page", "sends half"])
def test_a_bad_download_is_given_up_and_the_next_source_is_asked(bad_server, tmp_path, way):
    bad_server.way = way
    real = paths.data_dir() / artefacts.FASHION_MNIST.folder

    def copied(folder):
        for name in artefacts.FASHION_MNIST.files:
            shutil.copy(real / name, folder)

    first = artefacts.FASHION_MNIST.sources[0]
    asked = downloads.Artefact(
        "FashionMNIST", "raw", artefacts.FASHION_MNIST.files, (first, downloads.Source("x", copied))
    )
    folder = downloads.fetch(asked, tmp_path)
    assert not bad_server.patience_ended
    assert downloads.missing_files(asked, folder) == {}
    assert {path.name for path in folder.iterdir()} == set(asked.files)


@posix
def test_a_read_only_project_runs_elsewhere_and_says_so_where_it_cannot(tmp_path):
    """As a user without rights: HW3_OUTPUT leads elsewhere; without it, one line and no litter."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    shutil.copytree(paths.project_root() / "notebooks", project / "notebooks")
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    program = f"""
        import os
        os.environ["HW3_HOME"] = {str(project)!r}
        from hw3utils import files, paths
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        for given in ({str(elsewhere)!r}, ""):
            os.environ["HW3_OUTPUT"] = given
            files.save_json({{"a": 1}}, paths.output_dir("smoke") / "answers" / "a.json")
    """
    for folder in (project, project / "notebooks"):
        folder.chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    try:
        done = run(program)
    finally:
        project.chmod(0o755)
    assert "PermissionError" in done.stderr.splitlines()[-1], done.stderr
    assert str(project / "output") in done.stderr.splitlines()[-1]
    assert (elsewhere / "answers" / "a.json").is_file()
    assert {path.name for path in project.iterdir()} == {"notebooks"}


def test_a_clock_that_jumps_changes_nothing():
    """Durations come from a clock that never goes back; no result and no key asks for the time."""
    for path in (paths.project_root() / "hw3utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "time":
                assert node.attr in ("perf_counter", "process_time", "sleep", "monotonic"), path
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imported = [getattr(node, "module", None), *(alias.name for alias in node.names)]
                assert "datetime" not in imported, path
            assert getattr(node, "attr", "") not in ("st_mtime", "st_ctime", "st_mtime_ns"), path
