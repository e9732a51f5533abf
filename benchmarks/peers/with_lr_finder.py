"""torch-lr-finder: a range test as a class."""

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch_lr_finder import LRFinder

from benchmarks.peers import data, searching
from benchmarks.rows import Turn


def finder(turn: Turn, epochs: int) -> dict[str, Callable]:
    """Let its range test search from the rate of its own example on, and reset the network."""
    parts = data.fashion_mnist(turn)
    model = data.network(turn.number)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7, momentum=data.MOMENTUM)

    def search() -> tuple[float, int]:
        testing = LRFinder(model, optimizer, torch.nn.CrossEntropyLoss())
        testing.range_test(data.loader(parts.train, shuffle=True))
        _, lr = testing.plot(ax=Figure().subplots())
        testing.reset()
        return lr, len(testing.history["loss"])

    return {"torch-lr-finder": searching.finding(turn, epochs, parts, model, optimizer, search)}
