"""How long a run will take and how far it is: by its last run here, or else by the committed run.

A finished notebook leaves a record in the cache: which results it asked for, the seconds that these
and all the rest took, and digests of what it wrote. The next run sees which of the results are
there, and leaves a notebook as it is where nothing has changed.
"""

import contextlib
import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import torch
from tqdm import tqdm

from hw3utils import files, paths
from hw3utils.report import notebooks
from hw3utils.text import committed_results, machine
from hw3utils.training import sweeps, workers

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} spent, about {remaining} left{postfix}"
_NO_TOTAL = "{desc}: {elapsed} spent, the time left cannot be told{postfix}"


class Forecast(NamedTuple):
    """What is known about a notebook's run before it starts."""

    problem: str
    seconds: float | None  # for all of it; None: it cannot be told
    basis: str  # where this is known from
    cached: bool = False  # every result is in the cache
    kept: bool = False  # it was executed, and nothing has changed since
    sweeps: tuple[float, ...] | None = None  # seconds of each `sweeps.map_cached` to come


class Sweep(NamedTuple):
    """A call of `sweeps.map_cached`, as it was told in the journal."""

    title: str
    keys: list[str]
    computed: int  # results that the cache did not hold
    before: float  # share of the work that the cache held
    done: float = 0.0  # share of the work that is done
    seconds: float = 0.0


def forecast(problem: str, profile: str, parameters: Mapping[str, Any], output: Path) -> Forecast:
    """Return how long a notebook will take, by its record here, or else by the committed run.

    A record of other code counts as well. It cannot be told where there is neither.
    """
    place = _record(problem, profile, parameters)
    others = place.parent.glob(f"{place.stem.rpartition('-')[0]}-*.json")
    if place.is_file():
        record = json.loads(place.read_text(encoding="utf-8"))
        if record.get("made") == made(problem, output):
            told = "executed already, and nothing has changed since: it is left as it is"
            return Forecast(problem, 0.0, told, cached=True, kept=True, sweeps=())
        cached = not any(_missing(sweep["keys"]) for sweep in record["sweeps"])
        left = [_seconds_left(sweep) for sweep in record["sweeps"]]
        if None not in left:
            told = "all results are in the cache" if cached else "by its last run here"
            return Forecast(problem, record["rest"] + sum(left), told, cached, sweeps=(*left,))
    records = [json.loads(other.read_text(encoding="utf-8")) for other in others]
    known = [
        record["rest"] + sum(sweep["seconds"] for sweep in record["sweeps"])
        for record in records
        if all(sweep["seconds"] is not None for sweep in record["sweeps"])
    ]
    if known:
        told = "by the longest run here of other code; less where the cache still serves"
        return Forecast(problem, max(known), told)
    unknown = Forecast(problem, None, "no forecast, for no such run was made here before")
    try:
        committed = committed_results(problem)
    except FileNotFoundError:  # in the students' edition
        return unknown
    if parameters or committed["profile"] != profile:
        return unknown
    told = f"the committed run's training, as fast as on its machine ({machine(committed)})"
    return Forecast(problem, committed["seconds"] / workers.num_workers(), told)


def told(plan: Sequence[Forecast], profile: str) -> str:
    """Return the forecasts in words: a line for each notebook, and one for all."""
    lines = [
        f"  {each.problem}: {_duration(each.seconds) + ': ' if each.seconds else ''}{each.basis}"
        for each in plan
    ]
    if all(each.cached for each in plan):
        lines.append("All results are in the cache: nothing will be trained.")
    if len(plan) > 1 and all(each.seconds is not None for each in plan):
        total = _duration(sum(each.seconds for each in plan))
        lines.append(f"Together {total}, and up to a minute for the report.")
    return "\n".join([f"To be run, profile {profile}:", *lines])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} seconds"
    minutes = seconds / 60
    return f"about {minutes:.0f} minutes" if minutes < 90 else f"about {minutes / 60:.1f} hours"


class Progress(contextlib.AbstractContextManager):
    """A bar over a whole run, beside that of the notebook; lines where there is no terminal."""

    def __init__(
        self, plan: Sequence[Forecast], profile: str, parameters: Mapping[str, Any], output: Path
    ) -> None:
        self.plan = {each.problem: each for each in plan}
        self.run = (profile, parameters, output)
        self.known = all(each.seconds is not None for each in plan)
        total = sum(each.seconds for each in plan) if self.known else None
        self.bar = tqdm(
            total=total, desc="all", smoothing=0, bar_format=_BAR if self.known else _NO_TOTAL,
            disable=None,
        )  # fmt: skip
        self.finished = 0.0  # seconds foreseen of the notebooks that are done
        self.found = self.computed = 0

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    @contextlib.contextmanager
    def following(self, problem: str) -> Iterator[None]:
        """Follow a notebook's run in the block, and leave a record of it when it is finished."""
        ahead, over, began = self.plan[problem], threading.Event(), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            journal = Path(folder) / "journal"

            def watch() -> None:
                while not over.wait(1):
                    seen = read_journal(journal)
                    self._show(self.finished + done(ahead, seen, time.perf_counter() - began), seen)

            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()
            try:
                with notebooks.environment_variable(sweeps.JOURNAL, str(journal)):
                    yield
            finally:
                over.set()
                watcher.join()
            seen, seconds = read_journal(journal), time.perf_counter() - began
        self.finished += ahead.seconds or 0
        self.computed += sum(sweep.computed for sweep in seen)
        self.found += sum(len(sweep.keys) - sweep.computed for sweep in seen)
        self._show(self.finished, [])
        if self.bar.disable:
            left = sum(each.seconds or 0.0 for each in self.plan.values()) - self.finished
            to_come = f", {_duration(left)} left" if self.known and left > 1 else ""
            print(f"{problem} is done{to_come}")
        write_record(problem, *self.run, seen, seconds)

    def _show(self, seconds: float, seen: Sequence[Sweep]) -> None:
        self.bar.n = seconds if self.known else 0
        under_way = seen and seen[-1].done < 1
        self.bar.set_postfix_str(f"{seen[-1].title} {seen[-1].done:.0%}" if under_way else "")

    @property
    def sentence(self) -> str:
        """What the cache held, after the run."""
        if all(each.kept for each in self.plan.values()):
            return "Nothing was executed: nothing has changed since the last run."
        if not self.computed:
            return f"Nothing was trained: all {self.found:,} results were in the cache."
        return f"{self.computed:,} results were computed; {self.found:,} came from the cache."


def done(ahead: Forecast, seen: Sequence[Sweep], seconds: float) -> float:
    """Return how many of the foreseen seconds of a notebook are done, after so many seconds.

    Where only a total is foreseen, time goes by as foreseen, and stops just before the end.
    """
    if not ahead.seconds:
        return 0.0
    if ahead.sweeps is None:
        return min(seconds, 0.95 * ahead.seconds)
    shares = [
        whole * (sweep.done - sweep.before) / (1 - sweep.before) if sweep.before < 1 else whole
        for whole, sweep in zip(ahead.sweeps, seen, strict=False)
    ]
    rest = ahead.seconds - sum(ahead.sweeps)
    return sum(shares) + min(rest, max(0.0, seconds - sum(sweep.seconds for sweep in seen)))


def read_journal(place: Path) -> list[Sweep]:
    """Return the sweeps that a notebook's kernel has told of so far; its last line may be cut."""
    found: list[Sweep] = []
    text = place.read_text(encoding="utf-8") if place.is_file() else ""
    for line in text.rpartition("\n")[0].splitlines():
        said = json.loads(line)
        if "title" in said:
            found.append(Sweep(**said, done=said["before"]))
        else:
            found[-1] = found[-1]._replace(**said)
    return found


def write_record(
    problem: str,
    profile: str,
    parameters: Mapping[str, Any],
    output: Path,
    seen: Sequence[Sweep],
    seconds: float,
) -> Path:
    """Keep what a finished notebook took; for what came from the cache, as an older record has."""
    place = _record(problem, profile, parameters)
    older = json.loads(place.read_text(encoding="utf-8"))["sweeps"] if place.is_file() else []
    known = {tuple(sweep["keys"]): sweep["seconds"] for sweep in older}
    kept = []
    for sweep in seen:
        whole = known.get(tuple(sweep.keys))
        if sweep.before < 0.5:  # most of it was computed now: as long as that, all of it
            whole = sweep.seconds / (1 - sweep.before)
        kept.append({"keys": sweep.keys, "seconds": whole})
    rest = seconds - sum(sweep.seconds for sweep in seen)
    content = {"rest": rest, "sweeps": kept, "made": made(problem, output)}
    return files.save_json(content, place)


def made(problem: str, output: Path) -> dict[str, str]:
    """Return digests of a notebook, of what it wrote into ``output``, and of where it ran."""
    places = [
        paths.notebooks_dir() / f"{problem}.ipynb",
        output / f"{problem}.ipynb",
        *sorted((output / "figures").glob(f"{problem}_*")),
        *sorted((output / "answers" / "results").glob(f"{problem}*")),
    ]
    machine = hashlib.sha256(repr(files.environment()).encode()).hexdigest()
    found = {str(place): files.file_sha256(place) for place in places if place.is_file()}
    return {"machine": machine, **found}


def _record(problem: str, profile: str, parameters: Mapping[str, Any]) -> Path:
    """Return the place of the record of a run with these numbers by the code of today."""
    numbers = hashlib.sha256(repr(sorted(parameters.items())).encode()).hexdigest()
    name = f"{problem}-{profile}-{numbers[:12]}-{_code(problem)[:16]}.json"
    return paths.cache_dir() / "runs" / name


def _code(problem: str) -> str:
    """Return a digest of all that a notebook executes: its cells, hw3utils, torch."""
    digest = hashlib.sha256(torch.__version__.encode())
    for cell in nbformat.read(paths.notebooks_dir() / f"{problem}.ipynb", as_version=4).cells:
        digest.update(cell.source.encode() if cell.cell_type == "code" else b"")
    package = Path(sweeps.__file__).parent.parent
    for place in sorted(package.rglob("*.py")):
        if place.parent.name not in ("report", "checking"):
            digest.update(place.read_bytes())
    return digest.hexdigest()


def _missing(keys: Sequence[str]) -> int:
    return sum(not (paths.cache_dir() / f"{key}.pt").is_file() for key in keys)


def _seconds_left(sweep: Mapping[str, Any]) -> float | None:
    """Return the seconds that what is missing of a sweep will take; None where that is unknown."""
    missing = _missing(sweep["keys"])
    if not missing:
        return 0.0
    return None if sweep["seconds"] is None else sweep["seconds"] * missing / len(sweep["keys"])
