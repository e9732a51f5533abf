"""PyTorch Lightning: its Trainer and its Tuner."""

import tempfile
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.tuner import Tuner
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers import data, loops, searching
from benchmarks.rows import Turn


class Classifier(pl.LightningModule):
    """A network with its optimiser, as Lightning's first tutorial writes one."""

    def __init__(self, network: nn.Module, lr: float) -> None:
        super().__init__()
        self.network, self.lr = network, lr
        self.optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=data.MOMENTUM)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of a minibatch."""
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Log loss and accuracy of a minibatch."""
        images, labels = batch
        logits = self.network(images)
        self.log("validation_loss", F.cross_entropy(logits, labels))
        self.log("validation_accuracy", (logits.argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD."""
        return self.optimizer


def trainer(epochs: int, folder: str | None = None) -> pl.Trainer:
    """Return a Trainer that shows and keeps nothing."""
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )


def sweep(turn: Turn, epochs: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Train one network after the other, each with a Trainer of its own."""
    parts = data.fashion_mnist(turn)

    def fit(lr: float) -> tuple[int, float]:
        fitting = trainer(epochs)
        batches = data.loader(parts.train, shuffle=True), data.loader(parts.validation)
        fitting.fit(Classifier(data.network(), lr), *batches)
        return fitting.global_step, float(fitting.callback_metrics["validation_accuracy"])

    return {"Lightning": lambda: loops.told(fit(lr) for lr in data.rates(turn))}


def finder(turn: Turn, epochs: int) -> dict[str, Callable]:
    """Let the Tuner search, with its defaults."""
    parts = data.fashion_mnist(turn)
    module = Classifier(data.network(turn.number), lr=0.01)

    def search() -> tuple[float, int]:
        with tempfile.TemporaryDirectory() as folder:
            tuner = Tuner(trainer(epochs, folder))
            batches = data.loader(parts.train, shuffle=True)
            found = tuner.lr_find(module, batches, update_attr=False)
        return found.suggestion(), len(found.results["loss"])

    model, optimizer = module.network, module.optimizer
    return {"Lightning": searching.finding(turn, epochs, parts, model, optimizer, search)}
