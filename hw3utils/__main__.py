"""The command line: ``python -m hw3utils run``, ``… data``, ``… report`` and ``… publish``."""

import argparse
import ast
import os
import sys
from pathlib import Path
from typing import Any

_WHAT_BRINGS_IT = "it comes with: pip install 'hw3utils[run]', in a checkout -e '.[run]'"
try:
    from hw3utils import paths, settings
    from hw3utils.data import artefacts, downloads
    from hw3utils.problem3 import experiments, resnet
    from hw3utils.report import notebooks, page, publication
    from hw3utils.settings import Problem3
    from hw3utils.training import workers
except ModuleNotFoundError as missing:
    sys.exit(f"hw3utils: {missing.name} is not installed; {_WHAT_BRINGS_IT}")


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks; return 0, 1 for a failure, 2 for a wrong command."""
    try:
        asked = read(arguments)
        return asked.command(asked)
    except ValueError as error:
        print(f"hw3utils: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"hw3utils: {error.name} is not installed; {_WHAT_BRINGS_IT}", file=sys.stderr)
        return 1
    except (
        downloads.SourcesExhaustedError, resnet.WeightsError, notebooks.NotebookFailed,
        workers.WorkerError, OSError,
    ) as error:  # fmt: skip
        print(f"hw3utils: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nhw3utils: interrupted; finished runs are kept, the same command goes on from there"
        )
        return 130


def read(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return what a command line asks. Raises a ValueError where a name in it is unknown."""
    asked = _parser().parse_args(arguments)
    if "problems" in asked:
        asked.problems = notebooks.find_problems(asked.problems)
    folder = "laptop"
    if asked.command is _run:
        asked.profile = settings.profile_name(asked.profile)
        asked.parameters = dict(_parameter(text) for text in asked.parameters)
        if "profile" in asked.parameters:
            raise ValueError("choose the profile with --profile, not with -p")
        for problem in asked.problems:
            notebooks.check_parameters(problem, asked.parameters)
        folder = asked.profile + ("-changed" if asked.parameters else "")
    if "output" in asked:
        asked.output = (asked.output or paths.output_dir(folder)).expanduser().resolve()
    return asked


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
    run.set_defaults(command=_run)

    data = commands.add_parser("data", help="fetch and verify the data, run nothing")
    data.set_defaults(command=_data)

    written = commands.add_parser(
        "report", help="join a run's notebooks and the write-ups into report.html and report.pdf"
    )
    written.add_argument("--output", type=Path, help="the run's folder; default: output/laptop")
    written.set_defaults(command=_report)

    published = " or ".join(publication.PROFILES)
    publish = commands.add_parser(
        "publish", help=f"make a finished {published} run the committed one (for maintainers)"
    )
    publish.add_argument("problems", nargs="*", metavar="problem", help="default: all")
    publish.add_argument("--output", type=Path, help="the run's folder; default: output/laptop")
    publish.set_defaults(command=_publish)
    return parser


def _run(asked: argparse.Namespace) -> int:
    if asked.cluster:
        os.environ["HW3_CLUSTER"] = asked.cluster  # the notebooks' kernels see it, too
    if found := workers.check_cluster():
        print(f"cluster: {workers.address()}, {found} workers")
    _fetch_fashion_mnist()
    made = []
    for problem in asked.problems:
        executed = notebooks.run_notebook(
            problem, asked.output, {"profile": asked.profile, **asked.parameters}
        )
        made += [executed, notebooks.write_html(executed)]
    made += _write_report(asked.output)
    print(f"\nDone ({asked.profile} profile). In {asked.output}:")
    for path in [*made, asked.output / "figures", asked.output / "answers" / "results"]:
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
    for path in _write_report(asked.output):
        print(path)
    return 0


def _write_report(output: Path) -> list[Path]:
    written = page.write_html(output)
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
