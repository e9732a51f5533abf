"""The student's side: check a task, record numbers, see the points so far, hand in.

Expected values of the visible checks lie in ``expected.json``, which is made with the students'
edition. Files are read anew for each check: nothing has to be restarted after an edit.
"""

import contextlib
import json
import signal
import threading
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hw3utils import files, paths
from hw3utils.checking import probes, records  # noqa: F401 - the probes register their tasks
from hw3utils.checking.judging import Expected, Verdict, judge
from hw3utils.checking.places import PACKAGE, find
from hw3utils.checking.running import TASKS, answer, plain

_EXPECTED = Path(__file__).with_name("expected.json")
SUBMISSION = "submission.zip"


@cache
def _known() -> dict[str, Any]:
    if not _EXPECTED.is_file():
        raise FileNotFoundError(
            f"{_EXPECTED} is not there: it is made with the students' edition "
            "(python -m course student OUT)"
        )
    return json.loads(_EXPECTED.read_text(encoding="utf-8"))


def check(*names: str) -> None:
    """Print for each task named, or for all, that it passes, or which mistake it looks like.

    ``check("2.5 iou")``, or ``check("2.5")`` for all of that part. Nothing is trained. Raises a
    ValueError where there is no such task.
    """
    for name in _chosen(names):
        verdict = verdict_on(name)
        print(f"{name}: {'pass' if verdict.passed else '; '.join(verdict.messages)}")


def _chosen(names: tuple[str, ...]) -> list[str]:
    everything = list(_known()["points"])
    for name in names:
        if not any(task.startswith(name) for task in everything):
            raise ValueError(f"no task {name!r}: choose from {', '.join(everything)}")
    return [task for task in everything if not names or task.startswith(names)]


def verdict_on(name: str) -> Verdict:
    """Return the verdict of the visible check on a task, as the files are now."""
    stored = _known()["expected"][name]
    expected = Expected(stored["cases"], [tuple(wrong) for wrong in stored["mistakes"]])
    if name not in TASKS:
        found = records.cases(name, recorded().get(name))
        return judge(name, found, expected, records.TOLERANCE)
    task = TASKS[name]
    functions = [f for needed in task.needs for f in TASKS[needed].functions] + [*task.functions]
    try:
        places = {function: str(find(PACKAGE, function)) for function in functions}
    except LookupError as error:
        return Verdict(0.0, [str(error)])
    own = {file: (PACKAGE / file).read_text(encoding="utf-8") for file in places.values()}
    request = {
        "task": name, "seed": _known()["seed"], "functions": places,
        "files": [[file, text, []] for file, text in own.items()],
    }  # fmt: skip
    try:
        with _at_most(task.seconds):
            found = answer(request)
    except _TooLongError:
        said = f"no answer within {task.seconds:.0f} seconds: is there an endless loop?"
        found = {"preparation": {"error": said}}
    return judge(name, found, expected, task.tolerance)


class _TooLongError(KeyboardInterrupt):
    """A check takes too long; like Ctrl-C no ``except Exception`` of a student's stops it."""


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise a _TooLongError in the block after so many seconds, where signals can: not on Windows.

    Elsewhere than on the main thread nothing is limited, either.
    """

    def stop(*_: object) -> None:
        raise _TooLongError

    if not hasattr(signal, "SIGALRM") or threading.current_thread() != threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def record(name: str, value: Any) -> None:
    """Keep numbers that a question asks for, in ``answers/records.json``.

    Raises a ValueError where no such numbers are asked for.
    """
    if name not in records.RECORDS:
        raise ValueError(f"nothing to record for {name!r}: {', '.join(records.RECORDS)}")
    known = recorded() | {name: plain(value)}
    path = files.save_json(known, _records())
    print(f"{name}: recorded in {path.name}; check({name!r}) looks at it")


def recorded() -> dict[str, Any]:
    """Return everything that was recorded."""
    if not _records().is_file():
        return {}
    return json.loads(_records().read_text(encoding="utf-8"))


def _records() -> Path:
    return paths.project_root() / "answers" / "records.json"


def progress() -> None:
    """Print the points of the automatic checks so far, by part, and what is judged by hand."""
    parts: dict[str, list[float]] = {}
    for name, (part, points) in _known()["points"].items():
        row = parts.setdefault(part, [0.0, 0.0])
        row[0] += points * verdict_on(name).share
        row[1] += points
    for part, (got, most) in parts.items():
        print(f"{part:5} {got:5.2f} of {most:g}")
    got, most = (sum(column) for column in zip(*parts.values(), strict=True))
    print(f"all   {got:5.2f} of {most:g} points that are checked; the other "
          f"{100 - most:g} are given for what you write")  # fmt: skip


def submit() -> Path:
    """Write ``submission.zip`` into the project's folder, and print what is missing in it."""
    root, names = paths.project_root(), {}
    for function in [name for task in TASKS.values() for name in task.functions]:
        try:
            file = find(PACKAGE, function)
            names[f"hw3utils/{file}"] = PACKAGE / file
        except LookupError as error:
            print(f"missing: {error}")
    for pattern in ("answers/records.json", "answers/*.md", "notebooks/*.ipynb"):
        found = sorted(root.glob(pattern))
        names |= {str(path.relative_to(root)): path for path in found}
        if not found:
            print(f"missing: {pattern}")
    with zipfile.ZipFile(root / SUBMISSION, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(names.items()):
            archive.write(path, name)
    for name in _known()["points"]:
        if not (verdict := verdict_on(name)).passed:
            print(f"not done: {name}: {'; '.join(verdict.messages)}")
    texts = "".join(path.read_text("utf-8") for path in names.values() if path.suffix != ".py")
    if rooms := [room for room in _known()["rooms"] if texts.count(f"(write {room} here)")]:
        print(f"still empty: {', '.join(rooms)}")
    print(f"written: {root / SUBMISSION}")
    return root / SUBMISSION
