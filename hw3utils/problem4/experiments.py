"""The recipes of 4.2, label noise and resampling; those of 4.3 are in `teaching`.

Descriptions only: which images, which labels, how many updates. `recipes.train_all` follows them.
"""

from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor

from hw3utils.data.images import ImageSet, Scale
from hw3utils.problem4.labels import (
    RESAMPLING_RULES,
    add_label_noise,
    add_pair_noise,
    draw_long_tail,
    resample,
    zipf_counts,
)
from hw3utils.problem4.recipes import Recipe, Stage
from hw3utils.settings import Problem4

SCALE = Scale(mean=(0.5,), std=(0.5,))
LEARNING_RATE = 0.05

NOISE_RATES = (0.0, 0.10, 0.25, 0.50)
RANDOM = "random weights"
ZIPF = 1.0  # the exponent of hashtags, for comparison in 4.2b
LONGER, ONE_WRONG = "trained longer", "one wrong class"  # the controls of 4.2a
BANDS = {"head": slice(0, 3), "middle": slice(3, 7), "tail": slice(7, None)}  # ranks, from 0


def noise_recipes(train: ImageSet, settings: Problem4) -> dict[tuple[Any, int], Recipe]:
    """Return the recipes of 4.2a: by noise rate and seed; `RANDOM` stands for no training at all.

    Features are learned from images with noisy labels. Then they are frozen, and a linear
    classifier is fitted on other images, whose labels are clean: the same ones for all rates.
    """
    recipes: dict[tuple[Any, int], Recipe] = {}
    for seed in range(settings.label_seeds):
        clean, source = _clean_and_source(train, settings, seed)
        for rate in NOISE_RATES:
            noisy = add_label_noise(train.labels[source], rate, train.num_classes, seeded(seed))
            stage = Stage(source, noisy, settings.noise_updates, LEARNING_RATE)
            recipes[rate, seed] = Recipe(seed, (stage,), probe=clean)
        recipes[RANDOM, seed] = Recipe(seed, (), probe=clean)
    return recipes


def noise_control_recipes(
    train: ImageSet, settings: Problem4
) -> dict[tuple[str, float, int], Recipe]:
    """Return the controls of 4.2a, by name, noise rate and seed.

    `LONGER`: the same labels with more updates. `ONE_WRONG`: as many wrong labels, which all name
    the same wrong class.
    """
    recipes = {}
    for seed in range(settings.label_seeds):
        clean, source = _clean_and_source(train, settings, seed)
        labels = train.labels[source]
        for rate in NOISE_RATES:
            noisy = add_label_noise(labels, rate, train.num_classes, seeded(seed))
            stage = Stage(source, noisy, settings.longer_updates, LEARNING_RATE)
            recipes[LONGER, rate, seed] = Recipe(seed, (stage,), probe=clean)
        for rate in NOISE_RATES[1:]:
            noisy = add_pair_noise(labels, rate, train.num_classes, seeded(seed))
            stage = Stage(source, noisy, settings.noise_updates, LEARNING_RATE)
            recipes[ONE_WRONG, rate, seed] = Recipe(seed, (stage,), probe=clean)
    return recipes


def _clean_and_source(train: ImageSet, settings: Problem4, seed: int) -> tuple[Tensor, Tensor]:
    """Return the images on which features are judged, and those from which they are learned."""
    clean, rest = known_and_rest(train.labels, settings.probe_images, seeded(seed))
    return clean, rest[: settings.noise_images]


def tail_counts(settings: Problem4, num_classes: int = 10) -> list[int]:
    """Return the number of images of each rank in the long-tailed set, most frequent first."""
    return zipf_counts(num_classes, settings.tail_largest, settings.tail_exponent)


def tail_shares(settings: Problem4) -> pd.DataFrame:
    """Return the share of each rank (rows, from 1) among the draws of each rule (columns)."""
    counts = pd.Series(tail_counts(settings), dtype=float)
    weights = pd.DataFrame({rule: counts**power for rule, power in RESAMPLING_RULES.items()})
    weights.index = pd.RangeIndex(1, len(counts) + 1, name="rank")
    return weights / weights.sum()


def with_zipf(settings: Problem4) -> Problem4:
    """Return the settings with the exponent of hashtags for the tail of 4.2b."""
    return replace(settings, tail_exponent=ZIPF)


def resampling_recipes(train: ImageSet, settings: Problem4) -> dict[tuple[str, int], Recipe]:
    """Return the recipes of 4.2b, by rule and seed.

    Which class gets which rank is drawn for each seed, so that a hard class is not always rare. All
    rules get the same images and equally many draws; they differ in how often each image is drawn.
    """
    recipes = {}
    draws = settings.tail_updates * Stage.batch_size
    wanted = torch.tensor(tail_counts(settings, train.num_classes))
    for seed in range(settings.label_seeds):
        generator = seeded(seed)
        clean, rest = known_and_rest(train.labels, settings.probe_images, generator)
        available = torch.bincount(train.labels[rest], minlength=train.num_classes)
        counts = torch.empty_like(wanted)
        counts[shuffled_classes(train.num_classes, seed)] = wanted
        kept = counts.minimum(available).tolist()
        tail = rest[draw_long_tail(train.labels[rest], kept, generator)]
        labels = train.labels[tail]
        for rule in RESAMPLING_RULES:
            drawn = resample(labels, train.num_classes, rule, draws, seeded(seed))
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
    return torch.randperm(num_classes, generator=seeded(seed))


def seeded(seed: int) -> Generator:
    """Return a generator of random numbers."""
    return Generator().manual_seed(seed)
