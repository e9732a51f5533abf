"""The one training loop: SGD on the cross-entropy, as a `Run` describes it.

For a single run in this process. Many runs, in parallel and cached, are the business of `sweeps`.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from tqdm import tqdm

from hw3utils import files
from hw3utils.checks import check_whole_number
from hw3utils.data.images import ImageSet, Scale
from hw3utils.training.batches import (
    Evaluation,
    accumulate_within_memory,
    evaluate,
    evaluation_mode,
    zero_totals,
)
from hw3utils.training.runs import FitResult, Run

DIVERGENCE_CHECK_EVERY = 50
DIVERGED_ABOVE_GUESSING = 4.0
DIVERGED_AT_THE_END = 1.1


class _Live(NamedTuple):
    """What every update changes: together with the records, all that the next epoch depends on."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: lr_scheduler.LRScheduler
    order: Generator


@dataclass
class _Records:
    """What a run has left behind so far."""

    best_state: dict[str, Tensor]
    best_accuracy: float = -1.0
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the history
    learning_rates: list[float] = field(default_factory=list)
    states: list[dict[str, Tensor]] = field(default_factory=list)  # of each epoch, if asked for
    diverged: bool = False


def fit(
    model: nn.Module,
    run: Run,
    train: ImageSet,
    validation: ImageSet,
    scale: Scale,
    *,
    augment: Callable[[ImageSet, Generator], ImageSet] | None = None,
    rate_factors: Mapping[str, float] | None = None,
    checkpoint: Path | None = None,
    progress: bool = False,
) -> FitResult:
    """Train ``model`` in place as ``run`` describes, with SGD on the cross-entropy.

    Every epoch sees each training image once, in an order drawn from ``run.seed``; the last batch
    may be smaller. A run that diverges (see `has_diverged`) ends early, marked so. One that only
    ends too high is marked as well, and keeps its scores.

    Parameters
    ----------
    model : Module
        Takes (N, C, H, W) float32 images, returns (N, num_classes) logits. Its device decides where
        the images are put, once.
    scale : Scale
        Turns uint8 images into the network's input.
    augment : callable, optional
        ``augment(images, generator)`` returns the training images as an epoch sees them.
    rate_factors : mapping of str to float, optional
        Parameters whose names begin with one of these have their learning rate multiplied.
    checkpoint : Path, optional
        A file written after each epoch. Where it is there already, training goes on from it and
        ends with the same weights and history as without the interruption.
    progress : bool
        Show a progress bar with loss and time left.

    Raises
    ------
    ValueError
        A batch is larger than the training set, the network does not fit the images, the schedule
        does not keep the rates' factors, or the checkpoint belongs to another run.
    """
    check_fits(model, run, train, validation, scale)
    device = next(model.parameters()).device
    train, validation = train.to(device), validation.to(device)
    optimizer = sgd(model, run, rate_factors)
    num_updates = run.num_updates(len(train))
    before = [group["lr"] for group in optimizer.param_groups]
    scheduler = run.schedule.build(optimizer, num_updates)
    after = [group["lr"] for group in optimizer.param_groups]
    if not np.allclose(np.divide(after, after[-1]), np.divide(before, before[-1])):
        raise ValueError(f"{run.schedule} sets all learning rates itself: no factors then")
    live = _Live(model, optimizer, scheduler, torch.Generator().manual_seed(run.seed))
    records = _Records(_copy_state(model))
    described = (
        _describe(run, train, validation, scale, augment, rate_factors) if checkpoint else ""
    )
    if checkpoint and (saved := load_checkpoint(checkpoint, described)):
        records = restore_checkpoint(saved, live)
    micro_batch_size = run.micro_batch_size
    done = len(records.learning_rates)
    with tqdm(
        total=num_updates, initial=done, disable=not progress, unit="update", leave=False
    ) as bar:
        while len(records.rows) < run.epochs and not records.diverged:
            began = time.perf_counter()
            epoch = len(records.rows) + 1
            images = augment(train, live.order) if augment else train
            batch_size = run.batch_sizes[epoch - 1]
            trained = _train_epoch(live, images, batch_size, scale, micro_batch_size, bar)
            micro_batch_size = trained.micro_batch_size
            broken = has_diverged(trained.loss, train)
            limit = DIVERGED_AT_THE_END if epoch == run.epochs else DIVERGED_ABOVE_GUESSING
            records.diverged = broken or has_diverged(trained.loss, train, limit)
            records.learning_rates += trained.learning_rates
            row = {"epoch": epoch, "batch_size": batch_size, "updates": len(trained.learning_rates)}
            row |= _epoch_scores(model, trained, broken, validation, scale)
            records.rows.append(row | {"seconds": time.perf_counter() - began})
            bar.set_postfix(loss=f"{row['train_loss']:.3f}")
            if row["validation_accuracy"] > records.best_accuracy:
                records.best_state = _copy_state(model)
                records.best_accuracy = row["validation_accuracy"]
            if run.keep_states:
                records.states.append(_copy_state(model))
            if checkpoint:
                save_checkpoint(checkpoint, described, live, records)
    return FitResult(
        run=run,
        history=pd.DataFrame(records.rows),
        learning_rates=torch.tensor(records.learning_rates, dtype=torch.float64),
        state=_copy_state(model),
        best_state=records.best_state,
        diverged=records.diverged,
        states=records.states,
    )


class _Epoch(NamedTuple):
    """One epoch of training: mean loss (nats) and accuracy (fraction) of the images seen."""

    loss: float
    accuracy: float
    learning_rates: list[float]  # of each update
    micro_batch_size: int | None  # for the next epoch to begin with


def _train_epoch(
    live: _Live,
    images: ImageSet,
    batch_size: int,
    scale: Scale,
    micro_batch_size: int | None,
    bar: tqdm,
) -> _Epoch:
    """Go once through the images, one update for each minibatch; end early on divergence."""
    model, optimizer, scheduler, order = live
    model.train()
    totals = zero_totals(images.labels.device)
    learning_rates: list[float] = []
    seen = 0
    for indices in minibatches(len(images), batch_size, order):
        batch = indices.to(images.labels.device)
        optimizer.zero_grad(set_to_none=True)
        batch_totals, micro_batch_size = accumulate_within_memory(
            model, images, batch, scale, micro_batch_size
        )
        totals += batch_totals
        learning_rates.append(optimizer.param_groups[-1]["lr"])
        optimizer.step()
        scheduler.step()
        seen += len(batch)
        bar.update()
        if len(learning_rates) % DIVERGENCE_CHECK_EVERY == 0 and has_diverged(
            totals[0] / seen, images
        ):
            break
    loss, correct = (totals / seen).tolist()
    return _Epoch(loss, correct, learning_rates, micro_batch_size)


def sgd(
    model: nn.Module, run: Run, rate_factors: Mapping[str, float] | None = None
) -> torch.optim.SGD:
    """Return SGD over the parameters that need a gradient, set up as ``run`` describes.

    ``rate_factors`` as in `fit`; the last group of parameters is that of the rest.
    """
    left = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    groups = []
    for prefix, factor in (rate_factors or {}).items():
        chosen = [left.pop(name) for name in list(left) if name.startswith(prefix)]
        groups.append({"params": chosen, "lr": factor * run.schedule.lr})
    parameters = list(left.values())
    return torch.optim.SGD(
        [*groups, {"params": parameters}],
        lr=run.schedule.lr,
        momentum=run.momentum,
        weight_decay=run.weight_decay,
        fused=next(model.parameters()).device.type in ("cpu", "cuda"),
    )


def minibatches(num_images: int, batch_size: int, generator: Generator) -> Iterator[Tensor]:
    """Return one epoch's minibatches: every index once, in an order drawn from ``generator``."""
    check_whole_number("num_images", num_images, at_least=0)
    check_whole_number("batch_size", batch_size)
    return iter(torch.randperm(num_images, generator=generator).split(batch_size))


def check_fits(
    model: nn.Module, run: Run, train: ImageSet, validation: ImageSet, scale: Scale
) -> None:
    """Refuse a run that cannot work, before any training.

    Raises a ValueError where a batch size exceeds the number of images, the validation images
    differ from the training images in shape or classes, the network does not take images of this
    shape, or it returns another number of logits than there are classes.
    """
    if max(run.batch_sizes) > len(train):
        raise ValueError(
            f"batch size {max(run.batch_sizes)} is larger than the {len(train)} training images"
        )
    shape, other_shape = tuple(train.images.shape[1:]), tuple(validation.images.shape[1:])
    if shape != other_shape:
        raise ValueError(f"training images of shape {shape}, validation images of {other_shape}")
    if train.class_names != validation.class_names:
        raise ValueError("training and validation images do not have the same classes")
    device = next(model.parameters()).device
    try:
        with evaluation_mode(model):
            logits = model(scale(train.images[:1].to(device)))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"the network does not take images of shape {shape}: {reason}") from error
    if logits.shape != (1, train.num_classes):
        raise ValueError(
            f"{train.num_classes} classes need logits of shape (N, {train.num_classes}); "
            f"the network returns (N, {', '.join(map(str, logits.shape[1:]))})"
        )


def has_diverged(
    mean_loss: Tensor | float, images: ImageSet, limit: float = DIVERGED_ABOVE_GUESSING
) -> bool:
    """Tell whether a training loss is not finite, or above ``limit`` times that of guessing.

    Guessing costs ln(classes). During a run the limit is 4: a loss may rise for a while. A run that
    ends at more than 1.1 has learned nothing and lost what it had.
    """
    return not float(mean_loss) <= limit * math.log(images.num_classes)


def save_checkpoint(path: Path, description: str, live: _Live, records: _Records) -> None:
    """Write all that the next epoch depends on, atomically and with a checksum.

    ``description`` tells this run from every other; `load_checkpoint` demands the same.
    """
    parts = {part: getattr(live, part).state_dict() for part in ("model", "optimizer", "scheduler")}
    parts |= {"description": description, "order": live.order.get_state()}
    files.write_tensors(path, parts | {"records": vars(records)})


def load_checkpoint(path: Path, description: str) -> dict[str, Any] | None:
    """Return the parts that `save_checkpoint` wrote; None where the file is missing or damaged.

    Raises a ValueError where the checkpoint belongs to another run.
    """
    parts = files.read_tensors(path)
    if parts is not None and parts["description"] != description:
        raise ValueError(
            f"{path} is the checkpoint of another run; delete it or choose another name\n"
            f"found:    {parts['description']}\nexpected: {description}"
        )
    return parts


def restore_checkpoint(parts: dict[str, Any], live: _Live) -> _Records:
    """Put everything back as it was when the parts were saved, and return the records."""
    for part in ("model", "optimizer", "scheduler"):
        getattr(live, part).load_state_dict(parts[part])
    live.order.set_state(parts["order"])
    return _Records(**parts["records"])


def _epoch_scores(
    model: nn.Module, trained: _Epoch, diverged: bool, validation: ImageSet, scale: Scale
) -> dict[str, float]:
    """Return the epoch's losses and accuracies; all NaN once it has diverged."""
    nothing = Evaluation(math.nan, math.nan)
    seen = nothing if diverged else Evaluation(trained.loss, trained.accuracy)
    validated = nothing if diverged else evaluate(model, validation, scale)
    return {
        "train_loss": seen.loss,
        "train_accuracy": seen.accuracy,
        "validation_loss": validated.loss,
        "validation_accuracy": validated.accuracy,
    }


def _describe(run: Run, train: ImageSet, validation: ImageSet, *more: Any) -> str:
    """Return what tells a checkpoint of this run from those of all others."""
    # A function's repr holds its address, which another process does not have.
    described = [getattr(item, "__qualname__", item) for item in more]
    return f"{run} {train.checksum} {validation.checksum} {described}"


def _copy_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
