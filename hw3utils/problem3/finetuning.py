"""Finetuning all layers: several runs in parallel, each cached, checkpointed and scored once.

Which runs Problem 3 needs is said in `experiments`; the last layer alone is in `last_layer`.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hw3utils.data.images import FlipAndCrop, ImageSet, Scale, Splits, stratified_order, take
from hw3utils.problem3 import resnet
from hw3utils.problem3.arithmetic import under_autocast
from hw3utils.training import fingerprints, loop, sweeps, workers
from hw3utils.training.batches import accumulate_gradient, evaluate
from hw3utils.training.runs import Run


@dataclass(frozen=True)
class Finetuning:
    """What is finetuned, and from where."""

    run: Run  # its seed also draws the training images, in images.stratified_order
    images: int  # so many training images: fewer are a part of more
    weights: str  # what the trunk starts from, as resnet.build takes it
    digest: str  # SHA-256 of these weights, so that others never share a cached result
    # Weight and bias that the last layer starts from; drawn from the run's seed where None.
    head: tuple[Tensor, Tensor] | None = None
    head_factor: float = 1.0  # the last layer's learning rate is this multiple of the others'
    frozen_statistics: bool = False  # whether BatchNorm keeps normalising with ImageNet's
    augment: FlipAndCrop = FlipAndCrop()  # changes the training images each epoch
    bf16: bool = False  # whether the network computes in bf16 (see arithmetic)


@dataclass(frozen=True)
class Finetuned:
    """What finetuning left behind, after the epoch best on validation images unless it says more.

    The test images are looked at once by the network of that epoch, and once by the last one.
    """

    run: Run
    history: pd.DataFrame  # as in FitResult
    diverged: bool
    best_epoch: int  # from 1; 0 where not even the first epoch ended
    start_accuracy: float  # on the validation images, before the first update
    train_accuracy: float  # on the training images as they are, without augmentation
    validation_logits: Tensor  # (N, number of classes)
    test_logits: Tensor  # likewise
    final_test_logits: Tensor  # likewise, after the last epoch
    validation_features: Tensor  # (N, 2048)
    moved: dict[str, float]  # see resnet.moved

    @property
    def seconds(self) -> float:
        """Wall-clock time of all epochs."""
        return float(self.history["seconds"].sum())


def finetune_all(
    wanted: Mapping[Any, Finetuning],
    parts: Splits,
    scale: Scale,
    *,
    n_jobs: int | None = None,
    cache_dir: Path | None = None,
) -> dict[Any, Finetuned]:
    """Finetune every network that is not in the cache yet, in parallel, and return all results.

    A checkpoint is written after each epoch; a run that was killed goes on from it and ends with
    the same numbers. A run that diverges is recorded as diverged and does not disturb the others.
    Raises a ValueError before anything is trained where a run does not fit the data.
    """
    for finetuning in wanted.values():
        check_finetuning(finetuning, len(parts.train))
    found = sweeps.map_cached(
        _finetune,
        {name: (each, parts.train.class_names, scale) for name, each in wanted.items()},
        [tensor for images in parts for tensor in (images.images, images.labels)],
        [images.checksum for images in parts],
        title="finetuning",
        work={name: images_seen(each, parts) for name, each in wanted.items()},
        note=lambda kept: {"loss": f"{kept['history']['train_loss'][-1]:.3f}"},
        checkpoints=True,  # 0.3 GB each
        n_jobs=n_jobs or workers.processes(),
        cache_dir=cache_dir,
    )
    return {
        name: Finetuned(run=wanted[name].run, **kept | {"history": pd.DataFrame(kept["history"])})
        for name, kept in found.items()
    }


def check_finetuning(finetuning: Finetuning, available: int) -> None:
    """Raise a ValueError where there are too few images, or a batch would be a single image."""
    images = finetuning.images
    if images > available:
        raise ValueError(f"{images} training images asked for; there are {available}")
    for size in set(finetuning.run.batch_sizes):
        if size > images:
            raise ValueError(f"batch size {size} is larger than the {images} training images")
        if size == 1 or images % size == 1:
            raise ValueError(
                f"{images} training images in batches of {size} leave a batch of one image, "
                "on which BatchNorm cannot train: choose another number of images"
            )


def images_seen(finetuning: Finetuning, parts: Splits) -> float:
    """Return the work of a run in images trained on; one that is only looked at counts a third."""
    epochs = finetuning.run.epochs
    looked_at = epochs * len(parts.validation) + finetuning.images + 2 * len(parts.test)
    return epochs * finetuning.images + looked_at / 3


def estimate_seconds(wanted: Mapping[Any, Finetuning], parts: Splits, scale: Scale) -> float:
    """Return about how long `finetune_all` will take without a cache, from one minibatch.

    Counts `images_seen`, and the processes at work.
    """
    first = next(iter(wanted.values()))
    device = workers.pick_device()
    model = resnet.build(first.weights, parts.train.num_classes, 0).to(device).train()
    under_autocast(model, torch.bfloat16 if first.bf16 else None)
    sample = take(parts.train, min(first.run.batch_sizes[0], len(parts.train))).to(device)
    batch = torch.arange(len(sample), device=device)
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)  # as each process of `finetune_all` will have
    for _ in range(2):
        began = time.perf_counter()
        accumulate_gradient(model, sample, batch, scale)
        if device.type == "cuda":
            torch.cuda.synchronize()
        per_image = (time.perf_counter() - began) / len(sample)
    torch.set_num_threads(threads)
    work = sum(images_seen(finetuning, parts) for finetuning in wanted.values())
    return per_image * work / workers.processes()


@fingerprints.task
def _finetune(
    finetuning: Finetuning,
    class_names: tuple[str, ...],
    scale: Scale,
    checkpoint: Path,
    *tensors: Tensor,
) -> dict[str, Any]:
    """Finetune one network in this process, and score it."""
    everything, validation, test = (
        ImageSet(images, labels, class_names)
        for images, labels in zip(tensors[::2], tensors[1::2], strict=True)
    )
    run = finetuning.run
    order = stratified_order(everything.labels, torch.Generator().manual_seed(run.seed))
    train = everything.subset(order[: finetuning.images])
    model = resnet.build(finetuning.weights, len(class_names), run.seed)
    if finetuning.head is not None:
        with torch.no_grad():
            model.fc.weight.copy_(finetuning.head[0])
            model.fc.bias.copy_(finetuning.head[1])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if finetuning.frozen_statistics:
        resnet.freeze_statistics(model)
    model.to(workers.pick_device())
    under_autocast(model, torch.bfloat16 if finetuning.bf16 else None)
    start = evaluate(model, validation, scale)
    result = loop.fit(
        model, run, train, validation, scale,
        augment=finetuning.augment, rate_factors={"fc.": finetuning.head_factor},
        checkpoint=checkpoint,
    )  # fmt: skip
    # The last update may have been the one that was too large: its loss is not seen in training.
    finite = all(map(math.isfinite, result.history["validation_loss"]))
    scored = result.history["validation_accuracy"].dropna()
    best_epoch = int(scored.idxmax()) + 1 if len(scored) else 0
    final_logits, _ = resnet.logits_and_features(model, test, scale)
    test_logits = final_logits
    if best_epoch < len(result.history):
        model.load_state_dict(result.best_state)
        test_logits, _ = resnet.logits_and_features(model, test, scale)
    validation_logits, features = resnet.logits_and_features(model, validation, scale)
    train_logits, _ = resnet.logits_and_features(model, train, scale)
    return {
        "history": result.history.to_dict("list"),
        "diverged": result.diverged or not finite,
        "best_epoch": best_epoch,
        "start_accuracy": start.accuracy,
        "train_accuracy": (train_logits.argmax(1) == train.labels).float().mean().item(),
        "validation_logits": validation_logits,
        "validation_features": features,
        "moved": resnet.moved(before, result.best_state),
        "test_logits": test_logits,
        "final_test_logits": final_logits,
    }
