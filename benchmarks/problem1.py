"""Problem 1 against the textbook way: one training run, and the sweep over ten learning rates.

    python -m benchmarks.problem1 [--repetitions 5] [--epochs 5] [--images 48000]

The textbook way is a DataLoader with two workers, ToTensor and Normalize for each image, a plain
SGD step and ``.item()`` after each. Both ways take turns in one process, so that a noisy machine
is noisy for both; what is printed are ratios with their median and range. Caches are not used.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import joblib
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import FashionMNIST
from torchvision.transforms import Compose, Normalize, ToTensor

from benchmarks.ratios import described
from hw3utils import data, models, paths, profiles, results, sweeps, training
from hw3utils.evaluation import evaluate
from hw3utils.problem1 import SCALE, learning_rate_runs
from hw3utils.runs import Run
from hw3utils.schedules import Constant


def textbook_epoch(model: torch.nn.Module, lr: float, loader: DataLoader) -> float:
    """Train for one epoch as a tutorial would, and return the seconds it took."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    began = time.perf_counter()
    total = 0.0
    model.train()
    for X, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return time.perf_counter() - began


def our_epoch(model: torch.nn.Module, run: Run, train: data.ImageSet) -> float:
    """Train for one epoch with this project's step, and return the seconds it took."""
    optimizer = training.sgd(model, run)
    order = torch.Generator().manual_seed(0)
    began = time.perf_counter()
    model.train()
    totals = torch.zeros(2, dtype=torch.float64)
    for batch in training.minibatches(len(train), 64, order):
        optimizer.zero_grad(set_to_none=True)
        totals += training.accumulate_gradient(model, train, batch, SCALE)
        optimizer.step()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5, help="of each run of the sweep")
    parser.add_argument("--images", type=int, default=48_000)
    asked = parser.parse_args()

    cores = joblib.cpu_count()
    train, validation, _ = data.load_fashion_mnist(
        torch.Generator().manual_seed(0), n_train=asked.images
    )
    official = FashionMNIST(
        str(paths.data_dir()), transform=Compose([ToTensor(), Normalize(0.5, 0.5)])
    )
    loader = DataLoader(
        Subset(official, range(asked.images)), batch_size=64, shuffle=True, num_workers=2
    )
    machine = results.environment()
    print(f"{machine['processor']}, {cores} cores, torch {torch.__version__}")

    run = Run("lenet5", Constant(0.01), epochs=1)
    ratios, ours, theirs, single = [], [], [], []
    for repetition in range(asked.repetitions + 1):
        torch.set_num_threads(cores)
        textbook = textbook_epoch(models.LeNet5(), 0.01, loader)
        quick = our_epoch(models.build("lenet5", 10, 0), run, train)
        torch.set_num_threads(1)
        one_thread = our_epoch(models.build("lenet5", 10, 0), run, train)
        if repetition == 0:
            continue  # a warm-up
        ratios.append(textbook / quick)
        theirs.append(textbook)
        ours.append(quick)
        single.append(one_thread)
    print(described(f"one training run, {cores} threads each, time per epoch", ratios))
    print(
        f"  textbook {statistics.median(theirs):.2f} s, ours {statistics.median(ours):.2f} s, "
        f"ours on one thread {statistics.median(single):.2f} s"
    )

    settings = profiles.problem1("laptop", sweep_epochs=asked.epochs, n_train=asked.images)
    runs = learning_rate_runs(settings)
    with tempfile.TemporaryDirectory() as folder:
        seconds = {}
        for workers in sorted({1, cores}):
            place = Path(folder) / str(workers)
            began = time.perf_counter()
            sweeps.fit_all(
                runs, train, validation, SCALE, title=f"{workers} workers", n_jobs=workers,
                cache_dir=place,
            )  # fmt: skip
            seconds[workers] = time.perf_counter() - began
    torch.set_num_threads(cores)
    began = time.perf_counter()
    evaluate(models.build("lenet5", 10, 0), validation, SCALE)
    validating = time.perf_counter() - began
    textbook_sweep = [len(runs) * asked.epochs * (epoch + validating) for epoch in theirs]
    print(
        described(
            f"sweep of ten rates, {asked.epochs} epochs, against the textbook loop one by one",
            [sweep / seconds[cores] for sweep in textbook_sweep],
        )
    )
    print(f"  textbook {statistics.median(textbook_sweep):.0f} s (ten times its epochs), ours "
          f"{seconds[cores]:.0f} s with {cores} workers, {seconds[1]:.0f} s with one")  # fmt: skip
    print(f"  more workers, more speed: {seconds[1] / seconds[cores]:.2f}x with {cores} for 1")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"  largest process: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
