"""The experiments of 4.2: noisy labels, and resampling of a long tail.

Descriptions only. Recipes are followed by `pretraining`, tabulated by `problem4_tables`, drawn by
`plots.weak_supervision`; teacher and student (4.3) have their own file, `problem4_students`.
"""

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hw3utils.data import ImageSet, Scale
from hw3utils.pretraining import Recipe, Stage
from hw3utils.profiles import Problem4
from hw3utils.weak_supervision import (
    RESAMPLING_RULES,
    add_label_noise,
    draw_long_tail,
    resample,
    zipf_counts,
)

__all__ = [
    "NOISE_RATES",
    "RANDOM",
    "SCALE",
    "classes_by_rank",
    "known_and_rest",
    "noise_recipes",
    "resampling_recipes",
    "tail_counts",
    "tail_shares",
]

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
