"""Problem 1's figures drawn from made-up results: with one seed and many, and where runs fail."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.text import Text

from hw3utils import style
from hw3utils.problem1 import batch_size_figures, experiments, figures, tables
from hw3utils.problem1.learning_rates import LRBounds, RangeTest
from hw3utils.settings import Problem1
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant, learning_rates
from made_up import make_result

LAPTOP = Problem1.for_profile("laptop")
BOUNDS = LRBounds(0.002, 0.06)
LAWS = (experiments.SHRINKING, experiments.ROOT, experiments.QUARTER)
NAN, NONE = float("nan"), pd.DataFrame()
# Stopped early, in its third epoch and in its first.
LATE, AT_ONCE = [2.0, 1.5, NAN], [NAN]


@pytest.fixture(autouse=True)
def styled_and_closed():
    plt.close("all")  # what other tests of this process left open
    style.use_style()
    yield
    plt.close("all")


def arm(run, *curves, lost=()):
    """Results of one arm, a seed for each curve; the curves in ``lost`` diverged."""
    curves = [*curves, *lost]
    kept = len(curves) - len(lost)
    return [
        make_result(replace(run, seed=seed), losses, diverged=seed >= kept)
        for seed, losses in enumerate(curves)
    ]


def falling(epochs, seeds, end=0.3):
    return [np.linspace(1.0, end, epochs) + 0.01 * seed for seed in range(seeds)]


def schedule_arms(settings, seeds):
    runs = experiments.schedule_runs(BOUNDS, 0.01, 48_000, settings)
    return {name: arm(run, *falling(run.epochs, seeds)) for name, run in runs.items()}


def stage_arms(settings, seeds):
    runs = experiments.batch_size_runs(BOUNDS.lr_max, settings)
    return {name: arm(run, *falling(run.epochs, seeds)) for name, run in runs.items()}


def sweep(settings, failing=()):
    """A sweep over the handout's rates; the given (rate's place, seed) pairs diverge."""
    runs = experiments.learning_rate_runs(settings)
    results = []
    for number, run in enumerate(runs):
        place = number // settings.sweep_seeds
        diverged = (place, run.seed) in failing
        end = 2.3 if place < 6 or place > 8 else 0.4 + 0.02 * run.seed
        results.append(make_result(run, [NAN if diverged else end], diverged))
    return tables.sweep_table(results)


def noise_table(missing=False):
    rows = [
        {"arm": name, "stage": stage, "batch_size": 32 * 2 ** (stage - 1), "simple": 200.0 * stage,
         "low": NAN, "high": NAN, "seeds": 1, "missing": 0, "reason": ""}
        for name in (experiments.GROWING, experiments.SHRINKING)
        for stage in range(1, 9)
    ]  # fmt: skip
    if missing:
        rows[7] |= {"simple": NAN, "missing": 1, "reason": "|G|² is not above 0"}
    return pd.DataFrame(rows)


def score_table(arms):
    """Scores of (arm, epochs): test accuracies of its seeds."""
    scores = pd.DataFrame(
        {"arm": name, "epochs": epochs, "seed": seed, "diverged": False, "relapsed": value < 0.7,
         "validation_accuracy": value, "test_accuracy": value, "train_accuracy": value + 0.02,
         "gap": 0.02, "seconds": 1.0}
        for (name, epochs), values in arms.items()
        for seed, value in enumerate(values)
    )  # fmt: skip
    return tables.summary(scores), scores


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def crosses(axes):
    return [line for line in axes.lines if line.get_marker() == "x"]


def written(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("seeds", [1, 3])
def test_every_figure_is_drawn_with_one_seed_and_with_many(seeds):
    settings = Problem1.for_profile("smoke", sweep_seeds=seeds, seeds=seeds)
    schedules, stages = schedule_arms(settings, seeds), stage_arms(settings, seeds)
    rates = np.geomspace(1e-4, 1, 50).tolist()
    losses = (np.linspace(-1, 1, 50) ** 2).tolist()
    tests = [RangeTest(rates, losses, losses, None if seed else 1.0) for seed in range(seeds)]
    pairs = [(experiments.CYCLICAL, other) for other in (experiments.CONSTANT, "1cycle")]
    differences = tables.differences(
        tables.final_validation(schedules), "validation_accuracy", pairs
    )
    equal = {
        name: [make_result(run, [1.0] * run.epochs) for run in described(BOUNDS, settings)]
        for name, described in (
            ("noise", experiments.same_noise_runs),
            ("updates", experiments.same_updates_runs),
        )
    }
    separate = [make_result(run, [1.0]) for run in experiments.separate_runs(0.06, settings)]
    growing = tables.stage_scores(stages[experiments.GROWING])
    rising = {name: np.linspace(0, 0.06, 30) for name in schedules}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [
            figures.learning_rate_curve(sweep(settings), NONE, BOUNDS),
            figures.range_test_curve(tests, tables.rule_rates(tests)),
            figures.schedule_lines(rising, "made up", 10),
            figures.train_and_validation(schedules[experiments.CYCLICAL], "made up"),
            figures.validation_by_arm(schedules, differences, "made up"),
            batch_size_figures.batch_size_scores(growing, tables.sweep_table(separate)),
            batch_size_figures.stage_curves(stages, LAWS),
            batch_size_figures.noise_scale_by_stage(noise_table(), 48_000),
            batch_size_figures.same_noise(equal["noise"], equal["updates"]),
            batch_size_figures.generalisation(
                *score_table({("a", 8): [0.8] * seeds, ("b", 3): [0.9]})
            ),
        ]
        for figure in drawn:
            figure.draw_without_rendering()


def test_a_diverged_rate_is_counted_below_and_has_no_dot_above():
    settings = Problem1.for_profile("smoke", sweep_seeds=2)
    failing = [(8, 1), (9, 0), (9, 1)]
    figure = figures.learning_rate_curve(sweep(settings, failing), NONE, BOUNDS)
    above, below = figure.axes
    mean, dots = above.lines[:2]
    assert len(dots.get_xdata()) == 20 - len(failing)
    assert np.isfinite(mean.get_ydata()).tolist() == [True] * 8 + [False] * 2
    diverged = below.containers[1]
    assert [bar.get_height() for bar in diverged] == [0] * 8 + [50, 100]


def test_a_collapsed_run_is_hollow_and_no_part_of_the_line():
    figure = figures.learning_rate_curve(sweep(Problem1.for_profile("smoke")), NONE, BOUNDS)
    mean, _, hollow = figure.axes[0].lines[:3]
    assert hollow.get_xdata().tolist() == pytest.approx([10.0])
    assert hollow.get_fillstyle() == "none"
    assert np.isnan(mean.get_ydata()[-1])


def test_rates_beside_those_asked_for_have_a_line_of_their_own_and_do_not_move_the_level():
    asked = sweep(Problem1.for_profile("smoke"))
    extra = asked.assign(train_loss=0.1, collapsed=False, failed=False)
    figure = figures.learning_rate_curve(asked, extra, BOUNDS)
    assert {"mean over seeds", "mean over seeds, more rates", "one run, more rates"} <= {
        *legend(figure)
    }
    levels = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert levels[0] == pytest.approx(2.3 - 0.9 * (2.3 - 0.4))
    assert "90 % of the way down (ten rates)" in written(figure.axes[0])


def test_rules_that_lie_close_have_labels_apart():
    rates = np.geomspace(1e-4, 1, 50)
    losses = (np.linspace(-1, 1, 50) ** 2).tolist()
    tests = [RangeTest(rates.tolist(), losses, losses, 0.7)]
    found = {"minimum": 0.0100, "Smith: the fall slows": 0.0099, "steepest descent": 0.0098}
    figure = figures.range_test_curve(tests, found)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]  # without the lines
    pairs = [(one, other) for one in boxes for other in boxes if one is not other]
    assert len(boxes) == 3 and not any(one.overlaps(other) for one, other in pairs)
    assert crosses(figure.axes[0])[0].get_xdata() == [0.7]


@pytest.mark.parametrize("schedules", [1, 2, 3, 7])
def test_each_schedule_has_a_panel_of_its_own_against_epochs(schedules):
    rates = {f"schedule {number}": [0.0, 0.1, 0.0, 0.1, 0.0] for number in range(schedules)}
    figure = figures.schedule_lines(rates, "made up", updates_per_epoch=2)
    assert len(figure.axes) == schedules
    assert sum(len(axes.lines) for axes in figure.axes) == schedules
    for axes in figure.axes:
        assert axes.get_yscale() == "linear" and axes.get_ylim()[0] == 0
        assert axes.lines[0].get_xdata().tolist() == [0, 0.5, 1, 1.5, 2]


def test_the_learning_rate_below_lies_under_the_epochs_in_which_it_was_used():
    run = experiments.schedule_runs(BOUNDS, 0.01, 48_000, LAPTOP)[experiments.CYCLICAL]
    used = learning_rates(run.schedule, run.num_updates(48_000))
    result = replace(make_result(run, falling(run.epochs, 1)[0]), learning_rates=torch.tensor(used))
    loss, _, below, _ = figures.train_and_validation([result], "made up").axes
    line = below.lines[0]
    peak = line.get_xdata()[int(np.argmax(line.get_ydata()))]
    assert peak == pytest.approx(run.epochs / run.schedule.cycles / 2, abs=0.01)
    training, validation = loss.lines[:2]
    assert training.get_xdata()[0] == 0.5 and validation.get_xdata()[0] == 1


def test_runs_that_diverge_are_counted_crossed_and_no_part_of_the_mean():
    run = Run("lenet5", Constant(0.06), 3)
    found = arm(run, [1.5, 1.0, 0.8], lost=(LATE, AT_ONCE))
    figure = batch_size_figures.stage_curves({experiments.GROWING: found}, ())
    above = figure.axes[0]
    assert above.lines[0].get_ydata().tolist() == [1.5, 1.0, 0.8]
    assert [line.get_xydata().tolist() for line in crosses(above)] == [[[3, 0], [1, 0]]]
    assert legend(figure) == [f"{experiments.GROWING} (2 of 3 diverged)"]
    alive = batch_size_figures.stage_curves({experiments.GROWING: found[:1]}, ())
    assert not crosses(alive.axes[0]) and legend(alive) == [experiments.GROWING]


def test_no_figure_stops_where_all_runs_but_one_diverged():
    settings = Problem1.for_profile("smoke", sweep_seeds=2, seeds=2)
    runs = experiments.schedule_runs(BOUNDS, 0.01, 48_000, settings)
    schedules = {name: arm(run, lost=(LATE, AT_ONCE)) for name, run in runs.items()}
    runs = experiments.batch_size_runs(BOUNDS.lr_max, settings)
    stages = {name: arm(run, lost=(AT_ONCE, LATE)) for name, run in runs.items()}
    scores = tables.final_validation(schedules)
    pairs = [(experiments.CYCLICAL, experiments.CONSTANT)]
    equal = [
        make_result(run, AT_ONCE, True) for run in experiments.same_noise_runs(BOUNDS, settings)
    ]
    updates = experiments.same_updates_runs(BOUNDS, settings)
    separate = experiments.separate_runs(0.06, settings)
    updates, separate = (
        [
            make_result(run, AT_ONCE if number else [1.0], bool(number))
            for number, run in enumerate(runs)
        ]
        for runs in (updates, separate)
    )
    noise = noise_table().assign(simple=NAN, missing=1, reason="diverged")
    most = [(place, seed) for place in range(10) for seed in range(2)][1:]
    table, failed = score_table({("a", 8): [0.1, 0.1], ("b", 3): [0.1]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [
            figures.learning_rate_curve(sweep(settings, most), sweep(settings, most), BOUNDS),
            figures.train_and_validation(schedules[experiments.CYCLICAL], "made up"),
            figures.validation_by_arm(
                schedules, tables.differences(scores, "validation_accuracy", pairs), "made up"
            ),
            batch_size_figures.batch_size_scores(
                tables.stage_scores(stages[experiments.GROWING]), tables.sweep_table(separate)
            ),
            batch_size_figures.stage_curves(stages, LAWS),
            batch_size_figures.noise_scale_by_stage(noise, 48_000),
            batch_size_figures.same_noise(equal, updates),
            batch_size_figures.generalisation(table, failed),
        ]
        for figure in drawn:
            figure.draw_without_rendering()


def test_an_arm_that_fails_does_not_squash_the_others():
    run = Run("lenet5", Constant(0.06), 8)
    arms = {
        "fine": arm(run, *falling(8, 2, 0.10)),
        "also fine": arm(run, *falling(8, 2, 0.12)),
        "collapsed": arm(run, [*falling(4, 1)[0], 9.0, 9.0, 9.0, 9.0]),
        "diverged": arm(run, lost=(AT_ONCE, AT_ONCE)),
    }
    pairs = [("fine", name) for name in arms if name != "fine"]
    differences = pd.DataFrame(pairs, columns=["first", "second"])
    differences[["mean", "low", "high"]] = [[1.7, 1.0, 2.4], [80.0, 70.0, 90.0], [NAN] * 3]
    figure = figures.validation_by_arm(arms, differences, "made up")
    left, right = figure.axes
    assert 40 < left.get_ylim()[0] < left.get_ylim()[1] < 100
    assert legend(figure)[2:] == ["collapsed: ends at 10 %", "diverged (2 of 2 diverged)"]
    names = [text.get_text() for text in right.get_yticklabels()]
    assert names == ["also fine", "collapsed\n(80 points)", "diverged\n(a run diverged)"]
    assert right.get_xlim()[1] < 10 and "95 % interval" in right.get_xlabel()


def test_one_seed_has_no_interval_and_says_so():
    arms = schedule_arms(Problem1.for_profile("smoke"), 1)
    pairs = [(experiments.CYCLICAL, experiments.CONSTANT)]
    scores = tables.final_validation(arms)
    differences = tables.differences(scores, "validation_accuracy", pairs)
    figure = figures.validation_by_arm(arms, differences, "made up")
    assert "one seed" in figure.axes[1].get_xlabel()


def test_separate_models_that_diverged_stand_at_the_edge():
    settings = Problem1.for_profile("smoke", sweep_seeds=2)
    growing = tables.stage_scores(stage_arms(settings, 2)[experiments.GROWING])
    results = [
        make_result(run, [NAN], True) if run.batch_sizes[0] == 4096 else make_result(run, [1.0])
        for run in experiments.separate_runs(0.06, settings)
    ]
    figure = batch_size_figures.batch_size_scores(growing, tables.sweep_table(results))
    for axes, edge in zip(figure.axes, (1, 0), strict=True):
        (marks,) = crosses(axes)
        assert marks.get_xydata().tolist() == [[12, edge]]
        assert marks.get_transform() == axes.get_xaxis_transform()
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels[0] == "5\n32" and labels[-1] == "12\n4,096"


def test_laws_are_compared_with_the_growing_batch_of_the_same_seed():
    arms = stage_arms(Problem1.for_profile("smoke"), 3)
    law = experiments.SHRINKING
    for number, result in enumerate(arms[law]):
        result.history["train_loss"] += 0.1 * number
    arms[law] = arms[law][::-1]
    below = batch_size_figures.stage_curves(arms, [law]).axes[1]
    mean = below.lines[0].get_ydata()
    band = below.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(mean, 0.1)
    np.testing.assert_allclose([band.min(), band.max()], [0.0, 0.2], atol=1e-12)


def test_a_noise_scale_that_is_missing_leaves_its_reason():
    axes = batch_size_figures.noise_scale_by_stage(noise_table(missing=True), 48_000).axes[0]
    assert written(axes) == ["missing: |G|² is not above 0", "N/10 = 4,800"]
    assert axes.texts[0].get_position()[0] == pytest.approx(8, abs=0.1)
    assert not written(batch_size_figures.noise_scale_by_stage(noise_table(), 48_000).axes[0])[:-1]


def test_equal_noise_ends_in_order_of_batch_size():
    runs = experiments.same_noise_runs(BOUNDS, LAPTOP)[::-1]
    results = [make_result(run, [1.0] * run.epochs) for run in runs]
    updates = experiments.same_updates_runs(BOUNDS, LAPTOP)
    figure = batch_size_figures.same_noise(results, [make_result(run, [1.0]) for run in updates])
    sizes = [label.split(", ε")[0] for label in legend(figure)[:7]]
    assert sizes == [f"B = {size:,}" for size in (16, 32, 64, 128, 256, 512, 1024)]


def test_arms_stand_under_their_epochs_and_one_that_failed_is_named_in_words():
    table, scores = score_table(
        {("a", 15): [0.90, 0.91], ("b", 8): [0.88, 0.89], ("control", 8): [0.1, 0.6]}
    )
    figure = batch_size_figures.generalisation(table, scores)
    long, _, short, gaps = figure.axes
    assert [axes.get_title(loc="left") for axes in (long, short)] == ["15 epochs", "8 epochs"]
    assert written(short) == ["relapsed in 2 of 2 seeds: 35.0 %"]
    assert long.get_xlim() == short.get_xlim() and short.get_xlim()[0] > 85
    assert len(gaps.patches) == 1
