"""Each measurement by name, for a process of its own: ``python -m benchmarks.measurements NAME``.

A measurement times the plain way and this project's in turns and yields their seconds. The first
turn of each is a warm-up. Caches are not used.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import torch
from torch import Tensor

from benchmarks import textbook
from hw3utils.data import datasets
from hw3utils.data.images import ImageSet, Scale, Splits
from hw3utils.problem1 import experiments
from hw3utils.problem2.layers import layer_table, totals
from hw3utils.problem3 import last_layer, resnet
from hw3utils.problem3.arithmetic import under_autocast
from hw3utils.problem4.pseudo_labels import select_top_k
from hw3utils.settings import Problem1
from hw3utils.training import loop, networks, sweeps
from hw3utils.training.batches import accumulate_gradient
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant

CORES = joblib.cpu_count()
SIDE = 64  # pixels, in what concerns ResNet-50


class Turn(NamedTuple):
    """Seconds of the plain way and of ours; what ours computes (FLOP) or moves (bytes)."""

    plain: float
    ours: float
    flops: float = 0.0
    bytes_moved: float = 0.0
    threads: int = CORES


def seconds(function: Callable[[], object]) -> float:
    """Return how long one call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def step_flops(network: torch.nn.Module, shape: tuple[int, ...]) -> float:
    """Return the floating point operations of one image's training step: 3 × 2 × multiply-adds."""
    table = layer_table(network, shape)
    return 6.0 * totals(table)["multiply_accumulates"]


def fashion_mnist() -> Splits:
    """Return FashionMNIST as Problem 1 splits it."""
    return datasets.load_fashion_mnist(torch.Generator().manual_seed(0))


def our_epoch(train: ImageSet, threads: int) -> float:
    """Train LeNet-5 for one epoch with this project's step, and return the seconds it took."""
    torch.set_num_threads(threads)
    run = Run("lenet5", Constant(0.01), epochs=1)
    model = networks.build("lenet5", 10, 0)
    optimizer, order = loop.sgd(model, run), torch.Generator().manual_seed(0)
    model.train()

    def epoch() -> None:
        for batch in loop.minibatches(len(train), 64, order):
            optimizer.zero_grad(set_to_none=True)
            accumulate_gradient(model, train, batch, experiments.SCALE)
            optimizer.step()

    return seconds(epoch)


def training_loop() -> Iterator[Turn]:
    """One epoch of LeNet-5 on 48,000 images, all cores each."""
    train = fashion_mnist().train
    batches = textbook.loader(range(len(train)))
    flops = len(train) * step_flops(networks.LeNet5(), (1, 28, 28))
    while True:
        torch.set_num_threads(CORES)
        plain = textbook.epoch_seconds(networks.LeNet5(), batches)
        yield Turn(plain, our_epoch(train, CORES), flops)


def _sweep_seconds(parts: Splits, workers: int, epochs: int) -> float:
    settings = Problem1.for_profile("laptop", sweep_epochs=epochs)
    runs = experiments.learning_rate_runs(settings)
    with tempfile.TemporaryDirectory() as folder:
        return seconds(
            lambda: sweeps.fit_all(
                runs, parts.train, parts.validation, experiments.SCALE, n_jobs=workers,
                cache_dir=Path(folder),
            )
        )  # fmt: skip


def ten_rates() -> Iterator[Turn]:
    """Ten learning rates, five epochs each, in processes; the textbook loop one by one."""
    parts = fashion_mnist()
    images = len(parts.train)
    batches = textbook.loader(range(images))
    validation = textbook.loader(range(images, images + len(parts.validation)), shuffle=False)
    epochs = Problem1.for_profile("laptop").sweep_epochs
    flops = 10 * epochs * len(parts.train) * step_flops(networks.LeNet5(), (1, 28, 28))
    while True:
        torch.set_num_threads(CORES)
        model = networks.LeNet5()
        plain = textbook.epoch_seconds(model, batches)
        plain += textbook.validation_seconds(model, validation)
        yield Turn(10 * epochs * plain, _sweep_seconds(parts, CORES, epochs), flops)


def more_workers() -> Iterator[Turn]:
    """Ten learning rates, one epoch each: with one worker, and with one for each core."""
    parts = fashion_mnist()
    flops = 10 * len(parts.train) * step_flops(networks.LeNet5(), (1, 28, 28))
    while True:
        one = _sweep_seconds(parts, workers=1, epochs=1)
        yield Turn(one, _sweep_seconds(parts, CORES, epochs=1), flops)


def _resnet_inputs(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 10, (n,), generator=generator)


def _features(n: int, classes: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, 2048, generator=generator)
    return features, torch.randint(0, classes, (n,), generator=generator)


def cached_features() -> Iterator[Turn]:
    """Four last layers for 60 epochs: features computed once, or in every epoch for every rate."""
    torch.set_num_threads(CORES)
    images, labels = _resnet_inputs(128)
    shown = ImageSet(images, labels, tuple("0123456789"))
    network = resnet.freeze(resnet.random_resnet50(10))
    scale = Scale((0.5,) * 3, (0.5,) * 3)
    run = last_layer.HeadRun((1.0, 0.1, 0.01, 0.001), epochs=60)
    flops = 2 * len(images) * step_flops(network, (3, SIDE, SIDE)) / 3
    while True:
        began = time.perf_counter()
        features = resnet.logits_and_features(network, shown, scale)[1]
        one_pass = time.perf_counter() - began
        stack = torch.stack([features, features])
        stacked = seconds(lambda s=stack: last_layer.fit_heads(run, s, labels, s[0], labels, 10))
        yield Turn(4 * 60 * one_pass, 2 * one_pass + stacked, flops)  # ours: both mirror images


def stacked_heads() -> Iterator[Turn]:
    """Four last layers, one for each learning rate, on 896 images: as one stack, or one by one."""
    torch.set_num_threads(CORES)
    features, labels = _features(896)
    run = last_layer.HeadRun((1.0, 0.1, 0.01, 0.001), epochs=20)
    flops = 4 * 20 * len(features) * 4.0 * features.shape[1] * 10
    stack = features[None]
    while True:
        plain = seconds(
            lambda: [textbook.train_head(features, labels, 10, lr, 20) for lr in run.learning_rates]
        )
        ours = seconds(
            lambda: last_layer.fit_heads(run, stack, labels, features[:64], labels[:64], 10)
        )
        yield Turn(plain, ours, flops)


def _finetuning_step(network: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return seconds(step)


def channels_last() -> Iterator[Turn]:
    """One finetuning step of ResNet-50 on 32 images: channels last in memory, or first."""
    torch.set_num_threads(CORES)
    pixels, labels = _resnet_inputs(32)
    images = pixels.float() / 255
    last = resnet.random_resnet50(10).train()
    first = resnet.random_resnet50(10).to(memory_format=torch.contiguous_format).train()
    flops = len(images) * step_flops(last, (3, SIDE, SIDE))
    while True:
        plain = _finetuning_step(first, images.contiguous(), labels)
        ours = images.contiguous(memory_format=torch.channels_last)
        yield Turn(plain, _finetuning_step(last, ours, labels), flops)


def bf16() -> Iterator[Turn]:
    """One finetuning step under bf16 autocast or in float32, both with channels last."""
    torch.set_num_threads(CORES)
    pixels, labels = _resnet_inputs(32)
    images = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
    plain = resnet.random_resnet50(10).train()
    fast = under_autocast(resnet.random_resnet50(10).train(), torch.bfloat16)
    flops = len(images) * step_flops(plain, (3, SIDE, SIDE))
    while True:
        first = _finetuning_step(plain, images, labels)
        yield Turn(first, _finetuning_step(fast, images, labels), flops)


def top_k() -> Iterator[Turn]:
    """K = 1,000 and P = 10 from 100,000 images and 1,000 classes, against sorting everything."""
    generator = torch.Generator().manual_seed(0)
    prior = torch.randn(1_000, generator=generator)
    scores = (3 * torch.randn(100_000, 1_000, generator=generator) + prior).softmax(dim=1)
    while True:
        plain = seconds(lambda: textbook.select_top_k(scores.numpy(), 1_000, 10))
        ours = seconds(lambda: select_top_k(scores, 1_000, 10))
        yield Turn(plain, ours, bytes_moved=scores.numel() * 4)


def importing() -> Iterator[Turn]:
    """Import of what Problem 1's notebook imports; "plain" is torch, pandas and matplotlib."""

    def once(modules: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", f"import {modules}"]))

    while True:
        plain = once("torch, pandas, matplotlib.pyplot")
        yield Turn(plain, once("hw3utils.problem1.experiments, hw3utils.problem1.figures"))


MEASUREMENTS = {
    "LeNet-5, one epoch": training_loop,
    "ten learning rates": ten_rates,
    f"{CORES} workers against 1": more_workers,
    "last layers on cached features": cached_features,
    "4 last layers as a stack": stacked_heads,
    "ResNet-50, channels last": channels_last,
    "ResNet-50, bf16": bf16,
    "top K of a pool": top_k,
    "import": importing,
}


def measure(name: str, repetitions: int) -> dict[str, Any]:
    """Return the turns of a measurement after one to warm up, and the peak memory in MiB."""
    turns = MEASUREMENTS[name]()
    next(turns)
    kept = [next(turns) for _ in range(repetitions)]
    peaks = [resource.getrusage(who).ru_maxrss / 2**10
             for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]  # fmt: skip
    ours = statistics.median(turn.ours for turn in kept)
    return {
        "name": name,
        "what": MEASUREMENTS[name].__doc__.splitlines()[0],
        "plain": [turn.plain for turn in kept],
        "ours": [turn.ours for turn in kept],
        "gflops": kept[0].flops / ours / 1e9,
        "gbytes": kept[0].bytes_moved / ours / 1e9,
        "peak_mib": max(peaks),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=MEASUREMENTS)
    parser.add_argument("--repetitions", type=int, default=3)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.name, asked.repetitions)))
