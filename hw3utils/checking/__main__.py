"""The command line of the students' edition: ``python -m hw3utils check``, ``submit`` and more."""

import argparse
import sys
from pathlib import Path

from hw3utils import checking, paths, settings


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks; return 0, or 1 for a failure."""
    parser = argparse.ArgumentParser(prog="python -m hw3utils", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    check = commands.add_parser("check", help="check tasks, such as '2.5 iou', or all")
    check.add_argument("tasks", nargs="*")
    commands.add_parser("progress", help="points of the automatic checks so far")
    commands.add_parser("submit", help="write submission.zip and list what is missing")
    run = commands.add_parser("run", help="execute notebooks from top to bottom")
    run.add_argument("problems", nargs="*", help="default: all")
    run.add_argument("--profile", default="laptop", help=" | ".join(settings.PROFILES))
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "run":
            return _run(asked)
        getattr(checking, asked.command)(*getattr(asked, "tasks", ()))
        return 0
    except (ValueError, OSError, RuntimeError) as error:
        print(f"hw3utils: {error}", file=sys.stderr)
        return 1


def _run(asked: argparse.Namespace) -> int:
    from hw3utils.report import notebooks

    profile = settings.profile_name(asked.profile)
    output = Path(paths.output_dir(profile)).resolve()
    for problem in notebooks.find_problems(asked.problems):
        print(notebooks.run_notebook(problem, output, {"profile": profile}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
