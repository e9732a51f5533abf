"""The answers of Problem 1 in words, computed from its tables, and what is saved for the report.

Each sentence says what the data say, or that they cannot tell: no number in it is typed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hw3utils.problem1 import tables
from hw3utils.problem1.batch_size_answers import BatchSizeAnswer, in_points, same_noise_answer
from hw3utils.problem1.experiments import (
    BOTH_BOUNDS,
    CONSTANT,
    CYCLICAL,
    EQUAL_EPOCHS,
    GROWING,
    LINEAR,
    ONE_CYCLE,
    ONE_CYCLE_MOMENTUM,
    SHRINKING,
    STABLE_CONTROL,
    STABLE_GROWING,
    TRAP,
)
from hw3utils.problem1.learning_rates import LRBounds, RangeTest, mean_curve, smith_bounds
from hw3utils.settings import Problem1
from hw3utils.training.intervals import Interval
from hw3utils.training.runs import FitResult

SCHEDULE_PAIRS = tuple(
    (CYCLICAL, other)
    for other in (BOTH_BOUNDS, TRAP, CONSTANT, ONE_CYCLE, ONE_CYCLE_MOMENTUM, LINEAR)
)
TEST_PAIRS = (
    *SCHEDULE_PAIRS,
    (SHRINKING, GROWING),
    (GROWING, EQUAL_EPOCHS),
    (STABLE_GROWING, EQUAL_EPOCHS),
    (STABLE_GROWING, STABLE_CONTROL),
)


def rates_answer(sweep: pd.DataFrame, bounds: LRBounds) -> str:
    """Return the answer of 1.1, from `tables.sweep_table` and the bounds read off it."""
    gathered = tables.by(sweep, "learning_rate")
    some = gathered[gathered["failed"] > 0]["learning_rate"]
    every = gathered[gathered["failed"] == 1]["learning_rate"]
    text = f"**lr_min = {bounds.lr_min:.2g} and lr_max = {bounds.lr_max:.2g}.**"
    if np.isclose(bounds.lr_max, 4 * bounds.lr_min):
        text += " Only lr_max comes nine tenths of the way down; lr_min is a quarter of it."
    else:
        text += " lr_max is the largest of these rates that comes nine tenths of the way down."
    if some.empty:
        return f"{text} No run failed."
    text += f" The lowest of these rates at which a run failed is {some.min():.2g}"
    if len(every):
        lowest = every.min()
        text += (
            ", and there every run did"
            if lowest == some.min()
            else f"; the lowest at which all did is {lowest:.2g}"
        )
    return f"{text}."


def finer_answer(sweep: pd.DataFrame, bounds: LRBounds) -> str:
    """Return what a finer grid says of the bounds, from `tables.sweep_table` of all rates."""
    gathered = tables.by(sweep, "learning_rate")
    alive = gathered[gathered["failed"] == 0]
    best = alive.loc[alive["train_loss"].idxmin(), "learning_rate"]
    inside = "between" if bounds.lr_min <= best <= bounds.lr_max else "not between"
    text = (
        f"Of the {len(gathered)} rates in the picture, the one with the lowest mean loss is "
        f"{best:.2g}, {inside} lr_min and lr_max."
    )
    failed = gathered[gathered["failed"] > 0]["learning_rate"]
    if failed.empty:
        return text
    sure = gathered[gathered["learning_rate"] < failed.min()]["learning_rate"].max()
    return (
        f"{text} The cliff begins between {sure:.2g}, the largest of them up to which nothing "
        f"failed, and {failed.min():.2g}."
    )


def rules_answer(rules: pd.DataFrame) -> str:
    """Return what training with the range test's suggestions showed, from `tables.rule_table`."""
    alive = rules[rules["failed"] == 0]
    lost = [f"{row.rule} ({row.rate:.2g})" for row in rules[rules["failed"] > 0].itertuples()]
    warning = f" At least one seed failed with: {', '.join(lost)}." if lost else ""
    if alive.empty:
        return f"**None of the rules suggests a rate with which every seed learns.**{warning}"
    best = alive.loc[alive["validation_accuracy"].idxmax()]
    text = (
        f"**Of the rules' rates, {best['rate']:.2g} (“{best['rule']}”) has the highest mean "
        f"validation accuracy**, {100 * best['validation_accuracy']:.1f} %"
    )
    others = alive.drop(index=best.name).sort_values("validation_accuracy", ascending=False)
    if others.empty:
        return f"{text}.{warning}"
    second = others.iloc[0]
    return (
        f"{text}, ahead of {second['rate']:.2g} (“{second['rule']}”) with "
        f"{100 * second['validation_accuracy']:.1f} %.{warning}"
    )


def schedule_answer(validated: pd.DataFrame) -> str:
    """Return the answer of 1.2, from `tables.final_validation` of its arms."""
    means = validated.groupby("arm", sort=False)["validation_accuracy"].mean()
    best = f"the best arm, “{means.idxmax()}”, at {100 * means.max():.2f} %"
    if means.idxmax() == CYCLICAL:
        best = f"the highest mean of the {len(means)} arms"
    text = (
        f"**The cyclical rate ends at {100 * means[CYCLICAL]:.2f} % on validation images**, {best}."
    )
    seeds = validated["seed"].nunique()
    if seeds == 1:
        return f"{text} With one seed, which of them is better cannot be told."
    found = tables.differences(validated, "validation_accuracy", SCHEDULE_PAIRS)
    better, worse = found["low"] > 0, found["high"] < 0
    verdicts = {
        "It beats": better, "It loses to": worse, "It cannot be told from": ~(better | worse)
    }  # fmt: skip
    said = [f"{words}: {_listed(found[told])}." for words, told in verdicts.items() if told.any()]
    strict = 1 - 0.05 / len(SCHEDULE_PAIRS)
    strict_found = tables.differences(validated, "validation_accuracy", SCHEDULE_PAIRS, strict)
    sure = strict_found[(strict_found["low"] > 0) | (strict_found["high"] < 0)]["second"]
    names = ", ".join(f"“{name}”" for name in sure) or "none"
    return (
        f"{text} Paired over {seeds} seeds, with 95 % intervals: {' '.join(said)} Allowing for "
        f"{len(SCHEDULE_PAIRS)} comparisons (Bonferroni: wider intervals, which hold together with "
        f"95 %), it still differs from: {names}. {_expected(strict_found)}"
    )


def _expected(found: pd.DataFrame) -> str:
    """Say whether visiting high rates and ending low beats a constant rate, as 1.2 expects."""
    constant = found.set_index("second").loc[CONSTANT]
    if constant["low"] > 0:
        return "As expected, it beats the best constant rate tried."
    if constant["high"] < 0:
        return "It was expected to beat the best constant rate tried; it loses to it."
    return "It was expected to beat the best constant rate tried; these seeds cannot tell."


def cycle_answer(results: Sequence[FitResult]) -> str:
    """Return how the training loss changes in epochs in which the rate falls, and in others.

    From the epoch before, mean over seeds, without the first change, which any rate would make.
    """
    changes = []
    for result in results:
        epochs = np.split(result.learning_rates.numpy(), result.history["updates"].cumsum()[:-1])
        falling = [bool(rates[-1] < rates[0]) for rates in epochs]
        change = result.history["train_loss"].diff()
        changes.append(pd.DataFrame({"falling": falling, "change": change}).iloc[2:].dropna())
    means = pd.concat(changes).groupby("falling")["change"].mean()
    if len(means) < 2:
        return "Too few epochs to tell what the loss does while the rate rises and falls."
    told = {way: f"{means[way]:+.3f}".replace("-", "−") for way in (True, False)}
    faster = "faster" if means[True] < min(means[False], 0) else "no faster"
    return (
        f"**The training loss falls {faster} while the rate comes down**: against the epoch before "
        f"it changes by {told[True]} nats in epochs in which the rate falls, and by {told[False]} "
        f"in the others (from the third epoch on: any rate would have made the first change)."
    )


def _listed(rows: pd.DataFrame) -> str:
    """Return the second arms of `tables.differences` with their differences and intervals."""
    return "; ".join(
        f"“{row.second}” ({in_points(Interval(row.mean, row.low, row.high))})"
        for row in rows.itertuples()
    )


def record(
    settings: Problem1,
    bounds: LRBounds,
    sweep: pd.DataFrame,
    tests: Sequence[RangeTest],
    rules: pd.DataFrame,
    arms: Mapping[str, Sequence[FitResult]],
    scores: pd.DataFrame,
    noise: pd.DataFrame,
    same_noise: Sequence[FitResult],
    answer: BatchSizeAnswer,
) -> dict[str, object]:
    """Return everything that Problem 1 found, ready for `files.save_json`.

    ``noise_scale`` is the one after the first stage; ``differences`` are those of test accuracies
    in points; ``seconds`` is the training time of the arms of 1.2 and 1.3a to 1.3c, each on one
    core, added up: not the time that a reader waits.
    """
    columns = ["validation_accuracy", "test_accuracy", "test_sd", "gap"]
    noise = noise.assign(stage="after stage " + noise["stage"].astype(str))
    noise = noise.rename(columns={"simple": "value"}).drop(columns="seeds").set_index("stage")
    scales = {
        arm: noise[noise["arm"] == arm].drop(columns="arm").to_dict("index")
        for arm in (GROWING, SHRINKING)
    }
    text, parted = same_noise_answer(same_noise)
    of_schedules = scores["arm"].isin([CYCLICAL, *(second for _, second in SCHEDULE_PAIRS)])
    return {
        "profile": settings.profile,
        "settings": dataclasses.asdict(settings),
        "lr_min": bounds.lr_min,
        "lr_max": bounds.lr_max,
        "rates_answer": rates_answer(sweep, bounds),
        "schedule_answer": schedule_answer(scores[of_schedules]),
        "range_test": smith_bounds(*mean_curve(tests))._asdict()
        | {"rules": rules.set_index("rule").to_dict("index")},
        **tables.summary(scores)[columns].to_dict(),
        "differences": tables.differences(scores, "test_accuracy", TEST_PAIRS).to_dict("records"),
        "laws": {name: found._asdict() for name, found in answer.laws.items()},
        "noise_scale": scales[GROWING]["after stage 1"]["value"],
        "noise_scales": scales[GROWING],
        "noise_scales_halved": scales[SHRINKING],
        "same_noise": {"parted_at": parted, "text": text},
        "batch_size_answer": dataclasses.asdict(answer) | {"text": answer.text},
        "seconds": sum(result.seconds for found in arms.values() for result in found),
    }


def report_rows(found: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    """Return question, points, answer and the start of its heading: the report's first page."""
    batches = found["batch_size_answer"]["text"]
    return [
        ("1.1", 5, f"lr_min = {found['lr_min']:.2g}, lr_max = {found['lr_max']:.2g}.", "1.1"),
        ("1.2", 5, f"{found['schedule_answer'].replace('**', '')} On the test images: "
         f"{100 * found['test_accuracy'][CYCLICAL]:.2f} %.", "1.2"),
        ("1.3", 10, " ".join(batches.replace("\n- ", " ").split()), "1.3"),
    ]  # fmt: skip
