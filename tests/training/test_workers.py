"""The same sweep on a real Dask scheduler with workers of its own, one of which is killed."""

import importlib
import pickle
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_sweeps import same, six_runs

import hw3utils
from hw3utils import __main__, files
from hw3utils.data.images import Scale
from hw3utils.training import fingerprints, sweeps, workers
from made_up import make_images

distributed = pytest.importorskip("distributed")
TRAIN, VALIDATION, SCALE = make_images(384, seed=1), make_images(100, seed=2), Scale((0.5,), (0.5,))


def wait_for(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for {what}")


class Cluster:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        note = folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                    "--scheduler-file", str(note))  # fmt: skip
        wait_for(note.is_file, "the scheduler")
        self.client = wait_for(lambda: self._connect(note), "the scheduler's address")
        self.address = self.client.scheduler.address

    def _connect(self, note):
        try:
            return distributed.Client(scheduler_file=str(note), set_as_default=False)
        except ValueError:  # the file is half written
            return None

    def _start(self, kind, *options, path=None):
        log = (self.folder / f"{kind}{len(self.processes)}.log").open("w")
        program = f"from distributed.cli.dask_{kind} import main; main()"
        if path:
            program = f"import sys; sys.path.insert(0, {str(path)!r}); " + program
        command = [sys.executable, "-c", program, *options]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)
        self.processes.append(process)
        return process

    def add_worker(self, threads=1, path=None):
        before = self.workers()
        process = self._start(
            "worker", self.address, "--no-nanny", "--nthreads", str(threads), "--no-dashboard",
            "--local-directory", str(self.folder), path=path,
        )  # fmt: skip
        [name] = wait_for(lambda: self.workers() - before, "a worker")
        return name, process

    def workers(self):
        return set(self.client.scheduler_info(n_workers=-1)["workers"])

    def close(self):
        self.client.close()
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def dask(tmp_path, monkeypatch):
    (tmp_path / "dask").mkdir()
    running = Cluster(tmp_path / "dask")
    monkeypatch.setenv("HW3_CLUSTER", running.address)
    yield running
    running.close()


def sweep(cache, **options):
    return sweeps.fit_all(six_runs(), TRAIN, VALIDATION, SCALE, cache_dir=cache, **options)


def test_a_sweep_survives_a_killed_worker_and_equals_a_local_one(dask, tmp_path, monkeypatch):
    workers = dict(dask.add_worker() for _ in range(2))
    found = []
    thread = threading.Thread(target=lambda: found.append(sweep(tmp_path / "cluster")))
    thread.start()
    wait_for(lambda: list((tmp_path / "cluster").glob("*.pt")), "a first result")
    busy = wait_for(
        lambda: [name for name, tasks in dask.client.processing().items() if tasks], "work"
    )
    workers[busy[0]].kill()
    wait_for(lambda: busy[0] not in dask.workers(), "the scheduler to notice")
    thread.join(120)
    assert found, "the sweep did not end"
    kept = list((tmp_path / "cluster").iterdir())
    assert len(kept) == 6 and all(path.suffix == ".pt" for path in kept)

    monkeypatch.delenv("HW3_CLUSTER")
    local = sweep(tmp_path / "local", n_jobs=1)
    assert {path.name for path in kept} == {path.name for path in (tmp_path / "local").iterdir()}
    assert all(same(a, b) for a, b in zip(found[0], local, strict=True))


def test_images_are_sent_once_to_each_worker_and_not_with_each_run(dask, tmp_path, monkeypatch):
    for _ in range(2):
        dask.add_worker()
    sent, submitted = [], []
    scatter, submit = distributed.Client.scatter, distributed.Client.submit
    monkeypatch.setattr(distributed.Client, "scatter", lambda *args, **options: (
        sent.append((args[1], options)), scatter(*args, **options))[1])  # fmt: skip
    monkeypatch.setattr(distributed.Client, "submit", lambda *args, **options: (
        submitted.append(args[2:-2]), submit(*args, **options))[1])  # fmt: skip
    sweep(tmp_path)
    [([shared], options)] = sent
    assert len(shared) == 4 and options["broadcast"] is True
    assert len(submitted) == 6 and max(len(pickle.dumps(call)) for call in submitted) < 5_000


def test_a_call_that_no_worker_can_read_is_an_error_and_not_a_wait(dask, tmp_path, monkeypatch):
    """The function stands in a module that only this process can import."""
    (tmp_path / "only_here.py").write_text(
        "from hw3utils.training import fingerprints\n\n\n@fingerprints.task\n"
        "def number(value):\n    return {'number': value}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    dask.add_worker()
    with pytest.raises(Exception, match="deserializ|has no hw3utils or an old one|only_here"):
        sweeps.map_cached(
            importlib.import_module("only_here").number, {"task": (1,)}, cache_dir=tmp_path
        )


def test_other_code_on_a_worker_is_refused_by_name(dask, tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(Path(hw3utils.__file__).parent, other / "hw3utils")
    networks = other / "hw3utils" / "training" / "networks.py"
    networks.write_text(networks.read_text().replace("nn.ReLU(inplace=True)", "nn.ReLU()"))
    dask.add_worker()
    name, _ = dask.add_worker(path=other)
    with pytest.raises(workers.WorkerError, match="another version of hw3utils") as told:
        sweep(tmp_path / "cache")
    assert name in str(told.value)
    assert not (tmp_path / "cache").exists()


def test_a_worker_that_joins_later_is_checked_by_each_call():
    expected = workers.identity(double)
    key, content = workers.compute(double, "key", (21,), expected, ())
    assert key == "key" and files.unpack_tensors(content) == {"number": 42}
    with pytest.raises(workers.WorkerError, match="another version of torch"):
        workers.compute(double, "key", (21,), expected | {"torch": "1.0"}, ())


@fingerprints.task
def double(number):
    return {"number": 2 * number}


def test_a_worker_with_several_threads_is_refused(dask, tmp_path):
    dask.add_worker(threads=2)
    with pytest.raises(workers.WorkerError, match="has 2 threads; start it with --nthreads 1"):
        sweep(tmp_path / "cache")


def test_a_lost_scheduler_is_one_error_and_what_was_finished_is_kept(dask, tmp_path):
    dask.add_worker()
    told = []

    def run():
        try:
            sweep(tmp_path / "cluster")
        except workers.WorkerError as error:
            told.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: list((tmp_path / "cluster").glob("*.pt")), "a first result")
    dask.processes[0].kill()
    thread.join(90)
    assert told and "was lost" in told[0] and "finished runs are kept" in told[0]
    assert list((tmp_path / "cluster").glob("*.pt"))


@pytest.mark.parametrize(
    "address",
    ["localhost", "http://x:8786", "tcp://x", "tcp://x:y", "tcp://;reboot:1 ", "tcp://:1"],
)
def test_an_address_that_is_none_is_refused_before_any_work(address, capsys, monkeypatch):
    monkeypatch.setenv("HW3_CLUSTER", "")
    assert __main__.main(["run", "problem2", "--profile", "smoke", "--cluster", address]) == 2
    assert "tcp://HOST:8786 expected" in capsys.readouterr().err


def test_a_scheduler_that_does_not_answer_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("HW3_CLUSTER", "")
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 1)
    asked = ["run", "problem2", "--profile", "smoke", "--cluster", "tcp://127.0.0.1:9"]
    assert __main__.main(asked) == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
