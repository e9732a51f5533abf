"""One turn of one way, in a process of its own: ``python -m benchmarks.turn ROW WAY NUMBER``.

Prints its seconds, its peak memory and what it found, as a line of JSON.
"""

import argparse
import json
import pkgutil
import resource
import time
from typing import Any

from benchmarks.rows import ROWS, Turn


def take(name: str, way: str, turn: Turn) -> dict[str, Any]:
    """Do the work of a way, timed, and return what is to be known of it."""
    row = ROWS[name]
    work = pkgutil.resolve_name(row.ways[way])(turn, **row.options)[way]
    if row.warm:
        work()
    began = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "peak_mib": max(_peak_mib(resource.RUSAGE_SELF), _peak_mib(resource.RUSAGE_CHILDREN)),
        "found": found() if callable(found) else found,
    }


def _peak_mib(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 2**10


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("way")
    parser.add_argument("number", type=int)
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    print("\n" + json.dumps(take(asked.row, asked.way, Turn(asked.number, asked.tiny))))
