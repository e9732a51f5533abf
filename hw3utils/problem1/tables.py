"""Tables of Problem 1, made from finished runs, range tests and measurements of the noise."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hw3utils.problem1.experiments import BATCH_SIZES, GROWING
from hw3utils.problem1.learning_rates import RULES, RangeTest, mean_curve
from hw3utils.training.intervals import mean_interval, paired_difference
from hw3utils.training.runs import FitResult

SCORES = ("train_loss", "validation_loss", "validation_accuracy")


def sweep_table(results: Sequence[FitResult]) -> pd.DataFrame:
    """Return one row for each run with a constant rate: its settings and its last epoch's scores.

    The scores of a run that diverged are NaN.
    ``failed`` says that it diverged, or (``collapsed``) did not: its rate is above the one with the
    lowest loss, but its loss made less than half of that one's way down from guessing.
    """
    table = pd.DataFrame(
        {
            "learning_rate": result.run.schedule.lr,
            "batch_size": result.run.batch_sizes[0],
            "seed": result.run.seed,
            **result.final[list(SCORES)],
            "diverged": result.diverged,
        }
        for result in results
    )
    table.loc[table["diverged"], list(SCORES)] = np.nan
    means = table.groupby("learning_rate")["train_loss"].mean()
    best = means.idxmin() if means.notna().any() else np.inf  # all diverged: none has collapsed
    half_way = (np.log(10) + means.min()) / 2
    above = table["learning_rate"] > best
    table["collapsed"] = above & (table["train_loss"] > half_way) & ~table["diverged"]
    table["failed"] = table["diverged"] | table["collapsed"]
    return table


def by(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a `sweep_table` gathered over seeds: a row for each value of ``column``.

    The mean scores of the seeds that did not diverge, the number of ``seeds``, and the shares of
    them that ``diverged``, ``collapsed`` and ``failed``.
    """
    groups = table.groupby(column)
    shares = ["diverged", "collapsed", "failed"]
    gathered = pd.concat([groups[list(SCORES)].mean(), groups[shares].mean()], axis=1)
    gathered.insert(0, "seeds", groups.size())
    return gathered.reset_index()


def rule_rates(tests: Sequence[RangeTest]) -> dict[str, float]:
    """Return the rate that each rule reads off the mean curve of several range tests."""
    rates, losses = mean_curve(tests)
    return {name: rule(rates, losses) for name, rule in RULES.items()}


def rule_table(tests: Sequence[RangeTest], results: Sequence[FitResult]) -> pd.DataFrame:
    """Return what each rule of the range test suggests, and what training with it came to.

    A row for each ``rule``: its ``rate``, the ``lowest`` and ``highest`` that it reads off a single
    seed's test, mean ``validation_accuracy`` after training, and the share of seeds that
    ``failed``. ``results`` are the runs of `experiments.rule_runs`.
    """
    trained = by(sweep_table(results), "learning_rate").set_index("learning_rate")
    rows = []
    for name, rate in rule_rates(tests).items():
        single = [RULES[name](test.learning_rates, test.smoothed) for test in tests]
        row = {"rule": name, "rate": rate, "lowest": min(single), "highest": max(single)}
        rows.append(row | trained.loc[rate, ["validation_accuracy", "failed"]].to_dict())
    return pd.DataFrame(rows)


def stage_scores(results: Sequence[FitResult]) -> pd.DataFrame:
    """Return loss and accuracy in each stage's last epoch, for each batch size and seed."""
    histories = [result.history.assign(seed=result.run.seed) for result in results]
    last = pd.concat(histories).groupby(["batch_size", "seed"], as_index=False).last()
    return last[["batch_size", "seed", *SCORES]]


def final_validation(arms: Mapping[str, Sequence[FitResult]]) -> pd.DataFrame:
    """Return each arm's validation accuracy after the last epoch: ``arm``, ``seed``, the score."""
    return pd.DataFrame(
        {
            "arm": arm,
            "seed": result.run.seed,
            "validation_accuracy": result.final["validation_accuracy"],
        }
        for arm, results in arms.items()
        for result in results
    )


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each arm's scores over its seeds, and the test accuracy's spread.

    ``test_sd`` is the standard deviation over seeds, NaN where there is only one. ``diverged`` and
    ``relapsed`` count seeds; scores that are NaN are left out of the means.
    """
    grouped = scores.groupby("arm", sort=False)
    columns = ["validation_accuracy", "test_accuracy", "train_accuracy", "gap", "seconds"]
    table = grouped[columns].mean()
    table.insert(2, "test_sd", grouped["test_accuracy"].std())
    table.insert(0, "epochs", grouped["epochs"].first())
    table.insert(1, "seeds", grouped.size())
    table.insert(2, "diverged", grouped["diverged"].sum())
    table.insert(3, "relapsed", grouped["relapsed"].sum())
    return table


def differences(
    scores: pd.DataFrame, column: str, pairs: Sequence[tuple[str, str]], level: float = 0.95
) -> pd.DataFrame:
    """Return `paired_difference` of fractions for pairs of arms, in percentage points.

    A row for each pair: ``first``, ``second``, ``mean``, ``low``, ``high`` (the interval over
    seeds) and the number of ``seeds``.
    """
    rows = []
    for first, second in pairs:
        found = paired_difference(scores, column, first, second, level=level)
        seeds = (scores["arm"] == first).sum()
        rows.append((first, second, *(100 * value for value in found), seeds))
    return pd.DataFrame(rows, columns=["first", "second", "mean", "low", "high", "seeds"])


def law_distances(arms: Mapping[str, Sequence[FitResult]], laws: Sequence[str]) -> pd.DataFrame:
    """Return how far the training curve of each law lies from that of the growing batch.

    The mean absolute difference of the losses in nats, over the epochs after the stage that all
    share: a row for each ``law`` and ``seed`` with its ``distance`` to the run of the same seed.
    """
    return pd.DataFrame(
        {"law": law, "seed": growing.run.seed, "distance": _distance(result, growing)}
        for law in laws
        for result, growing in zip(arms[law], arms[GROWING], strict=True)
    )


def seed_distances(growing: Sequence[FitResult]) -> list[float]:
    """Return the same distance between every two seeds of the growing batch: a measure of size."""
    return [_distance(one, other) for one, other in itertools.combinations(growing, 2)]


def _distance(result: FitResult, growing: FitResult) -> float:
    later = growing.history["batch_size"] > BATCH_SIZES[0]
    apart = (result.history["train_loss"] - growing.history["train_loss"]).abs()
    return float(apart[later].mean())


def stage_noise(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the gradient noise scale of each arm and stage, gathered over seeds.

    A row for each ``arm``, ``stage`` and its ``batch_size``: the geometric mean ``simple``, its
    95 % interval ``low`` to ``high`` (over seeds; with one seed that of the measurement itself),
    the number of ``seeds`` measured, and of those ``missing`` with the ``reason``. Nothing is
    averaged over fewer seeds than there are: one that is missing makes the mean missing.
    """
    keys = ["arm", "stage", "batch_size"]
    rows = []
    for key, group in measured.groupby(keys, sort=False):
        simple, low, high = np.exp(mean_interval(np.log(group["simple"].to_numpy(dtype=float))))
        missing = group["simple"].isna().sum()
        if len(group) == 1 and not missing:
            low, high = group[["low", "high"]].iloc[0]
        reason = next((text for text in group["reason"] if text), "")
        rows.append((*key, simple, low, high, len(group), missing, reason))
    return pd.DataFrame(
        rows, columns=[*keys, "simple", "low", "high", "seeds", "missing", "reason"]
    )
