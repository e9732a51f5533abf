"""The answers of 1.3 in words: batch size against learning rate, and the noise of the gradient.

Each sentence says what the data say, or that they cannot tell: no number in it is typed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hw3utils.problem1 import experiments, tables
from hw3utils.problem1.experiments import (
    BATCH_SIZES,
    CONTROL,
    EQUAL_EPOCHS,
    GROWING,
    QUARTER,
    REFERENCE_BATCH,
    ROOT,
    SHRINKING,
    STABLE_GROWING,
)
from hw3utils.training.intervals import Interval
from hw3utils.training.runs import FitResult

LAWS = (GROWING, SHRINKING, ROOT, QUARTER)  # the first is the null: another seed of the same law


def in_points(found: Interval) -> str:
    """Return a difference of fractions, times 100, with its interval where there is one."""
    text = f"{found.mean:+.2f} points".replace("-", "−")
    if np.isnan(found.low):
        return text
    return f"{text}, {found.low:+.2f} to {found.high:+.2f}".replace("-", "−")


@dataclass(frozen=True)
class BatchSizeAnswer:
    """What the runs of 1.3 say. Intervals are 95 %, over seeds; NaN or None with one seed."""

    # Mean absolute difference of the training losses, in nats, between the run with the growing
    # batch and the run with the shrinking rate, or the control, after the stage that all share.
    distance_mirror: float
    distance_control: float
    fallen: float  # how far the loss of the growing batch fell after that stage, in nats
    # Whether halving the rate lies nearer to the growing batch than both rival laws do: their
    # paired differences over seeds are above zero. False: a rival lies nearer. None: not told.
    alike: bool | None
    nearer_rival: str  # the rival that demonstrably lies nearer, if any
    control_collapsed: bool  # whether the control failed in any seed
    control_diverged: int  # seeds in which it diverged,
    control_relapsed: int  # and in which it lost what it had learned
    updates_growing: int  # weight updates
    updates_mirror: int
    # Test accuracy of the growing batch minus that of the cyclical schedule of as many epochs.
    accuracy_difference: float
    accuracy_low: float
    accuracy_high: float
    standard_error: float  # of that difference, paired over seeds
    # The same for the batch that grows from 64 on, where the learning rate was read off.
    stable_difference: float
    stable_low: float
    stable_high: float
    gap_growing: float  # accuracy on training images minus that on test images
    gap_cyclical: float
    seeds: int  # repetitions of each run
    laws: dict[str, Interval]  # distance of each law, in nats; of the null under the name "doubled"

    @property
    def text(self) -> str:
        """The answer in a few sentences, from the numbers."""
        return " ".join((self.law_text, self.control_text, self.accuracy_text))

    @property
    def law_text(self) -> str:
        """Whether doubling the batch acts like halving the rate."""
        updates = f"{self.updates_growing:,} updates against {self.updates_mirror:,}"
        halved, root, quarter = (self.laws[law] for law in ("halved", "√2", "quarter"))
        distances = (
            f"over the later stages their training losses differ by {nats(halved)}, against "
            f"{nats(root)} for a rate divided by √2 and {nats(quarter)} for one divided by 4"
        )
        if self.seeds == 1:
            return f"**With one seed it cannot be told**: {distances}, with {updates}."
        if self.alike:
            verdict = "**Of the laws tried, halving the rate acts most like doubling the batch**"
        elif self.nearer_rival:
            verdict = (
                f"**No: “{self.nearer_rival}” acts more like doubling the batch than halving**"
            )
        else:
            verdict = "**Which law acts most like doubling the batch cannot be told**"
        null = self.laws["doubled"]
        same = "; it is not the same curve" if halved.low > null.high else ""
        return (
            f"{verdict}: {distances} ({self.seeds} seeds, {updates}). Two seeds of the growing "
            f"batch differ by {nats(null)}{same}."
        )

    @property
    def control_text(self) -> str:
        """What became of the run in which nothing changed."""
        return (
            f"The control at batch size 32, in which neither changes, failed in "
            f"{self.control_diverged + self.control_relapsed} of {self.seeds} "
            f"{'seeds' if self.seeds > 1 else 'seed'} ({self.control_diverged} diverged, "
            f"{self.control_relapsed} lost what they had learned)."
        )

    @property
    def accuracy_text(self) -> str:
        """How the growing batch generalises beside the cyclical schedule."""
        found = Interval(self.accuracy_difference, self.accuracy_low, self.accuracy_high)
        stable = Interval(self.stable_difference, self.stable_low, self.stable_high)
        gaps = f"{100 * self.gap_growing:.1f} points against {100 * self.gap_cyclical:.1f}"
        gaps = gaps.replace("-", "−")
        return (
            f"On the test images, against the cyclical rate of as many epochs, the growing batch "
            f"{_verdict(found)} ({in_points(_hundredfold(found))}), and the one that grows from 64 "
            f"on {_verdict(stable)} ({in_points(_hundredfold(stable))}); train − test gap {gaps}."
        )


def _verdict(found: Interval) -> str:
    """Return what an interval of a difference says of the first arm."""
    return {1: "is more accurate", -1: "is less accurate", 0: "cannot be told apart"}[found.sign]


def _hundredfold(found: Interval) -> Interval:
    return Interval(*(100 * value for value in found))


def nats(found: Interval) -> str:
    """Return a loss with its interval where there is one."""
    text = f"{found.mean:.4f} nats"
    return text if np.isnan(found.low) else f"{text} ({found.low:.4f} to {found.high:.4f})"


def answer_batch_size(
    arms: Mapping[str, Sequence[FitResult]], scores: pd.DataFrame
) -> BatchSizeAnswer:
    """Compute the closing answer of 1.3 from the curves and the test scores.

    Parameters
    ----------
    arms : mapping of str to sequence of FitResult
        The runs of `experiments.batch_size_runs`, with the same seeds each.
    scores : DataFrame
        From `experiments.generalisation`, with these arms and `experiments.EQUAL_EPOCHS`.
    """
    seeds = len(arms[GROWING])
    distances = tables.law_distances(arms, (*LAWS, CONTROL))
    laws = tables.law_intervals(distances)
    signs = {
        law: tables.paired_difference(distances, "distance", law, SHRINKING, by="law").sign
        for law in (ROOT, QUARTER)
    }
    nearer = [law for law, sign in signs.items() if sign == -1]
    curve = np.mean([result.history["train_loss"] for result in arms[GROWING]], axis=0)
    shared = arms[GROWING][0].history["batch_size"].to_numpy() == BATCH_SIZES[0]
    accuracy, stable = (
        tables.paired_difference(scores, "test_accuracy", arm, EQUAL_EPOCHS)
        for arm in (GROWING, STABLE_GROWING)
    )
    paired = scores.pivot(index="seed", columns="arm", values="test_accuracy")
    gaps = scores.groupby("arm")["gap"].mean()
    diverged = sum(result.diverged for result in arms[CONTROL])
    relapsed = sum(map(experiments.relapsed, arms[CONTROL]))
    names = {"doubled": GROWING, "√2": ROOT, "halved": SHRINKING, "quarter": QUARTER}
    missing = Interval(np.nan, np.nan, np.nan)
    return BatchSizeAnswer(
        distance_mirror=laws[SHRINKING].mean,
        distance_control=laws[CONTROL].mean,
        fallen=float(curve[shared][-1] - curve[-1]),
        alike=False if nearer else True if all(signs.values()) else None,
        nearer_rival=nearer[0] if nearer else "",
        control_collapsed=diverged + relapsed > 0,
        control_diverged=diverged,
        control_relapsed=relapsed,
        updates_growing=int(arms[GROWING][0].history["updates"].sum()),
        updates_mirror=int(arms[SHRINKING][0].history["updates"].sum()),
        accuracy_difference=accuracy.mean,
        accuracy_low=accuracy.low,
        accuracy_high=accuracy.high,
        standard_error=float((paired[GROWING] - paired[EQUAL_EPOCHS]).sem()),
        stable_difference=stable.mean,
        stable_low=stable.low,
        stable_high=stable.high,
        gap_growing=float(gaps[GROWING]),
        gap_cyclical=float(gaps[EQUAL_EPOCHS]),
        seeds=seeds,
        laws={name: laws.get(law, missing) for name, law in names.items()},
    )


def noise_answer(noise: pd.DataFrame, num_images: int) -> str:
    """Return how the noise scale and the batch size compare, from `tables.stage_noise`."""
    growing = noise[(noise["arm"] == GROWING) & noise["simple"].notna()]
    missing = noise[noise["simple"].isna()]
    beyond = growing[growing["batch_size"] > growing["high"]]
    ends = growing.iloc[[0, -1]] if len(growing) else growing
    said = " and ".join(
        f"{row.simple:,.0f} images ({row.low:,.0f} to {row.high:,.0f}) after stage {row.stage}"
        for row in ends.itertuples()
    )
    text = f"**In the growing run the gradient noise scale is {said or 'nowhere to be had'}.**"
    if len(beyond):
        sizes = _sizes(beyond["batch_size"])
        text += f" The batch is larger than the whole interval at batch sizes {sizes}."
    elif len(growing):
        text += " No batch size lies above its stage's interval."
    text += f" N/10 is {num_images / 10:,.0f}."
    if len(missing):
        rows = (f"{row.arm}, stage {row.stage}: {row.reason}" for row in missing.itertuples())
        text += f" Missing: {'; '.join(rows)}."
    return text


def same_noise_answer(runs: Sequence[FitResult]) -> tuple[str, int | None]:
    """Return where the curves of one ε/B part, in words and as a batch size (None: nowhere told).

    They part at the smallest batch size above 64 from which on every one failed, or has a
    validation loss, averaged over the epochs, whose paired difference from that at 64 has an
    interval without zero.
    """
    curves = pd.DataFrame(
        {
            "batch_size": result.run.batch_sizes[0],
            "seed": result.run.seed,
            "loss": result.history["validation_loss"].mean(skipna=False),
            "failed": result.diverged or experiments.relapsed(result),
        }
        for result in runs
    )
    sizes = sorted(set(curves["batch_size"]) - {REFERENCE_BATCH})
    apart = {
        size: tables.paired_difference(curves, "loss", size, REFERENCE_BATCH, by="batch_size")
        for size in sizes
    }
    failed = set(curves[curves["failed"]]["batch_size"])
    differs = [size for size in sizes if size in failed or apart[size].sign]
    larger = [size for size in sizes if size > REFERENCE_BATCH]
    parted = next((size for size in larger if {*larger} - {*range(size)} <= {*differs}), None)
    by = "; ".join(f"{size:,}: {_change(apart[size])}" for size in larger if size not in failed)
    start = "**With one ε/B the curves"
    if curves["seed"].nunique() == 1:
        text = "**With one seed it cannot be told where curves of one ε/B part.**"
    elif parted is None:
        text = f"{start} do not all differ from that at batch size 64 from some size on.**"
    else:
        last = ", the largest tried" if parted == larger[-1] else " on"
        text = f"{start} part from batch size {parted:,}{last}.**"
    text += f" Validation loss, a mean over the epochs, minus that at 64, in nats: at {by}."
    others = [size for size in differs if size not in failed and (not parted or size < parted)]
    if others and len(set(curves["seed"])) > 1:
        text += f" Taken alone, the difference is told from zero at {_sizes(others)}, too."
    return text + (f" Runs failed at {_sizes(failed)}." if failed else ""), parted


def _change(found: Interval) -> str:
    """Return a difference of losses with its sign, and its interval where there is one."""
    reach = "" if np.isnan(found.low) else f" ({found.low:+.3f} to {found.high:+.3f})"
    return f"{found.mean:+.3f}{reach}".replace("-", "−")


def _sizes(batch_sizes: Iterable[int]) -> str:
    return ", ".join(f"{size:,}" for size in sorted(batch_sizes))


def same_updates_answer(runs: Sequence[FitResult]) -> str:
    """Return whether noise matters where the learning rates and the updates are the same."""
    table = tables.sweep_table(runs)
    sizes = sorted(set(table["batch_size"]))
    found = tables.paired_difference(table, "validation_loss", sizes[-1], sizes[0], by="batch_size")
    words = {1: "a higher", -1: "a lower", 0: "no demonstrably different"}[found.sign]
    return (
        f"With as many updates at the same rate, batch size {sizes[-1]} ends with {words} "
        f"validation loss than {sizes[0]}: {_change(found)} nats."
    )
