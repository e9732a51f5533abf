"""Problem 1's experiments as described: what each arm would show, and the sizes of the profiles."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from hw3utils.problem1 import answers, diagnostics, experiments
from hw3utils.problem1.learning_rates import LRBounds
from hw3utils.settings import PROFILES, Problem1
from hw3utils.training import loop, networks, schedules
from hw3utils.training.runs import FitResult, Run
from hw3utils.training.schedules import Constant, Cyclical, OneCycle

LAPTOP, OVERNIGHT = Problem1.for_profile("laptop"), Problem1.for_profile("overnight")
BOUNDS = LRBounds(0.002, 0.06)
SEVERAL_STAGES = [Problem1.for_profile("laptop", stage_epochs=epochs) for epochs in (1, 2)]
REAL_PROFILES = [profile for profile in PROFILES if profile != "smoke"]


def rate_of_each_epoch(run, num_images=48_000):
    """The learning rate of each epoch; it must not change within one."""
    rates = iter(schedules.learning_rates(run.schedule, run.num_updates(num_images)))
    found = []
    for size in run.batch_sizes:
        epoch = set(itertools.islice(rates, math.ceil(num_images / size)))
        assert len(epoch) == 1, "the rate changes within an epoch"
        found += epoch
    return np.array(found)


@pytest.mark.parametrize("profile", REAL_PROFILES)
def test_all_but_smoke_use_the_handouts_numbers(profile):
    settings = Problem1.for_profile(profile)
    runs = experiments.learning_rate_runs(settings)
    assert {(run.epochs, run.batch_size, run.momentum) for run in runs} == {(5, 64, 0.9)}
    rates = [run.schedule.lr for run in runs if run.seed == 0]
    np.testing.assert_allclose(rates, np.logspace(-9, 1, 10))
    assert settings.n_test == 10_000
    if profile != "laptop":  # twenty minutes have to do
        assert (settings.n_train, settings.n_validation) == (48_000, 12_000)


def test_one_night_has_the_seeds_that_its_sentences_need():
    runs = experiments.learning_rate_runs(OVERNIGHT) + experiments.extra_rate_runs(OVERNIGHT)
    assert len(runs) == len(set(runs)) == 20 * 3
    assert OVERNIGHT.seeds >= 5


def test_the_finer_grid_lies_between_a_thousandth_and_a_half():
    assert experiments.extra_rate_runs(LAPTOP) == []
    runs = experiments.extra_rate_runs(OVERNIGHT)
    rates = [run.schedule.lr for run in runs if run.seed == 2]
    np.testing.assert_allclose(rates, np.geomspace(1e-3, 0.5, 10))
    (single,) = experiments.extra_rate_runs(Problem1.for_profile("laptop", extra_rates=1))
    assert single.schedule.lr == 1e-3


def test_a_rules_rate_is_tried_as_the_handouts_rates_are():
    """Five epochs at batch size 64, and in the rules' order, seed by seed."""
    runs = experiments.rule_runs({"high": 0.2, "low": 0.01}, OVERNIGHT)
    assert [run.schedule.lr for run in runs] == [0.2] * 3 + [0.01] * 3
    assert [run.seed for run in runs] == [0, 1, 2] * 2
    like_these = experiments.learning_rate_runs(OVERNIGHT)[0]
    assert {dataclasses.replace(run, schedule=like_these.schedule, seed=0) for run in runs} == {
        like_these
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_the_constant_rate_is_chosen_fairly(profile):
    """With the epochs of the runs that it will be compared with, and by none of their seeds."""
    settings = Problem1.for_profile(profile)
    runs = experiments.constant_runs(BOUNDS, settings)
    rates = [run.schedule.lr for run in runs]
    assert (rates[0], rates[-1]) == pytest.approx(BOUNDS)
    compared = experiments.schedule_runs(BOUNDS, 0.01, settings.n_train, settings)
    for run in runs:
        assert run.seed not in range(settings.seeds)
        assert run.epochs == compared[experiments.CONSTANT].epochs


def result(run, accuracy, diverged=False):
    history = pd.DataFrame({"validation_accuracy": accuracy})
    return FitResult(run, history, torch.zeros(0), {}, {}, diverged)


def test_the_best_constant_rate_is_the_best_at_its_end_and_never_a_diverged_one():
    runs = experiments.constant_runs(BOUNDS, Problem1.for_profile("laptop", constant_rates=4))
    accuracies = [[0.5, 0.86], [0.5, 0.89], [0.95, 0.88], [0.99, 0.99]]
    results = [
        result(run, accuracy, diverged)
        for run, accuracy, diverged in zip(runs, accuracies, [False] * 3 + [True], strict=True)
    ]
    assert experiments.best_constant_rate(results) == runs[1].schedule.lr
    with pytest.raises(ValueError, match="all runs diverged"):
        experiments.best_constant_rate(results[3:])


@pytest.mark.parametrize("profile", PROFILES)
def test_all_schedules_have_the_same_budget_and_no_higher_rate_than_lr_max(profile):
    settings = Problem1.for_profile(profile)
    runs = experiments.schedule_runs(BOUNDS, 0.01, settings.n_train, settings)
    budget = {(run.epochs, run.batch_size, run.momentum) for run in runs.values()}
    assert budget == {(settings.budget_epochs, 64, 0.9)}
    for name, run in runs.items():
        rates = schedules.learning_rates(run.schedule, run.num_updates(settings.n_train))
        assert max(rates) <= BOUNDS.lr_max * (1 + 1e-12), name


def test_the_cyclical_rate_is_compared_with_every_other_schedule():
    runs = experiments.schedule_runs(BOUNDS, 0.01, 48_000, LAPTOP)
    others = {second for _, second in answers.SCHEDULE_PAIRS}
    assert others == set(runs) - {experiments.CYCLICAL}, "add it to SCHEDULE_PAIRS in answers"


def test_two_pairs_of_schedules_differ_in_one_thing_only():
    runs = experiments.schedule_runs(BOUNDS, 0.01, 48_000, LAPTOP)
    updates = runs[experiments.ONE_CYCLE].num_updates(48_000)
    plain, cycled = runs[experiments.ONE_CYCLE], runs[experiments.ONE_CYCLE_MOMENTUM]
    assert schedules.learning_rates(plain.schedule, updates) == schedules.learning_rates(
        cycled.schedule, updates
    )
    assert plain.schedule == OneCycle(0.06) and cycled.schedule.cycle_momentum
    torchs, smiths = (
        np.array(schedules.learning_rates(runs[name].schedule, updates))
        for name in (experiments.CYCLICAL, experiments.BOTH_BOUNDS)
    )
    assert np.isclose(torchs[0], smiths[0]) and (smiths[1:] < torchs[1:]).all()
    assert smiths[-1] < 0.2 * torchs[-1], "its lower bound does not decay"


@pytest.mark.parametrize("profile", REAL_PROFILES)
def test_gamma_099_loses_the_cycles_and_ours_does_not(profile):
    settings = Problem1.for_profile(profile)
    runs = experiments.schedule_runs(BOUNDS, 0.01, settings.n_train, settings)
    run, trapped = runs[experiments.CYCLICAL], runs[experiments.TRAP]
    updates = run.num_updates(settings.n_train)
    ours, lost = (
        np.array(schedules.learning_rates(one.schedule, updates)) for one in (run, trapped)
    )
    last_cycle = slice(-len(ours) // 3, None)
    assert max(ours[last_cycle]) > 5 * 0.002
    assert max(lost[last_cycle]) < 1.2 * 0.002
    # 0.99 is the trapped run's own gamma: at update t its amplitude is 0.99**t of a triangle's.
    once = schedules.learning_rates(Cyclical(0.002, 0.06, 3, 1.0), len(lost))
    amplitudes = (lost - 0.002)[1:100] / (np.array(once) - 0.002)[1:100]
    np.testing.assert_allclose(amplitudes, 0.99 ** np.arange(1, 100), rtol=1e-6)


def test_a_budget_whose_gamma_underflows_still_makes_runs():
    runs = experiments.schedule_runs(BOUNDS, 0.01, 48_000 * 200, LAPTOP)
    assert 0 < runs[experiments.TRAP].schedule.final_amplitude < 1e-300


# By how much each arm of 1.3 divides the learning rate, and multiplies the batch size, at a stage.
LAWS = {
    experiments.GROWING: (1, 2),
    experiments.SHRINKING: (2, 1),
    experiments.ROOT: (math.sqrt(2), 1),
    experiments.QUARTER: (4, 1),
    experiments.CONTROL: (1, 1),
}


@pytest.mark.parametrize("arm", LAWS)
@pytest.mark.parametrize("settings", SEVERAL_STAGES)
def test_each_law_has_its_factor_at_each_of_the_eight_stages(arm, settings):
    run = experiments.batch_size_runs(0.06, settings)[arm]
    divided, multiplied = LAWS[arm]
    stage = np.arange(8).repeat(settings.stage_epochs)
    np.testing.assert_allclose(rate_of_each_epoch(run), 0.06 / divided**stage, rtol=1e-9)
    np.testing.assert_array_equal(run.batch_sizes, 32 * multiplied**stage)


@pytest.mark.parametrize("settings", SEVERAL_STAGES)
def test_only_the_true_mirror_has_the_noise_of_the_growing_batch(settings):
    """Same ε/B in every epoch; both wrong laws leave it, to one side each."""
    runs = experiments.batch_size_runs(0.06, settings)
    noise = {arm: rate_of_each_epoch(run) / np.array(run.batch_sizes) for arm, run in runs.items()}
    growing = noise[experiments.GROWING]
    np.testing.assert_allclose(noise[experiments.SHRINKING], growing)
    later = slice(settings.stage_epochs, None)
    assert (noise[experiments.ROOT][later] > 1.4 * growing[later]).all()
    assert (noise[experiments.QUARTER][later] < 0.6 * growing[later]).all()


def test_the_stable_arms_never_train_at_a_smaller_batch_than_lr_max_was_read_off_at():
    runs = experiments.batch_size_runs(0.06, LAPTOP)
    assert runs[experiments.STABLE_GROWING].batch_sizes == (64, 64, 128, 256, 512, 1024, 2048, 4096)
    assert runs[experiments.STABLE_CONTROL].batch_sizes == (64,) * 8
    assert set(rate_of_each_epoch(runs[experiments.STABLE_GROWING])) == {0.06}


@pytest.mark.parametrize("settings", SEVERAL_STAGES)
def test_all_arms_of_the_growing_batch_have_the_same_epochs(settings):
    runs = experiments.batch_size_runs(0.06, settings)
    runs |= experiments.equal_epochs_run(BOUNDS, settings)
    assert {run.epochs for run in runs.values()} == {8 * settings.stage_epochs}
    assert len(runs) == len(set(runs.values())) == 8
    kept = {arm for arm, run in runs.items() if run.keep_states}
    assert kept == {experiments.GROWING, experiments.SHRINKING}, "others only cost memory"


def test_no_more_than_1024_images_go_through_the_network_at_once():
    runs = [*experiments.batch_size_runs(0.06, OVERNIGHT).values()]
    runs += experiments.separate_runs(0.06, OVERNIGHT)
    runs += experiments.same_noise_runs(BOUNDS, OVERNIGHT)
    for run in runs:
        assert min(max(run.batch_sizes), run.micro_batch_size or math.inf) <= 1024


def test_separate_models_for_each_batch_size_and_seed():
    runs = experiments.separate_runs(0.06, OVERNIGHT)
    pairs = [(run.batch_size, run.seed) for run in runs]
    assert pairs == list(itertools.product([32, 64, 128, 256, 512, 1024, 2048, 4096], range(3)))
    assert {(run.schedule, run.epochs) for run in runs} == {(Constant(0.06), 5)}


def test_runs_of_one_noise_share_it_over_sizes_from_16_to_1024():
    runs = experiments.same_noise_runs(BOUNDS, OVERNIGHT)
    noise = [run.schedule.lr / run.batch_size for run in runs]
    np.testing.assert_allclose(noise, math.sqrt(0.002 * 0.06) / 64)
    assert sorted({run.batch_size for run in runs}) == [16, 32, 64, 128, 256, 512, 1024]
    assert len({run.epochs for run in runs}) == 1 and len(runs) == 7 * 5


def test_runs_of_one_time_share_updates_and_rate_and_differ_in_noise():
    runs = experiments.same_updates_runs(BOUNDS, OVERNIGHT)
    assert {run.num_updates(48_000) for run in runs} == {1_500 * OVERNIGHT.noise_epochs}
    assert len({run.schedule for run in runs}) == 1
    assert sorted({run.batch_size for run in runs}) == [32, 64, 128] and len(runs) == 3 * 5


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HW3_DATA", str(tmp_path))
    monkeypatch.setenv("HW3_JOBS", "1")
    return tmp_path / "cache"


def test_range_tests_give_each_decade_its_updates_and_are_done_once(train, own_cache):
    settings = Problem1.for_profile("smoke", range_updates=20, sweep_seeds=2)
    found = experiments.range_tests(settings, train)
    kept = {path: path.stat().st_mtime_ns for path in own_cache.iterdir()}
    assert len(found) == len(kept) == 2 and found[0].losses != found[1].losses
    for test in found:
        rates = np.array(test.learning_rates)
        assert rates[0] == 1e-4
        if test.diverged_at is None:
            assert rates[-1] == pytest.approx(1) and len(rates) == 80
        decade = (rates >= 0.99e-3) & (rates < 0.99e-2)
        assert decade.sum() == pytest.approx(20, abs=1)
    assert experiments.range_tests(settings, train) == found
    assert {path: path.stat().st_mtime_ns for path in own_cache.iterdir()} == kept


def test_the_noise_scale_is_measured_after_each_stage_and_missing_where_a_run_diverged(
    train, validation, own_cache
):
    settings = Problem1.for_profile("smoke", stage_epochs=2)
    run = Run("lenet5", Constant(0.02), 4, batch_size=(32, 32, 128, 128), keep_states=True)
    wild = dataclasses.replace(run, schedule=Constant(1e6), seed=1)
    results = [
        loop.fit(networks.build("lenet5", 10, run.seed), run, train, validation, experiments.SCALE)
        for run in (run, wild)
    ]
    broken = dataclasses.replace(results[1], states=results[1].states * 2)
    plain = dataclasses.replace(results[0], states=[])
    arms = {"a": [results[0], broken], "nothing kept": [plain]}
    table = experiments.noise_scales(arms, train, settings)
    assert table[["arm", "seed", "stage", "batch_size"]].values.tolist() == [
        ["a", 0, 1, 32],
        ["a", 0, 2, 128],
        ["a", 1, 1, 32],
    ]
    for row, epoch in ((0, 1), (1, 3)):
        model = networks.build("lenet5", 10, 0)
        model.load_state_dict(results[0].states[epoch])
        expected = diagnostics.gradient_noise_scale(
            model, train, experiments.SCALE, torch.Generator().manual_seed(0)
        )
        assert table["simple"][row] == pytest.approx(expected.simple, rel=1e-4)
        assert table["reason"][row] == ""
    assert math.isnan(table["simple"][2]) and table["reason"][2]


def test_the_candidates_are_numpys_logspace():
    np.testing.assert_allclose(experiments.candidate_learning_rates(), np.logspace(-9, 1, 10))


@pytest.mark.parametrize("wrong", [(-1.0,), (1.0, 0.1), (1e-9, 10.0, 1), (1e-9, math.inf)])
def test_candidates_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError):
        experiments.candidate_learning_rates(*wrong)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 3}, "unknown number seed: choose from budget_epochs, constant_rates, cycles"),
        ({"seeds": 0}, "must be greater than 0"),
        ({"seeds": "3"}, "expected int"),
        ({"seeds": 1.5}, "expected int"),
        ({"sweep_epochs": True}, "expected int"),
        ({"profile": "big"}, "unknown profile 'big': choose one of smoke, laptop, overnight, full"),
        ({"n_train": 1_000}, "n_train=1000: must be a whole number of at least 4096"),
        ({"n_train": 50_000}, "there are 48000 such images"),
        ({"range_updates": 1}, "range_updates=1"),
        ({"constant_rates": 1}, "constant_rates=1"),
        ({"cycles": 99_999}, "too many for 1536 updates"),
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
