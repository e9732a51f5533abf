"""The experiments with the last layer alone: how many images, which views, which features.

Descriptions, and the calls that follow them; those with all layers are in `experiments`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from hw3utils.data.images import take
from hw3utils.problem3 import features, last_layer
from hw3utils.problem3.experiments import (
    ARITHMETIC_SIZE,
    HEAD_RATES,
    WEIGHT_DECAY,
    Setup,
    Size,
    best_validation,
    imagenet_scale,
    sizes,
)
from hw3utils.problem3.features import Adapted
from hw3utils.problem3.last_layer import Head, HeadResult, HeadRun
from hw3utils.settings import Problem3
from hw3utils.training.linear import optimal_head

SAME_EPOCHS, CROPS = "as few epochs as finetuning", "shifted crops as well"


@dataclass(frozen=True)
class Features:
    """What the frozen network makes of the images, float32."""

    everything: Tensor  # (views, N, 2048), of `Setup.everything`
    train: Tensor  # (views, N, 2048), the part that are training images
    validation: Tensor  # (N, 2048), not mirrored
    test: Tensor  # likewise
    seconds: float  # what they cost when they were computed, all processes added up


def extract_features(setup: Setup) -> Features:
    """Pass every image once through the frozen network, training images mirrored as well."""
    train, validation, test = setup.parts
    sets = [setup.views(setup.everything), [test]]
    (everything, of_test), seconds = features.extract(setup.base, sets, setup.scale)
    first = len(setup.target.parts.train if setup.refit else train)
    return Features(
        everything, everything[:, : len(train)], everything[0, first : first + len(validation)],
        of_test[0], seconds,
    )  # fmt: skip


def train_heads(
    setup: Setup, found: Features, settings: Problem3
) -> dict[tuple[int, int], list[HeadResult]]:
    """Train a last layer with each of 3.2a's learning rates, by number of images and seed."""
    curve, longer, asked = sizes(setup, settings)
    numbers = {min(n, len(setup.parts.train)) for n in settings.head_images}
    numbers |= {size.images for size in (*curve, *longer, asked)}
    wanted = {
        (n, seed): head_run(settings, seed, n)
        for n in sorted(numbers, reverse=True)
        for seed in range(settings.seeds)
    }
    if ARITHMETIC_SIZE.images in numbers:
        for seed in range(settings.seeds, settings.arithmetic_seeds):
            key = ARITHMETIC_SIZE.images, seed
            wanted[key] = head_run(settings, seed, ARITHMETIC_SIZE.images)
    return last_layer.fit_all_heads(wanted, *_given(setup, found.train, found.validation))


def head_run(settings: Problem3, seed: int, images: int | None, **changes: object) -> HeadRun:
    """Return how a last layer is trained on so many images with each of 3.2a's rates."""
    standard = {"epochs": settings.head_epochs, "batch_size": settings.batch_size}
    return HeadRun(HEAD_RATES, seed, images=images, weight_decay=WEIGHT_DECAY, **standard | changes)


def best_heads(
    results: Mapping[tuple[Any, int], Sequence[HeadResult]],
    score: Callable[[HeadResult], float] = best_validation,
) -> dict[tuple[Any, int], HeadResult]:
    """Return each seed's last layer, of the learning rate best on validation images.

    ``results`` are by anything, such as the number of images, and seed. One rate for all seeds:
    that with the best mean ``score``, the first of equals. A rate that diverged is taken only where
    all did.
    """
    chosen = {}
    for group in dict.fromkeys(group for group, _ in results):
        seeds = {key: heads for key, heads in results.items() if key[0] == group}
        by_rate = list(zip(*seeds.values(), strict=True))
        eligible = [heads for heads in by_rate if not any(head.diverged for head in heads)]
        best = max(eligible or by_rate, key=lambda heads: sum(map(score, heads)))
        chosen |= dict(zip(seeds, best, strict=True))
    return chosen


def starting_heads(
    results: Mapping[tuple[int, int], Sequence[HeadResult]],
) -> dict[tuple[int, int], Head]:
    """Return the last layers that finetuning starts from, chosen by validation *loss*.

    A layer that is very sure of its mistakes can be as accurate as another, but its gradients would
    shake the network as much as those of a random layer.
    """
    chosen = best_heads(results, lambda head: -head.history["validation_loss"].min())
    return {key: head.best for key, head in chosen.items()}


def refit_heads(
    setup: Setup, found: Features, settings: Problem3, lr: float
) -> dict[int, HeadResult]:
    """Train the last layer on training and validation images together, with the chosen rate.

    Nothing is chosen any more, so that only what is left after the last epoch counts. By seed.
    """
    wanted = {
        seed: HeadRun(
            (lr,), seed, settings.head_epochs, settings.batch_size, weight_decay=WEIGHT_DECAY
        )
        for seed in range(settings.seeds)
    }
    labels, validation = setup.everything.labels, setup.parts.validation
    given = (found.everything, labels, found.validation, validation.labels, validation.num_classes)
    return {seed: heads[0] for seed, heads in last_layer.fit_all_heads(wanted, *given).items()}


def compare_protocols(
    setup: Setup, found: Features, settings: Problem3, size: Size
) -> dict[tuple[str, int], list[HeadResult]]:
    """Train last layers as finetuning is done, in one respect at a time: `SAME_EPOCHS`, `CROPS`.

    By what is the same, and seed.
    """
    epochs = {
        (SAME_EPOCHS, seed): head_run(settings, seed, size.images, epochs=size.epochs)
        for seed in range(settings.seeds)
    }
    results = last_layer.fit_all_heads(epochs, *_given(setup, found.train, found.validation))
    drawn = [setup.drawn(size.images, seed) for seed in range(settings.seeds)]
    views = []
    for seed, images in enumerate(drawn):
        generator = torch.Generator().manual_seed(seed)
        views.append([setup.augment(images, generator) for _ in range(settings.crop_views)])
    of_views = features.extract(setup.base, views, setup.scale).features
    for seed, images in enumerate(drawn):
        wanted = {(CROPS, seed): head_run(settings, seed, None)}
        given = (of_views[seed], images.labels, *_given(setup, found.train, found.validation)[2:])
        results |= last_layer.fit_all_heads(wanted, *given)
    return results


class AdaptedHeads(NamedTuple):
    """One seed's last layers on a network whose weights stayed while its statistics followed."""

    seed: int
    heads: list[HeadResult]  # trained on the adapted features
    train: Tensor  # (views, N, 2048), the adapted features
    validation: Tensor
    test: Tensor


def adapt_statistics(setup: Setup, settings: Problem3, size: Size) -> list[AdaptedHeads]:
    """Let only BatchNorm's statistics follow the new images, and train last layers on that."""
    wanted = [
        Adapted(
            setup.base.weights, setup.base.digest, size.images, seed,
            settings.adapted_updates, settings.batch_size, setup.augment,
        )
        for seed in range(settings.seeds)
    ]  # fmt: skip
    rows = []
    found = features.adapted_features(wanted, setup.parts, setup.scale)
    for seed, (train, validation, test) in enumerate(found):
        train = train[: len(setup.views(setup.parts.validation))]
        labels = setup.drawn(size.images, seed).labels
        given = (train, labels, *_given(setup, train, validation)[2:])
        heads = last_layer.fit_all_heads({seed: head_run(settings, seed, None)}, *given)[seed]
        rows.append(AdaptedHeads(seed, heads, train, validation, test))
    return rows


def compare_image_sizes(setup: Setup, settings: Problem3) -> pd.DataFrame:
    """Train last layers on features of images of several sizes, judged on validation images.

    One row for each size: ``size`` (pixels of a side), ``images`` (for training), and the best
    validation accuracy of 3.2a's learning rates, ``sgd`` (NaN where all of them diverged), and of
    `optimal_head`, ``optimum``.
    """
    train = take(setup.parts.train, min(settings.compared_images, len(setup.parts.train)))
    validation = setup.parts.validation
    rows = []
    for size in settings.compared_sizes:
        sets = [setup.views(train), [validation]]
        views = features.extract(setup.base, sets, imagenet_scale(size)).features
        given = (views[0], train.labels, *_given(setup, views[0], views[1][0])[2:])
        wanted = {(len(train), 0): head_run(settings, 0, None)}
        [best] = best_heads(last_layer.fit_all_heads(wanted, *given)).values()
        sgd = math.nan if best.diverged else best_validation(best)
        optimum = optimal_head(*given).table["validation_accuracy"].max()
        rows.append({"size": size, "images": len(train), "sgd": sgd, "optimum": optimum})
    return pd.DataFrame(rows)


def _given(
    setup: Setup, features: Tensor, validation_features: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Return features with labels as last layers are trained on them."""
    train, validation, _ = setup.parts
    return features, train.labels, validation_features, validation.labels, train.num_classes
