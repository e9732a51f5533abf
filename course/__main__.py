"""The instructor's command line: ``python -m course student``, ``grade``, ``feedback``, ``tag``."""

import argparse
import sys
from pathlib import Path

from hw3utils import paths


def _outside(words: str) -> Path:
    """Return a folder that is not in this repository: what is in it would be published with it."""
    place = Path(words)
    if place.resolve().is_relative_to(paths.project_root()):
        said = f"{words} is in this repository: choose a folder outside, such as ~/hw3-…"
        raise argparse.ArgumentTypeError(said)
    return place


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks, and return its status.

    It is 0, 1 where something could not be done, 3 for a fault of the grader, 130 after Ctrl-C.
    Raises a SystemExit where the command line itself is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m course", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    student = commands.add_parser("student", help="write the students' edition")
    student.add_argument("out", type=_outside)
    grade = commands.add_parser("grade", help="grade a folder of submissions")
    grade.add_argument("submissions", type=Path)
    grade.add_argument("--output", type=_outside, required=True, help="where the grades go")
    grade.add_argument("--jobs", type=int, default=2, help="submissions at a time (default: 2)")
    grade.add_argument("--seed", type=int, help="of the inputs; default: secret, drawn once")
    grade.add_argument("--trusted", action="store_true", help="without a sandbox: code you know")
    back = commands.add_parser("feedback", help="pages, grades.csv and Gradescope's results")
    back.add_argument("grades", type=Path)
    tag = commands.add_parser("tag", help="split a model notebook's prose into cells of one role")
    tag.add_argument("notebooks", type=Path, nargs="+")
    asked = parser.parse_args(arguments)
    from course import edition, grading, notebooks, review, sandbox, submissions

    try:
        if asked.command == "student":
            print(f"{len(edition.write(asked.out))} files in {asked.out}; nothing leaks")
        elif asked.command == "grade":
            done = grading.grade(
                asked.submissions, asked.output,
                jobs=asked.jobs, trusted=asked.trusted, seed=asked.seed,
            )  # fmt: skip
            pages = review.write_reviews(submissions.read_all(asked.submissions), asked.output)
            print(f"{len(done)} graded; {len(pages)} review pages; marks go into manual.csv")
        elif asked.command == "feedback":
            print(f"{len(review.feedback(asked.grades))} feedback pages in {asked.grades}")
        else:
            for place in asked.notebooks:
                print(f"{place}: {notebooks.tag(place)} cells of one role each")
    except KeyboardInterrupt:
        print("course: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except sandbox.GraderError as error:
        print(f"course: a fault of the grader, nobody's score: {error}", file=sys.stderr)
        return 3
    except sandbox.NoSandboxError as error:
        print(f"course: no working sandbox: {error}. Only --trusted grades without.",
              file=sys.stderr)  # fmt: skip
        return 1
    except (ValueError, OSError) as error:
        print(f"course: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
