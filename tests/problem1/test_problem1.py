"""Problem 1's committed results, which hold together, and its notebook killed half way."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from scipy import stats

from hw3utils import paths
from hw3utils.problem1 import experiments
from hw3utils.problem1.learning_rates import RULES
from hw3utils.training import sweeps

RESULTS = paths.project_root() / "answers" / "results"


@pytest.fixture(scope="module")
def found():
    return json.loads((RESULTS / "problem1.json").read_text(encoding="utf-8"))


def test_the_committed_results_are_those_of_a_night_with_seeds(found):
    assert found["profile"] == "overnight" and found["settings"]["changed"] == []
    assert found["settings"]["seeds"] >= 5 and found["settings"]["sweep_seeds"] >= 3
    assert 1e-5 < found["lr_min"] < found["lr_max"] < 0.77
    assert found["seconds"] > 0 and found["environment"]["packages"]["torch"]


def test_every_arm_learned_but_the_control(found):
    arms = {"cyclical", "constant", "1cycle", "linear decay", experiments.EQUAL_EPOCHS}
    arms |= {experiments.GROWING, experiments.SHRINKING, experiments.CONTROL}
    for scores in (found["test_accuracy"], found["validation_accuracy"]):
        assert arms < set(scores)
        learned = [score for arm, score in scores.items() if arm != experiments.CONTROL]
        assert all(0.80 < accuracy < 0.94 for accuracy in learned)


def test_the_differences_are_those_of_the_table_paired_by_seed(found):
    """Computed again from the CSV, with scipy's own paired test in place of our interval."""
    scores = pd.read_csv(RESULTS / "problem1_generalisation.csv")
    paired = scores.pivot(index="seed", columns="arm", values="test_accuracy")
    assert len(found["differences"]) >= 8
    for row in found["differences"]:
        tested = stats.ttest_rel(paired[row["first"]], paired[row["second"]])
        low, high = tested.confidence_interval(0.95)
        mean = (paired[row["first"]] - paired[row["second"]]).mean()
        expected = [100 * value for value in (mean, low, high)]
        assert [row["mean"], row["low"], row["high"]] == pytest.approx(expected, abs=2e-3)


def test_laws_and_noise_scales_have_intervals(found):
    assert set(found["laws"]) == {"doubled", "√2", "halved", "quarter"}
    for law in found["laws"].values():
        assert 0 < law["mean"] and law["low"] < law["mean"] < law["high"]
    stages = [f"after stage {stage}" for stage in range(1, 9)]
    for scales in (found["noise_scales"], found["noise_scales_halved"]):
        assert list(scales) == stages
        for scale in scales.values():
            missing = scale["value"] is None
            assert bool(scale["reason"]) == missing
            assert missing or 0 < scale["low"] < scale["value"] < scale["high"]


def test_the_range_test_is_never_read_beyond_the_valley(found):
    rules = found["range_test"]["rules"]
    assert set(rules) == set(RULES)
    lowest = rules["minimum"]["rate"]
    assert all(rule["rate"] <= lowest for rule in rules.values())
    assert found["range_test"]["lr_min"] < found["range_test"]["lr_max"] <= lowest
    for rule in rules.values():
        assert math.isnan(rule["failed"]) is False and rule["lowest"] <= rule["highest"]


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX signal")
def test_a_notebook_killed_half_way_ends_with_the_results_of_a_quiet_run(tmp_path, in_turn):
    """The notebook with a cache that lacks its first two sweeps, killed in the midst of 1.1."""
    data = tmp_path / "data"
    cache = data / "cache"
    cache.mkdir(parents=True)
    (data / "FashionMNIST").symlink_to(paths.data_dir() / "FashionMNIST")
    program = (
        "import sys\nfrom pathlib import Path\nfrom hw3utils.report import notebooks\n"
        "notebooks.run_notebook('problem1', Path(sys.argv[1]), {'profile': 'smoke'})"
    )

    def start(output, **variables):
        return subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / output)],
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    journal = tmp_path / "journal"
    with in_turn("problem1"):
        assert start("quiet", **{sweeps.JOURNAL: str(journal)}).wait() == 0
    told = [json.loads(line) for line in journal.read_text().splitlines()]
    first, second, *others = ([*line["keys"]] for line in told if "keys" in line)
    assert len(first) == 10
    for key in {key for keys in others for key in keys} - {*first, *second}:
        shutil.copy(paths.cache_dir() / f"{key}.pt", cache)

    def trained():
        return sum((cache / f"{key}.pt").exists() for key in first)

    process = start("killed", HW3_DATA=str(data))
    deadline = time.monotonic() + 240
    while trained() < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in cache.glob("*.pt")}
    assert 4 <= trained() < 10
    assert not (tmp_path / "killed" / "answers" / "results" / "problem1.json").exists()

    assert start("killed", HW3_DATA=str(data)).wait() == 0
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "runs were repeated"
    assert all((cache / f"{key}.pt").exists() for key in (*first, *second))
    folders = [tmp_path / name / "answers" / "results" for name in ("killed", "quiet")]
    killed, quiet = (json.loads((folder / "problem1.json").read_text()) for folder in folders)
    for found in (killed, quiet):
        del found["seconds"]
    assert killed == quiet
    for name in ("problem1_learning_rates.csv", "problem1_separate_models.csv"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
