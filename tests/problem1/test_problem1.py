"""Problem 1's experiments as described, its committed results, and the notebook killed half way."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from hw3utils import paths
from hw3utils.problem1 import answers, experiments, tables
from hw3utils.problem1.diagnostics import LRBounds
from hw3utils.settings import Problem1
from hw3utils.training import networks
from hw3utils.training.runs import FitResult
from hw3utils.training.schedules import learning_rates
from made_up import make_images

LAPTOP = Problem1.for_profile("laptop")


def result(run, losses, diverged=False):
    epochs = len(losses)
    history = pd.DataFrame(
        {
            "epoch": range(1, epochs + 1),
            "batch_size": run.batch_sizes[:epochs],
            "updates": [-(-48_000 // size) for size in run.batch_sizes[:epochs]],
            "train_loss": losses,
            "validation_loss": losses,
            "validation_accuracy": [1 / (1 + loss) for loss in losses],
            "seconds": 1.0,
        }
    )
    return FitResult(run, history, None, {}, {}, diverged)


def test_laptop_and_full_use_the_handouts_numbers():
    for profile in ("laptop", "full"):
        runs = experiments.learning_rate_runs(Problem1.for_profile(profile))
        assert len(runs) == 10
        assert {(run.epochs, run.batch_size, run.momentum) for run in runs} == {(5, 64, 0.9)}
        rates = [run.schedule.lr for run in runs]
        np.testing.assert_allclose(rates, np.logspace(-9, 1, 10))
        settings = Problem1.for_profile(profile)
        assert (settings.n_train, settings.n_validation, settings.n_test) == (
            48_000,
            12_000,
            10_000,
        )
        assert settings.budget_epochs == 15
    assert Problem1.for_profile("full").seeds == 3


def test_the_growing_batch_is_one_run_and_its_mirror_has_the_same_noise():
    runs = experiments.batch_size_runs(0.06, Problem1.for_profile("laptop", stage_epochs=2))
    growing, shrinking = runs[experiments.GROWING], runs[experiments.SHRINKING]
    assert growing.batch_sizes == tuple(np.repeat(experiments.BATCH_SIZES, 2))
    assert growing.epochs == shrinking.epochs == runs[experiments.CONTROL].epochs == 16
    pass

    updates = shrinking.num_updates(48_000)
    rates = np.array(learning_rates(shrinking.schedule, updates)).reshape(16, -1)
    for epoch, (rate, size) in enumerate(zip(rates, growing.batch_sizes, strict=True)):
        assert len(set(rate)) == 1, f"the rate changes within epoch {epoch}"
        assert rate[0] / 32 == pytest.approx(0.06 / size)


def test_all_schedules_have_the_same_budget():
    runs = experiments.schedule_runs(LRBounds(0.002, 0.06), 0.06, LAPTOP)
    assert {(run.epochs, run.batch_size) for run in runs.values()} == {(15, 64)}
    assert list(runs) == ["cyclical", "constant", "1cycle", "linear decay"]


def test_a_diverged_rate_is_never_the_best():
    runs = experiments.learning_rate_runs(LAPTOP)
    results = [result(run, [2.0, 1.5]) for run in runs[:8]]
    results += [result(run, [math.nan], diverged=True) for run in runs[8:]]
    results[6] = result(runs[6], [1.0, 0.3])
    assert experiments.best_constant_rate(results) == runs[6].schedule.lr
    with pytest.raises(ValueError, match="all runs diverged"):
        experiments.best_constant_rate(results[8:])


def test_gamma_099_loses_the_cycles_and_ours_does_not():
    run = experiments.schedule_runs(LRBounds(0.002, 0.06), 0.06, LAPTOP)["cyclical"]
    ours, trapped = experiments.gamma_trap(run, 48_000).values()
    last_cycle = slice(-len(ours) // 3, None)
    assert max(ours[last_cycle]) > 5 * 0.002
    assert max(trapped[last_cycle]) < 1.001 * 0.002


@pytest.mark.parametrize(("mirror", "alike"), [(0.01, True), (0.5, False)])
def test_the_closing_answer_follows_from_the_curves(mirror, alike):
    runs = experiments.batch_size_runs(0.06, LAPTOP)
    base = np.linspace(1.0, 0.3, 8)
    arms = {
        experiments.GROWING: [result(runs[experiments.GROWING], base)],
        experiments.SHRINKING: [result(runs[experiments.SHRINKING], base + mirror)],
        experiments.CONTROL: [result(runs[experiments.CONTROL], base + 0.4)],
    }
    scores = pd.DataFrame(
        {
            "arm": [experiments.GROWING, experiments.EQUAL_EPOCHS],
            "test_accuracy": [0.90, 0.92 if alike else 0.902],
            "gap": [0.02, 0.03],
        }
    )
    answer = answers.answer_batch_size(arms, scores, make_images(10_000))
    assert answer.alike is alike
    assert answer.distance_mirror == pytest.approx(mirror)
    assert answer.standard_error == pytest.approx(0.0041, abs=2e-4)
    assert answer.similar_accuracy is not alike
    assert ("learned less" in answer.text) is alike
    assert ("does not act like" in answer.text) is not alike
    assert not answer.control_collapsed and "guessing" not in answer.text
    assert (answer.updates_growing, answer.updates_mirror) == (2_990, 12_000)


def test_seeds_are_averaged_and_spread_is_given():
    scores = pd.DataFrame(
        {"arm": ["a", "a", "b"], "seed": [0, 1, 0], "diverged": [False, True, False],
         "validation_accuracy": [0.8, 0.9, 0.7], "test_accuracy": [0.8, 0.9, 0.7],
         "train_accuracy": [0.9, 0.9, 0.9],
         "gap": [0.1, 0.0, 0.2], "seconds": [1.0, 3.0, 5.0]}
    )  # fmt: skip
    table = tables.summary(scores)
    assert table.loc["a", "test_accuracy"] == pytest.approx(0.85)
    assert table.loc["a", "test_sd"] == pytest.approx(0.0707, abs=1e-4)
    assert math.isnan(table.loc["b", "test_sd"])
    assert table["seeds"].tolist() == [2, 1]
    assert table["diverged"].tolist() == [1, 0]


def test_a_diverged_run_is_marked_in_the_tables():
    runs = experiments.schedule_runs(LRBounds(0.002, 0.06), 0.06, LAPTOP)
    state = networks.build("lenet5", 10, 0).state_dict()
    arms = {
        name: [dataclasses.replace(result(runs[name], [1.0, 0.5], diverged), state=state)]
        for name, diverged in (("cyclical", False), ("constant", True))
    }
    scores = tables.generalisation(arms, make_images(20), make_images(10))
    assert scores["diverged"].tolist() == [False, True]
    assert tables.summary(scores)["diverged"].to_dict() == {"cyclical": 0, "constant": 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 3}, "unknown number seed: choose from budget_epochs, cycles"),
        ({"seeds": 0}, "must be greater than 0"),
        ({"seeds": "3"}, "expected int"),
        ({"seeds": 1.5}, "expected int"),
        ({"sweep_epochs": True}, "expected int"),
        ({"profile": "big"}, "unknown profile 'big'"),
        ({"n_train": 1_000}, "n_train=1000: must be a whole number of at least 4096"),
        ({"n_train": 50_000}, "there are 48000 such images"),
        ({"range_test_updates": 1}, "range_test_updates=1"),
        ({"cycles": 99_999}, "too many for 11250 updates"),
        ({"final_amplitude": 2.0}, r"must lie in \(0, 1\]"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        Problem1.for_profile(**({"profile": "laptop"} | changes))


def test_changed_numbers_are_remembered_and_write_elsewhere(monkeypatch):
    monkeypatch.delenv("HW3_OUTPUT", raising=False)
    changed = Problem1.for_profile("laptop", seeds=2)
    assert changed.changed == ("seeds=2",)
    assert changed.figures != LAPTOP.figures
    assert Problem1.for_profile("laptop", seeds=1) == LAPTOP


def committed():
    path = paths.project_root() / "answers" / "results" / "problem1.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_committed_results_are_those_of_a_laptop_run_and_hold_together():
    found = committed()
    assert found["profile"] == "laptop" and found["settings"]["changed"] == []
    assert 1e-5 < found["lr_min"] < found["lr_max"] < 0.77
    arms = {"cyclical", "constant", "1cycle", "linear decay", experiments.EQUAL_EPOCHS}
    arms |= {experiments.GROWING, experiments.SHRINKING, experiments.CONTROL}
    for scores in (found["test_accuracy"], found["validation_accuracy"]):
        assert set(scores) == arms
        learned = [score for arm, score in scores.items() if arm != experiments.CONTROL]
        assert all(0.85 < accuracy < 0.94 for accuracy in learned)
    assert found["noise_scale"] > 0 and found["seconds"] > 0
    assert found["environment"]["packages"]["torch"]


def test_the_committed_figures_are_those_the_notebook_saves():
    notebook = (paths.notebooks_dir() / "problem1.ipynb").read_text(encoding="utf-8")
    for path in (paths.project_root() / "figures").glob("problem1_*.png"):
        assert f'\\"{path.stem}\\"' in notebook, f"{path.name} is not made by the notebook"
    assert notebook.count("save_figure(") == len(
        list((paths.project_root() / "figures").glob("problem1_*.png"))
    )


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX signal")
def test_a_notebook_killed_half_way_ends_with_the_results_of_a_quiet_run(tmp_path):
    """``hw3utils run problem1`` with a cache of its own, killed after 12 runs, then given again."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "FashionMNIST").symlink_to(paths.data_dir() / "FashionMNIST")
    command = [sys.executable, "-m", "hw3utils", "run", "problem1", "--profile", "smoke"]

    def start(output, **variables):
        return subprocess.Popen(
            [*command, "--output", str(tmp_path / output)],
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    process = start("killed", HW3_DATA=str(data))
    deadline = time.monotonic() + 240
    while len(list((data / "cache").glob("*.pt"))) < 12 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in (data / "cache").glob("*.pt")}
    assert len(kept) >= 12, "no runs were finished"
    assert not (tmp_path / "killed" / "answers" / "results" / "problem1.json").exists()

    assert start("killed", HW3_DATA=str(data)).wait() == 0
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "runs were repeated"
    assert start("quiet").wait() == 0
    folders = [tmp_path / name / "answers" / "results" for name in ("killed", "quiet")]
    killed, quiet = (json.loads((folder / "problem1.json").read_text()) for folder in folders)
    for found in (killed, quiet):
        del found["seconds"]
    assert killed == quiet
    for name in ("problem1_learning_rates.csv", "problem1_separate_models.csv"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
