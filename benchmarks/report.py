"""The benchmarks' table as Markdown, from what was measured."""

import json
import statistics
from pathlib import Path
from typing import Any

import pandas as pd

from hw3utils.text import machine, markdown

RESULTS = Path(__file__).with_name("results.json")


def kept() -> dict[str, Any]:
    """Return the results that were kept."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def step_table(found: dict[str, Any]) -> str:
    """Return where the milliseconds of a training step go."""
    whole = found["step"]["all"]
    rows = [
        {"part of a step": part, "ms": f"{ms:.2f}", "share": f"{ms / whole:.0%}"}
        for part, ms in found["step"].items()
    ]
    return markdown(pd.DataFrame(rows))


def table(found: dict[str, Any]) -> str:
    """Return one row for each measurement, and below it the machine and its limits."""
    rows = [_row(row, found) for row in found["rows"]]
    return (
        f"{markdown(pd.DataFrame(rows))}\n\n{machine(found)}. Measured limits: "
        f"{found['arithmetic']:.0f} GFLOP/s (float32 matrix product), "
        f"{found['bandwidth']:.1f} GB/s (copying)."
    )


def _row(row: dict[str, Any], found: dict[str, Any]) -> dict[str, str]:
    ratios = [plain / ours for plain, ours in zip(row["plain"], row["ours"], strict=True)]
    limit = "—"
    if row["gflops"]:
        limit = f"{row['gflops'] / found['arithmetic']:.0%} of the arithmetic"
    if row["gbytes"]:
        limit = f"{row['gbytes'] / found['bandwidth']:.0%} of the bandwidth"
    return {
        "what": f"**{row['name']}.** {row['what']}",
        "plain (s)": _short(statistics.median(row["plain"])),
        "ours (s)": _short(statistics.median(row["ours"])),
        "times as fast": f"{statistics.median(ratios):.2f}",
        "range": f"{min(ratios):.2f}–{max(ratios):.2f}, n = {len(ratios)}",
        "nearest limit": limit,
        "peak memory": f"{row['peak_mib']:.0f} MiB",
    }


def _short(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}"
