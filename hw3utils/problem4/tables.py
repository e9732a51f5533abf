"""The results of Problem 4 as tables: a row for each arm and seed, then means over seeds.

Accuracies are fractions of the test images unless their name says otherwise. Where ``diverged`` is
true they are NaN: means leave them out, and `count_diverged` says how many that are.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hw3utils.data.images import ImageSet
from hw3utils.problem4.experiments import BANDS, Collection, select, shuffled_classes
from hw3utils.problem4.pseudo_labels import PseudoLabels
from hw3utils.settings import Problem4

Outcome = Mapping[str, Any]  # of one recipe, from `recipes.train_all`
_STUDENT = {"validation_accuracy": "validation_hits", "test_accuracy": "test_hits"}


def noise_table(outcomes: Mapping[tuple[Any, int], Outcome]) -> pd.DataFrame:
    """Return one row for each noise rate and seed: test accuracies of 4.2a.

    ``linear_accuracy`` is that of the linear classifier on frozen features, as in the paper;
    ``own_accuracy`` that of the network's own last layer, which learned from the noisy labels.
    """
    return pd.DataFrame(
        {"noise": rate, "seed": seed}
        | _accuracies(outcome, {"linear_accuracy": "probe_test_hits", "own_accuracy": "test_hits"})
        for (rate, seed), outcome in outcomes.items()
    )


def resampling_table(outcomes: Mapping[tuple[str, int], Outcome], train: ImageSet) -> pd.DataFrame:
    """Return one row for each rule, seed and band of classes: test accuracies of 4.2b.

    The bands are ``head`` (ranks 1 to 3), ``middle`` (4 to 7), ``tail`` (8 to 10) and ``all``.
    ``own_accuracy`` is before the transfer, ``linear_accuracy`` after it: a linear classifier on
    the frozen features, fitted on equally many images of each class.
    """
    hits = {"own_accuracy": "test_hits", "linear_accuracy": "probe_test_hits"}
    return pd.DataFrame(
        {"rule": rule, "seed": seed, "band": band}
        | _accuracies(outcome, hits, shuffled_classes(train.num_classes, seed)[ranks])
        for (rule, seed), outcome in outcomes.items()
        for band, ranks in {**BANDS, "all": slice(None)}.items()
    )


def students_table(
    teachers: Mapping[int, Outcome], outcomes: Mapping[tuple[str, int], Outcome]
) -> pd.DataFrame:
    """Return one row for each arm and seed: accuracies of 4.3a, the teacher's first.

    ``before_finetuning`` and ``validation_accuracy`` are on validation images.
    """
    named = {("teacher", seed): outcome for seed, outcome in teachers.items()} | dict(outcomes)
    return pd.DataFrame(
        {"arm": arm, "seed": seed, "before_finetuning": outcome["stage_accuracy"][0]}
        | _accuracies(outcome, _STUDENT)
        for (arm, seed), outcome in named.items()
    )


def precision(scored: Collection, selected: PseudoLabels) -> float:
    """Return the fraction of D̂'s rows whose label is the image's true one."""
    right = scored.truth[selected.indices] == selected.labels
    return float(right.double().mean())


def k_table(
    scored: Sequence[Collection],
    outcomes: Mapping[tuple[int, int], Outcome],
    settings: Problem4,
) -> pd.DataFrame:
    """Return one row for each K and seed of 4.3d: the set D̂ and its student's accuracy."""
    rows = []
    for k in settings.ks:
        for each in scored:
            selected = select(each, k, settings.p)
            row = {
                "k": k,
                "seed": each.seed,
                "rows": len(selected),
                "images": int((selected.labels_per_image > 0).sum()),
                "precision": precision(each, selected),
            }
            rows.append(row | _accuracies(outcomes[k, each.seed], _STUDENT))
    return pd.DataFrame(rows)


def precision_curve(scored: Sequence[Collection], settings: Problem4) -> pd.DataFrame:
    """Return the size of D̂ and its precision for every K and P, means over seeds; no training."""
    rows = []
    for p in settings.ps:
        for k in settings.ks:
            found = [(each, select(each, k, p)) for each in scored]
            size = sum(len(selected) for _, selected in found) / len(found)
            mean = sum(precision(each, selected) for each, selected in found) / len(found)
            rows.append({"p": p, "k": k, "rows": size, "precision": mean})
    return pd.DataFrame(rows)


def p_table(
    thinned: Sequence[Collection],
    outcomes: Mapping[tuple[int, int], Outcome],
    settings: Problem4,
) -> pd.DataFrame:
    """Return one row for each P and seed of 4.3b: what the rare classes get, and what it brings.

    ``rare_rows`` pseudo-labels name a rare class; ``rare_right`` of them are right;
    ``rare_recall`` is the fraction of the pool's images of rare classes that these are;
    ``rare_accuracy`` and ``other_accuracy`` are the student's on the test set.
    """
    rows = []
    for p in settings.ps:
        for each in thinned:
            is_rare = torch.zeros(each.logits.shape[1], dtype=torch.bool)
            is_rare[list(each.rare)] = True
            selected = select(each, settings.rare_k, p)
            named = is_rare[selected.labels]
            right = int((each.truth[selected.indices] == selected.labels)[named].sum())
            row = {
                "p": p,
                "seed": each.seed,
                "rows": len(selected),
                "rare_rows": int(named.sum()),
                "rare_right": right,
                "rare_precision": right / max(1, int(named.sum())),
                "rare_recall": right / int(is_rare[each.truth].sum()),
            }
            row |= _accuracies(outcomes[p, each.seed], {"rare_accuracy": "test_hits"}, is_rare)
            row |= _accuracies(outcomes[p, each.seed], {"other_accuracy": "test_hits"}, ~is_rare)
            rows.append(row)
    return pd.DataFrame(rows)


def _accuracies(
    outcome: Outcome, hits: Mapping[str, str], classes: Tensor | slice = slice(None)
) -> dict[str, Any]:
    """Return ``diverged``, then means over classes of the outcome's ``hits`` under their names."""
    diverged = any(outcome["diverged"])
    means = {
        column: math.nan if diverged else float(outcome[name][classes].mean())
        for column, name in hits.items()
    }
    return {"diverged": diverged} | means


def label_counts(selected: PseudoLabels) -> pd.Series:
    """Return how many images of the pool are in D̂ under 0, 1, 2, … labels."""
    counts = torch.bincount(selected.labels_per_image)
    return pd.Series(counts.tolist(), name="images").rename_axis("labels")


def several_labels(scored: Collection, selected: PseudoLabels, n: int = 6) -> list[dict[str, Any]]:
    """Return ``n`` images of D̂ with the most labels, each with other labels than the ones before.

    Of equally many labels, those come first between which the teacher is least decided. Each image
    is a dict: ``index`` (of the training image), ``labels`` and ``scores`` (of the labels that it
    was selected for, highest score first).
    """
    second = scored.logits.softmax(dim=1).topk(2, dim=1).values[:, 1]
    order = (selected.labels_per_image + second).argsort(descending=True, stable=True)
    images: dict[frozenset[int], dict[str, Any]] = {}
    for position in order.tolist():
        rows = torch.nonzero(selected.indices == position).flatten()
        if len(images) == n or len(rows) == 0:
            break
        rows = rows[selected.scores[rows].argsort(descending=True)]
        labels, scores = selected.labels[rows].tolist(), selected.scores[rows].tolist()
        image = {"index": int(scored.pool[position]), "labels": labels, "scores": scores}
        images.setdefault(frozenset(labels), image)
    return list(images.values())


def mean_and_spread(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return mean and standard deviation over seeds of every column that is an accuracy.

    Columns are named after the accuracy, with ``_sd`` for the spread (NaN with one seed); then come
    those of `count_diverged`.
    """
    values = [name for name in table if name not in (*by, "seed", "diverged")]
    means = table.groupby(by, sort=False)[values].agg(["mean", "std"])
    means.columns = [column for name in values for column in (name, f"{name}_sd")]
    return means.join(count_diverged(table, by)).reset_index()


def count_diverged(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the number of ``seeds`` behind each mean, and how many of them ``diverged``."""
    if "diverged" not in table:  # results that were saved before it was recorded
        table = table.assign(diverged=False)
    grouped = table.drop_duplicates([*by, "seed"]).groupby(by, sort=False)["diverged"]
    return pd.DataFrame({"seeds": grouped.size(), "diverged": grouped.sum()})
