"""How the benchmarks print what they measured."""

import statistics


def described(name: str, ratios: list[float]) -> str:
    """Return a line with the median and the range of some ratios."""
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    return f"{name}: {middle:.2f}x (n={len(ratios)}, {low:.2f}–{high:.2f})"
