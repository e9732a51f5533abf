"""Features of a frozen network: computed once for each image and each mirror image, kept on disk.

For the expensive half of shallow learning. The cheap half, the last layer, is in `heads`.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hw3utils import backbones, inputs, keras_weights, pretrained, sweeps
from hw3utils.data import ImageSet, Scale
from hw3utils.inputs import mirrored
from hw3utils.training import pick_device

__all__ = ["Extracted", "extract", "processes"]

CHUNK = 256
_MODULES = (backbones, inputs, keras_weights, pretrained)


class Extracted(NamedTuple):
    """Features of several image sets, and what they cost when they were computed.

    ``features`` holds for each set (1 or 2, N, 2048) float32, index 1 being the mirror images;
    ``seconds`` are those of all processes added up.
    """

    features: list[Tensor]
    seconds: float


def extract(
    weights: str,
    digest: str,
    sets: Sequence[tuple[ImageSet, bool]],
    scale: Scale,
    *,
    n_jobs: int | None = None,
    cache_dir: Path | None = None,
) -> Extracted:
    """Return the features of each set; what is on disk already is not computed again.

    Kept in chunks under a key made of weights, preprocessing, images, dtype (float32) and code: an
    interrupted extraction goes on where it stopped.

    Parameters
    ----------
    weights : str
        As `backbones.build` takes them, and the ``digest`` of their tensors.
    sets : sequence of (ImageSet, bool)
        Images, and whether their mirror images' features are wanted too.
    """
    tasks: dict[str, tuple[Any, ...]] = {}
    plan: list[list[list[str]]] = []
    for images, with_mirror in sets:
        views = [images, mirrored(images)] if with_mirror else [images]
        plan.append([[] for _ in views])
        for keys, view in zip(plan[-1], views, strict=True):
            for part in view.images.split(CHUNK):
                arguments = (weights, scale, part)
                key = sweeps.task_key(_features, (digest, *arguments), (), _MODULES)
                tasks[key] = arguments
                keys.append(key)
    found = sweeps.map_cached(
        _features, tasks, title="features", n_jobs=n_jobs or processes(), cache_dir=cache_dir
    )
    features = [
        torch.stack([torch.cat([found[key]["features"] for key in keys]) for keys in views])
        for views in plan
    ]
    return Extracted(features, sum(chunk["seconds"] for chunk in found.values()))


def processes() -> int:
    """Return how many processes to use: one for each GPU, else as `sweeps.num_workers` says."""
    if pick_device().type == "cpu":
        return sweeps.num_workers()
    return max(1, torch.cuda.device_count())


def _features(weights: str, scale: Scale, images: Tensor) -> dict[str, Any]:
    """Return the features of one chunk of uint8 images, and the seconds that they took."""
    model = backbones.build(weights, 2, seed=0).to(pick_device())
    unlabelled = ImageSet(images, torch.zeros(len(images), dtype=torch.int64), ("none", "other"))
    began = time.perf_counter()
    features = backbones.logits_and_features(model, unlabelled, scale)[1]
    return {"features": features, "seconds": time.perf_counter() - began}
