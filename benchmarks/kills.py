"""Kill a run of everything again and again, start it again each time, and compare how it ends.

    python -m benchmarks.kills [--kills 20] [--profile smoke] [--seed 0]

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

import nbformat

from hw3utils import execute, paths

DATASETS = ("FashionMNIST", "cifar-10-batches-bin", "weights", "torchvision")
DIFFERS = {"seconds", "environment", "estimate"}  # keys of the results that hold times
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


def without_times(value: object) -> object:
    """Return results without what a clock decided."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in DIFFERS}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def ending(output: Path) -> dict[str, str]:
    """Return a digest of each of a run's results, figures and notebooks' printed words."""
    found = {}
    for path in sorted((output / "answers" / "results").glob("*.json")):
        found[path.name] = json.dumps(without_times(json.loads(path.read_text(encoding="utf-8"))))
    for path in sorted((output / "figures").glob("*.png")):
        found[path.name] = path.read_bytes().hex()
    for problem in execute.PROBLEMS:
        notebook = execute.clean(nbformat.read(output / f"{problem}.ipynb", as_version=4))
        told = [cell_output.get("text", "") for cell in notebook.cells
                for cell_output in cell.get("outputs", [])]  # fmt: skip
        found[f"{problem}.ipynb"] = TIMES.sub("TIME", "".join(told))
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in found.items()}


def main() -> int:
    """Run undisturbed, run with kills, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--seed", type=int, default=0)
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
        done = 0
        began = time.monotonic()
        while done < asked.kills:
            process = start(data, killed, asked.profile)
            limit = moments.uniform(0, duration)
            try:
                if process.wait(limit) == 0:
                    print(f"done after {done} kills", flush=True)
                    shutil.rmtree(data / "cache")  # once more from nothing
                    continue
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            done += 1
            kept = len(list((data / "cache").glob("*.pt")))
            print(f"kill {done} after {limit:.0f} s, {kept} results kept", flush=True)
        if start(data, killed, asked.profile).wait():
            print((killed.parent / "killed.log").read_text()[-2000:])
            return 1
        print(f"{done} kills, all in all {time.monotonic() - began:.0f} s")
        before, after = ending(quiet), ending(killed)
        different = sorted(name for name in before if before[name] != after.get(name))
        print(f"{len(before)} results, figures and notebooks; different: {different or 'none'}")
        litter = [path.name for path in Path(folder).rglob("*.part")]
        print(f"temporary files left: {litter or 'none'}")
        return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
