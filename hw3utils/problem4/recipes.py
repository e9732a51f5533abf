"""Training in stages, each on images and labels of its own, and the judging of what was learned.

For Problem 4: pre-train on noisy, resampled or pseudo-labels, then fine-tune, or freeze the
features under a linear classifier. Goes through the cache and the processes of `sweeps`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw3utils.data.images import ImageSet, Scale, Splits
from hw3utils.training import fingerprints, networks, sweeps
from hw3utils.training.linear import fit_linear_classifier
from hw3utils.training.loop import fit, minibatches, sgd
from hw3utils.training.runs import Run
from hw3utils.training.schedules import LinearDecay

TEACHER = "teacher"


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage of training, of a fixed number of updates whatever the number of images.

    Attributes
    ----------
    indices : Tensor
        Shape (n,), int64: which of the training images. They are gone through in random order,
        again and again, until the updates are done.
    targets : Tensor
        Either shape (n,), int64: labels; or shape (n, C), float32: a teacher's logits, to be
        distilled.
    updates : int
        Weight updates; the learning rate falls to zero over them.
    lr : float
        Learning rate at the start.
    batch_size : int
        Images for each update.
    weight_decay : float
        Of SGD, whose momentum is 0.9.
    temperature : float
        Of distillation; unused with labels.
    """

    indices: Tensor
    targets: Tensor
    updates: int
    lr: float
    batch_size: int = 64
    weight_decay: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if len(self.indices) == 0 or len(self.indices) != len(self.targets):
            raise ValueError(f"{len(self.indices)} images with {len(self.targets)} targets")
        if self.updates < 1:
            raise ValueError(f"updates={self.updates}: must be at least 1")


@dataclass(frozen=True, eq=False)
class Recipe:
    """A network, how it is trained, and what is asked of it.

    Attributes
    ----------
    seed : int
        Decides the initial weights and the order of the images.
    stages : tuple of Stage
        One after the other; with none, the network stays random.
    model : str
        A name that `networks.build` knows, or ``"teacher"``.
    probe : Tensor, optional
        Indices of training images: freeze the features and fit a linear classifier on these.
    score : Tensor, optional
        Indices of training images whose logits are asked for.
    """

    seed: int
    stages: tuple[Stage, ...]
    model: str = "lenet5"
    probe: Tensor | None = None
    score: Tensor | None = None


def train_all(
    recipes: Mapping[Any, Recipe],
    splits: Splits,
    scale: Scale,
    *,
    title: str = "recipes",
    n_jobs: int | None = None,
    cache_dir: Path | None = None,
) -> dict[Any, dict[str, Any]]:
    """Follow every recipe that is not in the cache yet, in parallel.

    Returns
    -------
    dict
        Under each recipe's name a dict: ``stage_accuracy``, the validation accuracy after each
        stage; ``validation_hits`` and ``test_hits``, the fraction of each class's images that the
        final network classifies correctly, shape (C,); ``probe_validation_hits`` and
        ``probe_test_hits``, those of the linear classifier where there is a ``probe``; ``logits``
        of the images to ``score``; ``seconds``. The test set is looked at once, after the last
        stage.

    Raises
    ------
    ValueError
        An index, a label or the width of the logits does not fit the images.
    """
    for recipe in recipes.values():
        _check(recipe, splits.train)
    names = splits.train.class_names
    arguments = {name: (recipe, names, scale) for name, recipe in recipes.items()}
    checksums = [part.checksum for part in splits]
    keys = {name: sweeps.task_key(_follow, wanted, checksums) for name, wanted in arguments.items()}
    longest_first = sorted(recipes, key=lambda name: -_cost(recipes[name]))
    found = sweeps.map_cached(
        _follow,
        {keys[name]: arguments[name] for name in longest_first},
        [tensor for part in splits for tensor in (part.images, part.labels)],
        title=title,
        n_jobs=n_jobs,
        cache_dir=cache_dir,
    )
    return {name: found[keys[name]] for name in recipes}


@fingerprints.task
def _follow(
    recipe: Recipe,
    class_names: tuple[str, ...],
    scale: Scale,
    *tensors: Tensor,
) -> dict[str, Any]:
    """Follow one recipe; the tensors are images and labels of the three parts, in order."""
    began = time.perf_counter()
    train, validation, test = (
        ImageSet(images, labels, class_names)
        for images, labels in zip(tensors[::2], tensors[1::2], strict=True)
    )
    model = networks.build(recipe.model, train.num_classes, recipe.seed)
    order = torch.Generator().manual_seed(recipe.seed)
    stage_accuracy = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # the teacher's dropout draws from the global generator
        for stage in recipe.stages:
            _train_stage(model, stage, recipe, train, validation, scale, order)
            stage_accuracy.append(_hits(model, validation, scale).mean().item())
    result: dict[str, Any] = {"stage_accuracy": stage_accuracy}
    if recipe.score is not None:
        result["logits"] = _logits(model, train.images[recipe.score], scale)
    if recipe.probe is not None:
        known = train.subset(recipe.probe)
        backbone = nn.Sequential(*list(model.children())[:-1])
        features = _logits(backbone, known.images, scale)
        classifier = fit_linear_classifier(features, known.labels, train.num_classes)
        probe = nn.Sequential(backbone, classifier)
        result["probe_validation_hits"] = _hits(probe, validation, scale)
        result["probe_test_hits"] = _hits(probe, test, scale)
    return result | {
        "validation_hits": _hits(model, validation, scale),
        "test_hits": _hits(model, test, scale),
        "seconds": time.perf_counter() - began,
    }


def _train_stage(
    model: nn.Module,
    stage: Stage,
    recipe: Recipe,
    train: ImageSet,
    validation: ImageSet,
    scale: Scale,
    order: torch.Generator,
) -> None:
    """Train in place for one stage: as one epoch over as many images as its updates take."""
    run = Run(
        recipe.model,
        LinearDecay(stage.lr),
        epochs=1,
        batch_size=stage.batch_size,
        weight_decay=stage.weight_decay,
        seed=recipe.seed,
    )
    drawn = _passes(len(stage.indices), stage.updates * stage.batch_size, order)
    images = train.images[stage.indices[drawn]]
    if stage.targets.ndim == 1:
        wanted = ImageSet(images, stage.targets[drawn], train.class_names)
        fit(model, run, wanted, validation, scale)
        return
    optimizer = sgd(model, run)
    scheduler = run.schedule.build(optimizer, stage.updates)
    targets = stage.targets[drawn]
    model.train()
    for batch in minibatches(len(images), stage.batch_size, order):
        optimizer.zero_grad(set_to_none=True)
        logits = model(scale(images[batch]))
        distillation_loss(logits, targets[batch], stage.temperature).backward()
        optimizer.step()
        scheduler.step()


def _passes(num_images: int, n: int, generator: torch.Generator) -> Tensor:
    """Return ``n`` indices: whole passes over the images in random order, the last one cut off."""
    passes = [torch.randperm(num_images, generator=generator) for _ in range(-(-n // num_images))]
    return torch.cat(passes)[:n]


@torch.no_grad()
def _logits(model: nn.Module, images: Tensor, scale: Scale, batch_size: int = 500) -> Tensor:
    """Return the network's outputs in evaluation mode: shape (N, outputs), float32."""
    model.eval()
    return torch.cat([model(scale(part)) for part in images.split(batch_size)])


def _hits(model: nn.Module, images: ImageSet, scale: Scale) -> Tensor:
    """Return the fraction of each class's images that are classified correctly: shape (C,).

    NaN where a class has no image.
    """
    right = _logits(model, images.images, scale).argmax(dim=1) == images.labels
    hits = torch.bincount(images.labels, weights=right.double(), minlength=images.num_classes)
    return hits / images.class_counts()


def _cost(recipe: Recipe) -> float:
    """Return a guess at a recipe's time, to start the long ones first."""
    each = 4 if recipe.model == TEACHER else 1
    return each * sum(stage.updates * stage.batch_size for stage in recipe.stages)


def _check(recipe: Recipe, train: ImageSet) -> None:
    """Refuse a recipe whose tensors do not fit the images, before any training."""
    stages: Sequence[Stage] = recipe.stages
    asked = [*(stage.indices for stage in stages), recipe.probe, recipe.score]
    for indices in asked:
        if indices is not None and not 0 <= int(indices.min()) <= int(indices.max()) < len(train):
            raise ValueError(f"indices must lie in 0..{len(train) - 1}, the training images")
    for targets in (stage.targets for stage in stages):
        if targets.ndim == 2 and targets.shape[1] != train.num_classes:
            raise ValueError(f"{train.num_classes} logits for each image, not {targets.shape[1]}")
        if targets.ndim == 1 and not 0 <= int(targets.min()) <= int(targets.max()) < (
            train.num_classes
        ):
            raise ValueError(f"labels must lie in 0..{train.num_classes - 1}")


MOST_TEMPERATURE = 1e6


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy between softened outputs, times the temperature squared.

    Hinton et al. 2015 (1503.02531, Sec. 2): both softmaxes are taken at the same temperature, and
    the square keeps the size of the gradients as the temperature changes.

    Parameters
    ----------
    logits, teacher_logits : Tensor
        Shape (N, C), float32.
    temperature : float
        Greater than 0; 1 leaves the teacher's probabilities as they are.

    Raises
    ------
    ValueError
        The temperature is not in (0, 10⁶], or the shapes differ or are not (N, C).
    """
    if not 0 < temperature <= MOST_TEMPERATURE:
        raise ValueError(
            f"temperature={temperature!r}: must be greater than 0, at most {MOST_TEMPERATURE:g}"
        )
    if logits.ndim != 2 or logits.shape != teacher_logits.shape:
        raise ValueError(f"logits of {tuple(logits.shape)} and {tuple(teacher_logits.shape)}")
    soft = F.softmax(teacher_logits / temperature, dim=1)
    return F.cross_entropy(logits / temperature, soft) * temperature**2
