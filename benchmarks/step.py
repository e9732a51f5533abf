"""Where the milliseconds of one training step of LeNet-5 go."""

import itertools
import time
from collections.abc import Callable

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.peers.data import fashion_mnist
from benchmarks.rows import Turn
from hw3utils.data.images import ImageSet
from hw3utils.problem1 import experiments
from hw3utils.training import loop, networks
from hw3utils.training.batches import accumulate_gradient
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant

PARTS = {
    "convolutions, backward": ("convolution_backward",),
    "convolutions, forward": ("mkldnn_convolution", "_convolution"),
    "max pooling, forward and backward": ("max_pool2d",),
    "ReLU, forward and backward": ("threshold", "clamp_min", "relu"),
    "linear layers, forward and backward": ("addmm", "aten::mm", "aten::sum"),
    "optimiser and schedule": ("Optimizer", "sgd"),
    "choosing and scaling images": ("aten::index", "aten::copy_", "aten::sub_", "aten::div_"),
    "loss": ("softmax", "nll_loss", "argmax", "aten::eq"),
}


def step(turn: Turn) -> dict[str, Callable[[], dict[str, float]]]:
    """Take a step apart."""
    turns, steps = turn.few(8, 2), turn.few(40, 3)
    return {"ours": lambda: parts(fashion_mnist(turn).train, turns, steps)}


def parts(train: ImageSet, turns: int, steps: int) -> dict[str, float]:
    """Return the milliseconds of each part of a step on 64 images, one thread, and of all of it.

    Profiled and plain steps take turns; each figure is the median of the turns. The rest is what
    torch spends between its kernels, and Python.
    """
    torch.set_num_threads(1)
    model = networks.build("lenet5", 10, 0).train()
    optimizer = loop.sgd(model, Run("lenet5", Constant(0.01), epochs=1))
    order = torch.Generator().manual_seed(0)
    batches = itertools.cycle(loop.minibatches(len(train), 64, order))

    def work() -> float:
        began = time.perf_counter()
        for batch in itertools.islice(batches, steps):
            optimizer.zero_grad(set_to_none=True)
            accumulate_gradient(model, train, batch, experiments.SCALE)
            optimizer.step()
        return 1e3 * (time.perf_counter() - began) / steps

    work()
    found = pd.DataFrame([_profiled(work, steps) | {"all": work()} for _ in range(turns)]).median()
    whole = found.pop("all")
    return found.to_dict() | {"the rest": whole - found.sum(), "all": whole}


def _profiled(work: Callable[[], object], steps: int) -> dict[str, float]:
    """Return the milliseconds of each part in one of the steps that ``work`` does."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        work()
    found = dict.fromkeys(PARTS, 0.0)
    for event in recorded.key_averages():
        for part, names in PARTS.items():
            if any(name in event.key for name in names):
                found[part] += event.self_cpu_time_total / 1e3 / steps
                break
    return found
