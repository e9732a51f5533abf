"""The experiments of 4.2: noisy labels, and resampling of a long tail.

Descriptions only. Recipes are followed by `recipes`, tabulated by `tables`, drawn by
`figures`; teacher and student (4.3) have their own file, `experiments`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hw3utils.data.images import ImageSet, Scale
from hw3utils.problem4.labels import (
    RESAMPLING_RULES,
    add_label_noise,
    draw_long_tail,
    resample,
    zipf_counts,
)
from hw3utils.problem4.pseudo_labels import PseudoLabels, select_top_k
from hw3utils.problem4.recipes import TEACHER, Recipe, Stage
from hw3utils.settings import Problem4

SCALE = Scale(mean=(0.5,), std=(0.5,))
NOISE_RATES = (0.0, 0.10, 0.25, 0.50)
RANDOM = "random weights"
LEARNING_RATE = 0.05
BANDS = {"head": slice(0, 3), "middle": slice(3, 7), "tail": slice(7, None)}


def noise_recipes(train: ImageSet, settings: Problem4) -> dict[tuple[Any, int], Recipe]:
    """Return the recipes of 4.2a: by noise rate and seed; `RANDOM` stands for no training at all.

    Features are learned from images with noisy labels. Then they are frozen, and a linear
    classifier is fitted on other images, whose labels are clean: the same ones for all rates.
    """
    recipes: dict[tuple[Any, int], Recipe] = {}
    for seed in range(settings.label_seeds):
        generator = torch.Generator().manual_seed(seed)
        clean, rest = known_and_rest(train.labels, settings.probe_images, generator)
        source = rest[: settings.noise_images]
        for rate in NOISE_RATES:
            generator = torch.Generator().manual_seed(seed)
            noisy = add_label_noise(train.labels[source], rate, train.num_classes, generator)
            stage = Stage(source, noisy, settings.noise_updates, LEARNING_RATE)
            recipes[rate, seed] = Recipe(seed, (stage,), probe=clean)
        recipes[RANDOM, seed] = Recipe(seed, (), probe=clean)
    return recipes


def tail_counts(settings: Problem4, num_classes: int = 10) -> list[int]:
    """Return the number of images of each rank in the long-tailed set, most frequent first."""
    return zipf_counts(num_classes, settings.tail_largest, settings.tail_exponent)


def tail_shares(settings: Problem4) -> pd.DataFrame:
    """Return the share of each rank (rows, from 1) among the draws of each rule (columns)."""
    counts = torch.tensor(tail_counts(settings), dtype=torch.float64)
    shares = {rule: counts**power for rule, power in RESAMPLING_RULES.items()}
    frame = pd.DataFrame({rule: (w / w.sum()).numpy() for rule, w in shares.items()})
    return frame.set_axis(pd.RangeIndex(1, len(counts) + 1, name="rank"))


def resampling_recipes(train: ImageSet, settings: Problem4) -> dict[tuple[str, int], Recipe]:
    """Return the recipes of 4.2b, by rule and seed.

    Which class gets which rank is drawn for each seed, so that a hard class is not always rare. All
    rules get the same images and equally many draws; they differ in how often each image is drawn.
    """
    recipes = {}
    draws = settings.tail_updates * Stage.batch_size
    for seed in range(settings.label_seeds):
        generator = torch.Generator().manual_seed(seed)
        clean, rest = known_and_rest(train.labels, settings.probe_images, generator)
        counts = torch.empty(train.num_classes, dtype=torch.int64)
        counts[classes_by_rank(train, seed)] = torch.tensor(
            tail_counts(settings, train.num_classes)
        )
        available = torch.bincount(train.labels[rest], minlength=train.num_classes)
        kept = counts.minimum(available).tolist()
        tail = rest[draw_long_tail(train.labels[rest], kept, generator)]
        for rule in RESAMPLING_RULES:
            generator = torch.Generator().manual_seed(seed)
            drawn = tail[resample(train.labels[tail], train.num_classes, rule, draws, generator)]
            stage = Stage(drawn, train.labels[drawn], settings.tail_updates, LEARNING_RATE)
            recipes[rule, seed] = Recipe(seed, (stage,), probe=clean)
    return recipes


def known_and_rest(
    labels: Tensor, per_class: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw equally many images of each class; return them, and all others in random order."""
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels of shape {tuple(labels.shape)}: (N,) expected, N at least 1")
    num_classes = int(labels.max()) + 1
    known = draw_long_tail(labels, [per_class] * num_classes, generator)
    others = torch.ones(len(labels), dtype=torch.bool)
    others[known] = False
    order = torch.randperm(len(labels), generator=generator)
    return known, order[others[order]]


def classes_by_rank(train: ImageSet, seed: int) -> Tensor:
    """Return the classes in the order of their frequency in the long-tailed set."""
    return torch.randperm(train.num_classes, generator=torch.Generator().manual_seed(seed))


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
