"""The recipes of Problem 4: noise and resampling (4.2), teacher and student (4.3).

Descriptions only: which images, which labels, how many updates. `recipes.train_all` follows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor

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
LEARNING_RATE = 0.05
FINETUNE_RATE = 0.01
TEACHER_DECAY = 1e-3

NOISE_RATES = (0.0, 0.10, 0.25, 0.50)
RANDOM = "random weights"
BANDS = {"head": slice(0, 3), "middle": slice(3, 7), "tail": slice(7, None)}  # ranks, from 0
ALONE, HARD, SELECTED, SOFT = "D alone", "all of U, hard", "D̂, then D", "all of U, soft"


def noise_recipes(train: ImageSet, settings: Problem4) -> dict[tuple[Any, int], Recipe]:
    """Return the recipes of 4.2a: by noise rate and seed; `RANDOM` stands for no training at all.

    Features are learned from images with noisy labels. Then they are frozen, and a linear
    classifier is fitted on other images, whose labels are clean: the same ones for all rates.
    """
    recipes: dict[tuple[Any, int], Recipe] = {}
    for seed in range(settings.label_seeds):
        clean, rest = known_and_rest(train.labels, settings.probe_images, _generator(seed))
        source = rest[: settings.noise_images]
        for rate in NOISE_RATES:
            labels = train.labels[source]
            noisy = add_label_noise(labels, rate, train.num_classes, _generator(seed))
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
    wanted = torch.tensor(tail_counts(settings, train.num_classes))
    for seed in range(settings.label_seeds):
        generator = _generator(seed)
        clean, rest = known_and_rest(train.labels, settings.probe_images, generator)
        available = torch.bincount(train.labels[rest], minlength=train.num_classes)
        counts = torch.empty_like(wanted)
        counts[shuffled_classes(train.num_classes, seed)] = wanted
        kept = counts.minimum(available).tolist()
        tail = rest[draw_long_tail(train.labels[rest], kept, generator)]
        labels = train.labels[tail]
        for rule in RESAMPLING_RULES:
            drawn = resample(labels, train.num_classes, rule, draws, _generator(seed))
            stage = Stage(tail[drawn], labels[drawn], settings.tail_updates, LEARNING_RATE)
            recipes[rule, seed] = Recipe(seed, (stage,), probe=clean)
    return recipes


def known_and_rest(labels: Tensor, per_class: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw equally many images of each class; return them, and all others in random order."""
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels of shape {tuple(labels.shape)}: (N,) expected, N at least 1")
    num_classes = int(labels.max()) + 1
    known = draw_long_tail(labels, [per_class] * num_classes, generator)
    others = torch.ones(len(labels), dtype=torch.bool)
    others[known] = False
    order = torch.randperm(len(labels), generator=generator)
    return known, order[others[order]]


def shuffled_classes(num_classes: int, seed: int) -> Tensor:
    """Return the classes in a seed's order: by frequency in the long tail, the rare ones first."""
    return torch.randperm(num_classes, generator=_generator(seed))


@dataclass(frozen=True, eq=False)
class Collection:
    """One seed's labelled set D and unlabelled pool U, which share no image."""

    seed: int  # they were drawn with
    labelled: Tensor  # D: indices of training images, int64
    labels: Tensor  # and their labels
    pool: Tensor  # U, likewise
    truth: Tensor  # the pool's labels: for the tables, no recipe looks at them
    logits: Tensor | None = None  # the teacher's, for the pool: shape (pool, C), float32
    rare: tuple[int, ...] = ()  # classes that are rare in the pool


def collections(train: ImageSet, settings: Problem4) -> list[Collection]:
    """Draw D (equally many images of each class) and U for each seed."""
    drawn = []
    for seed in range(settings.student_seeds):
        known, rest = known_and_rest(train.labels, settings.labelled, _generator(seed))
        pool = rest[: settings.pool]
        drawn.append(Collection(seed, known, train.labels[known], pool, train.labels[pool]))
    return drawn


def teacher_recipes(drawn: Sequence[Collection], settings: Problem4) -> dict[int, Recipe]:
    """Return each seed's recipe for a teacher: trained on D, then asked for U's logits."""
    recipes = {}
    for each in drawn:
        stage = _on_labelled(each, settings.teacher_updates, weight_decay=TEACHER_DECAY)
        recipes[each.seed] = Recipe(each.seed, (stage,), model=TEACHER, score=each.pool)
    return recipes


def with_logits(
    drawn: Sequence[Collection], teachers: Mapping[int, Mapping[str, Any]]
) -> list[Collection]:
    """Return the collections with the logits that each seed's teacher gave to the pool.

    A seed whose teacher diverged gave none, and is left out. Raises a ValueError where all did.
    """
    scored = [
        replace(each, logits=teachers[each.seed]["logits"])
        for each in drawn
        if "logits" in teachers[each.seed]
    ]
    if not scored:
        raise ValueError("the teacher diverged with every seed: there is nobody to learn from")
    return scored


def rare_collections(scored: Sequence[Collection], settings: Problem4) -> list[Collection]:
    """Return the collections with all but a few images of some classes taken out of the pool.

    Which classes are rare is drawn for each seed. D and the teacher stay as they are.
    """
    thinned = []
    for each in scored:
        order = shuffled_classes(each.logits.shape[1], each.seed)
        rare = tuple(sorted(order[: settings.rare_classes].tolist()))
        keep = torch.ones(len(each.pool), dtype=torch.bool)
        for label in rare:
            keep[torch.nonzero(each.truth == label).flatten()[settings.rare_images :]] = False
        kept = {name: getattr(each, name)[keep] for name in ("pool", "truth", "logits")}
        thinned.append(replace(each, rare=rare, **kept))
    return thinned


def select(scored: Collection, k: int, p: int) -> PseudoLabels:
    """Return D̂: the teacher's logits become probabilities, and the top K of each class stay."""
    return select_top_k(scored.logits.softmax(dim=1), k, p)


def student_recipe(scored: Collection, k: int, p: int, settings: Problem4) -> Recipe:
    """Return the recipe for a student: pre-trained on D̂, fine-tuned on D."""
    selected = select(scored, k, p)
    images = scored.pool[selected.indices]
    stage = Stage(images, selected.labels, settings.student_updates, LEARNING_RATE)
    return Recipe(scored.seed, (stage, _finetuning(scored, settings)))


def teaching_recipes(
    scored: Sequence[Collection], settings: Problem4
) -> dict[tuple[str, int], Recipe]:
    """Return the recipes of 4.3a by arm and seed: students that learn in four ways.

    All have the same number of updates before the fine-tuning on D; the one on D alone has no
    other images, so that it spends them there.
    """
    recipes = {}
    updates = settings.student_updates
    # The square in the distillation loss makes steps grow with the temperature: undo that.
    soft_rate = LEARNING_RATE / settings.temperature
    for each in scored:
        finetuning = _finetuning(each, settings)
        alone = _on_labelled(each, updates)
        hard = Stage(each.pool, each.logits.argmax(dim=1), updates, LEARNING_RATE)
        soft = Stage(each.pool, each.logits, updates, soft_rate, temperature=settings.temperature)
        recipes[ALONE, each.seed] = Recipe(each.seed, (alone, finetuning))
        recipes[SELECTED, each.seed] = student_recipe(each, settings.k, settings.p, settings)
        recipes[HARD, each.seed] = Recipe(each.seed, (hard, finetuning))
        recipes[SOFT, each.seed] = Recipe(each.seed, (soft, finetuning))
    return recipes


def k_recipes(scored: Sequence[Collection], settings: Problem4) -> dict[tuple[int, int], Recipe]:
    """Return the recipes of 4.3d, by K and seed."""
    return {
        (k, each.seed): student_recipe(each, k, settings.p, settings)
        for each in scored
        for k in settings.ks
    }


def p_recipes(thinned: Sequence[Collection], settings: Problem4) -> dict[tuple[int, int], Recipe]:
    """Return the recipes of 4.3b, by P and seed, for pools with rare classes."""
    return {
        (p, each.seed): student_recipe(each, settings.rare_k, p, settings)
        for each in thinned
        for p in settings.ps
    }


def _finetuning(each: Collection, settings: Problem4) -> Stage:
    return _on_labelled(each, settings.finetune_updates, FINETUNE_RATE)


def _on_labelled(
    each: Collection, updates: int, lr: float = LEARNING_RATE, weight_decay: float = 0.0
) -> Stage:
    """Return a stage of training on D."""
    return Stage(each.labelled, each.labels, updates, lr, weight_decay=weight_decay)


def _generator(seed: int) -> Generator:
    return Generator().manual_seed(seed)
