"""What this machine can do at most, as far as torch can make it: arithmetic and memory."""

import time
from collections.abc import Callable

import torch

from benchmarks.rows import Turn


def best(function: Callable[[], object], repetitions: int = 7) -> float:
    """Return the shortest of several times, in seconds."""
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def arithmetic() -> float:
    """Return GFLOP/s of a float32 matrix product, 2048×2048, with all threads."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / best(lambda: a @ b) / 1e9


def bandwidth() -> float:
    """Return GB/s of copying 512 MB, each byte read once and written once."""
    source = torch.zeros(2**27)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / best(lambda: target.copy_(source)) / 1e9


def limits(turn: Turn) -> dict[str, Callable[[], dict[str, float]]]:
    """Measure both."""
    return {"ours": lambda: {"arithmetic": arithmetic(), "bandwidth": bandwidth()}}
