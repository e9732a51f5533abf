"""Finetuning all layers: several runs in parallel, each cached, checkpointed and scored once.

Which runs Problem 3 needs is said in `experiments`; the last layer alone is in `last_layer`.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw3utils import paths
from hw3utils.data.images import FlipAndCrop, ImageSet, Scale, Splits, take
from hw3utils.problem3 import resnet
from hw3utils.training import fingerprints, loop, sweeps, workers
from hw3utils.training.batches import accumulate_gradient
from hw3utils.training.runs import Run


@dataclass(frozen=True)
class Finetuning:
    """What is finetuned, and from where."""

    run: Run
    weights: str  # what the trunk starts from, as resnet.build takes it
    digest: str  # SHA-256 of these weights, so that others never share a cached result
    # Weight and bias that the last layer starts from; drawn from the run's seed where None.
    head: tuple[Tensor, Tensor] | None = None
    augment: FlipAndCrop | None = FlipAndCrop()  # changes the training images each epoch
    bf16: bool = False  # whether the network computes in bf16 (see compare_arithmetic)


@dataclass(frozen=True)
class Finetuned:
    """What finetuning left behind; all scores are those of the epoch best on validation data."""

    run: Run
    history: pd.DataFrame  # as in FitResult
    diverged: bool
    best_epoch: int  # from 1; 0 where not even the first epoch ended
    train_accuracy: float  # on the training images as they are, without augmentation
    validation_logits: Tensor  # (N, number of classes)
    test_logits: Tensor  # likewise; these images are looked at once, after the epoch is chosen
    validation_features: Tensor  # (N, 2048)
    moved: dict[str, float]  # see resnet.moved

    @property
    def seconds(self) -> float:
        """Wall-clock time of all epochs."""
        return float(self.history["seconds"].sum())


def finetune_all(
    wanted: Mapping[str, Finetuning],
    parts: Splits,
    scale: Scale,
    *,
    n_jobs: int | None = None,
    cache_dir: Path | None = None,
) -> dict[str, Finetuned]:
    """Finetune every network that is not in the cache yet, in parallel, and return all results.

    A checkpoint is written after each epoch; a run that was killed goes on from it and ends with
    the same numbers. A run that diverges is recorded as diverged and does not disturb the others.
    Raises a ValueError before anything is trained where a run does not fit the data.
    """
    cache_dir = Path(cache_dir) if cache_dir else paths.cache_dir()
    for finetuning in wanted.values():
        check_finetuning(finetuning, parts.train)
    checksums = [images.checksum for images in parts]
    keys: dict[str, str] = {}
    tasks: dict[str, tuple[Any, ...]] = {}
    for name, finetuning in wanted.items():
        arguments = (finetuning, parts.train.class_names, scale)
        key = keys[name] = sweeps.task_key(_finetune, arguments, checksums)
        tasks[key] = (*arguments, cache_dir / f"{key}.checkpoint")
    found = sweeps.map_cached(
        _finetune,
        tasks,
        [tensor for images in parts for tensor in (images.images, images.labels)],
        title="finetuning",
        note=lambda kept: {"loss": f"{kept['history']['train_loss'][-1]:.3f}"},
        n_jobs=n_jobs or workers.processes(),
        cache_dir=cache_dir,
    )
    for key in found:
        (cache_dir / f"{key}.checkpoint").unlink(missing_ok=True)
    results = {}
    for name, key in keys.items():
        history = pd.DataFrame(found[key]["history"])
        results[name] = Finetuned(run=wanted[name].run, **found[key] | {"history": history})
    return results


def check_finetuning(finetuning: Finetuning, train: ImageSet) -> None:
    """Raise a ValueError where a batch exceeds the training set or would be a single image."""
    for size in set(finetuning.run.batch_sizes):
        if size > len(train):
            raise ValueError(f"batch size {size} is larger than the {len(train)} training images")
        if size == 1 or len(train) % size == 1:
            raise ValueError(
                f"{len(train)} training images in batches of {size} leave a batch of one image, "
                "on which BatchNorm cannot train: choose another number of images"
            )


def estimate_seconds(
    wanted: Mapping[str, Finetuning], train: ImageSet, validation: ImageSet, scale: Scale
) -> float:
    """Return about how long `finetune_all` will take without a cache, from one batch of 16 images.

    Counts a third of a training step for each validation image, and the processes at work.
    """
    first = next(iter(wanted.values()))
    device = workers.pick_device()
    model = resnet.build(first.weights, train.num_classes, 0).to(device).train()
    under_autocast(model, torch.bfloat16 if first.bf16 else None)
    sample = take(train, min(16, len(train))).to(device)
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
    epochs = sum(finetuning.run.epochs for finetuning in wanted.values())
    return per_image * epochs * (len(train) + len(validation) / 3) / workers.processes()


@fingerprints.task
def _finetune(
    finetuning: Finetuning,
    class_names: tuple[str, ...],
    scale: Scale,
    checkpoint: Path,
    *tensors: Tensor,
) -> dict[str, Any]:
    """Finetune one network in this process, and score it once."""
    train, validation, test = (
        ImageSet(images, labels, class_names)
        for images, labels in zip(tensors[::2], tensors[1::2], strict=True)
    )
    run = finetuning.run
    model = resnet.build(finetuning.weights, len(class_names), run.seed)
    if finetuning.head is not None:
        with torch.no_grad():
            model.fc.weight.copy_(finetuning.head[0])
            model.fc.bias.copy_(finetuning.head[1])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.to(workers.pick_device())
    under_autocast(model, torch.bfloat16 if finetuning.bf16 else None)
    result = loop.fit(
        model, run, train, validation, scale,
        augment=finetuning.augment, checkpoint=checkpoint, progress=True,
    )  # fmt: skip
    # The last update may have been the one that was too large: its loss is not seen in training.
    finite = all(map(math.isfinite, result.history["validation_loss"]))
    model.load_state_dict(result.best_state)
    scored = result.history["validation_accuracy"].dropna()
    validation_logits, features = resnet.logits_and_features(model, validation, scale)
    train_logits, _ = resnet.logits_and_features(model, train, scale)
    return {
        "history": result.history.to_dict("list"),
        "diverged": result.diverged or not finite,
        "best_epoch": int(scored.idxmax()) + 1 if len(scored) else 0,
        "train_accuracy": (train_logits.argmax(1) == train.labels).float().mean().item(),
        "validation_logits": validation_logits,
        "validation_features": features,
        "moved": resnet.moved(before, result.best_state),
        "test_logits": resnet.logits_and_features(model, test, scale)[0],
    }


FASTER_BY = 1.2
LARGEST_LOSS_DIFFERENCE = 0.02
SMALLEST_GRADIENT_COSINE = 0.95


class Parity(NamedTuple):
    """bf16 autocast against float32 on one batch."""

    speed_up: float  # seconds of a float32 forward and backward pass divided by those in bf16
    loss_difference: float  # relative
    gradient_cosine: float  # between the two gradients of all parameters

    @property
    def use(self) -> bool:
        """Whether to use bf16: it computes the same but for rounding, and is clearly faster."""
        return (
            self.loss_difference <= LARGEST_LOSS_DIFFERENCE
            and self.gradient_cosine >= SMALLEST_GRADIENT_COSINE
            and self.speed_up >= FASTER_BY
        )


def under_autocast(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """Make the model's forward pass run in ``dtype`` where torch deems that safe; logits float32.

    None changes nothing. Works with every function that calls the model.
    """
    if dtype is None:
        return model
    device = next(model.parameters()).device.type
    forward = type(model).forward

    def mixed(images: Tensor) -> Tensor:
        with torch.autocast(device, dtype):
            return forward(model, images).float()

    model.forward = mixed
    return model


def compare_arithmetic(model: nn.Module, images: Tensor, labels: Tensor) -> Parity:
    """Run one batch through the model both ways; its weights and statistics stay as they were.

    ``images`` are (N, C, H, W) float32, as the network takes them, ``labels`` (N,) int64.
    """
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses, gradients, seconds = [], [], []
    for dtype in (None, torch.bfloat16):
        under_autocast(model, dtype)
        try:
            _gradient(model, images[:2], labels[:2])  # kernels are chosen on the first call
            began = time.perf_counter()
            loss, gradient = _gradient(model, images, labels)
            seconds.append(time.perf_counter() - began)
        finally:
            model.__dict__.pop("forward", None)
            model.zero_grad(set_to_none=True)
        losses.append(loss)
        gradients.append(gradient)
        model.load_state_dict(state)
    return Parity(
        speed_up=seconds[0] / seconds[1],
        loss_difference=abs(losses[1] - losses[0]) / abs(losses[0]),
        gradient_cosine=float(F.cosine_similarity(*gradients, dim=0)),
    )


def _gradient(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    model.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    parameters = [p for p in model.parameters() if p.grad is not None]
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
    return loss.item(), flat.double().cpu()
