"""The experiments of 4.3: a teacher labels a pool, and a student learns from what was selected.

Descriptions only; their results are tabulated by `problem4_tables`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hw3utils.data import ImageSet
from hw3utils.pretraining import TEACHER, Recipe, Stage
from hw3utils.problem4 import LEARNING_RATE, known_and_rest
from hw3utils.profiles import Problem4
from hw3utils.weak_supervision import PseudoLabels, select_top_k

__all__ = [
    "Collection",
    "collections",
    "k_recipes",
    "p_recipes",
    "rare_collections",
    "select",
    "student_recipe",
    "teacher_recipes",
    "teaching_recipes",
    "with_logits",
]

TEACHER_DECAY = 1e-3
FINETUNE_RATE = 0.01
ALONE, HARD, SELECTED, SOFT = "D alone", "all of U, hard", "D̂, then D", "all of U, soft"


@dataclass(frozen=True, eq=False)
class Collection:
    """One seed's labelled set D and unlabelled pool U, both as indices of training images.

    Attributes
    ----------
    seed : int
        It was drawn with.
    labelled, pool : Tensor
        Indices, int64; they share no image.
    logits : Tensor, optional
        The teacher's, for the pool: shape (pool, C), float32.
    rare : tuple of int
        Classes that are rare in the pool.
    """

    seed: int
    labelled: Tensor
    pool: Tensor
    logits: Tensor | None = None
    rare: tuple[int, ...] = ()


def collections(train: ImageSet, settings: Problem4) -> list[Collection]:
    """Draw D (equally many images of each class) and U for each seed."""
    drawn = []
    for seed in range(settings.student_seeds):
        generator = torch.Generator().manual_seed(seed)
        labelled, rest = known_and_rest(train.labels, settings.labelled, generator)
        drawn.append(Collection(seed, labelled, rest[: settings.pool]))
    return drawn


def teacher_recipes(
    drawn: list[Collection], train: ImageSet, settings: Problem4
) -> dict[int, Recipe]:
    """Return each seed's recipe for a teacher: trained on D, then asked for U's logits."""
    recipes = {}
    for each in drawn:
        stage = Stage(
            each.labelled,
            train.labels[each.labelled],
            settings.teacher_updates,
            LEARNING_RATE,
            weight_decay=TEACHER_DECAY,
        )
        recipes[each.seed] = Recipe(each.seed, (stage,), model=TEACHER, score=each.pool)
    return recipes


def with_logits(
    drawn: list[Collection], teachers: Mapping[int, Mapping[str, Any]]
) -> list[Collection]:
    """Return the collections with the logits that each seed's teacher gave to the pool."""
    return [dataclasses.replace(each, logits=teachers[each.seed]["logits"]) for each in drawn]


def rare_collections(
    scored: list[Collection], train: ImageSet, settings: Problem4
) -> list[Collection]:
    """Return the collections with all but a few images of some classes taken out of the pool.

    Which classes are rare is drawn for each seed. D and the teacher stay as they are.
    """
    thinned = []
    for each in scored:
        generator = torch.Generator().manual_seed(each.seed)
        order = torch.randperm(train.num_classes, generator=generator)
        rare = tuple(sorted(order[: settings.rare_classes].tolist()))
        labels = train.labels[each.pool]
        keep = torch.ones(len(labels), dtype=torch.bool)
        for label in rare:
            keep[torch.nonzero(labels == label).flatten()[settings.rare_images :]] = False
        thinned.append(
            Collection(each.seed, each.labelled, each.pool[keep], each.logits[keep], rare)
        )
    return thinned


def select(scored: Collection, k: int, p: int) -> PseudoLabels:
    """Return D̂: the teacher's logits become probabilities, and the top K of each class stay."""
    return select_top_k(scored.logits.softmax(dim=1), k, p)


def student_recipe(
    scored: Collection, selected: PseudoLabels, train: ImageSet, settings: Problem4
) -> Recipe:
    """Return the recipe for a student: pre-trained on D̂, fine-tuned on D."""
    stage = Stage(
        scored.pool[selected.indices], selected.labels, settings.student_updates, LEARNING_RATE
    )
    return Recipe(scored.seed, (stage, _finetuning(scored, train, settings)))


def teaching_recipes(
    scored: list[Collection], train: ImageSet, settings: Problem4
) -> dict[tuple[str, int], Recipe]:
    """Return the recipes of 4.3a by arm and seed: students that learn in four ways.

    All have the same number of updates before the fine-tuning on D; the one on D alone has no
    other images, so that it spends them there.
    """
    recipes = {}
    for each in scored:
        finetuning = _finetuning(each, train, settings)
        updates = settings.student_updates
        alone = Stage(each.labelled, train.labels[each.labelled], updates, LEARNING_RATE)
        # The square in the distillation loss makes steps grow with the temperature: undo that.
        rate = LEARNING_RATE / settings.temperature
        soft = Stage(each.pool, each.logits, updates, rate, temperature=settings.temperature)
        hard = Stage(each.pool, each.logits.argmax(dim=1), updates, LEARNING_RATE)
        recipes[ALONE, each.seed] = Recipe(each.seed, (alone, finetuning))
        recipes[SELECTED, each.seed] = student_recipe(
            each, select(each, settings.k, settings.p), train, settings
        )
        recipes[HARD, each.seed] = Recipe(each.seed, (hard, finetuning))
        recipes[SOFT, each.seed] = Recipe(each.seed, (soft, finetuning))
    return recipes


def k_recipes(
    scored: list[Collection], train: ImageSet, settings: Problem4
) -> dict[tuple[int, int], Recipe]:
    """Return the recipes of 4.3d, by K and seed."""
    return {
        (k, each.seed): student_recipe(each, select(each, k, settings.p), train, settings)
        for each in scored
        for k in settings.ks
    }


def p_recipes(
    thinned: list[Collection], train: ImageSet, settings: Problem4
) -> dict[tuple[int, int], Recipe]:
    """Return the recipes of 4.3b, by P and seed, for pools with rare classes."""
    return {
        (p, each.seed): student_recipe(each, select(each, settings.rare_k, p), train, settings)
        for each in thinned
        for p in settings.ps
    }


def _finetuning(scored: Collection, train: ImageSet, settings: Problem4) -> Stage:
    labels = train.labels[scored.labelled]
    return Stage(scored.labelled, labels, settings.finetune_updates, FINETUNE_RATE)
