"""Tables of Problem 1: what the runs ended with. They are trained by `training.sweeps`."""

from collections.abc import Mapping, Sequence

import pandas as pd

from hw3utils.data.images import ImageSet, take
from hw3utils.problem1.experiments import SCALE
from hw3utils.training import networks
from hw3utils.training.batches import evaluate, evaluate_on_test_set_once
from hw3utils.training.runs import FitResult


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
        One row for each arm and seed: ``arm``, ``seed``, ``diverged``, ``validation_accuracy``
        (NaN if the last epoch diverged), ``test_accuracy``, ``train_accuracy`` (of the final model,
        on as many training images as there are test images), ``gap`` (train − test) and
        ``seconds``.
    """
    rows = []
    part = take(train, min(len(train), len(test)))
    for name, results in arms.items():
        for result in results:
            model = networks.build(result.run.model, train.num_classes, result.run.seed)
            tested = evaluate_on_test_set_once(model, result.state, test, SCALE)
            trained = evaluate(model, part, SCALE)
            rows.append(
                {
                    "arm": name,
                    "seed": result.run.seed,
                    "diverged": result.diverged,
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

    ``test_sd`` is the standard deviation over seeds, NaN where there is only one. ``diverged``
    counts the seeds whose run diverged: scores that are NaN are left out of the means.
    """
    grouped = scores.groupby("arm", sort=False)
    columns = ["validation_accuracy", "test_accuracy", "train_accuracy", "gap", "seconds"]
    table = grouped[columns].mean()
    table.insert(2, "test_sd", grouped["test_accuracy"].std())
    table.insert(0, "seeds", grouped.size())
    table.insert(1, "diverged", grouped["diverged"].sum())
    return table
