"""The results of Problem 3 as tables; the sentences that they support are in `answers`.

Accuracies are fractions, differences percentage points. Every choice is made by validation
accuracy; test scores are only read. ``validation`` and ``test`` are scores of the epoch best on
validation images, of the start where ``best_epoch`` is 0; ``final_test`` is the last epoch's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hw3utils.data.images import ImageSet, Splits
from hw3utils.problem3.experiments import (
    ALL_LAYERS,
    LAST_LAYER,
    PROBE_FROZEN,
    RANDOM_START,
    RATES,
    Arm,
    Setup,
    Size,
)
from hw3utils.problem3.finetuning import Finetuned
from hw3utils.problem3.head_experiments import Features
from hw3utils.problem3.last_layer import HeadResult
from hw3utils.training.intervals import mean_interval

KEY = ["approach", "images", "epochs", "learning_rate"]
Hits = Mapping[str, Mapping[int, Tensor]]  # by name and seed: which test images are right


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


def finetuned_scores(results: Mapping[Arm, Finetuned], parts: Splits) -> pd.DataFrame:
    """Return one row for each finetuned network.

    Columns: those of `Arm`, ``start`` (validation accuracy before training), ``validation``,
    ``test``, ``final_test``, ``train`` (without augmentation), ``best_epoch``, ``seconds``,
    ``diverged``.
    """
    return pd.DataFrame(
        {
            **arm._asdict(),
            "start": result.start_accuracy,
            "validation": accuracy(result.validation_logits, parts.validation.labels),
            "test": accuracy(result.test_logits, parts.test.labels),
            "final_test": accuracy(result.final_test_logits, parts.test.labels),
            "train": result.train_accuracy,
            "best_epoch": result.best_epoch,
            "seconds": result.seconds,
            "diverged": result.diverged,
        }
        for arm, result in results.items()
    )


def head_scores(
    results: Mapping[tuple[int, int], Sequence[HeadResult]], found: Features, setup: Setup
) -> pd.DataFrame:
    """Return one row for each last layer, by images and seed: the columns of `finetuned_scores`.

    ``train`` is the accuracy as trained, over the views, in the best epoch.
    """
    _, validation, test = setup.parts
    rows = []
    for (images, seed), heads in results.items():
        for head in heads:
            scored = head.history["validation_accuracy"]
            best = int(scored.idxmax()) if scored.notna().any() else None
            rows.append(
                Arm(LAST_LAYER, images, len(head.history), head.lr, seed)._asdict()
                | {
                    "validation": accuracy(head.best.logits(found.validation), validation.labels),
                    "test": accuracy(head.best.logits(found.test), test.labels),
                    "final_test": accuracy(head.final.logits(found.test), test.labels),
                    "train": math.nan if best is None else head.history["train_accuracy"][best],
                    "best_epoch": 0 if best is None else best + 1,
                    "diverged": head.diverged,
                }
            )
    return pd.DataFrame(rows)


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds for each approach, size and learning rate.

    ``test_sd`` is the seeds' spread, NaN with one seed, ``diverged`` whether any of them did.
    ``validation``, by which learning rates are compared, is the mean over the seeds that all of
    them have: a rate that got more seeds because it was best would lose its luck, and its place.
    """
    grouped = scores.groupby(KEY, sort=False)
    table = grouped[["validation", "test", "final_test", "train", "best_epoch"]].mean()
    table.insert(2, "test_sd", grouped["test"].std())
    table["gap"] = table["train"] - table["test"]
    table["diverged"] = grouped["diverged"].any()
    table["seeds"] = grouped.size()
    rates = scores.groupby(KEY[:3])["learning_rate"].transform("nunique")
    shared = scores.groupby([*KEY[:3], "seed"])["learning_rate"].transform("nunique") == rates
    table["validation"] = scores[shared].groupby(KEY)["validation"].mean()
    return table.reset_index()


def best_row(table: pd.DataFrame, approach: str, images: int, epochs: int) -> pd.Series:
    """Return the row of an approach's learning rate, at one size, that is best on validation.

    A learning rate that diverged is best only where all of them did.
    """
    at_size = (table["images"] == images) & (table["epochs"] == epochs)
    rows = table[at_size & (table["approach"] == approach)]
    alive = rows[~rows["diverged"]]
    rows = alive if len(alive) else rows
    return rows.loc[rows["validation"].idxmax()]


def curve(
    heads: Mapping[tuple[int, int], HeadResult],
    of_heads: pd.DataFrame,
    of_finetuned: pd.DataFrame,
    sizes: Sequence[Size],
) -> pd.DataFrame:
    """Return the rows of the picture: images, epochs, approach, seed, test, validation.

    The chosen last layer (``heads``) of every number of images, and at each of ``sizes`` plain
    finetuning and that which trains the last layer first and keeps the statistics.
    """
    chosen = {(images, seed, head.lr) for (images, seed), head in heads.items()}
    keys = zip(of_heads["images"], of_heads["seed"], of_heads["learning_rate"], strict=True)
    rows = [of_heads[np.array([key in chosen for key in keys], bool)]]
    standard = of_finetuned["learning_rate"] == of_finetuned["approach"].map(RATES)
    alike = of_finetuned[standard & of_finetuned["approach"].isin((ALL_LAYERS, PROBE_FROZEN))]
    at_size = zip(alike["images"], alike["epochs"], strict=True)
    rows.append(alike[np.array([size in sizes for size in at_size], bool)])
    columns = ["images", "epochs", "approach", "seed", "test", "validation"]
    return pd.concat(rows)[columns].sort_values(columns[:4], ignore_index=True)


def test_hits(
    finetuned: Mapping[Arm, Finetuned],
    heads: Mapping[tuple[int, int], HeadResult],
    found: Features,
    labels: Tensor,
) -> dict[str, dict[int, Tensor]]:
    """Return which test images each network gets right, by `name` and seed; ``labels`` (N,)."""
    gathered: dict[str, dict[int, Tensor]] = {}
    for (images, seed), head in heads.items():
        right = hits(head.best.logits(found.test), labels)
        gathered.setdefault(name(LAST_LAYER, images), {})[seed] = right
    for arm, result in finetuned.items():
        right = hits(result.test_logits, labels)
        gathered.setdefault(name(*arm[:4]), {})[arm.seed] = right
    return gathered


def head_hits(
    heads: Mapping[tuple[str, int], HeadResult], features: Mapping[int, Tensor], labels: Tensor
) -> dict[str, dict[int, Tensor]]:
    """Do as `test_hits` for last layers by name and seed, on each seed's own test features."""
    gathered: dict[str, dict[int, Tensor]] = {}
    for (called, seed), head in heads.items():
        right = hits(head.best.logits(features[seed]), labels)
        gathered.setdefault(called, {})[seed] = right
    return gathered


def name(approach: str, images: int, epochs: int | None = None, lr: float | None = None) -> str:
    """Return what a network is called in tables: ``"all layers at 0.01, 2,560 × 10"``."""
    rate = "" if lr is None else f" at {lr:g}"
    return f"{approach}{rate}, {images:,}" + ("" if epochs is None else f" × {epochs}")


def named(approach: str, size: Size) -> str:
    """Return the `name` at one size with the rate of `RATES`; a last layer goes by images alone."""
    if approach == LAST_LAYER:
        return name(approach, size.images)
    return name(approach, *size, RATES[approach])


def differences(right: Hits, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return the test accuracy of one network minus that of another, in points, paired by seed.

    A row for each pair: ``first``, ``second``, ``mean``, ``low``, ``high`` (95 %, over the seeds
    that both have; NaN with one), ``seeds``, and ``p``, the largest of the seeds' exact McNemar
    tests: what the draw of test images explains.
    """
    rows = []
    for first, second in pairs:
        one, other = right[first], right[second]
        shared = [seed for seed in one if seed in other]
        apart = [float((one[s].double() - other[s].double()).mean()) for s in shared]
        found = mean_interval([100 * value for value in apart])
        p = max((mcnemar(one[seed], other[seed]) for seed in shared), default=math.nan)
        row = {"first": first, "second": second, **found._asdict()}
        rows.append(row | {"seeds": len(shared), "p": p})
    return pd.DataFrame(rows)


def mcnemar(first: Tensor, second: Tensor) -> float:
    """Return the exact two-sided p value for two classifiers on the same images (N,), bool.

    Of the images that only one gets right, each would have half if they were equally good (McNemar
    1947).
    """
    from scipy.stats import binomtest  # half a second, which other notebooks can do without

    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def told(difference: Mapping[str, Any]) -> int:
    """Return 1 or −1 where a row of `differences` is told apart from zero, else 0.

    By the interval over seeds; with a single seed by McNemar's test at 5 %, which says nothing of
    another training.
    """
    if difference["seeds"] > 1:
        return int(difference["low"] > 0) - int(difference["high"] < 0)
    return int(np.sign(difference["mean"])) if difference["p"] < 0.05 else 0


def moved_table(results: Mapping[Arm, Finetuned], frozen: Tensor) -> pd.DataFrame:
    """Return how far each network's trunk moved, means over seeds (see `resnet.moved`).

    ``features`` is the relative distance of the validation images' features from ``frozen``, those
    of the network as ImageNet left it; NaN for the random start, which never had them.
    ``diverged`` tells whether any seed did.
    """
    rows = []
    for arm, result in results.items():
        distance = float((result.validation_features - frozen).norm() / frozen.norm())
        features = math.nan if arm.approach == RANDOM_START else distance
        row = arm._asdict() | result.moved | {"features": features}
        rows.append(row | {"diverged": result.diverged})
    grouped = pd.DataFrame(rows).drop(columns="seed").groupby(KEY, sort=False)
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
