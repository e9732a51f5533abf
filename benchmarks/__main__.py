"""All benchmarks, or some rows: the ways of a row take turns, each turn in a process of its own.

    python -m benchmarks [--only NAME …] [--turns 5] [--save]

NAME is a row, or "own" or "peers" for a group of them; the peers' packages come with
pip install -e '.[benchmark]'. After an interruption the same command goes on where it stopped.
`--save` puts the rows into benchmarks/results.json and refreshes README.md.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import growth, report
from benchmarks.rows import ROWS, needed
from hw3utils import files, paths
from hw3utils.report import publication

FOLDER = Path(__file__).parent
JOURNAL = paths.project_root() / "output" / "benchmarks" / "turns.json"
FEWEST_SAVED = 5


def main() -> int:
    """Measure, print, and with --save keep."""
    asked = _read()
    names = [
        name for name, row in ROWS.items() if not asked.only or {name, row.group} & {*asked.only}
    ]
    found = {}
    try:
        for name in names:
            found[name] = measured(name, asked.turns, asked.tiny)
            if asked.save:
                keep(name, found[name])
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on where it stopped.", file=sys.stderr)
        return 130
    print(report.everything(found))
    JOURNAL.unlink(missing_ok=True)
    return 0


def keep(name: str, row: dict[str, Any]) -> None:
    """Put a row among the results, and refresh the page."""
    kept = report.kept() | {name: row}
    files.save_json({name: kept[name] for name in ROWS if name in kept}, report.RESULTS)
    if name == "growth":
        growth.draw(report.curves(row), FOLDER)
    publication.refresh_texts()


def _read() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    groups = {row.group for row in ROWS.values()}
    choices = [*ROWS, *sorted(groups)]
    parser.add_argument("--only", nargs="+", choices=choices, metavar="NAME", default=[])
    parser.add_argument("--turns", type=int, default=FEWEST_SAVED)
    parser.add_argument("--tiny", action="store_true", help="a few images, to see that all works")
    parser.add_argument("--save", action="store_true")
    asked = parser.parse_args()
    if asked.turns < 1:
        parser.error("--turns: at least 1")
    if asked.save and (asked.tiny or asked.turns < FEWEST_SAVED):
        parser.error(f"--save keeps whole sizes and at least {FEWEST_SAVED} turns")
    return asked


def measured(name: str, turns: int, tiny: bool) -> dict[str, Any]:
    """Return a row's turns by way, with the machine and versions; go on with what was begun.

    Every turn is kept at once; turns of another machine, size or state of the code count as none.
    """
    row = ROWS[name]
    described = {"tiny": tiny, "code": _code(), "environment": environment(needed(row))}
    journal = json.loads(JOURNAL.read_text(encoding="utf-8")) if JOURNAL.is_file() else {}
    begun = journal.get(name, {})
    if any(begun.get(part) != value for part, value in described.items()):
        begun = described | {"turns": {way: [] for way in row.ways}}
    ways = list(row.ways)
    for number in range(turns):
        first = number % len(ways)  # so that none is always the one after the same other
        for way in ways[first:] + ways[:first]:
            if len(begun["turns"][way]) > number:
                continue
            print(f"{name}, turn {number + 1} of {turns}: {way} …", file=sys.stderr, flush=True)
            begun["turns"][way].append(_turn(name, way, number, tiny))
            files.save_json(journal | {name: begun}, JOURNAL)
    return {
        "environment": begun["environment"],
        "turns": {way: taken[:turns] for way, taken in begun["turns"].items()},
    }


def environment(packages: set[str]) -> dict[str, Any]:
    """Return hardware and versions, also of the peers' packages; end where one is missing."""
    found = files.environment()
    try:
        found["packages"] |= {package: version(package) for package in sorted(packages)}
    except PackageNotFoundError as error:
        sys.exit(f"{error.name} is not installed: pip install -e '.[benchmark]' brings all peers")
    return found


def _code() -> str:
    digest = hashlib.sha256()
    for package in (FOLDER, FOLDER.parent / "hw3utils"):
        for path in sorted(package.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _turn(name: str, way: str, number: int, tiny: bool) -> dict[str, Any]:
    """Return what one turn printed, and the seconds of its whole process, imports and all."""
    command = [sys.executable, "-m", "benchmarks.turn", name, way, str(number)]
    began = time.perf_counter()
    done = subprocess.run(
        command + ["--tiny"] * tiny, capture_output=True, text=True, cwd=FOLDER.parent
    )
    whole = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1]) | {"whole": whole}


if __name__ == "__main__":
    sys.exit(main())
