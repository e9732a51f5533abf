"""What a network makes of images: features, computed once for each view and kept on disk.

Of the network as ImageNet left it, and of one whose BatchNorm statistics follow the new images.
"""

import functools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hw3utils import paths
from hw3utils.data.images import FlipAndCrop, ImageSet, Scale, Splits, mirrored, stratified_order
from hw3utils.problem3 import resnet
from hw3utils.training import fingerprints, loop, sweeps
from hw3utils.training.workers import pick_device, processes

CHUNK = 1_024


class Extracted(NamedTuple):
    """Features of several image sets."""

    features: list[Tensor]  # of each set: (views, N, 2048) float32
    seconds: float  # what they cost when they were computed, all processes added up


def extract(
    base: resnet.Base,
    sets: Sequence[Sequence[ImageSet]],
    scale: Scale,
    *,
    n_jobs: int | None = None,
    cache_dir: Path | None = None,
) -> Extracted:
    """Return the frozen network's features; what is on disk already is not computed again.

    Each set comes as a list of its views: image sets of the same length, such as the images and
    their mirror images. Features are kept in chunks under a key made of weights, preprocessing,
    images and code: an interrupted extraction goes on where it stopped. What is returned lies in a
    file, too, not in memory.
    """
    cache_dir = Path(cache_dir) if cache_dir else paths.cache_dir()
    tasks = {
        (number, view, position * CHUNK): (base.weights, scale, chunk)
        for number, views in enumerate(sets)
        for view, images in enumerate(views)
        for position, chunk in enumerate(images.images.split(CHUNK))
    }
    found = sweeps.each_cached(
        _features, tasks, checksums=[base.digest], title="features",
        n_jobs=n_jobs or processes(), cache_dir=cache_dir,
    )  # fmt: skip
    features: list[Tensor] = []
    seconds = 0.0
    for (number, view, first), chunk in found:
        rows = chunk["features"]
        features = features or [
            _on_disk(cache_dir, len(views), len(views[0]), rows.shape[1]) for views in sets
        ]
        features[number][view, first : first + len(rows)] = rows
        seconds += chunk["seconds"]
    return Extracted(features, seconds)


def _on_disk(folder: Path, views: int, images: int, values: int) -> Tensor:
    """Return a float32 tensor in a file without a name: pages that nobody uses need no memory."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        nothing = bytes(values * np.dtype(np.float32).itemsize)
        for _ in range(views * images):  # a full disk is an error here, and would be a crash later
            file.write(nothing)
        file.flush()
        return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=(views, images, values)))


@fingerprints.task
def _features(weights: str, scale: Scale, images: Tensor) -> dict[str, Any]:
    """Return the features of one chunk of uint8 images, and the seconds that they took."""
    began = time.perf_counter()
    features = _features_of(_frozen(weights), images, scale)
    return {"features": features, "seconds": time.perf_counter() - began}


@functools.lru_cache(maxsize=1)
def _frozen(weights: str) -> nn.Module:
    return resnet.build(weights, 2, seed=0).to(pick_device())


def _features_of(model: nn.Module, images: Tensor, scale: Scale) -> Tensor:
    unlabelled = ImageSet(images, torch.zeros(len(images), dtype=torch.int64), ("none", "other"))
    return resnet.logits_and_features(model, unlabelled, scale)[1]


@dataclass(frozen=True)
class Adapted:
    """A network whose weights stay, while BatchNorm's statistics follow the training images."""

    weights: str  # as resnet.build takes them
    digest: str  # SHA-256 of these weights
    images: int  # training images, drawn by the seed as in `finetuning.Finetuning`
    seed: int
    updates: int  # of the statistics, one for each minibatch
    batch_size: int = 64
    augment: FlipAndCrop = FlipAndCrop()


def adapted_features(
    wanted: Sequence[Adapted], parts: Splits, scale: Scale, *, cache_dir: Path | None = None
) -> list[list[Tensor]]:
    """Return each network's features of its training images, the validation and the test images.

    The first are (2, images, 2048), as they are and mirrored, the others (N, 2048).
    """
    found = sweeps.map_cached(
        _adapted_features,
        {number: (each, parts.train.class_names, scale) for number, each in enumerate(wanted)},
        [tensor for images in parts for tensor in (images.images, images.labels)],
        [images.checksum for images in parts],
        title="adapted statistics",
        n_jobs=processes(),
        cache_dir=cache_dir,
    )
    return [[features[name] for name in parts._fields] for features in found.values()]


@fingerprints.task
def _adapted_features(
    adapted: Adapted, class_names: tuple[str, ...], scale: Scale, *tensors: Tensor
) -> dict[str, Any]:
    """Let the statistics follow minibatches, without a gradient, and return all features."""
    everything, validation, test = (
        ImageSet(images, labels, class_names)
        for images, labels in zip(tensors[::2], tensors[1::2], strict=True)
    )
    model = resnet.build(adapted.weights, len(class_names), adapted.seed).to(pick_device()).train()
    generator = torch.Generator().manual_seed(adapted.seed)
    train = everything.subset(stratified_order(everything.labels, generator)[: adapted.images])
    done = 0
    while done < adapted.updates:
        seen = adapted.augment(train, generator)
        for batch in loop.minibatches(len(seen), adapted.batch_size, generator):
            with torch.no_grad():
                model(scale(seen.images[batch].to(pick_device())))
            done += 1
            if done == adapted.updates:
                break
    views = [_features_of(model, view.images, scale) for view in (train, mirrored(train))]
    return {
        "train": torch.stack(views),
        "validation": _features_of(model, validation.images, scale),
        "test": _features_of(model, test.images, scale),
    }
