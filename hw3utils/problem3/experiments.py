"""The experiments of Problem 3: what is finetuned, which last layers are trained, and on what.

Descriptions, and the calls that follow them; `tables` shows what came of it.
"""

import math
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from hw3utils.data import datasets
from hw3utils.data.images import FlipAndCrop, ResizedScale, Splits, take
from hw3utils.problem3 import last_layer, resnet
from hw3utils.problem3.finetuning import Finetuning
from hw3utils.settings import Problem3
from hw3utils.training.linear import optimal_head
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Steps

FINETUNE_RATES = (0.001, 0.01, 0.1)
HEAD_RATES = (1.0, 0.1, 0.01, 0.001)
WEIGHT_DECAY = 5e-4
DROPS = (0.25, 0.5, 0.75)
ALL_LAYERS, LAST_LAYER = "all layers", "last layer"
PROBE_FIRST, RANDOM_START = "last layer, then all", "all layers, random start"
PROBE_FIRST_RATE, RANDOM_START_RATE = 0.001, 0.01


@dataclass(frozen=True)
class Setup:
    """What all experiments share."""

    base: resnet.Base  # the ImageNet weights
    target: datasets.Target  # the images, and which wanted sets could not be had
    scale: ResizedScale  # ImageNet's own normalisation, after enlarging to the settings' size

    @property
    def parts(self) -> Splits:
        """Training, validation and test images."""
        return self.target.parts


def load(settings: Problem3) -> Setup:
    """Fetch weights and images as the settings say, before anything is trained.

    Raises a ValueError for an unknown name or an image size below 32, and a `resnet.WeightsError`
    or a `downloads.SourcesExhaustedError` where weights or images cannot be had.
    """
    scale = _scale(settings.image_size)
    target = datasets.load_target(
        settings.dataset,
        torch.Generator().manual_seed(0),
        n_train=settings.n_train,
        n_validation=settings.n_validation,
        n_test=settings.n_test,
        size=settings.image_size,
    )
    return Setup(resnet.load_base(settings.weights), target, scale)


@dataclass(frozen=True)
class Features:
    """What the frozen network makes of the images, float32."""

    train: Tensor  # (2, N, 2048): the images and their mirror images
    validation: Tensor  # (M, 2048)
    test: Tensor
    seconds: float  # what they cost when they were computed, all processes added up


def extract_features(setup: Setup) -> Features:
    """Pass every image once through the frozen network, training images mirrored as well."""
    train, validation, test = setup.parts
    sets = [(train, True), (validation, False), (test, False)]
    found = last_layer.extract(setup.base, sets, setup.scale)
    views = found.features
    return Features(views[0], views[1][0], views[2][0], found.seconds)


def train_heads(setup: Setup, found: Features, settings: Problem3) -> list[last_layer.HeadResult]:
    """Train a last layer for each of 3.2a's learning rates and each seed, all at once."""
    run = last_layer.HeadRun(
        HEAD_RATES,
        tuple(range(settings.head_seeds)),
        settings.head_epochs,
        settings.batch_size,
        weight_decay=WEIGHT_DECAY,
    )
    train, validation, _ = setup.parts
    return last_layer.fit_heads(
        run, found.train, train.labels, found.validation, validation.labels, train.num_classes
    )


def best_head(results: list[last_layer.HeadResult]) -> last_layer.HeadResult:
    """Return the last layer with the best validation accuracy, the first of equals.

    One that diverged is returned only where all of them did.
    """
    eligible = [result for result in results if not result.diverged] or results
    return max(eligible, key=lambda result: result.history["validation_accuracy"].fillna(0).max())


def finetunings(
    setup: Setup, head: last_layer.HeadResult, settings: Problem3, bf16: bool = False
) -> dict[tuple[str, float, int], Finetuning]:
    """Return the runs of 3.1 and two more arms, by approach, learning rate and seed.

    The arms beside the handout's three learning rates: the same network from random weights, and
    one whose last layer starts from ``head``, trained before on frozen features (Kumar et al.
    2022, 2202.10054).
    """
    arms = [(ALL_LAYERS, lr) for lr in FINETUNE_RATES]
    arms += [(PROBE_FIRST, PROBE_FIRST_RATE), (RANDOM_START, RANDOM_START_RATE)]
    wanted = {}
    for seed in range(settings.finetune_seeds):
        for approach, lr in arms:
            run = Run(
                "resnet50",
                Steps(lr, factor=0.1, at=DROPS),
                settings.finetune_epochs,
                batch_size=settings.batch_size,
                weight_decay=WEIGHT_DECAY,
                seed=seed,
            )
            wanted[approach, lr, seed] = Finetuning(
                run,
                resnet.RANDOM if approach == RANDOM_START else setup.base.weights,
                setup.base.digest,
                head=(head.weight, head.bias) if approach == PROBE_FIRST else None,
                augment=FlipAndCrop(4),
                bf16=bf16,
            )
    return wanted


def compare_sizes(setup: Setup, settings: Problem3) -> pd.DataFrame:
    """Train last layers on features of images of several sizes, judged on validation images.

    One row for each size: ``size`` (pixels of a side), ``images`` (for training), and the best
    validation accuracy of 3.2a's learning rates, ``sgd`` (NaN where all of them diverged), and of
    `optimal_head`, ``optimum``.
    """
    train = take(setup.parts.train, min(settings.compared_images, len(setup.parts.train)))
    validation = setup.parts.validation
    run = last_layer.HeadRun(HEAD_RATES, (0,), settings.head_epochs, min(64, len(train)))
    rows = []
    for size in settings.compared_sizes:
        sets = [(train, True), (validation, False)]
        views = last_layer.extract(setup.base, sets, _scale(size)).features
        given = (views[0], train.labels, views[1][0], validation.labels, train.num_classes)
        best = best_head(last_layer.fit_heads(run, *given))
        sgd = math.nan if best.diverged else best.history["validation_accuracy"].max()
        optimum = optimal_head(*given).table["validation_accuracy"].max()
        rows.append({"size": size, "images": len(train), "sgd": sgd, "optimum": optimum})
    return pd.DataFrame(rows)


def _scale(size: int) -> ResizedScale:
    scale = resnet.IMAGENET_SCALE
    return ResizedScale(scale.mean, scale.std, size)
