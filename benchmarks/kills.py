"""Kill a run of everything again and again, start it again each time, and compare how it ends.

    python -m benchmarks.kills [--kills 20] [--profile smoke] [--seed 0] [--save]

Each kill is SIGKILL to the command and all that it started, at a random moment. Results, figures
and what notebooks print must then be as in a run that nobody disturbed. Both begin without a cache.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat

from hw3utils import files, paths
from hw3utils.report import notebooks

KEPT = Path(__file__).with_name("kills.json")
DATASETS = ("FashionMNIST", "cifar-10-batches-bin", "weights", "torchvision")
DIFFERS = {"seconds", "environment", "estimate", "speed_up"}  # keys of what a clock decided
TIMES = re.compile(r"[\d.]+ (s|min|seconds|minutes)\b|[\d.]+ times|about \d+ minutes")


def start(data: Path, output: Path, profile: str) -> subprocess.Popen:
    """Start the command in a session of its own."""
    command = [sys.executable, "-m", "hw3utils", "run", "--profile", profile, "--output", output]
    environment = os.environ | {"HW3_DATA": str(data)}
    with (output.parent / f"{output.name}.log").open("a") as log:
        return subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def with_datasets(folder: Path) -> Path:
    """Return a new data folder that holds the datasets and no cache."""
    folder.mkdir(parents=True)
    for name in DATASETS:
        if (paths.data_dir() / name).is_dir():
            shutil.copytree(paths.data_dir() / name, folder / name)
    return folder


def leaves(value: object, name: str) -> dict[str, str]:
    """Return every number and word of a result under its path, without what a clock decided."""
    if isinstance(value, dict):
        items = [(key, item) for key, item in value.items() if key not in DIFFERS]
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return {name: json.dumps(value)}
    return {
        path: leaf for key, item in items for path, leaf in leaves(item, f"{name}/{key}").items()
    }


def ending(output: Path) -> dict[str, str]:
    """Return a digest of each number of a run's results, each figure, each notebook's words."""
    found = {}
    for path in sorted((output / "answers" / "results").glob("*.json")):
        found |= leaves(json.loads(path.read_text(encoding="utf-8")), path.name)
    for path in sorted((output / "figures").glob("*.png")):
        found[path.name] = path.read_bytes().hex()
    for problem in notebooks.PROBLEMS:
        notebook = notebooks.clean(nbformat.read(output / f"{problem}.ipynb", as_version=4))
        told = [cell_output.get("text", "") for cell in notebook.cells
                for cell_output in cell.get("outputs", [])]  # fmt: skip
        found[f"{problem}.ipynb"] = TIMES.sub("TIME", "".join(told))
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in found.items()}


def told(found: dict[str, Any]) -> str:
    """Return in Markdown how a comparison ended."""
    rows = [
        "| kill | seconds after the start | results in the cache |",
        "|---:|---:|---:|",
        *(
            f"| {i} | {kill['after']:.0f} | {kill['kept']} |"
            for i, kill in enumerate(found["kills"], 1)
        ),
    ]
    names = ", ".join(f"`{name}`" for name in found["different"]) or "none"
    litter = ", ".join(f"`{name}`" for name in found["litter"]) or "none"
    return (
        f"Profile `{found['profile']}`; undisturbed {found['undisturbed']:.0f} s, with "
        f"{len(found['kills'])} kills and {len(found['done_after'])} runs that ended in between "
        f"{found['all']:.0f} s. Of {found['compared']} numbers, figures and notebooks "
        f"different: {names}. Temporary files left: {litter}.\n\n" + "\n".join(rows)
    )


def main() -> int:
    """Run undisturbed, run with kills, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="keep what is found: kills.json")
    asked = parser.parse_args()
    moments = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        quiet, killed = Path(folder) / "quiet", Path(folder) / "killed"
        began = time.monotonic()
        data = with_datasets(Path(folder) / "data-quiet")
        if start(data, quiet, asked.profile).wait():
            print((quiet.parent / "quiet.log").read_text()[-2000:])
            return 1
        duration = time.monotonic() - began
        print(f"undisturbed: {duration:.0f} s", flush=True)
        data = with_datasets(Path(folder) / "data-killed")
        kills: list[dict[str, float]] = []
        done_after: list[int] = []
        began = time.monotonic()
        while len(kills) < asked.kills:
            process = start(data, killed, asked.profile)
            limit = moments.uniform(0, duration)
            try:
                if process.wait(limit) == 0:
                    done_after.append(len(kills))
                    print(f"done after {len(kills)} kills", flush=True)
                    shutil.rmtree(data / "cache")  # once more from nothing
                    continue
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            kept = len(list((data / "cache").glob("*.pt")))
            kills.append({"after": limit, "kept": kept})
            print(f"kill {len(kills)} after {limit:.0f} s, {kept} results kept", flush=True)
        if start(data, killed, asked.profile).wait():
            print((killed.parent / "killed.log").read_text()[-2000:])
            return 1
        before, after = ending(quiet), ending(killed)
        found = {
            "profile": asked.profile,
            "undisturbed": duration,
            "all": time.monotonic() - began,
            "kills": kills,
            "done_after": done_after,
            "compared": len(before),
            "different": sorted(
                name for name in before | after if before.get(name) != after.get(name)
            ),
            "litter": [path.name for path in Path(folder).rglob("*.part")],
        }
    print(told(found))
    if asked.save:
        files.save_json(found, KEPT)
    return 1 if found["different"] or found["litter"] else 0


if __name__ == "__main__":
    sys.exit(main())
