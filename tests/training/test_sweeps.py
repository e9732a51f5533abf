"""Many runs: the cache, what spoils it, and a killed process."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
import torch
import tqdm

from hw3utils.data.images import ImageSet
from hw3utils.training import fingerprints, sweeps, workers
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant, LinearDecay

RUNS = [Run("lenet5", Constant(lr), epochs=1, batch_size=32) for lr in (1e-3, 0.05, 1e6)]


def same(first, second):
    return (
        first.run == second.run
        and first.diverged == second.diverged
        and all(
            torch.equal(first.state[name].nan_to_num(), second.state[name].nan_to_num())
            for name in first.state
        )
        and first.history.drop(columns="seconds").equals(second.history.drop(columns="seconds"))
    )


def test_results_come_in_order_and_do_not_depend_on_the_number_of_workers(
    train, validation, scale, tmp_path
):
    one = sweeps.fit_all(RUNS, train, validation, scale, n_jobs=1, cache_dir=tmp_path / "1")
    two = sweeps.fit_all(RUNS, train, validation, scale, n_jobs=2, cache_dir=tmp_path / "2")
    assert [result.run for result in one] == RUNS
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    assert [result.diverged for result in one] == [False, False, True]


def test_finished_runs_are_not_repeated(train, validation, scale, tmp_path):
    first = sweeps.fit_all(RUNS, train, validation, scale, cache_dir=tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = sweeps.fit_all(RUNS, train, validation, scale, cache_dir=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert [r.seconds for r in first] == [r.seconds for r in again]


@fingerprints.task
def double(number):
    return {"number": 2 * number}


def test_results_that_fill_the_memory_come_one_by_one_what_is_on_disk_first(tmp_path):
    sweeps.map_cached(double, {"b": (2,)}, n_jobs=1, cache_dir=tmp_path)
    kept = set(tmp_path.iterdir())
    results = sweeps.each_cached(double, {"a": (1,), "b": (2,)}, n_jobs=1, cache_dir=tmp_path)
    assert next(results) == ("b", {"number": 4})
    assert set(tmp_path.iterdir()) == kept  # nothing is read or computed ahead
    assert list(results) == [("a", {"number": 2})]


def test_equal_tasks_are_done_once_and_found_under_all_their_names(tmp_path):
    tasks = {"a": (1,), ("b", 2): (2,), "c": (1,)}
    for _ in range(2):
        found = sweeps.map_cached(double, tasks, n_jobs=1, cache_dir=tmp_path)
        assert found == {"a": {"number": 2}, ("b", 2): {"number": 4}, "c": {"number": 2}}
        assert list(found) == list(tasks) and len(list(tmp_path.iterdir())) == 2


@fingerprints.task
def kept_by_half(number, checkpoint):
    if not checkpoint.exists():
        checkpoint.write_text("half")
        raise InterruptedError
    return {"number": number, "from": checkpoint.read_text()}


def test_a_task_finds_its_checkpoint_again_which_goes_once_there_is_a_result(tmp_path):
    def found():
        options = {"checkpoints": True, "n_jobs": 1, "cache_dir": tmp_path}
        return sweeps.map_cached(kept_by_half, {"a": (1,)}, **options)

    with pytest.raises(InterruptedError):
        found()
    assert found() == {"a": {"number": 1, "from": "half"}}
    [result] = tmp_path.iterdir()
    result.with_suffix(".checkpoint").write_text("left by a kill between the two")
    assert found()["a"]["from"] == "half" and list(tmp_path.iterdir()) == [result]


def test_the_bar_goes_by_the_work_in_each_task_and_counts_what_was_done(tmp_path, monkeypatch):
    """One of three tasks is nine tenths of the work: without it one tenth is left, not a third."""
    bars = []

    class Bar(tqdm.tqdm):
        def __init__(self, *given, **options):
            super().__init__(*given, **options)
            self.seen = [self.n]
            bars.append(self)

        def update(self, amount=1):
            super().update(amount)
            self.seen.append(self.n)

    monkeypatch.setattr(sweeps, "tqdm", Bar)
    tasks = {"small": (1,), "other": (2,), "large": (3,)}
    small, other, large = tasks
    work = {small: 0.25, other: 0.75, large: 9.0}

    def found(*keys):
        wanted = {key: tasks[key] for key in keys}
        each = {key: work[key] for key in keys}
        kept = sweeps.map_cached(double, wanted, work=each, n_jobs=1, cache_dir=tmp_path)
        return [result["number"] for result in kept.values()]

    assert found(small) == [2] and found(small, large, other) == [2, 6, 4]
    assert (bars[0].seen, bars[0].total) == ([0, 0.25], 0.25)
    assert (bars[1].seen, bars[1].total) == ([0.25, 9.25, 10.0], 10)
    assert "runs=3/3" in bars[1].postfix
    assert found(*tasks) == [2, 4, 6] and len(bars) == 2, "a bar for nothing to do"


def test_who_waits_for_a_sweep_can_read_how_far_it_is(tmp_path, monkeypatch):
    """What the cache held counts as done from the start; all of it, and nothing is under way."""
    journal = tmp_path / "journal"
    monkeypatch.setenv(sweeps.JOURNAL, str(journal))
    tasks = {n: (n,) for n in (1, 2, 3, 4)}
    keys = [sweeps.task_key(double, task) for task in tasks.values()]
    first = dict(list(tasks.items())[:1])
    for wanted in (first, tasks, tasks):
        sweeps.map_cached(double, wanted, title="twice", n_jobs=1, cache_dir=tmp_path)
    begun, done, again, *rest, last = map(json.loads, journal.read_text().splitlines())
    assert begun == {"title": "twice", "keys": keys[:1], "computed": 1, "before": 0.0}
    assert done["done"] == 1.0 and done["seconds"] > 0
    assert again["keys"] == keys and (again["computed"], again["before"]) == (3, 0.25)
    assert [line["done"] for line in rest] == [0.5, 0.75, 1.0]
    assert (last["computed"], last["before"]) == (0, 1.0)


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_result_is_computed_again(train, validation, scale, tmp_path, damage):
    (first,) = sweeps.fit_all(RUNS[:1], train, validation, scale, n_jobs=1, cache_dir=tmp_path)
    (kept,) = tmp_path.iterdir()
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content if damage == "altered" else content[:-10])
    (again,) = sweeps.fit_all(RUNS[:1], train, validation, scale, n_jobs=1, cache_dir=tmp_path)
    assert same(first, again)


def test_the_key_depends_on_run_data_scale_and_torch(train, validation, scale, monkeypatch):
    def key(run=RUNS[0], train=train, scale=scale):
        arguments = (run, train.class_names, scale)
        return sweeps.task_key(sweeps.fit_one, arguments, [train.checksum, validation.checksum])

    pixels = train.images.clone()
    pixels[0, 0, 0, 0] ^= 1
    keys = {
        key(),
        key(RUNS[1]),
        key(Run("lenet5", LinearDecay(1e-3), epochs=1, batch_size=32)),
        key(train=ImageSet(pixels, train.labels, train.class_names)),
        key(scale=type(scale)((0.4,), (0.5,))),
    }
    monkeypatch.setattr(torch, "__version__", "0.1")
    assert len(keys | {key()}) == 6


def test_the_key_depends_on_every_weight_that_a_task_is_sent():
    """And not on the order in which a dict names them."""

    def key(state):
        return sweeps.task_key(sweeps.fit_one, (state,))

    state = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    other = {name: value.clone() for name, value in state.items()}
    assert key(other) == key(state) == key(dict(reversed(state.items())))
    other["weight"][1, 2] = 1e-6
    renamed = {"weight": state["weight"], "offset": state["bias"]}
    assert len({key(state), key(other), key(renamed), key({})}) == 4


def test_the_weights_of_each_epoch_come_back_from_the_cache(train, validation, scale, tmp_path):
    run = Run("lenet5", Constant(0.05), epochs=3, keep_states=True)
    (first,) = sweeps.fit_all([run], train, validation, scale, n_jobs=1, cache_dir=tmp_path)
    (again,) = sweeps.fit_all([run], train, validation, scale, n_jobs=1, cache_dir=tmp_path)
    assert len(first.states) == len(again.states) == 3
    for one, other in zip(first.states, again.states, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(first.states[0]["classifier.bias"], first.states[2]["classifier.bias"])


def test_worker_processes_take_turns_at_several_gpus(monkeypatch):
    """No GPU is needed to see which one would be chosen."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for count, expected in ((1, []), (2, [1, 0, 1]), (4, [1, 2, 3])):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        chosen.clear()
        for name in ("MainProcess", "LokyProcess-1", "LokyProcess-2", "LokyProcess-3"):
            monkeypatch.setattr(multiprocessing.current_process(), "_name", name)
            workers._use_own_gpu()
        assert chosen == expected
    monkeypatch.setattr(workers, "pick_device", lambda: torch.device("cuda"))
    assert workers.processes() == 4


def test_arms_get_the_same_seeds_each(train, validation, scale, tmp_path):
    arms = {"a": RUNS[0], "b": RUNS[1]}
    found = sweeps.fit_arms(arms, 2, train, validation, scale, cache_dir=tmp_path)
    assert list(found) == ["a", "b"]
    assert [[r.run.seed for r in results] for results in found.values()] == [[0, 1], [0, 1]]


def test_a_run_that_does_not_fit_is_refused_before_any_is_trained(
    train, validation, scale, tmp_path
):
    too_large = Run("lenet5", Constant(0.1), epochs=1, batch_size=len(train) + 1)
    with pytest.raises(ValueError, match="larger than the 384 training images"):
        sweeps.fit_all([RUNS[0], too_large], train, validation, scale, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_a_number_of_jobs_that_makes_no_sense_is_refused(monkeypatch, value):
    monkeypatch.setenv("HW3_JOBS", value)
    with pytest.raises(ValueError, match="HW3_JOBS"):
        workers.num_workers()


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX signal")
def test_after_a_kill_the_same_call_goes_on_and_ends_with_the_same_results(
    train, validation, scale, tmp_path
):
    """Six runs in a process of its own, killed once two are done; then the same six here."""
    program = textwrap.dedent(f"""
        from made_up import make_images
        from hw3utils.data.images import Scale
        from hw3utils.training import sweeps
        from test_sweeps import six_runs
        sweeps.fit_all(six_runs(), make_images(384, seed=1), make_images(100, seed=2),
                       Scale((0.5,), (0.5,)), n_jobs=1, cache_dir={str(tmp_path / "killed")!r})
    """)
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").glob("*.pt"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.pt")}
    assert 2 <= len(kept) < 6, "the kill came too early or too late"

    resumed = sweeps.fit_all(
        six_runs(), train, validation, scale, n_jobs=1, cache_dir=tmp_path / "killed"
    )
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    quiet = sweeps.fit_all(
        six_runs(), train, validation, scale, n_jobs=1, cache_dir=tmp_path / "quiet"
    )
    assert all(same(a, b) for a, b in zip(resumed, quiet, strict=True))


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX signal")
def test_the_workers_of_a_killed_process_end_with_it(tmp_path):
    program = textwrap.dedent(f"""
        import joblib, os, time
        from hw3utils.training import workers

        def wait():
            workers._end_with_parent(0.1)
            open({str(tmp_path)!r} + f"/{{os.getpid()}}.started", "w").close()
            time.sleep(120)

        joblib.Parallel(n_jobs=2)(joblib.delayed(wait)() for _ in range(2))
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.started"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(workers) >= 2
    _, alive = psutil.wait_procs(workers, timeout=60)
    for worker in alive:
        worker.kill()
    assert not alive, "workers wait for a process that is gone"


@fingerprints.task
def nothing():
    return {}


@pytest.mark.parametrize("lives", [True, False])
def test_a_worker_begins_no_task_of_a_process_that_is_gone(lives):
    """It took one from the queue after its process had ended, and trained it for nobody."""
    asks = os.getpid() if lives else -1
    child = multiprocessing.get_context("spawn").Process(
        target=workers.compute_for, args=(asks, nothing, "key", (), {}, ())
    )
    child.start()
    child.join(120)
    assert child.exitcode == (0 if lives else 1)


def six_runs():
    return [Run("lenet5", Constant(0.02), epochs=6, batch_size=16, seed=seed) for seed in range(6)]
