"""Comparing what a task's functions gave with what was expected, and naming the mistake.

A mistake is known by what it gives: for each typical one the wrong results are listed beside its
message. In the students' edition numbers that are themselves the answer stand as digests.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TODO = "NotImplementedError: task"  # and its name, of a case that nobody has written yet
DIGEST = "sha256:"


@dataclass(frozen=True)
class Expected:
    """What a task's cases should give, and what typical mistakes make of them."""

    cases: dict[str, Any]
    mistakes: list[tuple[str, dict[str, Any]]]  # message, the cases that it changes


@dataclass(frozen=True)
class Verdict:
    """The judgement on one task."""

    share: float  # of the points, 0 to 1
    messages: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything was right."""
        return self.share == 1


def judge(name: str, got: Any, expected: Expected, tolerance: float) -> Verdict:
    """Return the share of right groups of cases, and a message for each wrong group.

    A label "block 1: conv1_1" belongs to the group "block 1"; without a colon there is one group.
    """
    got = got if isinstance(got, dict) else {}
    groups: dict[str, list[str]] = {}
    for label in expected.cases:
        groups.setdefault(label.partition(": ")[0] if ": " in label else "", []).append(label)
    right = {
        label: agrees(name, got.get(label), wanted, tolerance)
        for label, wanted in expected.cases.items()
    }
    wrong = [[label for label in labels if not right[label]] for labels in groups.values()]
    messages = [_message(got, expected, labels, tolerance) for labels in wrong if labels]
    return Verdict(wrong.count([]) / len(groups), list(dict.fromkeys(messages)))


def _message(got: Mapping[str, Any], expected: Expected, wrong: list[str], tolerance: float) -> str:
    """Return the message of the mistake that explains most of the wrong cases, or the first one."""
    values = [got.get(label) for label in wrong] + [got.get("preparation")]
    for value in values:
        if isinstance(value, dict) and str(value.get("error", "")).startswith(TODO):
            return str(value["error"]).split(": ", 2)[-1].partition(" (line")[0]

    def explained(gives: dict[str, Any]) -> int:
        """Return how many of the wrong cases are what a mistake gives."""
        return sum(
            label in gives and same(got.get(label), gives[label], tolerance) for label in wrong
        )

    # Of those that explain as many, the one that changes least.
    best = max(expected.mistakes, key=lambda m: (explained(m[1]), -len(m[1])), default=None)
    if best and explained(best[1]):
        return best[0]
    label = wrong[0]
    value, wanted = got.get(label, got.get("preparation")), expected.cases[label]
    if isinstance(value, dict) and "error" in value:
        return f"{label}: {value['error']}"
    if isinstance(wanted, dict) and "curve" in wanted:
        bounds = value.get("bounds") if isinstance(value, dict) else value
        return f"{label}: {bounds_fault(*wanted['curve'], bounds)} ({_short(bounds)})"
    if isinstance(wanted, str) and wanted.startswith(DIGEST):
        if value is None:
            return f"{label}: nothing recorded yet"
        return f"{label}: {_short(value)} is not right"
    if wanted == "right":
        return f"{label}: {_short(value)}"
    return f"{label}: got {_short(value)}, expected {_short(wanted)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= 150 else text[:147] + "…"


def agrees(name: str, got: Any, expected: Any, tolerance: float) -> bool:
    """Tell whether a case is right: by its properties where a task has many right answers."""
    if name == "1.1 bounds":
        bounds = got.get("bounds") if isinstance(got, dict) else None
        return not bounds_fault(*expected["curve"], bounds)
    return same(got, expected, tolerance)


def same(got: Any, expected: Any, tolerance: float = 1e-4) -> bool:
    """Compare plain data: numbers nearly, everything else exactly, NaN equal to itself."""
    if isinstance(expected, str) and expected.startswith(DIGEST):
        return isinstance(got, int | float | str) and digest(got) == expected
    if isinstance(expected, bool) or isinstance(got, bool):
        return got is expected
    if isinstance(expected, int | float) and isinstance(got, int | float):
        try:
            near = math.isclose(got, expected, rel_tol=tolerance, abs_tol=min(tolerance, 1e-4) / 10)
        except OverflowError:
            return False
        return near or (got != got and expected != expected)
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        return got.keys() == expected.keys() and all(
            same(got[key], expected[key], tolerance) for key in expected
        )
    if isinstance(expected, Sequence) and isinstance(got, Sequence):
        if isinstance(expected, str) or isinstance(got, str):
            return got == expected
        pairs = zip(got, expected, strict=False)
        return len(got) == len(expected) and all(same(one, two, tolerance) for one, two in pairs)
    return type(got) is type(expected) and got == expected


def digest(value: float | str) -> str:
    """Return what stands for a number that is an answer; 3 and 3.0 are the same number."""
    whole = isinstance(value, float) and value.is_integer()
    text = f"hw3 {int(value) if whole else value}"
    return DIGEST + hashlib.sha256(text.encode()).hexdigest()[:16]


def bounds_fault(rates: Sequence[float], losses: Sequence[float], bounds: Any) -> str:
    """Return why two numbers are no useful bounds of this curve; empty where they are.

    Both are positive and in order, nothing at or below lr_max diverged, at lr_max half of the
    progress that is possible has been made, and at lr_min it has begun or is near.
    """
    numbers = isinstance(bounds, Sequence) and len(bounds) == 2
    # An int may be too large for a float, and a comparison does not mind.
    if not (numbers and all(isinstance(b, int | float) and abs(b) < math.inf for b in bounds)):
        return "two finite numbers are expected"
    low, high = bounds
    if not 0 < low < high:
        return "lr_min must be greater than 0 and below lr_max"
    diverged = [rate for rate, loss in zip(rates, losses, strict=True) if not math.isfinite(loss)]
    if diverged and high >= min(diverged) * 0.999:
        return "lr_max is a rate at which a run diverged, or above one"
    finite = [(r, x) for r, x in zip(rates, losses, strict=True) if math.isfinite(x)]
    logarithms, reached = np.log([rate for rate, _ in finite]), [loss for _, loss in finite]

    def progress(rate: float) -> float:
        """Return how far the loss has come at a rate, by straight lines over its logarithm."""
        loss = np.interp(math.log(rate), logarithms, reached)
        return (losses[0] - loss) / (losses[0] - min(reached))

    if progress(high) < 0.5:
        return "at lr_max little has been learned"
    if progress(low) < 0.05 and 20 * low < high:
        return "at lr_min nothing has been learned"
    return ""
