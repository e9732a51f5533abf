"""The experiments of Problem 1: which runs each sub-question needs, and what their results say.

Descriptions and answers only. The runs are trained by `sweeps`, drawn by `plots.learning_rates`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from hw3utils import models
from hw3utils.data import ImageSet, Scale, take
from hw3utils.diagnostics import NoiseScale, gradient_noise_scale
from hw3utils.evaluation import evaluate, evaluate_on_test_set_once
from hw3utils.profiles import Problem1
from hw3utils.runs import FitResult, Run
from hw3utils.schedules import (
    Constant,
    Cyclical,
    LinearDecay,
    LRBounds,
    OneCycle,
    Steps,
    candidate_learning_rates,
    decay_factor,
    learning_rates,
)

__all__ = [
    "BATCH_SIZES",
    "SCALE",
    "BatchSizeAnswer",
    "answer_batch_size",
    "batch_size_runs",
    "best_constant_rate",
    "equal_epochs_run",
    "first_stage_run",
    "gamma_trap",
    "generalisation",
    "learning_rate_runs",
    "noise_scale",
    "record",
    "schedule_runs",
    "separate_runs",
    "stage_losses",
    "summary",
    "sweep_table",
]

SCALE = Scale(mean=(0.5,), std=(0.5,))
BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
MICRO_BATCH_SIZE = 1024
GROWING, SHRINKING, CONTROL = "batch size doubled", "learning rate halved", "neither (control)"
EQUAL_EPOCHS = "cyclical, epochs of 1.3"


def learning_rate_runs(settings: Problem1) -> list[Run]:
    """Return the runs of 1.1: ten constant learning rates, batch size 64."""
    return [
        Run("lenet5", Constant(lr), epochs=settings.sweep_epochs)
        for lr in candidate_learning_rates()
    ]


def sweep_table(results: Sequence[FitResult]) -> pd.DataFrame:
    """Return one row for each run of 1.1, or of 1.3d: its settings and its last epoch's scores."""
    return pd.DataFrame(
        {
            "learning_rate": result.run.schedule.lr,
            "batch_size": result.run.batch_sizes[0],
            "train_loss": result.final["train_loss"],
            "validation_loss": result.final["validation_loss"],
            "validation_accuracy": result.final["validation_accuracy"],
            "diverged": result.diverged,
        }
        for result in results
    )


def best_constant_rate(results: Sequence[FitResult]) -> float:
    """Return the learning rate with the best validation accuracy at the end of its run.

    Raises
    ------
    ValueError
        All runs diverged.
    """
    alive = [result for result in results if not result.diverged]
    if not alive:
        raise ValueError("all runs diverged: there is no best learning rate")
    best = max(alive, key=lambda result: result.final["validation_accuracy"])
    return best.run.schedule.lr


def schedule_runs(bounds: LRBounds, constant_rate: float, settings: Problem1) -> dict[str, Run]:
    """Return the runs of 1.2: four schedules with the same budget of epochs, batch size 64."""
    cyclical = Cyclical(
        bounds.lr_min,
        lr_max=bounds.lr_max,
        cycles=settings.cycles,
        final_amplitude=settings.final_amplitude,
    )
    schedules = {
        "cyclical": cyclical,
        "constant": Constant(constant_rate),
        "1cycle": OneCycle(bounds.lr_max),
        "linear decay": LinearDecay(bounds.lr_max),
    }
    return {
        name: Run("lenet5", schedule, epochs=settings.budget_epochs)
        for name, schedule in schedules.items()
    }


def batch_size_runs(lr_max: float, settings: Problem1) -> dict[str, Run]:
    """Return the runs of 1.3a to 1.3c: eight stages of equally many epochs, three ways.

    The batch size doubles from 32 to 4096 at a fixed learning rate; the learning rate is halved at
    the same epochs at batch size 32; or neither changes.
    """
    epochs = len(BATCH_SIZES) * settings.stage_epochs
    growing = tuple(size for size in BATCH_SIZES for _ in range(settings.stage_epochs))
    stages = tuple(stage / len(BATCH_SIZES) for stage in range(1, len(BATCH_SIZES)))
    run = Run("lenet5", Constant(lr_max), epochs, batch_size=BATCH_SIZES[0])
    return {
        GROWING: dataclasses.replace(run, batch_size=growing, micro_batch_size=MICRO_BATCH_SIZE),
        SHRINKING: dataclasses.replace(run, schedule=Steps(lr_max, factor=0.5, at=stages)),
        CONTROL: run,
    }


def equal_epochs_run(bounds: LRBounds, settings: Problem1) -> dict[str, Run]:
    """Return 1.2's cyclical run with the epochs of 1.3a to 1.3c, to compare their final models."""
    cyclical = schedule_runs(bounds, bounds.lr_max, settings)["cyclical"]
    epochs = len(BATCH_SIZES) * settings.stage_epochs
    return {EQUAL_EPOCHS: dataclasses.replace(cyclical, epochs=epochs)}


def separate_runs(lr_max: float, settings: Problem1) -> list[Run]:
    """Return the runs of 1.3d: a model of its own for each batch size, at the same rate."""
    return [
        Run(
            "lenet5",
            Constant(lr_max),
            settings.sweep_epochs,
            batch_size=size,
            micro_batch_size=MICRO_BATCH_SIZE if size > MICRO_BATCH_SIZE else None,
        )
        for size in BATCH_SIZES
    ]


def gamma_trap(run: Run, num_images: int, gamma: float = 0.99) -> dict[str, list[float]]:
    """Return the learning rate at every update of a cyclical run, with its own gamma and another.

    No network is trained: the schedule is stepped with an optimiser that does nothing.

    Raises
    ------
    ValueError
        Gamma is not in (0, 1].
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma={gamma!r}: must lie in (0, 1]")
    num_updates = run.num_updates(num_images)
    own = decay_factor(run.schedule.final_amplitude, num_updates)
    smallest = np.finfo(float).tiny
    trapped = dataclasses.replace(run.schedule, final_amplitude=max(gamma**num_updates, smallest))
    return {
        f"gamma = {own:.6f}": learning_rates(run.schedule, num_updates),
        f"gamma = {gamma}": learning_rates(trapped, num_updates),
    }


def first_stage_run(lr_max: float, settings: Problem1) -> Run:
    """Return the run that ends where the first stage of 1.3a to 1.3c ends."""
    control = batch_size_runs(lr_max, settings)[CONTROL]
    return dataclasses.replace(control, epochs=settings.stage_epochs)


def noise_scale(result: FitResult, train: ImageSet, settings: Problem1) -> NoiseScale:
    """Measure the gradient noise scale of the network that a run ended with."""
    model = models.build(result.run.model, train.num_classes, result.run.seed)
    model.load_state_dict(result.state)
    generator = torch.Generator().manual_seed(0)
    return gradient_noise_scale(
        model, train, SCALE, generator, repetitions=settings.noise_repetitions
    )


def stage_losses(results: Sequence[FitResult]) -> pd.Series:
    """Return the training loss in each stage's last epoch, a mean over seeds, by batch size."""
    histories = pd.concat([result.history for result in results])
    last = histories.groupby(["batch_size", "epoch"])["train_loss"].mean()
    return last.groupby("batch_size").last()


def generalisation(
    arms: Mapping[str, Sequence[FitResult]], train: ImageSet, test: ImageSet
) -> pd.DataFrame:
    """Evaluate every arm's final models, at last, on the test set.

    Returns
    -------
    DataFrame
        One row for each arm and seed: ``arm``, ``seed``, ``validation_accuracy``,
        ``test_accuracy``, ``train_accuracy`` (of the final model, on as many training images as
        there are test images), ``gap`` (train − test) and ``seconds``.
    """
    rows = []
    part = take(train, min(len(train), len(test)))
    for name, results in arms.items():
        for result in results:
            model = models.build(result.run.model, train.num_classes, result.run.seed)
            tested = evaluate_on_test_set_once(model, result.state, test, SCALE)
            trained = evaluate(model, part, SCALE)
            rows.append(
                {
                    "arm": name,
                    "seed": result.run.seed,
                    "validation_accuracy": result.final["validation_accuracy"],
                    "test_accuracy": tested.accuracy,
                    "train_accuracy": trained.accuracy,
                    "gap": trained.accuracy - tested.accuracy,
                    "seconds": result.seconds,
                }
            )
    return pd.DataFrame(rows)


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each arm's scores over its seeds, and the test accuracy's spread.

    ``test_sd`` is the standard deviation over seeds, NaN where there is only one.
    """
    grouped = scores.groupby("arm", sort=False)
    columns = ["validation_accuracy", "test_accuracy", "train_accuracy", "gap", "seconds"]
    table = grouped[columns].mean()
    table.insert(2, "test_sd", grouped["test_accuracy"].std())
    table.insert(0, "seeds", grouped.size())
    return table


@dataclass(frozen=True)
class BatchSizeAnswer:
    """What the runs of 1.3 say.

    Attributes
    ----------
    distance_mirror, distance_control : float
        Mean absolute difference of the training losses, in nats, between the run with the growing
        batch and the run with the shrinking rate, or the control, after the stage that all share.
    fallen : float
        How far the loss of the growing batch fell after that stage, in nats.
    alike : bool
        Whether ``distance_mirror`` is less than 5 % of ``fallen``.
    control_collapsed : bool
        Whether the control ended no better than guessing.
    updates_growing, updates_mirror : int
        Weight updates of the two runs.
    accuracy_difference : float
        Test accuracy of the growing batch minus that of the cyclical schedule of as many epochs.
    standard_error : float
        Of that difference, from the draw of the test images alone.
    gap_growing, gap_cyclical : float
        Accuracy on training images minus that on test images.
    seeds : int
        Repetitions of each run.
    """

    distance_mirror: float
    distance_control: float
    fallen: float
    alike: bool
    control_collapsed: bool
    updates_growing: int
    updates_mirror: int
    accuracy_difference: float
    standard_error: float
    gap_growing: float
    gap_cyclical: float
    seeds: int

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
        The runs of `batch_size_runs`, several seeds each.
    scores : DataFrame
        From `generalisation`, with the growing batch and `EQUAL_EPOCHS`.
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
    """Return everything that Problem 1 found, ready for `results.save_json`.

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
