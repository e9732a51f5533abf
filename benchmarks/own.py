"""The plain way and ours for what this project does in a way of its own: no other library."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50

from benchmarks import textbook
from benchmarks.peers import data
from benchmarks.rows import CORES, Turn
from hw3utils.data.images import ImageSet, Scale
from hw3utils.problem1 import experiments
from hw3utils.problem2.layers import layer_table, totals
from hw3utils.problem3 import last_layer, resnet
from hw3utils.problem3.arithmetic import compare_arithmetic, under_autocast
from hw3utils.problem3.experiments import HEAD_RATES
from hw3utils.problem4.pseudo_labels import select_top_k
from hw3utils.training import loop, networks, sweeps
from hw3utils.training.batches import accumulate_gradient
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant

SIDE = 64  # pixels, in what concerns ResNet-50
Ways = dict[str, Callable[[], dict[str, Any] | None]]


def step_flops(network: nn.Module, shape: tuple[int, ...]) -> float:
    """Return the floating-point operations of one image's training step: 3 × 2 × multiply-adds."""
    return 6.0 * totals(layer_table(network, shape))["multiply_accumulates"]


def train_epoch(train: ImageSet) -> None:
    """Train LeNet-5 for one epoch with this project's step."""
    model = networks.build("lenet5", train.num_classes, 0).train()
    optimizer = loop.sgd(model, Run("lenet5", Constant(0.01), epochs=1))
    for batch in loop.minibatches(len(train), data.BATCH, torch.Generator().manual_seed(0)):
        optimizer.zero_grad(set_to_none=True)
        accumulate_gradient(model, train, batch, experiments.SCALE)
        optimizer.step()


def epoch(turn: Turn) -> Ways:
    """Train from bytes in memory, or through a DataLoader."""
    train = data.fashion_mnist(turn).train
    flops = len(train) * step_flops(networks.LeNet5(), (1, 28, 28))

    def ours() -> dict[str, float]:
        train_epoch(train)
        return {"flops": flops}

    def plain() -> None:
        model = data.network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=data.MOMENTUM)
        textbook.epoch(model, optimizer, textbook.loader(range(len(train))))

    return {"ours": ours, "plain": plain}


def workers(turn: Turn) -> Ways:
    """Train in a process for each core, or in one."""
    parts = data.fashion_mnist(turn)
    runs = [Run("lenet5", Constant(lr), 1, data.BATCH) for lr in data.rates(turn)]
    flops = len(runs) * len(parts.train) * step_flops(networks.LeNet5(), (1, 28, 28))

    def sweep(n_jobs: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            sweeps.fit_all(
                runs, parts.train, parts.validation, experiments.SCALE, n_jobs=n_jobs,
                cache_dir=Path(folder),
            )  # fmt: skip
        return {"flops": flops}

    return {"ours": lambda: sweep(CORES), "plain": lambda: sweep(1)}


def _photographs(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 10, (n,), generator=generator)


def cached_features(turn: Turn) -> Ways:
    """Pass each image and its mirror image once, or in every epoch for every rate."""
    images, labels = _photographs(turn.few(128, 64))
    shown = ImageSet(images, labels, tuple("0123456789"))
    network = resnet.freeze(resnet.random_resnet50(10))
    flops = 2 * len(images) * step_flops(network, (3, SIDE, SIDE)) / 3
    scale = Scale((0.5,) * 3, (0.5,) * 3)
    run = last_layer.HeadRun(HEAD_RATES, epochs=turn.few(10, 1))

    def features() -> Tensor:
        return resnet.logits_and_features(network, shown, scale)[1]

    def ours() -> dict[str, float]:
        stack = torch.stack([features(), features()])
        last_layer.fit_heads(run, stack, labels, stack[0], labels, 10)
        return {"flops": flops}

    def plain() -> None:
        for lr in HEAD_RATES:
            for _ in range(run.epochs):
                textbook.train_head(features(), labels, 10, lr, 1)  # as long as going on would

    return {"ours": ours, "plain": plain}


def _step(network: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], dict[str, float]]:
    """Return the work of one finetuning step, and its operations."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
    flops = len(images) * step_flops(network, (3, SIDE, SIDE))

    def step() -> dict[str, float]:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        return {"flops": flops}

    return step


def finetuning_step(turn: Turn) -> Ways:
    """Finetune ResNet-50 as this project makes it, or as torchvision does."""
    pixels, labels = _photographs(turn.few(32, 4))
    images = pixels.float() / 255
    last = images.contiguous(memory_format=torch.channels_last)
    return {
        "ours": _step(resnet.random_resnet50(10), last, labels),
        "plain": _step(resnet50(num_classes=10), images, labels),
    }


def arithmetic(turn: Turn) -> Ways:
    """Take bf16 where that is clearly faster and rounds little, else float32; or float32."""
    n = turn.few(32, 4)
    pixels, answers = _photographs(4 * n)
    every = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
    batches = list(zip(every.split(n), answers.split(n), strict=True))
    bf16 = compare_arithmetic(resnet.random_resnet50(10).train(), batches).use
    images, labels = batches[0]
    dtype = torch.bfloat16 if bf16 else None
    chosen = _step(under_autocast(resnet.random_resnet50(10), dtype), images, labels)
    name = "bf16" if bf16 else "float32"
    return {
        "ours": lambda: chosen() | {"arithmetic": name},
        "plain": _step(resnet.random_resnet50(10), images, labels),
    }


def top_k(turn: Turn) -> Ways:
    """Keep the best as they come, or sort everything."""
    generator = torch.Generator().manual_seed(0)
    prior = torch.randn(1_000, generator=generator)
    noise = torch.randn(turn.few(100_000, 2_000), 1_000, generator=generator)
    scores = (3 * noise + prior).softmax(dim=1)

    def ours() -> dict[str, float]:
        select_top_k(scores, 1_000, 10)
        return {"bytes": scores.numel() * 4}

    return {"ours": ours, "plain": lambda: textbook.select_top_k(scores.numpy(), 1_000, 10)}


def importing(turn: Turn) -> Ways:
    """Import in a new process."""

    def once(modules: str) -> None:
        subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)

    return {
        "ours": lambda: once("hw3utils.problem1.experiments, hw3utils.problem1.figures"),
        "plain": lambda: once("torch, pandas, matplotlib.pyplot"),
    }
