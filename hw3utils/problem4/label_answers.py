"""What the results of 4.2 say, label noise and resampling, in sentences that are computed."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hw3utils.problem4 import comparisons
from hw3utils.problem4.comparisons import difference
from hw3utils.problem4.experiments import LONGER, NOISE_RATES, ONE_WRONG, RANDOM, ZIPF
from hw3utils.problem4.labels import RESAMPLING_RULES
from hw3utils.problem4.wording import diverged, in_points, mean, verdict
from hw3utils.training.intervals import Interval


def noise_answer(found: pd.DataFrame, noise: pd.DataFrame, controls: pd.DataFrame) -> str:
    """Return what label noise costs, from `comparisons.noise` and the tables behind it."""
    judges = {
        comparisons.LINEAR: ("linear_accuracy", "A linear classifier on the frozen features"),
        comparisons.OWN: ("own_accuracy", "The network's own last layer"),
    }
    lines = []
    for judge, (column, name) in judges.items():
        costs = {
            rate: difference(found, judge, comparisons.noisy(rate), comparisons.noisy(0))
            for rate in NOISE_RATES[1:]
        }
        told = _noise_told(costs, _seeds_that_all_lose(noise, column))
        said = ", ".join(f"{rate:.0%} noise {in_points(cost)}" for rate, cost in costs.items())
        level = mean(noise[noise["noise"] == 0.0], column)
        lines.append(f"**{name} {told}**: against {level} without noise, {said} points.")
    longer = difference(found, comparisons.LOSS, LONGER, comparisons.USUAL)
    told = verdict(
        longer, "25% noise costs the features more", "25% noise costs the features less",
        "it cannot be told whether 25% noise costs the features more or less",
    )  # fmt: skip
    lines.append(f"Trained for longer, {told}: the cost changes by {in_points(longer)} points.")
    kinds = comparisons.noisy(0.5, ONE_WRONG), comparisons.noisy(0.5)
    own, features = (
        difference(found, judge, *kinds) for judge in (comparisons.OWN, comparisons.LINEAR)
    )
    many = noise[noise["noise"] == 0.5]
    one = controls[(controls["control"] == ONE_WRONG) & (controls["noise"] == 0.5)]
    lines.append(
        f"The kind of noise: where all wrong labels of a class name the same other class, 50% "
        f"noise leaves the own last layer {mean(one, 'own_accuracy')} instead of "
        f"{mean(many, 'own_accuracy')}, {in_points(own)} points; for the features the difference "
        f"is {in_points(features)}."
    )
    trained = noise[noise["noise"] != RANDOM].astype({"noise": float})
    return "\n".join(lines) + diverged(trained, "noise", "{:.0%} noise")


def _noise_told(costs: Mapping[float, Interval], seeds_that_lose: int) -> str:
    """Say what 25 % noise does to an accuracy, and where else it loses."""
    told = verdict(
        costs[0.25], "gains accuracy at 25% noise", "loses accuracy at 25% noise",
        "shows no clear effect of 25% noise",
    )  # fmt: skip
    lost = [f"{rate:.0%}" for rate, cost in costs.items() if cost.sign == -1]
    if lost[:2] == ["10%", "25%"]:
        return f"{told}, and already at 10%"
    if costs[0.25].sign == 0 and seeds_that_lose:
        but = f"each of {seeds_that_lose} seeds loses, but the interval holds zero"
        if lost:
            return f"loses accuracy at {' and '.join(lost)} noise; at 25% {but}"
        return f"{told}: {but}"
    if costs[0.25].sign == 0 and lost:
        return f"{told}, though it loses at {' and '.join(lost)}"
    return told


def _seeds_that_all_lose(noise: pd.DataFrame, column: str) -> int:
    """Return the number of seeds where each loses at 25 % noise; else, or with but one, 0."""
    wide = noise[noise["noise"].isin((0.0, 0.25))].pivot(
        index="seed", columns="noise", values=column
    )
    return len(wide) if len(wide) > 1 and (wide[0.25] < wide[0.0]).all() else 0


def resampling_answer(found: pd.DataFrame, table: pd.DataFrame) -> str:
    """Return what resampling wins over natural sampling, from `comparisons.resampling`."""
    before, after = comparisons.BEFORE, comparisons.AFTER
    measures = {
        f"All classes (exponent {table['exponent'].iloc[0]:g})": comparisons.transfer(after, "all"),
        "Before the transfer, classes of the tail": comparisons.transfer(before, "tail"),
        "Before the transfer, classes of the head": comparisons.transfer(before, "head"),
        f"After the transfer, with Zipf's exponent, {ZIPF:g}": comparisons.transfer(
            after, "all", ZIPF
        ),
    }
    rules = list(RESAMPLING_RULES)[1:]
    lines = []
    for said, measure in measures.items():
        gains = [in_points(difference(found, measure, rule, "natural")) for rule in rules]
        parts = [f"{rule} {gain}" for rule, gain in zip(rules, gains, strict=True)]
        lines.append(f"{said}: {', '.join(parts)} points against natural sampling.")
    judged = comparisons.transfer(after, "all")
    won = [rule for rule in rules if difference(found, judged, rule, "natural").sign == 1]
    told = f"{' and '.join(won)} sampling shows" if won else "neither rule shows"
    lines[0] = f"**After the transfer {told} a clear gain.** {lines[0]}"
    lines += _seeds_beside_rules(table)
    return "\n".join(lines) + diverged(table, "rule")


def _seeds_beside_rules(table: pd.DataFrame) -> list[str]:
    """Return a line on how far rules and seeds differ; none where a spread is not known."""
    said = []
    for when, column in (("before", "own_accuracy"), ("after", "linear_accuracy")):
        of_rules = table[table["band"] == "all"].groupby("rule")[column].agg(["mean", "std"])
        if of_rules.isna().any(axis=None):
            return []
        apart, spread = 100 * np.ptp(of_rules["mean"]), 100 * of_rules["std"]
        said.append(
            f"{when} the transfer the rules' means lie up to {apart:.1f} points apart, and the "
            f"seeds' standard deviation is {spread.min():.1f} to {spread.max():.1f}"
        )
    return [f"Seeds beside rules, all classes: {'; '.join(said)}."]
