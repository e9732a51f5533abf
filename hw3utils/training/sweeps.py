"""Many training runs: in parallel, each cached on disk, none done twice.

A result is kept under a key made of the description, the data's checksums, the code that makes it
(see `fingerprints`) and the version of torch. An interrupted sweep starts again where it stopped.
`fit_all` does this for a `Run`; `map_cached` for any pure function of plain data and tensors.
"""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from hw3utils import files, paths
from hw3utils.data.images import ImageSet, Scale
from hw3utils.training import fingerprints, loop, networks, workers
from hw3utils.training.runs import FitResult, Run

JOURNAL = "HW3_JOURNAL"  # names the file in which a run that waits for this process reads
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} spent, {remaining} left{postfix}"


def fit_all(
    wanted: Sequence[Run],
    train: ImageSet,
    validation: ImageSet,
    scale: Scale,
    *,
    title: str = "runs",
    n_jobs: int | None = None,
    cache_dir: Path | None = None,
) -> list[FitResult]:
    """Train every run that is not in the cache yet, in parallel, and return all results in order.

    Each run has a process and one thread to itself, so its result does not depend on ``n_jobs``.
    A run that diverges is recorded as diverged and does not disturb the others.

    Parameters
    ----------
    wanted : sequence of Run
        Equal descriptions are trained once.
    n_jobs : int, optional
        Processes at a time; by default ``HW3_JOBS``, or one for each CPU core.
    cache_dir : Path, optional
        By default `paths.cache_dir`.

    Raises
    ------
    ValueError
        A run does not fit the data; nothing has been trained then.
    """
    for run in wanted:
        model = networks.build(run.model, train.num_classes, 0)
        loop.check_fits(model, run, train, validation, scale)
    longest_first = sorted(set(wanted), key=lambda run: run.num_updates(len(train)), reverse=True)
    found = map_cached(
        fit_one,
        {run: (run, train.class_names, scale) for run in longest_first},
        [part for images in (train, validation) for part in (images.images, images.labels)],
        [train.checksum, validation.checksum],
        title=title,
        note=lambda kept: {"loss": f"{kept['history']['train_loss'][-1]:.3f}"},
        n_jobs=n_jobs,
        cache_dir=cache_dir,
    )
    return [_as_result(run, found[run]) for run in wanted]


@fingerprints.task
def fit_one(
    run: Run,
    class_names: tuple[str, ...],
    scale: Scale,
    train_images: Tensor,
    train_labels: Tensor,
    validation_images: Tensor,
    validation_labels: Tensor,
) -> dict[str, Any]:
    """Train one run and return its `FitResult` as plain data: a worker's whole task."""
    train = ImageSet(train_images, train_labels, class_names)
    validation = ImageSet(validation_images, validation_labels, class_names)
    model = networks.build(run.model, train.num_classes, run.seed)
    result = loop.fit(model, run, train, validation, scale)
    kept = {item.name: getattr(result, item.name) for item in dataclasses.fields(result)}
    del kept["run"]
    return kept | {"history": result.history.to_dict("list")}


def fit_arms(
    arms: Mapping[str, Run],
    seeds: int,
    train: ImageSet,
    validation: ImageSet,
    scale: Scale,
    **options: Any,
) -> dict[str, list[FitResult]]:
    """Train each arm of an experiment with the seeds 0, 1, … and return its results by name.

    The seeds of the arms' own descriptions are not used; ``options`` go to `fit_all`.
    """
    runs = {name: [replace(run, seed=seed) for seed in range(seeds)] for name, run in arms.items()}
    wanted = list(itertools.chain.from_iterable(runs.values()))
    results = iter(fit_all(wanted, train, validation, scale, **options))
    return {name: [next(results) for _ in repeated] for name, repeated in runs.items()}


def map_cached(
    function: Callable[..., dict[str, Any]],
    tasks: Mapping[Any, Sequence[Any]],
    shared: Sequence[Tensor] = (),
    checksums: Sequence[str] = (),
    **options: Any,
) -> dict[Any, dict[str, Any]]:
    """Return what `each_cached` yields, all of it, in the tasks' order."""
    found = dict(each_cached(function, tasks, shared, checksums, **options))
    return {name: found[name] for name in tasks}


def each_cached(
    function: Callable[..., dict[str, Any]],
    tasks: Mapping[Any, Sequence[Any]],
    shared: Sequence[Tensor] = (),
    checksums: Sequence[str] = (),
    *,
    title: str = "tasks",
    work: Mapping[Any, float] | None = None,
    note: Callable[[dict[str, Any]], Mapping[str, str]] | None = None,
    checkpoints: bool = False,
    n_jobs: int | None = None,
    cache_dir: Path | None = None,
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Call ``function(*task, *shared)`` for every task whose result is not on disk yet.

    Each call has one thread to itself. Results are kept as they come in, so that an interrupted
    call goes on where it stopped; a damaged file counts as none.

    Parameters
    ----------
    function : callable
        Pure, marked by `fingerprints.task`. Returns a dict of tensors, numbers, strings, None, and
        lists or dicts of these.
    tasks : mapping
        The arguments of each call, under any name. Started in this order: put the longest first.
        Equal ones are done once.
    shared : sequence of Tensor
        Large tensors that all calls get: sent to each worker once.
    checksums : sequence of str
        What `task_key` takes in place of the shared tensors, and of what else decides a result.
    title : str
        Before the progress bar.
    work : mapping, optional
        How much there is to do in each task, where they differ: the progress bar's time left goes
        by it.
    note : callable, optional
        What to show of a result at the progress bar's end.
    checkpoints : bool
        Whether each call gets, after its own arguments, the path of a file in which it may keep
        what it needs to go on after an interruption. Deleted once there is a result.
    n_jobs, cache_dir
        As in `fit_all`.

    Yields
    ------
    tuple of name and dict
        Each task's name and its result: first what is on disk, then what is computed, as it ends.

    Raises
    ------
    workers.WorkerError
        The cluster cannot be used, or is lost, or the source files were edited since this process
        started; finished results are kept.
    """
    cache_dir = Path(cache_dir) if cache_dir else paths.cache_dir()
    named: dict[str, list[Any]] = {}
    for name, arguments in tasks.items():
        named.setdefault(task_key(function, arguments, checksums), []).append(name)
    each = {key: work[names[0]] if work else 1.0 for key, names in named.items()}
    missing: dict[str, Sequence[Any]] = {}
    for key, names in named.items():
        checkpoint = cache_dir / f"{key}.checkpoint"
        if (kept := files.read_tensors(cache_dir / f"{key}.pt")) is None:
            missing[key] = (*tasks[names[0]], checkpoint) if checkpoints else tasks[names[0]]
        else:
            checkpoint.unlink(missing_ok=True)
            yield from ((name, kept) for name in names)
    left, total = sum(each[key] for key in missing), sum(each.values())
    before = (total - left) / total if missing else 1.0
    _report(title=title, keys=list(named), computed=len(missing), before=before)
    if not missing:
        return
    with tqdm(total=total, initial=total - left, desc=title, bar_format=_BAR) as bar:
        ended = len(named) - len(missing)
        for key, content in workers.results(function, missing, shared, n_jobs):
            files.write_checked(cache_dir / f"{key}.pt", content)
            (cache_dir / f"{key}.checkpoint").unlink(missing_ok=True)
            result = files.unpack_tensors(content)
            ended += 1
            bar.update(each[key])
            told = note(result) if note else {}
            bar.set_postfix({"runs": f"{ended}/{len(named)}", **told})
            _report(done=bar.n / bar.total, seconds=bar.format_dict["elapsed"])
            yield from ((name, result) for name in named[key])


def _report(**said: Any) -> None:
    """Tell the run that waits for this process how far it is, where one does."""
    if place := os.environ.get(JOURNAL):
        with Path(place).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(said) + "\n")


def task_key(
    function: Callable[..., Any], arguments: Sequence[Any], checksums: Sequence[str] = ()
) -> str:
    """Return the key under which a task's result is kept: a SHA-256 digest, hexadecimal.

    Parameters
    ----------
    function : callable
        Counts by the code that it executes, see `fingerprints.code_digest`.
    arguments : sequence
        Of this call alone: dataclasses, tensors, and what JSON can hold; a TypeError otherwise.
    checksums : sequence of str
        Of the shared tensors.
    """
    decides = {
        "code": fingerprints.code_digest((function, workers.compute), arguments),
        "arguments": [_described(argument) for argument in arguments],
        "data": list(checksums),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _described(value: Any) -> Any:
    """Return what JSON can hold in place of ``value``, different for different values."""
    if isinstance(value, Tensor):
        content = np.ascontiguousarray(value.cpu().numpy())
        return [str(value.dtype), list(value.shape), hashlib.sha256(content).hexdigest()]
    if dataclasses.is_dataclass(value):
        fields = {f.name: _described(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, (list, tuple)):
        return [_described(item) for item in value]
    if isinstance(value, dict):
        return {name: _described(item) for name, item in value.items()}
    return value


def _as_result(run: Run, kept: dict[str, Any]) -> FitResult:
    return FitResult(run=run, **kept | {"history": pd.DataFrame(kept["history"])})
