"""The results of Problem 3 as tables; the sentences that they support are in `answers`.

Accuracies are fractions. Every choice is made by validation accuracy; test scores are only read.
A diverged run's scores are those of its best epoch before; where ``best_epoch`` is 0, of its start.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hw3utils.data.images import ImageSet, Splits
from hw3utils.problem3.experiments import LAST_LAYER, RANDOM_START, Features
from hw3utils.problem3.finetuning import Finetuned
from hw3utils.problem3.last_layer import HeadResult

KEY = ["approach", "learning_rate"]


def class_counts(parts: Splits) -> pd.DataFrame:
    """Return the number of images of each class (rows) in each part (columns)."""
    counts = {
        name: part.class_counts().tolist()
        for name, part in zip(("train", "validation", "test"), parts, strict=True)
    }
    return pd.DataFrame(counts, index=pd.Index(parts.train.class_names, name="class"))


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Tell of each row of logits (N, C) whether its largest entry is the label's; NaN is none."""
    return (logits.argmax(dim=1) == labels) & ~logits.isnan().any(dim=1)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the fraction of rows of logits that are `hits`."""
    return float(hits(logits, labels).double().mean())


def finetuned_scores(
    results: Mapping[tuple[str, float, int], Finetuned], parts: Splits
) -> pd.DataFrame:
    """Return one row for each finetuned network.

    Columns: ``approach``, ``learning_rate``, ``seed``, ``validation`` (of the best epoch),
    ``test``, ``train`` (without augmentation), ``best_epoch``, ``epochs``, ``seconds``,
    ``diverged``.
    """
    rows = []
    for (approach, lr, seed), result in results.items():
        rows.append(
            {
                "approach": approach,
                "learning_rate": lr,
                "seed": seed,
                "validation": accuracy(result.validation_logits, parts.validation.labels),
                "test": accuracy(result.test_logits, parts.test.labels),
                "train": result.train_accuracy,
                "best_epoch": result.best_epoch,
                "epochs": len(result.history),
                "seconds": result.seconds,
                "diverged": result.diverged,
            }
        )
    return pd.DataFrame(rows)


def head_scores(
    results: Sequence[HeadResult], found: Features, parts: Splits, seconds: float
) -> pd.DataFrame:
    """Return one row for each last layer, with the columns of `finetuned_scores`.

    ``seconds`` for computing the features and training all heads is shared out equally.
    """
    rows = []
    for result in results:
        validation = result.history["validation_accuracy"]
        rows.append(
            {
                "approach": LAST_LAYER,
                "learning_rate": result.lr,
                "seed": result.seed,
                "validation": accuracy(result.logits(found.validation), parts.validation.labels),
                "test": accuracy(result.logits(found.test), parts.test.labels),
                "train": accuracy(result.logits(found.train[0]), parts.train.labels),
                "best_epoch": int(validation.idxmax()) + 1 if validation.notna().any() else 0,
                "epochs": len(result.history),
                "seconds": seconds / len(results),
                "diverged": result.diverged,
            }
        )
    return pd.DataFrame(rows)


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds for each approach and learning rate.

    ``test_sd`` is the seeds' spread, ``diverged`` whether any of them did.
    """
    grouped = scores.groupby(KEY, sort=False)
    table = grouped[["validation", "test", "train", "best_epoch", "epochs", "seconds"]].mean()
    table.insert(2, "test_sd", grouped["test"].std())
    table["gap"] = table["train"] - table["test"]
    table["diverged"] = grouped["diverged"].any()
    table["seeds"] = grouped.size()
    return table.reset_index()


def best_row(table: pd.DataFrame, approach: str) -> pd.Series:
    """Return the row of the learning rate of an approach that is best on validation images.

    A learning rate that diverged is best only where all of the approach did.
    """
    rows = table[table["approach"] == approach]
    alive = rows[~rows["diverged"]]
    rows = alive if len(alive) else rows
    return rows.loc[rows["validation"].idxmax()]


def moved_table(
    results: Mapping[tuple[str, float, int], Finetuned], frozen: Tensor
) -> pd.DataFrame:
    """Return how far each network's trunk moved, means over seeds (see `resnet.moved`).

    ``features`` is the relative distance of the validation images' features from ``frozen``, those
    of the network as ImageNet left it; NaN for the random start, which never had them.
    ``diverged`` tells whether any seed did.
    """
    rows = []
    for (approach, lr, _), result in results.items():
        distance = float((result.validation_features - frozen).norm() / frozen.norm())
        features = math.nan if approach == RANDOM_START else distance
        row = {"approach": approach, "learning_rate": lr, **result.moved, "features": features}
        rows.append(row | {"diverged": result.diverged})
    grouped = pd.DataFrame(rows).groupby(KEY, sort=False)
    return grouped.mean().assign(diverged=grouped["diverged"].any()).reset_index()


def confusion_matrix(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return counts (true class, predicted class), int64."""
    cells = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return cells.view(num_classes, num_classes)


def class_accuracy(matrices: Mapping[str, Tensor], class_names: Sequence[str]) -> pd.DataFrame:
    """Return the fraction of each class (rows) that each network (columns) gets right."""
    return pd.DataFrame(
        {name: (m.diag() / m.sum(dim=1)).tolist() for name, m in matrices.items()},
        index=pd.Index(class_names, name="class"),
    )


def worst_images(logits: Tensor, images: ImageSet, n: int = 8) -> list[dict[str, Any]]:
    """Return the ``n`` wrongly classified images of which the network was most sure.

    Each is a dict: ``index``, ``label``, ``predicted``, ``probability`` (of the predicted class).
    """
    probabilities = logits.softmax(dim=1)
    sure, predicted = probabilities.max(dim=1)
    wrong = torch.nonzero((predicted != images.labels) & ~sure.isnan()).flatten()
    order = wrong[sure[wrong].argsort(descending=True, stable=True)][:n]
    return [
        {
            "index": int(i),
            "label": int(images.labels[i]),
            "predicted": int(predicted[i]),
            "probability": float(sure[i]),
        }
        for i in order
    ]
