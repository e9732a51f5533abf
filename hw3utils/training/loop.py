"""The one training loop: SGD on the cross-entropy, as a `Run` describes it.

For a single run in this process. Many runs, in parallel and cached, are the business of `sweeps`.
"""

import dataclasses
import io
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from tqdm.auto import tqdm

from hw3utils import files
from hw3utils.checks import check_whole_number
from hw3utils.data.images import ImageSet, Scale
from hw3utils.training import fingerprints, networks
from hw3utils.training.batches import Evaluation, accumulate_within_memory, evaluate, zero_totals
from hw3utils.training.runs import FitResult, Run

DIVERGENCE_CHECK_EVERY = 50
DIVERGED_ABOVE_GUESSING = 4.0
DIVERGED_AT_THE_END = 1.1


def pick_device() -> torch.device:
    """Return the device to train on: cuda where there is one, else mps, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def fit(
    model: nn.Module,
    run: Run,
    train: ImageSet,
    validation: ImageSet,
    scale: Scale,
    *,
    augment: Callable[[ImageSet, Generator], ImageSet] | None = None,
    checkpoint: Path | None = None,
    progress: bool = False,
) -> FitResult:
    """Train ``model`` in place as ``run`` describes, with SGD on the cross-entropy.

    Parameters
    ----------
    model : Module
        Takes (N, C, H, W) float32 images, returns (N, num_classes) logits. Its device decides where
        the images are put, once.
    run : Run
        The description. The order of the images comes from a generator seeded with ``run.seed``.
    train, validation : ImageSet
        Every epoch sees each training image once; the last batch may be smaller.
    scale : Scale
        Turns uint8 images into the network's input.
    augment : callable, optional
        ``augment(images, generator)`` returns the training images as an epoch sees them.
    checkpoint : Path, optional
        A file written after each epoch. Where it is there already, training goes on from it and
        ends with the same weights and history as without the interruption.
    progress : bool
        Show a progress bar with loss and time left.

    Returns
    -------
    FitResult
        The history and weights; a run that diverges (see `has_diverged`) ends early, marked so.

    Raises
    ------
    ValueError
        A batch is larger than the training set, the network does not fit the images, or the
        checkpoint belongs to another run.
    """
    device = next(model.parameters()).device
    check_fits(model, run, train, validation, scale)
    train, validation = train.to(device), validation.to(device)
    optimizer = sgd(model, run)
    num_updates = run.num_updates(len(train))
    scheduler = run.schedule.build(optimizer, num_updates)
    order = torch.Generator().manual_seed(run.seed)
    micro_batch_size = run.micro_batch_size
    rows: list[dict[str, Any]] = []
    learning_rates: list[float] = []
    best_state, best_accuracy, diverged = _copy_state(model), -1.0, False
    described = _describe(run, train, validation, scale, augment) if checkpoint else ""
    if checkpoint and (saved := load_checkpoint(checkpoint, described)):
        restore_checkpoint(saved, model, optimizer, scheduler, order)
        rows, learning_rates, diverged = saved["rows"], saved["learning_rates"], saved["diverged"]
        best_state, best_accuracy = saved["best_state"], saved["best_accuracy"]
    done = len(learning_rates)
    with tqdm(
        total=num_updates, initial=done, disable=not progress, unit="update", leave=False
    ) as bar:
        for epoch in range(len(rows) + 1, run.epochs + 1):
            if diverged:
                break
            began = time.perf_counter()
            batch_size = run.batch_sizes[epoch - 1]
            images = augment(train, order) if augment else train
            model.train()
            totals = zero_totals(device)
            updates = seen = 0
            for indices in minibatches(len(images), batch_size, order):
                batch = indices.to(device)
                optimizer.zero_grad(set_to_none=True)
                batch_totals, micro_batch_size = accumulate_within_memory(
                    model, images, batch, scale, micro_batch_size
                )
                totals += batch_totals
                learning_rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
                updates += 1
                seen += len(batch)
                bar.update()
                if updates % DIVERGENCE_CHECK_EVERY == 0 and has_diverged(totals[0] / seen, train):
                    break
            loss, correct = (totals / seen).tolist()
            limit = DIVERGED_AT_THE_END if epoch == run.epochs else DIVERGED_ABOVE_GUESSING
            diverged = has_diverged(loss, train, limit)
            row = {"epoch": epoch, "batch_size": batch_size, "updates": updates}
            row |= _epoch_scores(model, loss, correct, diverged, validation, scale)
            rows.append(row | {"seconds": time.perf_counter() - began})
            bar.set_postfix(loss=f"{row['train_loss']:.3f}")
            if row["validation_accuracy"] > best_accuracy:
                best_state, best_accuracy = _copy_state(model), row["validation_accuracy"]
            if checkpoint:
                save_checkpoint(
                    checkpoint, described, model, optimizer, scheduler, order,
                    rows=rows, learning_rates=learning_rates, diverged=diverged,
                    best_state=best_state, best_accuracy=best_accuracy,
                )  # fmt: skip
    return FitResult(
        run=run,
        history=pd.DataFrame(rows),
        learning_rates=torch.tensor(learning_rates, dtype=torch.float64),
        state=_copy_state(model),
        best_state=best_state,
        diverged=diverged,
    )


def sgd(model: nn.Module, run: Run) -> torch.optim.SGD:
    """Return SGD over the parameters that need a gradient, set up as ``run`` describes."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(
        parameters,
        lr=run.schedule.lr,
        momentum=run.momentum,
        weight_decay=run.weight_decay,
        fused=parameters[0].device.type in ("cpu", "cuda"),
    )


def minibatches(num_images: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Return one epoch's minibatches: every index once, in an order drawn from ``generator``."""
    check_whole_number("num_images", num_images, at_least=0)
    check_whole_number("batch_size", batch_size)
    return iter(torch.randperm(num_images, generator=generator).split(batch_size))


def check_fits(
    model: nn.Module, run: Run, train: ImageSet, validation: ImageSet, scale: Scale
) -> None:
    """Refuse a run that cannot work, before any training.

    Raises
    ------
    ValueError
        A batch size exceeds the number of images, the validation images differ from the training
        images in shape or classes, the network does not take images of this shape, or it returns
        another number of logits than there are classes.
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
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            logits = model(scale(train.images[:1].to(device)))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"the network does not take images of shape {shape}: {reason}") from error
    finally:
        for module, mode in modes:
            module.training = mode
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


def _epoch_scores(
    model: nn.Module,
    loss: float,
    accuracy: float,
    diverged: bool,
    validation: ImageSet,
    scale: Scale,
) -> dict[str, float]:
    """Return the epoch's losses and accuracies; all NaN once it has diverged."""
    if diverged:
        loss = accuracy = math.nan
        validated = Evaluation(math.nan, math.nan)
    else:
        validated = evaluate(model, validation, scale)
    return {
        "train_loss": loss,
        "train_accuracy": accuracy,
        "validation_loss": validated.loss,
        "validation_accuracy": validated.accuracy,
    }


def _describe(run: Run, train: ImageSet, validation: ImageSet, scale: Scale, augment: Any) -> str:
    """Return what tells a checkpoint of this run from those of all others."""
    # A function's repr holds its address, which another process does not have.
    augmentation = getattr(augment, "__qualname__", augment)
    return f"{run} {train.checksum} {validation.checksum} {scale} {augmentation}"


def _copy_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def save_checkpoint(
    path: Path,
    description: str,
    model: torch.nn.Module,
    optimizer: Optimizer,
    scheduler: lr_scheduler.LRScheduler,
    order: Generator,
    **records: Any,
) -> None:
    """Write all that the next epoch depends on, atomically and with a checksum.

    Parameters
    ----------
    description : str
        Tells this run from every other; `load` demands the same.
    order : Generator
        The one that draws the order of the images.
    records
        Plain values and tensors: history, best state so far.
    """
    content = io.BytesIO()
    parts = {
        "description": description,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "order": order.get_state(),
    }
    torch.save(parts | records, content)
    files.write_checked(path, content.getvalue())


def load_checkpoint(path: Path, description: str) -> dict[str, Any] | None:
    """Return the parts that `save` wrote; None where there is no file, or a damaged one.

    Raises
    ------
    ValueError
        The checkpoint belongs to another run.
    """
    try:
        content = files.read_checked(path)
    except (FileNotFoundError, files.CorruptFileError):
        return None
    parts = torch.load(io.BytesIO(content), weights_only=True)
    if parts["description"] != description:
        raise ValueError(
            f"{path} is the checkpoint of another run; delete it or choose another name\n"
            f"found:    {parts['description']}\nexpected: {description}"
        )
    return parts


def restore_checkpoint(
    parts: dict[str, Any],
    model: torch.nn.Module,
    optimizer: Optimizer,
    scheduler: lr_scheduler.LRScheduler,
    order: Generator,
) -> None:
    """Put everything back as it was when the parts were saved."""
    model.load_state_dict(parts["model"])
    optimizer.load_state_dict(parts["optimizer"])
    scheduler.load_state_dict(parts["scheduler"])
    order.set_state(parts["order"])


@fingerprints.task
def fit_one(
    run: Run,
    class_names: tuple[str, ...],
    scale: Scale,
    train_images: Tensor,
    train_labels: Tensor,
    validation_images: Tensor,
    validation_labels: Tensor,
) -> dict[str, Any]:
    """Train one run and return its result as plain data."""
    train = ImageSet(train_images, train_labels, class_names)
    validation = ImageSet(validation_images, validation_labels, class_names)
    model = networks.build(run.model, train.num_classes, run.seed)
    result = fit(model, run, train, validation, scale)
    kept = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    del kept["run"]
    return kept | {"history": result.history.to_dict("list")}
