"""The words in which Problem 4 says a difference, a mean, and what diverged."""

import pandas as pd

from hw3utils.problem4.tables import count_diverged
from hw3utils.training.intervals import Interval

MOST_POINTS = 100  # a wider interval says nothing: two seeds can give one
UNKNOWN = "cannot be told from 0"
DIVERGED = "Diverged, and left out of the means:"


def in_points(found: Interval) -> str:
    """Return a difference in percentage points, with its interval where that says anything."""
    if pd.isna(found.mean):
        return "unknown"
    parts = []
    if found.high - found.low < MOST_POINTS:
        parts.append(f"{found.low:+.1f} to {found.high:+.1f}")
    if found.sign == 0:
        parts.append(UNKNOWN)
    return f"{found.mean:+.1f} ({', '.join(parts)})".replace("-", "−")


def verdict(found: Interval, more: str, less: str, unknown: str) -> str:
    """Return ``more``, ``less`` or, where the interval holds zero or is not known, ``unknown``."""
    return {1: more, -1: less, 0: unknown}[found.sign]


def mean(rows: pd.DataFrame, column: str) -> str:
    """Return the mean of an accuracy as text; unknown where all runs diverged."""
    mean = rows[column].mean()
    return "unknown" if pd.isna(mean) else f"{mean:.1%}"


def diverged(table: pd.DataFrame, by: str, name: str = "{}") -> str:
    """Return a line on the arms that diverged, with how many of their seeds; none, no line."""
    counts = count_diverged(table, [by])
    parts = [
        f"{name.format(arm)} with {row['diverged']} of {row['seeds']} seeds"
        for arm, row in counts[counts["diverged"] > 0].iterrows()
    ]
    return f"\n{DIVERGED} {'; '.join(parts)}." if parts else ""


def paragraphs(*texts: str) -> str:
    """Return texts as Markdown, each of their lines a paragraph of its own."""
    return "\n\n".join(line for text in texts for line in text.splitlines())
