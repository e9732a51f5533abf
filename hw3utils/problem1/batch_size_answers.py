"""The answers of 1.3 in words: batch size against learning rate, and the noise of the gradient.

Each sentence says what the data say, or that they cannot tell: no number in it is typed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hw3utils.problem1 import experiments, tables
from hw3utils.problem1.experiments import (
    CONTROL,
    EQUAL_EPOCHS,
    GROWING,
    QUARTER,
    REFERENCE_BATCH,
    ROOT,
    SHRINKING,
    STABLE_CONTROL,
    STABLE_GROWING,
)
from hw3utils.training.intervals import Interval, mean_interval, paired_difference
from hw3utils.training.runs import FitResult

LAWS = (SHRINKING, ROOT, QUARTER)


def in_points(found: Interval) -> str:
    """Return a difference of fractions, times 100, with its interval where there is one."""
    reach = "" if np.isnan(found.low) else f", {found.low:+.2f} to {found.high:+.2f}"
    return f"{found.mean:+.2f} points{reach}".replace("-", "−")


@dataclass(frozen=True)
class BatchSizeAnswer:
    """What the runs of 1.3 say. Intervals are 95 %, over seeds; NaN or None with one seed."""

    # Whether halving the rate lies nearer to the growing batch than both rival laws do: their
    # paired differences over seeds are above zero. False: a rival lies nearer. None: not told.
    alike: bool | None
    rivals: dict[str, Interval]  # distance of each rival minus that of halving, paired, in nats
    control_diverged: int  # seeds in which the control at batch size 32 diverged,
    control_relapsed: int  # in which its loss ended 1.5 times as high as at its best
    control_accuracy: tuple[float, float]  # the lowest and the highest test accuracy of a seed
    quieter_failed: int  # seeds of (a), (b) and the control at batch size 64 that failed likewise
    updates_growing: int  # weight updates
    updates_mirror: int
    mirror_difference: Interval  # test accuracy of halving the rate minus the growing batch's
    # Test accuracy of the growing batch minus that of the cyclical schedule of as many epochs.
    accuracy_difference: float
    accuracy_low: float
    accuracy_high: float
    # The same for the batch that grows from 64 on, where the learning rate was read off.
    stable_difference: float
    stable_low: float
    stable_high: float
    stable_validation: Interval  # that difference on validation images
    gap_growing: float  # accuracy on training images minus that on test images
    gap_cyclical: float
    gap_difference: Interval
    train_difference: Interval  # of the accuracies on training images
    seeds: int  # repetitions of each run
    # Distance of each law, in nats. Under "doubled": that between two seeds of the growing batch,
    # with the lowest and the highest of all pairs.
    laws: dict[str, Interval]

    @property
    def text(self) -> str:
        """The answer: both verdicts, and a list of what they rest on."""
        details = (self.law_text, self.control_text, self.accuracy_text)
        return "\n".join([f"**{self.verdict}**", "", *(f"- {detail}" for detail in details)])

    @property
    def verdict(self) -> str:
        """The answer to both halves of the question."""
        nearer = [law for law, found in self.rivals.items() if found.sign == -1]
        if self.seeds == 1:
            law = "With one seed it cannot be told which law acts most like doubling the batch"
        elif self.alike:
            law = "Of the laws tried, halving the rate acts most like doubling the batch"
        elif nearer:
            law = f"Halving is not what acts most like doubling the batch: “{nearer[0]}” is nearer"
        else:
            law = "Which law acts most like doubling the batch cannot be told"
        found = _verdict(Interval(self.accuracy_difference, self.accuracy_low, self.accuracy_high))
        stable = _verdict(Interval(self.stable_difference, self.stable_low, self.stable_high))
        accuracy = (
            f"the growing batch, from 32 or from 64 on, {found} the cyclical rate"
            if found == stable
            else f"the growing batch {found} the cyclical rate, the one that grows from 64 on "
            f"{stable} it"
        )
        return f"{law}; on test images {accuracy}."

    @property
    def law_text(self) -> str:
        """How near the laws come to doubling the batch."""
        halved, root, quarter = (self.laws[law] for law in ("halved", "√2", "quarter"))
        text = (
            f"*The laws.* After the stage that all share, the training losses differ from the "
            f"growing batch's by {nats(halved)} where the rate is halved, {nats(root)} where it is "
            f"divided by √2 and {nats(quarter)} where it is divided by 4. Halving makes "
            f"{self.updates_mirror:,} updates, the growing batch {self.updates_growing:,}"
        )
        if self.seeds == 1:
            return f"{text} (one seed)."
        farther = " and ".join(nats(found, "+") for found in self.rivals.values())
        null = self.laws["doubled"]
        return (
            f"{text} ({self.seeds} seeds). Paired by seed, the two rivals lie {farther} farther "
            f"away. (Growing batches of two seeds lie {null.mean:.3f} nats apart, {null.low:.3f} "
            f"to {null.high:.3f}. That only shows how much a seed does: each law is compared with "
            f"the growing batch of its own seed.) On test images halving minus doubling is "
            f"{_difference(self.mirror_difference)}."
        )

    @property
    def control_text(self) -> str:
        """What became of the run in which nothing changed."""
        low, high = (f"{100 * accuracy:.0f}" for accuracy in self.control_accuracy)
        start = "*The control* at batch size 32, in which neither changes"
        if self.seeds == 1:
            ended = f"ended with a test accuracy of {low} % (one seed)"
            return f"{start}, {'diverged' if self.control_diverged else ended}."
        text = (
            f"{start}: of the {self.seeds} runs {self.control_diverged} diverged, and in "
            f"{self.control_relapsed} the loss ended more than 1.5 times as high as at its best "
            f"(test accuracies {low} to {high} %)."
        )
        if not self.control_diverged + self.control_relapsed:
            return text
        if self.quieter_failed:
            return (
                f"{text} But so did {self.quieter_failed} of the {3 * self.seeds} runs with less "
                f"noise: (a), (b) and the control at batch size 64."
            )
        return (
            f"{text} None of the runs with less noise did: neither (a), which kept the rate, nor "
            f"(b), nor the control at batch size 64, in which nothing changes either. So the rate "
            f"alone is not what fails."
        )

    @property
    def accuracy_text(self) -> str:
        """How the growing batch generalises beside the cyclical schedule."""
        found = Interval(self.accuracy_difference, self.accuracy_low, self.accuracy_high)
        stable = Interval(self.stable_difference, self.stable_low, self.stable_high)
        unsure = ""
        if stable.sign != self.stable_validation.sign:
            unsure = f", on validation images {_difference(self.stable_validation)}: not certain"
        also = "also " if found.sign == self.train_difference.sign else ""
        learned = {
            -1: f"it {also}does worse on training images",
            0: "on training images no difference can be told",
            1: f"it {also}does better on training images",
        }
        return (
            f"*Generalisation.* Accuracy on test images minus that of the cyclical rate of as many "
            f"epochs: the growing batch {_difference(found)}; the one that grows from 64 on "
            f"{_difference(stable)}{unsure}. The growing batch's train − test gap is "
            f"{100 * self.gap_growing:.1f} points against {100 * self.gap_cyclical:.1f} "
            f"(difference {_points(self.gap_difference)}); "
            f"{learned[self.train_difference.sign]} ({_points(self.train_difference)})."
        ).replace("-", "−")


def _verdict(found: Interval) -> str:
    """Return what an interval of a difference says of the first arm, before the second one."""
    return {
        1: "is more accurate than", -1: "is less accurate than", 0: "cannot be told from"
    }[found.sign]  # fmt: skip


def _points(fraction: Interval) -> str:
    return in_points(Interval(*(100 * value for value in fraction)))


def _difference(fraction: Interval) -> str:
    """Return a difference of accuracies in points, its interval in brackets."""
    return _told(Interval(*(100 * value for value in fraction)), "+.2f", " points")


def nats(found: Interval, sign: str = "") -> str:
    """Return a loss, with a sign where it is a difference, and its interval where there is one."""
    return _told(found, f"{sign}.4f", " nats")


def _told(found: Interval, form: str, unit: str = "") -> str:
    reach = "" if np.isnan(found.low) else f" ({found.low:{form}} to {found.high:{form}})"
    return f"{found.mean:{form}}{unit}{reach}".replace("-", "−")


def answer_batch_size(
    arms: Mapping[str, Sequence[FitResult]], scores: pd.DataFrame
) -> BatchSizeAnswer:
    """Compute the closing answer of 1.3 from the curves and the test scores.

    ``arms`` are the runs of `experiments.batch_size_runs`, with the same seeds each; ``scores``
    are from `experiments.generalisation`, with these arms and `experiments.EQUAL_EPOCHS`.
    """
    growing, control = arms[GROWING], arms[CONTROL]
    distances = tables.law_distances(arms, LAWS)
    by_law = distances.groupby("law")["distance"].apply(mean_interval)
    rivals = {
        law: paired_difference(distances, "distance", law, SHRINKING, by="law")
        for law in (ROOT, QUARTER)
    }
    signs = {found.sign for found in rivals.values()}
    between_seeds = tables.seed_distances(growing) or [np.nan]

    def compared(column: str, arm: str) -> Interval:
        return paired_difference(scores, column, arm, EQUAL_EPOCHS)

    accuracy, stable = (compared("test_accuracy", arm) for arm in (GROWING, STABLE_GROWING))
    paired = scores.pivot(index="seed", columns="arm", values="test_accuracy")
    gaps = scores.groupby("arm")["gap"].mean()
    quieter = [result for arm in (GROWING, SHRINKING, STABLE_CONTROL) for result in arms[arm]]
    return BatchSizeAnswer(
        alike=False if -1 in signs else True if signs == {1} else None,
        rivals=rivals,
        control_diverged=sum(result.diverged for result in control),
        control_relapsed=sum(map(experiments.relapsed, control)),
        control_accuracy=(float(paired[CONTROL].min()), float(paired[CONTROL].max())),
        quieter_failed=sum(run.diverged or experiments.relapsed(run) for run in quieter),
        updates_growing=int(growing[0].history["updates"].sum()),
        updates_mirror=int(arms[SHRINKING][0].history["updates"].sum()),
        accuracy_difference=accuracy.mean,
        accuracy_low=accuracy.low,
        accuracy_high=accuracy.high,
        stable_difference=stable.mean,
        stable_low=stable.low,
        stable_high=stable.high,
        stable_validation=compared("validation_accuracy", STABLE_GROWING),
        mirror_difference=paired_difference(scores, "test_accuracy", SHRINKING, GROWING),
        gap_growing=float(gaps[GROWING]),
        gap_cyclical=float(gaps[EQUAL_EPOCHS]),
        gap_difference=compared("gap", GROWING),
        train_difference=compared("train_accuracy", GROWING),
        seeds=len(growing),
        laws={
            "doubled": Interval(np.mean(between_seeds), min(between_seeds), max(between_seeds)),
            "√2": by_law[ROOT],
            "halved": by_law[SHRINKING],
            "quarter": by_law[QUARTER],
        },
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
        below = (growing["batch_size"] < growing["low"]).all()
        text += (
            " Every batch size lies below its stage's whole interval."
            if below
            else " No batch size lies above its stage's interval."
        )
    text += f" N/10 is {num_images / 10:,.0f}."
    if len(missing):
        rows = (f"{row.arm}, stage {row.stage}: {row.reason}" for row in missing.itertuples())
        text += f" Missing: {'; '.join(rows)}."
    return text


def same_noise_answer(runs: Sequence[FitResult]) -> tuple[str, int | None]:
    """Return where the curves of one ε/B part, in words and as a batch size (None: nowhere told).

    They part at the smallest batch size above 64 from which on every one failed, or has a
    validation loss, averaged over the epochs, whose paired ratio to that at 64 has an interval
    without one.
    """
    curves = pd.DataFrame(
        {
            "batch_size": result.run.batch_sizes[0],
            "seed": result.run.seed,
            "log_loss": np.log(result.history["validation_loss"].mean(skipna=False)),
            "failed": result.diverged or experiments.relapsed(result),
        }
        for result in runs
    )
    sizes = sorted(set(curves["batch_size"]) - {REFERENCE_BATCH})
    apart = {
        size: paired_difference(curves, "log_loss", size, REFERENCE_BATCH, by="batch_size")
        for size in sizes
    }
    failed = set(curves[curves["failed"]]["batch_size"])
    told = [size for size in sizes if size in failed or apart[size].sign]
    larger = [size for size in sizes if size > REFERENCE_BATCH]
    parted = next((size for size in larger if {*larger} - {*range(size)} <= {*told}), None)
    start = "**With one ε/B the curves"
    if curves["seed"].nunique() == 1:
        text = "**With one seed it cannot be told where curves of one ε/B part.**"
    elif parted is None:
        text = f"{start} cannot be told from that at batch size 64 from any size on.**"
    else:
        text = f"{start} part from batch size {parted:,} on.**"
    by = "; ".join(
        f"{size:,}: {_told(_in_percent(apart[size]), '+.0f', ' %')}"
        for size in sizes
        if size not in failed
    )
    text += f" Validation loss, a mean over the epochs, against that at 64: at {by}."
    return text + (f" Runs failed at {_sizes(failed)}." if failed else ""), parted


def _in_percent(log_ratio: Interval) -> Interval:
    return Interval(*(100 * (np.exp(value) - 1) for value in log_ratio))


def _sizes(batch_sizes: Iterable[int]) -> str:
    return ", ".join(f"{size:,}" for size in sorted(batch_sizes))


def same_updates_answer(runs: Sequence[FitResult]) -> str:
    """Return whether noise matters where the learning rates and the updates are the same."""
    table = tables.sweep_table(runs)
    sizes = sorted(set(table["batch_size"]))
    found = paired_difference(table, "validation_loss", sizes[-1], sizes[0], by="batch_size")
    words = {1: "a higher", -1: "a lower", 0: "no demonstrably different"}[found.sign]
    return (
        f"With as many updates at the same rate, batch size {sizes[-1]} ends with {words} "
        f"validation loss than {sizes[0]}: {_told(found, '+.3f')} nats."
        + (
            " So the sum of the learning rates does not decide alone; whether the noise does, or "
            "how often each image is seen, this experiment cannot say."
            if found.sign
            else ""
        )
    )
