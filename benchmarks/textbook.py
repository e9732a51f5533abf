"""The plain ways: what a tutorial would write for the tasks that this project does otherwise."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import FashionMNIST
from torchvision.transforms import Compose, Normalize, ToTensor

from hw3utils import paths


def loader(images: range, shuffle: bool = True) -> DataLoader:
    """Return FashionMNIST in minibatches of 64, each image scaled as it is read, by two workers."""
    transform = Compose([ToTensor(), Normalize(0.5, 0.5)])
    official = FashionMNIST(str(paths.data_dir()), transform=transform)
    return DataLoader(Subset(official, images), batch_size=64, shuffle=shuffle, num_workers=2)


Batches = Iterable[tuple[Tensor, Tensor]]


def fit(
    model: nn.Module, train: Batches, validation: Batches, lr: float, epochs: int
) -> tuple[int, float]:
    """Train with SGD, validate after each epoch, return updates done and the last accuracy."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    updates = 0
    for _ in range(epochs):
        updates += epoch(model, optimizer, train)
        _, accuracy = validate(model, validation)
    return updates, accuracy


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches) -> int:
    """Train for one epoch and return the number of updates."""
    total, updates = 0.0, 0
    model.train()
    for X, y in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
        updates += 1
    return updates


def validate(model: nn.Module, batches: Batches) -> tuple[float, float]:
    """Return loss and accuracy."""
    total = correct = seen = 0.0
    model.eval()
    with torch.no_grad():
        for X, y in batches:
            logits = model(X)
            total += F.cross_entropy(logits, y).item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
            seen += len(y)
    return total / seen, correct / seen


def train_head(features: Tensor, labels: Tensor, classes: int, lr: float, epochs: int) -> nn.Linear:
    """Train one last layer on fixed features (N, D) with SGD, minibatch by minibatch."""
    head = nn.Linear(features.shape[1], classes)
    optimizer = torch.optim.SGD(head.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    for _ in range(epochs):
        for batch in torch.randperm(len(features)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(head(features[batch]), labels[batch]).backward()
            optimizer.step()
    return head


def select_top_k(scores: np.ndarray, k: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort every row to find its top P, then every class's images to find its top K."""
    top = np.argsort(-scores, axis=1)[:, :p]
    rows, labels, kept = np.repeat(np.arange(len(scores)), p), top.ravel(), []
    values = scores[rows, labels]
    for label in range(scores.shape[1]):
        members = np.flatnonzero(labels == label)
        kept.append(members[np.argsort(-values[members], kind="stable")[:k]])
    chosen = np.concatenate(kept)
    return labels[chosen], values[chosen]
