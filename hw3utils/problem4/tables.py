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
from hw3utils.problem4.experiments import BANDS, shuffled_classes
from hw3utils.problem4.pseudo_labels import PseudoLabels
from hw3utils.problem4.recipes import STUDENT, TEACHER
from hw3utils.problem4.teaching import SELECTED, TUNED, Collection, mechanism_rows, select, with_p
from hw3utils.settings import Problem4

Outcome = Mapping[str, Any]  # of one recipe, from `recipes.train_all`
ONE_GARMENT, TWO_GARMENTS = "one garment", "two garments"  # on each image of 4.3b
NETWORKS = {STUDENT: "LeNet-5", TEACHER: "teacher's network"}
THE_TEACHER = "teacher"
_JUDGED = {"linear_accuracy": "probe_test_hits", "own_accuracy": "test_hits"}
_STUDENT = {"validation_accuracy": "validation_hits", "test_accuracy": "test_hits"}


def noise_table(outcomes: Mapping[tuple[Any, int], Outcome]) -> pd.DataFrame:
    """Return one row for each noise rate and seed: test accuracies of 4.2a.

    ``linear_accuracy`` is that of the linear classifier on frozen features, as in the paper;
    ``own_accuracy`` that of the network's own last layer, which learned from the noisy labels.
    """
    return pd.DataFrame(
        {"noise": rate, "seed": seed} | _accuracies(outcome, _JUDGED)
        for (rate, seed), outcome in outcomes.items()
    )


def noise_control_table(outcomes: Mapping[tuple[str, float, int], Outcome]) -> pd.DataFrame:
    """Return the same for the controls of 4.2a, whose names are in the column ``control``."""
    return pd.DataFrame(
        {"control": control, "noise": rate, "seed": seed} | _accuracies(outcome, _JUDGED)
        for (control, rate, seed), outcome in outcomes.items()
    )


def resampling_table(
    outcomes: Mapping[tuple[str, int], Outcome], train: ImageSet, exponent: float
) -> pd.DataFrame:
    """Return one row for each rule, seed and band of classes: test accuracies of 4.2b.

    The bands are ``head`` (ranks 1 to 3), ``middle`` (4 to 7), ``tail`` (8 to 10) and ``all``.
    ``own_accuracy`` is before the transfer, ``linear_accuracy`` after it: a linear classifier on
    the frozen features, fitted on equally many images of each class. ``exponent`` is the tail's.
    """
    return pd.DataFrame(
        {"rule": rule, "exponent": exponent, "seed": seed, "band": band}
        | _accuracies(outcome, _JUDGED, shuffled_classes(train.num_classes, seed)[ranks])
        for (rule, seed), outcome in outcomes.items()
        for band, ranks in {**BANDS, "all": slice(None)}.items()
    )


def students_table(
    teachers: Mapping[int, Outcome],
    tuned: Mapping[int, Outcome],
    outcomes: Mapping[tuple[str, str, int], Outcome],
) -> pd.DataFrame:
    """Return one row for each network, arm and seed: accuracies of 4.3a, the teacher's first.

    ``tuned`` are the students on D alone with the best settings. ``before_finetuning`` and
    ``validation_accuracy`` are on validation images; who has no fine-tuning has NaN there.
    """
    named = {(TEACHER, THE_TEACHER, seed): outcome for seed, outcome in teachers.items()}
    named |= {(STUDENT, TUNED, seed): outcome for seed, outcome in tuned.items()}
    rows = []
    for (network, arm, seed), outcome in {**named, **outcomes}.items():
        stages = outcome["stage_hits"]
        before = float(stages[0].mean()) if len(stages) > 1 else math.nan
        row = {"network": NETWORKS[network], "arm": arm, "seed": seed, "before_finetuning": before}
        rows.append(row | _accuracies(outcome, _STUDENT))
    return pd.DataFrame(rows)


def mechanism_table(
    scored: Sequence[Collection],
    outcomes: Mapping[tuple[int, str, int], Outcome],
    settings: Problem4,
) -> pd.DataFrame:
    """Return one row for each K, arm of 4.3d and seed: what it learned from, and its accuracy.

    ``rows`` are pairs of an image and a label, ``images`` those that are different ones,
    ``precision`` the fraction of the labels that are right.
    """
    rows = []
    for each in scored:
        for k in settings.ks:
            for arm, (positions, labels) in mechanism_rows(each, k, settings).items():
                right = (each.truth[positions] == labels).double().mean()
                row = {"k": k, "arm": arm, "seed": each.seed, "rows": len(labels)}
                row |= {"images": len(positions.unique()), "precision": float(right)}
                rows.append(row | _accuracies(outcomes[k, arm, each.seed], _STUDENT))
    return pd.DataFrame(rows).rename(columns={"test_accuracy": "accuracy"})


def k_table(mechanism: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the paper's method: those of `SELECTED`, by ``k`` and ``seed``."""
    table = mechanism[mechanism["arm"] == SELECTED].drop(columns="arm")
    return table.rename(columns={"accuracy": "test_accuracy"}).reset_index(drop=True)


def precision_curve(scored: Sequence[Collection], settings: Problem4) -> pd.DataFrame:
    """Return the size of D̂ and its precision for every K and P, means over seeds; no training."""
    rows = []
    for p in settings.ps:
        for k in settings.ks:
            found = [(each, select(each, k, p)) for each in scored]
            size = sum(len(selected) for _, selected in found) / len(found)
            mean = sum(each.precision(selected) for each, selected in found) / len(found)
            rows.append({"p": p, "k": k, "rows": size, "precision": mean})
    return pd.DataFrame(rows)


def rare_table(
    scored: Sequence[Collection],
    outcomes: Mapping[tuple[str, int], Outcome],
    settings: Problem4,
    images: str,
) -> pd.DataFrame:
    """Return one row for each arm of 4.3b and seed: what rare classes get, and what it brings.

    ``images`` is `ONE_GARMENT` or `TWO_GARMENTS`. Of ``rare_rows`` pseudo-labels that name a rare
    class ``rare_right`` are right; ``precision`` is their ratio, ``filled`` the right ones as a
    fraction of the places that K gives to rare classes. ``before`` and ``after`` the fine-tuning
    are accuracies on validation images of rare classes, ``rare_accuracy`` and ``other_accuracy``
    on test images at the end. ``p`` is missing where there is no selection.
    """
    rows = []
    for each in scored:
        rare = list(each.rare)
        is_rare = torch.zeros(each.logits.shape[1], dtype=torch.bool)
        is_rare[rare] = True
        chosen = {with_p(p): (p, *_rare_labels(each, is_rare, settings, p)) for p in settings.ps}
        mine = {arm: outcome for (arm, seed), outcome in outcomes.items() if seed == each.seed}
        for arm, outcome in mine.items():
            p, named, right = chosen.get(arm.removesuffix(" (balanced)"), (math.nan,) * 3)
            row = {"images": images, "arm": arm, "p": p, "seed": each.seed}
            row |= {"rare_rows": named, "rare_right": right, "precision": right / max(1, named)}
            row["filled"] = right / (settings.rare_k * len(rare))
            hits = [float(part[is_rare].mean()) for part in outcome["stage_hits"]]
            diverged = any(outcome["diverged"])
            row["before"], row["after"] = (math.nan,) * 2 if diverged else (hits[0], hits[-1])
            row |= _accuracies(outcome, {"rare_accuracy": "test_hits"}, is_rare)
            row |= _accuracies(outcome, {"other_accuracy": "test_hits"}, ~is_rare)
            rows.append(row)
    return pd.DataFrame(rows)


def _rare_labels(each: Collection, is_rare: Tensor, settings: Problem4, p: int) -> tuple[int, int]:
    """Return how many pseudo-labels name a rare class, and how many of these are right."""
    selected = select(each, settings.rare_k, p)
    named = is_rare[selected.labels]
    return int(named.sum()), int(each.right(selected)[named].sum())


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
    """Return mean and standard deviation over seeds of every column that is a number.

    Columns are named after the accuracy, with ``_sd`` for the spread (NaN with one seed); then come
    those of `count_diverged`.
    """
    values = [name for name in table if name not in (*by, "seed", "diverged")]
    means = table.groupby(by, sort=False)[values].agg(["mean", "std"])
    means.columns = [column for name in values for column in (name, f"{name}_sd")]
    return means.join(count_diverged(table, by)).reset_index()


def count_diverged(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the number of ``seeds`` behind each mean, and how many of them ``diverged``."""
    grouped = table.drop_duplicates([*by, "seed"]).groupby(by, sort=False)["diverged"]
    return pd.DataFrame({"seeds": grouped.size(), "diverged": grouped.sum()})
