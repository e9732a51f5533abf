"""skorch: a network in scikit-learn's manner."""

from collections.abc import Callable
from typing import Any

import torch
from skorch import NeuralNetClassifier
from skorch.helper import predefined_split

from benchmarks.peers import data, loops
from benchmarks.rows import Turn


def sweep(turn: Turn, epochs: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Train one network after the other, each with a classifier of its own."""
    parts = data.fashion_mnist(turn)

    def fit(lr: float) -> tuple[int, float]:
        classifier = NeuralNetClassifier(
            data.network(),
            criterion=torch.nn.CrossEntropyLoss,
            optimizer=torch.optim.SGD,
            optimizer__momentum=data.MOMENTUM,
            lr=lr,
            max_epochs=epochs,
            batch_size=data.BATCH,
            classes=range(parts.train.num_classes),
            train_split=predefined_split(data.InMemory(parts.validation)),
            iterator_train__shuffle=True,
            iterator_train__collate_fn=data.as_it_is,
            iterator_valid__collate_fn=data.as_it_is,
            verbose=0,
        )
        classifier.fit(data.InMemory(parts.train), None)
        updates = sum(
            "train_loss" in batch for row in classifier.history for batch in row["batches"]
        )
        return updates, float(classifier.history[-1, "valid_acc"])

    return {"skorch": lambda: loops.told(fit(lr) for lr in data.rates(turn))}
