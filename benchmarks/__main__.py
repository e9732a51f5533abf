"""All benchmarks: one table, four plots, and what they were measured on.

    python -m benchmarks [--repetitions 3] [--only NAME …] [--save]

Each row is a process of its own, in which the plain way and ours take turns. Figures are ratios
with their median and range; `--save` keeps them in benchmarks/results.json and refreshes README.md.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import growth, report, step
from benchmarks.measurements import MEASUREMENTS
from hw3utils import files
from hw3utils.report import publication

FOLDER = Path(__file__).parent


def main() -> int:
    """Measure, print, and with --save keep."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, metavar="NAME", default=[])
    parser.add_argument("--save", action="store_true")
    asked = parser.parse_args()
    if asked.repetitions < 2:
        parser.error("--repetitions: at least 2, for a range")
    if asked.save and asked.only:
        parser.error("--save keeps a whole table: not with --only")

    found = {"environment": files.environment(), **_told("limits"), "rows": []}
    for name in asked.only or MEASUREMENTS:
        print(f"{name} …", file=sys.stderr, flush=True)
        found["rows"].append(_told("measurements", name, "--repetitions", str(asked.repetitions)))
    if not asked.only:
        print("growth …", file=sys.stderr, flush=True)
        found["growth"] = growth.measure(asked.repetitions)
        found["step"] = step.parts()
    print(report.table(found))
    if asked.save:
        files.save_json(found, FOLDER / "results.json")
        growth.draw(found["growth"], FOLDER)
        publication.refresh_texts()
    return 0


def _told(module: str, *arguments: str) -> dict[str, Any]:
    """Return the last line of what a module prints, in a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parent)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
