"""The benchmarks' tables and sentences in Markdown, from what was measured."""

import itertools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.rows import NEEDS, ROWS
from hw3utils.text import machine, markdown

RESULTS = Path(__file__).with_name("results.json")
_PEERS = {package for packages in NEEDS.values() for package in packages}
NEVER = "Not measured yet."
Found = dict[str, dict[str, Any]]  # rows as `__main__.measured` returns them, by name


def kept() -> Found:
    """Return the rows that were kept."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}


def everything(found: Found) -> str:
    """Return all tables of these rows."""
    tables = {"peers": peers, "own": own, "step": step_table}
    wanted = {"step"} & {*found} | {ROWS[name].group for name in found}
    return "\n\n".join(table(found) for name, table in tables.items() if name in wanted)


def peers(found: Found) -> str:
    """Return for each row with peers a table of the ways, who was faster, and on what machine."""
    told = []
    for name, row in ROWS.items():
        if row.group != "peers":
            continue
        told.append(f"### {row.what}")
        told += [row.note] if row.note else []
        told += _peers_of(found[name]) if name in found else [NEVER]
    return "\n\n".join(told)


def _peers_of(measured: dict[str, Any]) -> list[str]:
    turns = measured["turns"]
    rows = [_facts(way, taken) for way, taken in turns.items()]
    sentences = " ".join(verdict(way, turns) for way in list(turns)[1:])
    return [markdown(pd.DataFrame(rows).fillna("—")), sentences, f"{_where(measured)}."]


def _facts(way: str, taken: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return a line of a row's table: a column for the seconds and for each thing found."""
    line = {"way": way, "seconds": _spread([turn["seconds"] for turn in taken])}
    line["whole process"] = _spread([turn["whole"] for turn in taken])
    for name in taken[0]["found"] or ():
        line[name] = _spread([turn["found"][name] for turn in taken])
    line["peak memory"] = f"{max(turn['peak_mib'] for turn in taken):,.0f} MiB"
    return line


def _spread(values: Sequence[Any]) -> str:
    """Return what all turns found, or the median with the range of numbers that differ."""
    if any(isinstance(value, bool) for value in values):
        right = sum(values)
        return {len(values): "yes", 0: "no"}.get(right, f"in {right} of {len(values)}")
    known = [value for value in values if value is not None]
    told = f"diverged in {len(values) - len(known)} of {len(values)}"
    lost = [told] if len(known) < len(values) else []
    if len({*known}) < 2 or any(isinstance(value, str) for value in known):
        return "; ".join([*dict.fromkeys(map(_short, known)), *lost])
    low, middle, high = (_short(f(known)) for f in (min, statistics.median, max))
    return "; ".join([*lost, f"{middle} ({low}–{high})"])


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}"


def ratios(way: str, turns: dict[str, list[dict[str, Any]]]) -> list[float]:
    """Return for each turn how many times as long a way took as ours, which is the first."""
    ours = next(iter(turns.values()))
    return [turn["seconds"] / base["seconds"] for turn, base in zip(turns[way], ours, strict=True)]


def verdict(way: str, turns: dict[str, list[dict[str, Any]]]) -> str:
    """Return a sentence that says which was faster, a way or ours, or that it cannot be told."""
    found = ratios(way, turns)
    if min(found) > 1:
        return f"Ours took less time than {way}: {_times(found)}."
    if max(found) < 1:
        return f"**{way} took less time than ours**: {_times([1 / ratio for ratio in found])}."
    return f"Which is faster, ours or {way}, cannot be told: {_times(found)} in favour of ours."


def _times(found: Sequence[float]) -> str:
    return f"{statistics.median(found):.2f} times ({_range(found)})"


def _range(found: Sequence[float]) -> str:
    return f"{min(found):.2f}–{max(found):.2f}, n = {len(found)}"


def own(found: Found) -> str:
    """Return one table of the rows without peers, and below it the machine and its limits."""
    measured = found.get("limits")
    limits = measured["turns"]["ours"][0]["found"] if measured else {}
    names = [name for name, row in ROWS.items() if "plain" in row.ways and name in found]
    tables = []
    for where, group in itertools.groupby(names, lambda name: _where(found[name])):
        here = limits if measured and _where(measured) == where else {}
        lines = pd.DataFrame([_line(name, found[name]["turns"], here) for name in group])
        tables.append(f"{markdown(lines)}\n\n{where}.")
    if limits:
        tables.append(
            f"Measured limits: {limits['arithmetic']:.0f} GFLOP/s (float32 matrix product), "
            f"{limits['bandwidth']:.1f} GB/s (copying), on {_where(measured)}."
        )
    return "\n\n".join(tables) or NEVER


def _line(name: str, turns: dict[str, Any], limits: dict[str, float]) -> dict[str, str]:
    seconds = {way: statistics.median(turn["seconds"] for turn in turns[way]) for way in turns}
    result = turns["ours"][0]["found"] or {}
    gain = ratios("plain", turns)
    share = "—"
    for what, limit in (("flops", "arithmetic"), ("bytes", "bandwidth")):
        if what in result and limit in limits:
            share = f"{result[what] / seconds['ours'] / 1e9 / limits[limit]:.0%} of the {limit}"
    return {
        "what": f"**{name}.** {ROWS[name].what}" + _choice(result),
        "plain (s)": _short(seconds["plain"]),
        "ours (s)": _short(seconds["ours"]),
        "times as fast": f"{statistics.median(gain):.2f}",
        "range": _range(gain),
        "nearest limit": share,
        "peak memory": f"{max(turn['peak_mib'] for turn in turns['ours']):,.0f} MiB",
    }


def _choice(result: dict[str, Any]) -> str:
    return f" (here {result['arithmetic']})" if "arithmetic" in result else ""


def step_table(found: Found) -> str:
    """Return where the milliseconds of a training step go: medians of the turns."""
    if "step" not in found:
        return NEVER
    parts = pd.DataFrame([turn["found"] for turn in found["step"]["turns"]["ours"]]).median()
    rows = [
        {"part of a step": part, "ms": f"{ms:.2f}", "share": f"{ms / parts['all']:.0%}"}
        for part, ms in parts.items()
    ]
    return f"{markdown(pd.DataFrame(rows))}\n\n{_where(found['step'])}."


def curves(measured: dict[str, Any]) -> dict[str, list[list[float]]]:
    """Return for each panel of the growth its sizes, and the fewest seconds of each."""
    turns = [turn["found"] for turn in measured["turns"]["ours"]]
    return {
        name: [sizes, [min(each) for each in zip(*(turn[name][1] for turn in turns), strict=True)]]
        for name, (sizes, _) in turns[0].items()
    }


def _where(measured: dict[str, Any]) -> str:
    """Return the machine, torch and what other packages the row needed."""
    packages = measured["environment"]["packages"]
    others = [name for name in packages if name in _PEERS]
    return ", ".join([machine(measured), *(f"{name} {packages[name]}" for name in others)])
