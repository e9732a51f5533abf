#!/usr/bin/env python3
"""One command for everything: environment, data, notebooks, HTML. Needs Python alone.

    python3 run.py                     run all problems (profile laptop)
    python3 run.py --only problem1     run one of them
    python3 run.py --profile smoke     a quick look that everything works
    python3 run.py test                run all tests
    python3 run.py check               style, texts, links, notebooks' outputs: trains nothing

Each command can be interrupted and resumed, from any folder: what is done is skipped.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCK = ROOT / "requirements.lock"
STAMP = ENVIRONMENT / "installed.sha256"
OLDEST_PYTHON = (3, 10)
NEEDED_BYTES = 10 * 2**30
INTERRUPTED, OUTPUT_CLOSED = 130, 141  # as shells count them: 128 and the signal's number
GOODBYE_SECONDS = 20  # in which what was interrupted may tidy up and say what is kept
TOLD_OF_PIP = ("Collecting", "Downloading", "Installing")
QUICK_TESTS = ["test_environment", "report/test_notebooks", "test_texts"]
# A file's tests stay together: nbval's cells share a kernel, and tests share costly fixtures. Files
# with few tests are often the slow ones, and are not left to the end. One process more than cores:
# some tests wait for a browser, or for a process that they started.
ON_ALL_CORES = [
    f"--numprocesses={min(4, (os.cpu_count() or 1) + 1)}", "--dist=loadfile",
    "--no-loadscope-reorder",
]  # fmt: skip


def main() -> int:
    """Set up what is missing, then run the notebooks or the tests; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal without "…" is no reason to stop
    command, words = parse(sys.argv[1:])
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        print(f"run.py: Python {found} is too old; 3.10 or newer is needed", file=sys.stderr)
        return 2
    try:
        make_environment()
        if command == "check":
            return check()
        if command == "test":
            return _module("hw3utils", "data") or _module("pytest", *ON_ALL_CORES, *words)
        return _module("hw3utils", "run", *words)
    except subprocess.CalledProcessError as error:
        print(f"run.py: {' '.join(map(str, error.cmd))} failed (see above)", file=sys.stderr)
        print("run.py: mend the cause and give the same command again", file=sys.stderr)
        return 1
    except BrokenPipeError:  # run.py | head -1
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUTPUT_CLOSED
    except OSError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun.py: interrupted; the same command goes on from there", file=sys.stderr)
        return INTERRUPTED


def parse(arguments: list[str]) -> tuple[str, list[str]]:
    """Return what to do, and the words for what does it: ``hw3utils run``, or pytest."""
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", metavar="run | test | check", default="run")
    parser.add_argument("--profile", help="smoke, laptop (default), overnight or full")
    parser.add_argument(
        "--only", nargs="+", action="extend", default=[], metavar="PROBLEM", help="default: all"
    )
    parser.add_argument("--output", type=_absolute, metavar="DIR", help="default: output/<profile>")
    parser.add_argument("--cluster", metavar="ADDRESS", help="a Dask scheduler, tcp://HOST:8786")
    parser.add_argument("--no-code", action="store_true", help="a report without the code")
    parser.add_argument(
        "-p", action="append", default=[], metavar="NAME=VALUE",
        help="change a number of the notebook's parameters cell; may be repeated",
    )  # fmt: skip
    asked, rest = parser.parse_known_args(arguments)
    if asked.command not in ("run", "test", "check"):
        parser.error(
            f"there is no command {asked.command}: choose run, test or check (for one problem: "
            "--only problem1; for a number: -p NAME=VALUE)"
        )
    words = list(asked.only)
    for name in ("profile", "output", "cluster"):
        if value := getattr(asked, name):
            words += [f"--{name}", value]
    words += ["--no-code"] if asked.no_code else []
    if asked.command != "run" and words:
        parser.error(
            f"{asked.command} takes no --profile, --only, --output, --cluster or --no-code"
        )
    for value in asked.p:  # pytest has such an option, too
        words += ["-p", value]
    if asked.command == "test":
        files = [word.partition("::")[0] for word in rest]
        if lost := [f for f in files if f.endswith((".py", ".ipynb")) and not (ROOT / f).exists()]:
            parser.error(f"there is no file {lost[0]}")
        return "test", rest + words
    if unknown := rest or (asked.command == "check" and words):
        parser.error(f"{asked.command} takes no {unknown[0]}")
    return asked.command, words


def check() -> int:
    """Run the checks that train nothing; all of them, so that one pass shows every fault."""
    return max(
        _module("ruff", "check", "."),
        _module("ruff", "format", "--check", "."),
        _module("pytest", "--quiet", *(f"tests/{name}.py" for name in QUICK_TESTS)),
    )


def make_environment() -> None:
    """Make ``.venv`` with the locked packages unless it is there."""
    wanted = _fingerprint()
    if PYTHON.exists() and STAMP.is_file() and STAMP.read_text(encoding="utf-8") == wanted:
        return
    if not PYTHON.exists():
        free = shutil.disk_usage(ROOT).free
        if free < NEEDED_BYTES:
            raise OSError(f"{free / 2**30:.1f} GiB free on this disk, .venv needs up to 8")
        print("Making .venv …", flush=True)
        venv.EnvBuilder(with_pip=True, clear=ENVIRONMENT.exists()).create(ENVIRONMENT)
    print("Installing the locked packages into .venv (6.5 GB, once): a few minutes …", flush=True)
    _install("--requirement", str(LOCK))
    _install("--no-deps", "--editable", str(ROOT))
    part = STAMP.with_suffix(".part")
    part.write_text(wanted, encoding="utf-8")
    part.replace(STAMP)


def _install(*words: str) -> None:
    """Run pip, and tell on one line of a terminal what it is doing."""
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install"]
    command = [*pip, "--progress-bar=off", *words]
    at_once = os.environ | {"PYTHONUNBUFFERED": "1"}
    width = min(70, shutil.get_terminal_size().columns - 1)
    with subprocess.Popen(
        command, env=at_once, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as child:
        try:
            for line in map(str.strip, child.stdout):
                if sys.stdout.isatty() and line.startswith(TOLD_OF_PIP):
                    print(f"{line[:width]:{width}}", end="\r", flush=True)
        except KeyboardInterrupt:
            _goodbye(child)
            raise
    if sys.stdout.isatty():
        print(" " * width, end="\r", flush=True)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)


def _fingerprint() -> str:
    """Return a digest of what decides the environment: lock file, project file, this Python."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _module(*words: str) -> int:
    """Run a module with ``.venv``'s Python: on this checkout, with nobody else's packages."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONHOME"}
    variables |= {"HW3_HOME": str(ROOT), "PYTHONNOUSERSITE": "1"}
    with subprocess.Popen([PYTHON, "-m", *words], env=variables, cwd=ROOT) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            return _goodbye(child)


def _goodbye(child: subprocess.Popen) -> int:
    """Return the status of a child that Ctrl-C reached too, and that has more to say or to tidy."""
    try:
        return child.wait(GOODBYE_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        raise KeyboardInterrupt from None


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().resolve())


if __name__ == "__main__":
    sys.exit(main())
