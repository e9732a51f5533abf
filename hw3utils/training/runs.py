"""Descriptions of training runs, and what a run leaves behind.

Plain data: a `Run` is what is cached, printed in tables, sent to another process and checked when
it is made; a `FitResult` is what `loop.fit` returns for it.
"""

import math
from dataclasses import dataclass, field

import pandas as pd
from torch import Tensor

from hw3utils.checks import check_whole_number
from hw3utils.training.schedules import Schedule


@dataclass(frozen=True)
class Run:
    """Everything that decides how a training run ends, apart from the images."""

    model: str  # a name that networks.build knows
    schedule: Schedule  # the learning rate of each update
    epochs: int  # passes over the training images
    batch_size: int | tuple[int, ...] = 64  # images for each update; a tuple: one for each epoch
    # Images that go through the network at once, where the batch is larger: this needs less memory
    # and leaves the gradient as it is (see batches.accumulate_gradient).
    micro_batch_size: int | None = None
    momentum: float = 0.9  # of SGD
    weight_decay: float = 0.0
    seed: int = 0  # decides the initial weights and the order of the images
    keep_states: bool = False  # whether the weights after every epoch are kept as well

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise TypeError(f"schedule={self.schedule!r}: must be a Schedule, like Constant(0.01)")
        check_whole_number("epochs", self.epochs)
        check_whole_number("seed", self.seed, at_least=0)
        if isinstance(self.batch_size, tuple) and len(self.batch_size) != self.epochs:
            raise ValueError(f"{len(self.batch_size)} batch sizes for {self.epochs} epochs")
        for size in self.batch_sizes:
            check_whole_number("batch_size", size)
        if self.micro_batch_size is not None:
            check_whole_number("micro_batch_size", self.micro_batch_size)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum}: must lie in [0, 1)")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay={self.weight_decay}: must be at least 0")

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch size of each epoch."""
        if isinstance(self.batch_size, tuple):
            return self.batch_size
        return (self.batch_size,) * self.epochs

    def num_updates(self, num_images: int) -> int:
        """Return the number of weight updates on ``num_images`` training images."""
        return sum(math.ceil(num_images / size) for size in self.batch_sizes)


@dataclass(frozen=True)
class FitResult:
    """What a training run left behind.

    ``history`` has one row for each epoch begun: ``epoch`` (from 1), ``batch_size``, ``updates``,
    ``train_loss``, ``train_accuracy`` (means over the epoch's images as they were trained on),
    ``validation_loss``, ``validation_accuracy`` (after the epoch), ``seconds``. Losses are
    cross-entropies in nats, accuracies fractions; all are NaN in an epoch that was broken off.
    """

    run: Run
    history: pd.DataFrame
    learning_rates: Tensor  # of each update: shape (updates,), float64
    state: dict[str, Tensor]  # the weights after the last epoch
    best_state: dict[str, Tensor]  # after the epoch best on validation images, the first of equals
    diverged: bool  # whether training broke off, or ended too high (see loop.has_diverged)
    # The weights after each epoch, where the run asks for them; empty otherwise.
    states: list[dict[str, Tensor]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Wall-clock time of all epochs."""
        return float(self.history["seconds"].sum())

    @property
    def final(self) -> pd.Series:
        """The last epoch's row of the history."""
        return self.history.iloc[-1]
