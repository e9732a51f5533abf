"""What Problem 3 says of learning rates: which is best, how surely, and whether as expected."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hw3utils.problem3 import tables
from hw3utils.problem3.curve_answers import OUTCOMES, WORDS
from hw3utils.problem3.experiments import LAST_LAYER, Arm, Size
from hw3utils.problem3.finetuning import Finetuned
from hw3utils.training.intervals import Interval, paired_difference


def rate_gap(scores: pd.DataFrame, size: Size, first: float, second: float) -> Interval:
    """Return by how many points of validation accuracy one learning rate is better than another.

    ``scores`` is `tables.head_scores`; paired by seed, 95 %.
    """
    at_size = scores[(scores["images"] == size.images) & (scores["epochs"] == size.epochs)]
    apart = paired_difference(at_size, "validation", first, second, by="learning_rate")
    return Interval(*(100 * value for value in apart))


def lead_words(scores: pd.DataFrame, size: Size) -> str:
    """Say how far the last layer's best learning rate is ahead of each other, and how surely.

    ``scores`` is `tables.head_scores`.
    """
    best = tables.best_row(tables.summary(scores), LAST_LAYER, *size)["learning_rate"]
    at_size = scores[(scores["images"] == size.images) & (scores["epochs"] == size.epochs)]
    others = [rate for rate in at_size["learning_rate"].unique() if rate != best]
    gaps = {rate: rate_gap(scores, size, best, rate) for rate in others}
    reach = {
        rate: " (one seed)" if np.isnan(gap.low) else f" ({gap.low:+.1f} to {gap.high:+.1f})"
        for rate, gap in gaps.items()
    }
    each = "; ".join(
        f"{rate:g}: {gap.mean:+.1f}{reach[rate]}, {WORDS[gap.sign]}" for rate, gap in gaps.items()
    )
    return f"Validation accuracy at {best:g} minus that at another rate, in points: {each}."


def rate_trend(scores: pd.DataFrame, epochs: int) -> str:
    """Say how the last layer's best learning rate changes with the number of images.

    ``scores`` is `tables.head_scores`; those trained for ``epochs`` count. A change counts where
    each of its two rates is told to be better than the other with its own number of images.
    """
    heads = tables.summary(scores)
    numbers = sorted(heads["images"].unique())
    best = {n: tables.best_row(heads, LAST_LAYER, n, epochs)["learning_rate"] for n in numbers}
    changes = [(n, m) for n, m in itertools.pairwise(numbers) if best[n] != best[m]]
    told = all(
        rate_gap(scores, Size(here, epochs), best[here], best[there]).sign == 1
        for n, m in changes
        for here, there in ((n, m), (m, n))
    )
    if not changes:
        trend = "is the same for all of them"
    elif not told:
        trend = "changes only between rates that cannot be told apart: undecided"
    elif all(best[n] < best[m] for n, m in changes):
        trend = "never falls as images are added: as expected"
    elif all(best[n] > best[m] for n, m in changes):
        trend = "never rises as images are added: not what we expected"
    else:
        trend = "shows no clear trend"
    each = ", ".join(f"{rate:g} with {n:,}" for n, rate in best.items())
    return f"The rate best on validation images is {each} images: it {trend}."


def best_rates_words(tuned: pd.DataFrame, last: pd.Series, n_validation: int) -> str:
    """Say which rate is best for finetuning, how surely, and whether it is as expected.

    ``tuned`` holds finetuning's rows of `tables.summary` at one size, ``last`` is the last layer's
    `tables.best_row`; expected are 0.01 for finetuning, and a larger rate for the last layer.
    """
    order = tuned.sort_values(["diverged", "validation"], ascending=[True, False])
    best, second = order.iloc[0], order.iloc[1]
    ahead = round((best["validation"] - second["validation"]) * n_validation)
    # Two standard errors of the difference, as if the networks' mistakes were independent.
    chance = 2 * np.sqrt(2 * n_validation * best["validation"] * (1 - best["validation"]))
    outcome = OUTCOMES[best["learning_rate"] == 0.01] if ahead > chance else "undecided"
    lowest = best["learning_rate"] == order["learning_rate"].min()
    at_edge = " It is the lowest that was tried." if lowest else ""
    larger = last["learning_rate"] > best["learning_rate"]
    compared = OUTCOMES[larger] if ahead > chance else "undecided"
    return (
        f"Best on validation images: learning rate {best['learning_rate']:g}{mark(best)}, "
        f"ahead of {second['learning_rate']:g} by {ahead} of {n_validation:,} images "
        f"(expected was 0.01; below {chance:.0f} images chance may decide): {outcome}.{at_edge}"
        f"\nThe last layer's best rate is "
        f"{last['learning_rate']:g}, {'' if larger else 'not '}larger: {compared}."
    )


def flatness(results: Mapping[Arm, Finetuned]) -> str:
    """Say how far validation accuracy still moved in the last quarter of runs, after the last drop.

    Per arm the mean of the last half of that quarter minus the mean of its first half.
    """
    parts = []
    for arm, result in results.items():
        if arm.seed:
            continue
        scores = 100 * result.history["validation_accuracy"].tail(max(2, arm.epochs // 4))
        half = len(scores) // 2
        change = scores[half:].mean() - scores[:half].mean()
        parts.append(f"{arm.learning_rate:g}: {change:+.1f} points")
    return f"Change of validation accuracy within the last quarter of the run: {'; '.join(parts)}."


def rate_scores(table: pd.DataFrame) -> dict[str, str]:
    """Return the test accuracy of each learning rate in words: best epoch, then the last one."""
    return {
        f"{row['learning_rate']:g}": f"{row['test']:.1%} in the best epoch, "
        f"{row['final_test']:.1%} in the last{mark(row)}"
        for row in table.to_dict("records")
    }


def mark(score: Mapping[str, Any] | pd.Series) -> str:
    """Return what stands behind the score of a run that diverged."""
    return " (diverged)" if score["diverged"] else ""
