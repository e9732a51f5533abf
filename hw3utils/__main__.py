"""The command line: ``python -m hw3utils run``, ``… data``, ``… report`` and ``… publish``."""

import argparse
import ast
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_WHAT_BRINGS_IT = (
    "after python3 run.py .venv/bin/python has it; in an environment of your own it comes with "
    "pip install -e '.[run]'"
)
try:
    from hw3utils import paths, settings
    from hw3utils.data import artefacts, downloads
    from hw3utils.problem3 import experiments, resnet
    from hw3utils.report import forecast, notebooks, page, publication, summary, terminal
    from hw3utils.settings import Problem1, Problem2, Problem3, Problem4
    from hw3utils.training import workers
except ModuleNotFoundError as missing:
    sys.exit(f"hw3utils: {missing.name} is not installed; {_WHAT_BRINGS_IT}")
except KeyboardInterrupt:
    sys.exit(130)  # nothing has been started yet

_SETTINGS = {"problem1": Problem1, "problem2": Problem2, "problem3": Problem3, "problem4": Problem4}
INTERRUPTED, OUTPUT_CLOSED = 130, 141  # as shells count them: 128 and the signal's number
_KEPT = "finished runs are kept, and the same command goes on from there"


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks; return 0, 1 for a failure, 2 for a wrong command."""
    terminal.prepare()
    try:
        asked = read(arguments)
        return asked.command(asked)
    except ValueError as error:
        print(f"hw3utils: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"hw3utils: {error.name} is not installed; {_WHAT_BRINGS_IT}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # … | head -1
        terminal.give_up_output()
        print(f"hw3utils: stopped, for nobody reads what it prints; {_KEPT}", file=sys.stderr)
        return OUTPUT_CLOSED
    except (
        downloads.SourcesExhaustedError, resnet.WeightsError, notebooks.NotebookFailed,
        workers.WorkerError, OSError,
    ) as error:  # fmt: skip
        print(f"hw3utils: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of the cell that was left
        print(f"\nhw3utils: interrupted; {_KEPT}", file=sys.stderr)
        return INTERRUPTED


def read(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return what a command line asks.

    Raises a ValueError where a name, a number, the output folder or ``HW3_JOBS`` makes no sense.
    """
    asked = _parser().parse_args(arguments)
    if "problems" in asked:
        asked.problems = notebooks.find_problems(asked.problems)
    folder = "laptop"
    if asked.command is _run:
        asked.profile = settings.profile_name(asked.profile)
        asked.parameters = dict(_parameter(text) for text in asked.parameters)
        if "profile" in asked.parameters:
            raise ValueError("choose the profile with --profile, not with -p")
        workers.num_workers()
        for problem in asked.problems:
            notebooks.check_parameters(problem, asked.parameters)
            _check_numbers(problem, asked.profile, asked.parameters)
        folder = asked.profile + ("-changed" if asked.parameters else "")
    if "output" in asked:
        asked.output = (asked.output or paths.output_dir(folder)).expanduser().resolve()
        for place in (asked.output, *asked.output.parents):
            if place.is_file():
                raise ValueError(f"--output {asked.output}: {place} is a file, a folder is needed")
    return asked


def _check_numbers(problem: str, profile: str, parameters: Mapping[str, Any]) -> None:
    """Raise a ValueError where the notebook would refuse a number, minutes later."""
    kind = _SETTINGS[problem]
    names = {field.name for field in dataclasses.fields(kind)}
    changes = {name: value for name, value in parameters.items() if name in names}
    settings = kind.for_profile(profile, **changes)
    if problem == "problem3":
        experiments.check(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hw3utils", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="run | data | report | publish")

    run = commands.add_parser("run", help="execute the notebooks and export them as HTML")
    run.add_argument("problems", nargs="*", metavar="problem", help="default: all")
    run.add_argument("--profile", help=f"{' | '.join(settings.PROFILES)} (default: laptop)")
    run.add_argument("--output", type=Path, help="default: output/<profile> in the project")
    run.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE",
        help="change a number of the notebook's parameters cell; may be repeated",
    )  # fmt: skip
    run.add_argument(
        "--cluster", metavar="ADDRESS", help="a Dask scheduler, tcp://HOST:8786 (HW3_CLUSTER)"
    )
    _add_no_code(run)
    run.set_defaults(command=_run)

    data = commands.add_parser("data", help="fetch and verify the data, run nothing")
    data.set_defaults(command=_data)

    written = commands.add_parser(
        "report", help="join a run's notebooks and the write-ups into report.html and report.pdf"
    )
    written.add_argument("--output", type=Path, help="the run's folder; default: output/laptop")
    _add_no_code(written)
    written.set_defaults(command=_report)

    published = " or ".join(publication.PROFILES)
    publish = commands.add_parser(
        "publish", help=f"make a finished {published} run the committed one (for maintainers)"
    )
    publish.add_argument("problems", nargs="*", metavar="problem", help="default: all")
    publish.add_argument("--output", type=Path, help="the run's folder; default: output/laptop")
    publish.set_defaults(command=_publish)
    return parser


def _add_no_code(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--no-code", dest="code", action="store_false", help="leave the code out of the report"
    )


def _run(asked: argparse.Namespace) -> int:
    if asked.cluster:
        os.environ["HW3_CLUSTER"] = asked.cluster  # the notebooks' kernels see it, too
    if found := workers.check_cluster():
        print(f"cluster: {workers.address()}, {found} workers")
    run = (asked.profile, asked.parameters, asked.output)
    plan = [forecast.forecast(problem, *run) for problem in asked.problems]
    print(forecast.told(plan, asked.profile))
    _fetch_fashion_mnist()
    pages = {}
    # A page is made while the next notebook runs.
    with forecast.Progress(plan, *run) as progress, ThreadPoolExecutor(max_workers=1) as beside:
        for each in plan:
            executed = asked.output / f"{each.problem}.ipynb"
            if not each.kept:
                with progress.following(each.problem):
                    notebooks.run_notebook(
                        each.problem, asked.output, {"profile": asked.profile, **asked.parameters}
                    )
            pages[executed] = beside.submit(notebooks.write_html, executed)
    made = [path for executed, page in pages.items() for path in (executed, page.result())]
    made += _write_report(asked.output, asked.code)
    results = asked.output / "answers" / "results"
    found = {
        problem: json.loads((results / f"{problem}.json").read_text(encoding="utf-8"))
        for problem in asked.problems
    }
    print("\n".join(["", summary.profiles(found), *summary.lines(found)]))
    print(f"\nDone ({asked.profile} profile). {progress.sentence} In {asked.output}:")
    for path in [*made, asked.output / "figures", results]:
        print(f"  {os.path.relpath(path, asked.output)}")
    return 0


def _data(asked: argparse.Namespace) -> int:
    _fetch_fashion_mnist()
    setup = experiments.load(Problem3.for_profile())
    for name in setup.target.not_found:
        print(f"{name}: could not be had, {setup.target.name} stands in for it")
    print(f"{setup.target.name}: {sum(map(len, setup.parts)):,} images of Problem 3, verified")
    print(f"{setup.base.weights} (ResNet-50): verified, from {setup.base.origin}")
    return 0


def _fetch_fashion_mnist() -> None:
    folder = downloads.fetch(artefacts.FASHION_MNIST)
    print(f"{artefacts.FASHION_MNIST.name}: verified, in {folder}")


def _report(asked: argparse.Namespace) -> int:
    for path in _write_report(asked.output, asked.code):
        print(path)
    return 0


def _write_report(output: Path, code: bool) -> list[Path]:
    written = page.write_html(output, code=code)
    if browser := page.find_browser():
        return [written, page.print_pdf(written, browser)]
    print("report.pdf was not made: it needs Chromium, Chrome or Edge. report.html is complete.")
    return [written]


def _publish(asked: argparse.Namespace) -> int:
    changed = publication.publish(asked.problems, asked.output)
    for path in changed:
        done = "written" if path.exists() else "deleted"
        print(f"{done}: {path.relative_to(paths.project_root())}")
    if not changed:
        print("nothing to do: this run is the committed one")
    return 0


def _parameter(text: str) -> tuple[str, Any]:
    """Split ``NAME=VALUE``; the value is a Python literal, or else the text itself."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise ValueError(f"-p {text}: NAME=VALUE expected")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


if __name__ == "__main__":
    sys.exit(main())
