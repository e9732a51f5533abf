"""The closing answer of 1.3, and what Problem 1 hands to the report."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hw3utils.data.images import ImageSet
from hw3utils.problem1.diagnostics import LRBounds
from hw3utils.problem1.experiments import BATCH_SIZES, CONTROL, EQUAL_EPOCHS, GROWING, SHRINKING
from hw3utils.settings import Problem1
from hw3utils.training.runs import FitResult


@dataclass(frozen=True)
class BatchSizeAnswer:
    """What the runs of 1.3 say."""

    # Mean absolute difference of the training losses, in nats, between the run with the growing
    # batch and the run with the shrinking rate, or the control, after the stage that all share.
    distance_mirror: float
    distance_control: float
    fallen: float  # how far the loss of the growing batch fell after that stage, in nats
    alike: bool  # whether distance_mirror is less than 5 % of fallen
    control_collapsed: bool  # whether the control ended no better than guessing
    updates_growing: int  # weight updates
    updates_mirror: int
    # Test accuracy of the growing batch minus that of the cyclical schedule of as many epochs.
    accuracy_difference: float
    standard_error: float  # of that difference, from the draw of the test images alone
    gap_growing: float  # accuracy on training images minus that on test images
    gap_cyclical: float
    seeds: int  # repetitions of each run

    @property
    def similar_accuracy(self) -> bool:
        """Whether the test accuracies differ by no more than two standard errors."""
        return abs(self.accuracy_difference) <= 2 * self.standard_error

    @property
    def text(self) -> str:
        """The answer in a few sentences, from the numbers."""
        loss = (
            f"Doubling the batch {'acts like' if self.alike else 'does not act like'} halving the "
            f"rate: after the first stage their training losses differ by "
            f"{self.distance_mirror:.4f} nats on average, {self.distance_mirror / self.fallen:.1%} "
            f"of what the loss fell by, with {self.updates_growing:,} updates against "
            f"{self.updates_mirror:,}."
        )
        if self.control_collapsed:
            control = "The control, in which neither changed, fell back to guessing."
        else:
            control = f"From the control they differ by {self.distance_control:.3f} nats."
        seeds = "one seed, so the spread over seeds is unknown" if self.seeds == 1 else "a mean"
        accuracy = (
            f"Test accuracy minus that of the cyclical policy after as many epochs: "
            f"{100 * self.accuracy_difference:+.2f} points (standard error "
            f"{100 * self.standard_error:.2f} from the draw of test images; {seeds}); train − test "
            f"gap {100 * self.gap_growing:.1f} points against {100 * self.gap_cyclical:.1f}."
        )
        return "\n".join((loss, control, f"{accuracy} {self._verdict}"))

    @property
    def _verdict(self) -> str:
        if self.similar_accuracy:
            return "The two generalise alike."
        if self.accuracy_difference > 0:
            return "The growing batch gives the more accurate model."
        if self.gap_growing <= self.gap_cyclical:
            return (
                "The growing batch gives the less accurate model, because it learned less in the "
                "same epochs, not because it overfits more."
            )
        return "The growing batch gives the less accurate model, and overfits more."


def answer_batch_size(
    arms: Mapping[str, Sequence[FitResult]], scores: pd.DataFrame, test: ImageSet
) -> BatchSizeAnswer:
    """Compute the closing answer of 1.3 from the curves and the test scores.

    Parameters
    ----------
    arms : mapping of str to sequence of FitResult
        The runs of `experiments.batch_size_runs`, several seeds each.
    scores : DataFrame
        From `tables.generalisation`, with the growing batch and
        `experiments.EQUAL_EPOCHS`.
    """
    curves = {
        name: np.mean([result.history["train_loss"] for result in results], axis=0)
        for name, results in arms.items()
    }
    sizes = arms[GROWING][0].history["batch_size"].to_numpy()
    later = sizes > BATCH_SIZES[0]
    mirror, control = (
        float(np.abs(curves[GROWING] - curves[other])[later].mean())
        for other in (SHRINKING, CONTROL)
    )
    fallen = float(curves[GROWING][~later][-1] - curves[GROWING][-1])
    means = scores.groupby("arm")[["test_accuracy", "gap"]].mean()
    growing, cyclical = means.loc[GROWING], means.loc[EQUAL_EPOCHS]
    variance = sum(
        arm["test_accuracy"] * (1 - arm["test_accuracy"]) / len(test) for arm in (growing, cyclical)
    )
    return BatchSizeAnswer(
        distance_mirror=mirror,
        distance_control=control,
        fallen=fallen,
        alike=mirror < 0.05 * fallen,
        control_collapsed=bool(curves[CONTROL][-1] > 0.99 * np.log(test.num_classes)),
        updates_growing=int(arms[GROWING][0].history["updates"].sum()),
        updates_mirror=int(arms[SHRINKING][0].history["updates"].sum()),
        accuracy_difference=float(growing["test_accuracy"] - cyclical["test_accuracy"]),
        standard_error=float(np.sqrt(variance)),
        gap_growing=float(growing["gap"]),
        gap_cyclical=float(cyclical["gap"]),
        seeds=len(arms[GROWING]),
    )


def record(
    settings: Problem1,
    bounds: LRBounds,
    range_bounds: LRBounds,
    arms: Mapping[str, Sequence[FitResult]],
    table: pd.DataFrame,
    noise_scales: Mapping[str, float],
    answer: BatchSizeAnswer,
) -> dict[str, object]:
    """Return everything that Problem 1 found, ready for `files.save_json`.

    ``noise_scale`` is the one after the first stage; ``seconds`` is the training time of the arms
    of 1.2 and 1.3a to 1.3c, each on one core, added up: not the time that a reader waits.
    """
    return {
        "profile": settings.profile,
        "settings": dataclasses.asdict(settings),
        "lr_min": bounds.lr_min,
        "lr_max": bounds.lr_max,
        "range_test": range_bounds._asdict(),
        "validation_accuracy": table["validation_accuracy"].to_dict(),
        "test_accuracy": table["test_accuracy"].to_dict(),
        "test_sd": table["test_sd"].to_dict(),
        "gap": table["gap"].to_dict(),
        "noise_scale": next(iter(noise_scales.values())),
        "noise_scales": dict(noise_scales),
        "batch_size_answer": dataclasses.asdict(answer) | {"text": answer.text},
        "seconds": sum(result.seconds for found in arms.values() for result in found),
    }


def report_rows(found: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    """Return question, points, answer and the start of its heading: the report's first page."""
    accuracy = found["test_accuracy"]
    best = max(found["validation_accuracy"], key=found["validation_accuracy"].get)
    others = ", ".join(f"{arm} {accuracy[arm]:.3f}" for arm in ("constant", "1cycle"))
    return [
        ("1.1", 5, f"lr_min = {found['lr_min']:.2g}, lr_max = {found['lr_max']:.2g}.",
         "1.1"),
        ("1.2", 5, f"The cyclical rate reaches {accuracy['cyclical']:.3f} on the test "
         f"set (beside it: {others}); best on validation images: {best}.", "1.2"),
        ("1.3", 10, found["batch_size_answer"]["text"].replace("\n", " "), "1.3"),
    ]  # fmt: skip
