"""What all peers of Problem 1's sweep and range test are given: images, batches, a network."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.rows import Turn
from hw3utils.data import datasets
from hw3utils.data.images import ImageSet, Splits
from hw3utils.problem1 import experiments
from hw3utils.training import networks

BATCH = experiments.REFERENCE_BATCH
MOMENTUM = 0.9


def fashion_mnist(turn: Turn) -> Splits:
    """Return FashionMNIST as Problem 1 splits it."""
    parts = datasets.load_fashion_mnist(torch.Generator().manual_seed(0))
    return parts.at_most(512, 200, 10) if turn.tiny else parts


def rates(turn: Turn) -> list[float]:
    """Return Problem 1's ten learning rates."""
    return experiments.candidate_learning_rates()[:: 3 if turn.tiny else 1]


def network(seed: int = 0) -> nn.Module:
    """Return LeNet-5 as torch makes it, with the weights that ours begins with."""
    torch.manual_seed(seed)
    return networks.LeNet5()


class InMemory(Dataset):
    """Images that are scaled once and handed out minibatch by minibatch."""

    def __init__(self, images: ImageSet) -> None:
        self.images = experiments.SCALE(images.images).contiguous()
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return one image and its label."""
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return a whole minibatch: a DataLoader asks for it in one go."""
        return self.images[indices], self.labels[indices]


def as_it_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return a minibatch that needs no collating."""
    return batch


def loader(images: ImageSet, shuffle: bool = False) -> DataLoader:
    """Return torch's DataLoader of images in memory."""
    return DataLoader(InMemory(images), BATCH, shuffle=shuffle, collate_fn=as_it_is)
