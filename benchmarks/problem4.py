"""Selecting pseudo-labels from a pool of a million images, against a plain full sort.

    python -m benchmarks.problem4 [--images 1000000] [--classes 1000] [--k 1000] [--p 10]
                                  [--repetitions 3] [--folder DIR]

The scores lie in a file (4 GB at the default size; it is made first and deleted afterwards). The
plain way loads it, sorts every row and then every class's column. `select_top_k_from_chunks` reads
it in chunks. Each measurement is a process of its own, and the two take turns. Printed is the share
of labels with their scores that both select; of equal scores at a cut they may take different ones.
Peak memory is what the process took at most, libraries included; that of an idle process is printed
beside it. A plain sort that would not fit into the free memory is left out.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from hw3utils import results
from hw3utils.weak_supervision import select_top_k_from_chunks

CHUNK = 16_384
PLAIN_NEEDS = 4.5  # times the size of the scores: they, their negative, and int64 indices
MIB, GIB = 2**20, 2**30
Selection = tuple[np.ndarray, np.ndarray]  # labels and scores


def write_scores(path: Path, images: int, classes: int) -> None:
    """Write softmax outputs, float32, row after row; some classes are more likely than others."""
    generator = torch.Generator().manual_seed(0)
    prior = torch.randn(classes, generator=generator)
    with path.open("wb") as file:
        for start in tqdm(range(0, images, CHUNK), desc="making the scores", leave=False):
            n = min(CHUNK, images - start)
            logits = 3 * torch.randn(n, classes, generator=generator) + prior
            file.write(logits.softmax(dim=1).numpy())


def select_plainly(
    path: Path, images: int, classes: int, k: int, p: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sort every row to find its top P, then every class's images to find its top K."""
    scores = np.fromfile(path, np.float32, images * classes).reshape(-1, classes)
    top = np.argsort(-scores, axis=1)[:, :p]
    rows, labels, kept = np.repeat(np.arange(len(scores)), p), top.ravel(), []
    values = scores[rows, labels]
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        kept.append(members[np.argsort(-values[members], kind="stable")[:k]])
    chosen = np.concatenate(kept)
    return labels[chosen], values[chosen]


def select_in_chunks(
    path: Path, images: int, classes: int, k: int, p: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read the scores in chunks and keep only what may still be selected."""

    def chunks():
        with path.open("rb") as file:
            for start in range(0, images, CHUNK):
                n = min(CHUNK, images - start) * classes
                yield torch.from_numpy(np.fromfile(file, np.float32, n).reshape(-1, classes))

    found = select_top_k_from_chunks(chunks(), classes, k, p)
    return found.labels.numpy(), found.scores.numpy()


WAYS = {"plain": select_plainly, "chunks": select_in_chunks, "idle": None}


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def measure_here(way: str, path: Path, numbers: list[int]) -> None:
    """Run one way in this process, print seconds and peak memory, and save what was selected."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    if WAYS[way]:
        labels, scores = WAYS[way](path, *numbers)
        np.savez(selection_file(path, way), labels=labels, scores=scores)
    print(time.perf_counter() - began, peak_memory())


def selection_file(path: Path, way: str) -> Path:
    """Return where ``way`` saves its selection, beside the scores."""
    return path.with_suffix(f".{way}.npz")


def share_in_common(path: Path) -> float:
    """Return the share of pairs (label, score) of the plain selection that the other has too."""
    pairs = []
    for way in ("plain", "chunks"):
        with np.load(selection_file(path, way)) as found:
            bits = found["scores"].astype(np.float32).view(np.uint32).astype(np.int64)
            keys, counts = np.unique(found["labels"].astype(np.int64) << 32 | bits,
                                     return_counts=True)  # fmt: skip
        pairs.append((keys, counts))
    _, first, second = np.intersect1d(pairs[0][0], pairs[1][0], return_indices=True)
    common = np.minimum(pairs[0][1][first], pairs[1][1][second]).sum()
    return float(common / pairs[0][1].sum())


def measure(way: str, path: Path, numbers: list[int]) -> tuple[float, int]:
    """Do the same in a process of its own and return what it printed."""
    command = [sys.executable, "-m", "benchmarks.problem4", "--measure", way, "--file", str(path)]
    names = ("--images", "--classes", "--k", "--p")
    command += [text for pair in zip(names, map(str, numbers), strict=True) for text in pair]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(printed[0]), int(printed[1])


def free_memory() -> float:
    """Return the free memory in bytes, infinite where it cannot be told."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return float("inf")
    line = next(row for row in info.read_text().splitlines() if row.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def spread(values: list[float], unit: str, digits: int = 1) -> str:
    """Return median and range."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} {unit} ({low:.{digits}f}–{high:.{digits}f})"


def compare(path: Path, numbers: list[int], repetitions: int) -> None:
    """Measure both ways in turns on a pool of one size, and print a few lines."""
    images, classes, _, _ = numbers
    size = images * classes * 4
    fits = free_memory() > PLAIN_NEEDS * size
    found: dict[str, list[tuple[float, int]]] = {"chunks": [], "plain": []}
    for _ in range(repetitions):
        for way in ("plain", "chunks") if fits else ("chunks",):
            found[way].append(measure(way, path, numbers))
    print(f"\n{images:,} images × {classes:,} classes ({size / GIB:.2f} GiB), n = {repetitions}")
    for way, measured in found.items():
        if measured:
            times, peaks = [m[0] for m in measured], [m[1] / MIB for m in measured]
            print(f"  {way:6}  {spread(times, 's')}, peak memory {spread(peaks, 'MiB', 0)}")
    if not fits:
        print("  plain   left out: it would not fit into the free memory")
        return
    pairs = list(zip(found["plain"], found["chunks"], strict=True))
    faster, smaller = [a[0] / b[0] for a, b in pairs], [a[1] / b[1] for a, b in pairs]
    print(f"  ratio   {spread(faster, 'x')} faster, {spread(smaller, 'x')} less memory")
    print(f"  selected by both: {share_in_common(path):.5%}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--k", type=int, default=1_000)
    parser.add_argument("--p", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for the file of scores; default: temporary")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        numbers = [asked.images, asked.classes, asked.k, asked.p]
        measure_here(asked.measure, asked.file, numbers)
        return
    machine = results.environment()
    print(f"{machine['processor']}, one thread, torch {torch.__version__}")
    print(f"K = {asked.k:,}, P = {asked.p}; time includes reading the file")
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        path = Path(folder) / "scores.f32"
        write_scores(path, asked.images, asked.classes)
        idle = measure("idle", path, [1, asked.classes, asked.k, asked.p])[1]
        print(f"an idle process takes {idle / MIB:.0f} MiB")
        for images in (asked.images // 16, asked.images // 4, asked.images):
            numbers = [images, asked.classes, asked.k, asked.p]
            compare(path, numbers, asked.repetitions)


if __name__ == "__main__":
    main()
