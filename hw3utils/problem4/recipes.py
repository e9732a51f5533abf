"""How a recipe is followed: stages, each on images and labels of its own, and a judge at the end.

Pre-train on noisy, resampled or pseudo-labels, then fine-tune, or freeze the features under a
linear classifier. The recipes themselves are in `experiments`; what is cached, and where it is
computed, is the business of `training.sweeps`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from hw3utils.data.images import ImageSet, Scale, Splits, take
from hw3utils.training import fingerprints, loop, networks, sweeps
from hw3utils.training.linear import fit_linear_classifier
from hw3utils.training.runs import Run
from hw3utils.training.schedules import LinearDecay

STUDENT, TEACHER = "lenet5", "teacher"
MOST_TEMPERATURE = 1e6


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage of training, of a fixed number of updates whatever the number of images.

    The images are gone through in random order, again and again, until the updates are done.
    """

    indices: Tensor  # shape (n,), int64: which of the training images
    targets: Tensor  # (n,), int64: labels; or (n, C), float32: a teacher's logits, to be distilled
    updates: int  # weight updates
    lr: float  # learning rate at the start; it falls to zero over the updates
    batch_size: int = 64
    weight_decay: float = 0.0  # of SGD, whose momentum is 0.9
    temperature: float = 1.0  # of distillation; unused with labels

    def __post_init__(self) -> None:
        if len(self.indices) == 0 or len(self.indices) != len(self.targets):
            raise ValueError(f"{len(self.indices)} images with {len(self.targets)} targets")
        if self.updates < 1:
            raise ValueError(f"updates={self.updates}: must be at least 1")


@dataclass(frozen=True, eq=False)
class Recipe:
    """A network, how it is trained, and what is asked of it."""

    seed: int  # decides the initial weights and the order of the images
    stages: tuple[Stage, ...]  # one after the other; with none, the network stays random
    model: str = STUDENT  # a name that `networks.build` knows
    probe: Tensor | None = None  # training images on which a linear classifier judges the features
    score: Tensor | None = None  # training images whose logits are asked for


def train_all(
    recipes: Mapping[Any, Recipe], splits: Splits, scale: Scale, **options: Any
) -> dict[Any, dict[str, Any]]:
    """Follow every recipe that is not in the cache yet, in parallel, and return what came of it.

    Under each recipe's name is a dict: ``diverged``, for each stage begun, whether it diverged (see
    `training.loop.has_diverged`); ``stage_hits``, for each of them that did not, the fraction of
    each class's validation images that are classified correctly after it, shape (C,); ``seconds``;
    ``validation_hits`` and ``test_hits``, those fractions for the final network;
    ``probe_validation_hits`` and ``probe_test_hits``, those of the linear classifier where there is
    a ``probe``; ``logits`` of the images to ``score``.

    Training ends with the first stage that diverges. What it leaves is not judged, so that no
    number of it gets into a mean: such a recipe has the first three of these results alone. The
    test set is looked at once, after the last stage. ``options`` go to `training.sweeps.map_cached`
    (``title``, ``n_jobs``, ``cache_dir``). Raises a ValueError, before any training, where an
    index, a label or the width of the logits does not fit the images.
    """
    for recipe in recipes.values():
        _check(recipe, splits.train)
    longest_first = sorted(recipes, key=lambda name: -_cost(recipes[name]))
    found = sweeps.map_cached(
        _follow,
        {name: (recipes[name], splits.train.class_names, scale) for name in longest_first},
        [tensor for part in splits for tensor in (part.images, part.labels)],
        [part.checksum for part in splits],
        **options,
    )
    return {name: found[name] for name in recipes}


@fingerprints.task
def _follow(
    recipe: Recipe, class_names: tuple[str, ...], scale: Scale, *tensors: Tensor
) -> dict[str, Any]:
    """Follow one recipe; the tensors are images and labels of the three parts, in order."""
    began = time.perf_counter()
    pairs = zip(tensors[::2], tensors[1::2], strict=True)
    splits = Splits(*(ImageSet(images, labels, class_names) for images, labels in pairs))
    model = networks.build(recipe.model, splits.train.num_classes, recipe.seed)
    order = Generator().manual_seed(recipe.seed)
    diverged, stage_hits = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # the teacher's dropout draws from the global generator
        for stage in recipe.stages:
            diverged.append(_train_stage(model, stage, recipe, splits, scale, order))
            if diverged[-1]:
                break
            stage_hits.append(_hits(model, splits.validation, scale))
    judged = {} if any(diverged) else _judge(model, recipe, splits, scale)
    return {
        "diverged": diverged,
        "stage_hits": stage_hits,
        "seconds": time.perf_counter() - began,
        **judged,
    }


def _train_stage(
    model: nn.Module, stage: Stage, recipe: Recipe, splits: Splits, scale: Scale, order: Generator
) -> bool:
    """Train in place for one stage, and return whether it diverged.

    A stage is one epoch over as many images, drawn again and again, as its updates take.
    """
    run = Run(
        recipe.model, LinearDecay(stage.lr), epochs=1, batch_size=stage.batch_size,
        weight_decay=stage.weight_decay, seed=recipe.seed,
    )  # fmt: skip
    drawn = _passes(len(stage.indices), stage.updates * stage.batch_size, order)
    images, targets = splits.train.subset(stage.indices[drawn]), stage.targets[drawn]
    if targets.ndim == 2:
        return _distil(model, run, images, targets, stage.temperature, scale, order)
    # One image is enough for `fit`, which wants to validate: `_follow` judges the stage by classes.
    unused = take(splits.validation, 1)
    return loop.fit(model, run, replace(images, labels=targets), unused, scale).diverged


def _passes(num_images: int, n: int, generator: Generator) -> Tensor:
    """Return ``n`` indices: whole passes over the images in random order, the last one cut off."""
    passes = [torch.randperm(num_images, generator=generator) for _ in range(-(-n // num_images))]
    return torch.cat(passes)[:n]


def _distil(
    model: nn.Module,
    run: Run,
    images: ImageSet,
    teacher_logits: Tensor,
    temperature: float,
    scale: Scale,
    order: Generator,
) -> bool:
    """Do one epoch as `training.loop.fit` does, with `distillation_loss`; return the same verdict.

    Guessing costs ln(classes) here too, once the square of the temperature is taken out.
    """
    optimizer = loop.sgd(model, run)
    scheduler = run.schedule.build(optimizer, run.num_updates(len(images)))
    model.train()
    total, seen = 0.0, 0
    batches = loop.minibatches(len(images), run.batch_sizes[0], order)
    for update, batch in enumerate(batches, start=1):
        optimizer.zero_grad(set_to_none=True)
        logits = model(scale(images.images[batch]))
        loss = distillation_loss(logits, teacher_logits[batch], temperature)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += (loss.detach() / temperature**2).item() * len(batch)
        seen += len(batch)
        if update % loop.DIVERGENCE_CHECK_EVERY == 0 and loop.has_diverged(total / seen, images):
            return True
    return loop.has_diverged(total / seen, images, loop.DIVERGED_AT_THE_END)


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy between softened outputs, times the temperature squared.

    Hinton et al. 2015 (1503.02531, Sec. 2): both softmaxes, over logits of shape (N, C), float32,
    are taken at the same temperature (1 leaves the teacher's probabilities as they are); the square
    keeps the size of the gradients as it changes. Raises a ValueError where the temperature is not
    in (0, 10⁶], or the shapes differ or are not (N, C).
    """
    if not 0 < temperature <= MOST_TEMPERATURE:
        raise ValueError(
            f"temperature={temperature!r}: must be greater than 0, at most {MOST_TEMPERATURE:g}"
        )
    if logits.ndim != 2 or logits.shape != teacher_logits.shape:
        raise ValueError(f"logits of {tuple(logits.shape)} and {tuple(teacher_logits.shape)}")
    soft = F.softmax(teacher_logits / temperature, dim=1)
    return F.cross_entropy(logits / temperature, soft) * temperature**2


def _judge(model: nn.Module, recipe: Recipe, splits: Splits, scale: Scale) -> dict[str, Tensor]:
    """Return what `train_all` says of a network whose training has ended well."""
    train, validation, test = splits
    judged = {
        "validation_hits": _hits(model, validation, scale),
        "test_hits": _hits(model, test, scale),
    }
    if recipe.score is not None:
        judged["logits"] = _logits(model, train.images[recipe.score], scale)
    if recipe.probe is not None:
        known = train.subset(recipe.probe)
        backbone = nn.Sequential(*list(model.children())[:-1])
        features = _logits(backbone, known.images, scale)
        classifier = fit_linear_classifier(features, known.labels, train.num_classes)
        probe = nn.Sequential(backbone, classifier)
        judged["probe_validation_hits"] = _hits(probe, validation, scale)
        judged["probe_test_hits"] = _hits(probe, test, scale)
    return judged


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
    for indices in (*(stage.indices for stage in recipe.stages), recipe.probe, recipe.score):
        if indices is not None and not _all_below(len(train), indices):
            raise ValueError(f"indices must lie in 0..{len(train) - 1}, the training images")
    for targets in (stage.targets for stage in recipe.stages):
        if targets.ndim == 2 and targets.shape[1] != train.num_classes:
            raise ValueError(f"{train.num_classes} logits for each image, not {targets.shape[1]}")
        if targets.ndim == 1 and not _all_below(train.num_classes, targets):
            raise ValueError(f"labels must lie in 0..{train.num_classes - 1}")


def _all_below(limit: int, values: Tensor) -> bool:
    return 0 <= int(values.min()) <= int(values.max()) < limit
