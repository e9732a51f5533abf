"""Checkpoints of a training run: whole or absent, and only ever resumed by the run they belong to.

For a run that is under way. Results of finished runs are kept by `sweeps` and `transfer`.
"""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Generator
from torch.optim import Optimizer, lr_scheduler

from hw3utils import storage

__all__ = ["load", "restore", "save"]


def save(
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
    storage.write_checked(path, content.getvalue())


def load(path: Path, description: str) -> dict[str, Any] | None:
    """Return the parts that `save` wrote; None where there is no file, or a damaged one.

    Raises
    ------
    ValueError
        The checkpoint belongs to another run.
    """
    try:
        content = storage.read_checked(path)
    except (FileNotFoundError, storage.CorruptFileError):
        return None
    parts = torch.load(io.BytesIO(content), weights_only=True)
    if parts["description"] != description:
        raise ValueError(
            f"{path} is the checkpoint of another run; delete it or choose another name\n"
            f"found:    {parts['description']}\nexpected: {description}"
        )
    return parts


def restore(
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
