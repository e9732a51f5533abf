"""Many training runs: in parallel, each cached on disk, none done twice.

A run's result is kept under a key made of its description, the data's checksums, the code that
decides the result and the version of torch. An interrupted sweep starts again where it stopped.
Runs go to local processes, or to the workers of a cluster (see `cluster`).
`fit_all` does this for a `Run`; `map_cached` for any pure function of plain data and tensors.
"""

import ast
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from hw3utils import (
    cluster,
    data,
    evaluation,
    gradients,
    models,
    paths,
    runs,
    schedules,
    storage,
    training,
)
from hw3utils.data import ImageSet, Scale
from hw3utils.runs import FitResult, Run

__all__ = [
    "code_fingerprint",
    "fit_all",
    "fit_arms",
    "map_cached",
    "num_workers",
    "result_key",
    "task_key",
]

_CODE_THAT_DECIDES = (data, evaluation, gradients, models, runs, schedules, training)
_MAY_HAVE_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef)


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
        model = models.build(run.model, train.num_classes, 0)
        training.check_fits(model, run, train, validation, scale)
    longest_first = sorted(set(wanted), key=lambda run: run.num_updates(len(train)), reverse=True)
    keys = {run: result_key(run, train, validation, scale) for run in longest_first}
    found = map_cached(
        _fit_one,
        {key: (run, train.class_names, scale) for run, key in keys.items()},
        [part for images in (train, validation) for part in (images.images, images.labels)],
        title=title,
        note=lambda kept: {"loss": f"{kept['history']['train_loss'][-1]:.3f}"},
        n_jobs=n_jobs,
        cache_dir=cache_dir,
    )
    return [_as_result(run, found[keys[run]]) for run in wanted]


def fit_arms(
    arms: Mapping[str, Run],
    seeds: int,
    train: ImageSet,
    validation: ImageSet,
    scale: Scale,
    **options: Any,
) -> dict[str, list[FitResult]]:
    """Train each arm of an experiment with the seeds 0, 1, … and return its results by name.

    Parameters
    ----------
    arms : mapping of str to Run
        The name of each arm and its description; the description's own seed is not used.
    seeds : int
        How many.
    **options
        Passed on to `fit_all`.
    """
    runs = {name: [replace(run, seed=seed) for seed in range(seeds)] for name, run in arms.items()}
    wanted = list(itertools.chain.from_iterable(runs.values()))
    results = iter(fit_all(wanted, train, validation, scale, **options))
    return {name: [next(results) for _ in repeated] for name, repeated in runs.items()}


def map_cached(
    function: Callable[..., dict[str, Any]],
    tasks: Mapping[str, Sequence[Any]],
    shared: Sequence[Tensor] = (),
    *,
    title: str = "tasks",
    note: Callable[[dict[str, Any]], Mapping[str, str]] | None = None,
    n_jobs: int | None = None,
    cache_dir: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Call ``function(*arguments, *shared)`` for every task that is not in the cache yet.

    Each call has a process and one thread to itself, so its result does not depend on ``n_jobs``.
    A result is kept on disk, by this process, as soon as it is there; a damaged file counts as
    none. Where ``HW3_CLUSTER`` names a scheduler, its workers do the calls.

    Parameters
    ----------
    function : callable
        Pure, defined at a module's top level. Returns a dict of tensors, numbers, strings, None,
        and lists or dicts of these.
    tasks : mapping of str to sequence
        The arguments of each call under its key: from `task_key`, or any other name for everything
        that decides the result. Started in this order: put the longest first.
    shared : sequence of Tensor
        Large tensors that all calls get: sent to the processes once, as memory maps, or once to
        each of a cluster's workers.
    title : str
        Before the progress bar.
    note : callable, optional
        What to show of a result at the progress bar's end.
    n_jobs : int, optional
        Processes at a time; by default ``HW3_JOBS``, or one for each CPU core.
    cache_dir : Path, optional
        By default `paths.cache_dir`.

    Returns
    -------
    dict
        The results under the tasks' keys, in the tasks' order.

    Raises
    ------
    ClusterError
        The cluster cannot be used, or is lost; finished results are kept.
    """
    cache_dir = Path(cache_dir) if cache_dir else paths.cache_dir()
    places = {key: cache_dir / f"{key}.pt" for key in tasks}
    found = {key: kept for key, place in places.items() if (kept := _load(place)) is not None}
    missing = {key: arguments for key, arguments in tasks.items() if key not in found}
    if not missing:
        return {key: found[key] for key in tasks}
    arrays = [tensor.cpu().numpy() for tensor in shared]
    calls = [(function, key, arguments) for key, arguments in missing.items()]
    with tqdm(total=len(tasks), initial=len(found), desc=title, unit="run") as bar:
        for key, content in cluster.results(_do_one, calls, arrays, n_jobs or num_workers()):
            storage.write_checked(places[key], content)
            found[key] = _read(content)
            bar.update()
            if note:
                bar.set_postfix(note(found[key]))
    return {key: found[key] for key in tasks}


def num_workers() -> int:
    """Return how many processes train at a time: ``HW3_JOBS``, or one for each CPU core.

    Raises
    ------
    ValueError
        ``HW3_JOBS`` is not a whole number of at least 1.
    """
    asked = os.environ.get("HW3_JOBS")
    if not asked:
        return joblib.cpu_count()
    if not (asked.isdecimal() and int(asked) >= 1):
        raise ValueError(f"HW3_JOBS={asked!r}: must be a whole number of at least 1")
    return int(asked)


def result_key(run: Run, train: ImageSet, validation: ImageSet, scale: Scale) -> str:
    """Return the name under which the result of a run is kept: a SHA-256 digest, hexadecimal."""
    decides = {
        "run": dataclasses.asdict(run) | {"kind of schedule": type(run.schedule).__name__},
        "data": [train.checksum, validation.checksum, dataclasses.asdict(scale)],
        "code": code_fingerprint(),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def task_key(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    checksums: Sequence[str],
    modules: Sequence[Any] = (),
) -> str:
    """Return a key for `map_cached`: a SHA-256 digest, hexadecimal.

    Parameters
    ----------
    function : callable
        Counts by its name.
    arguments : sequence
        Of this call alone: dataclasses, tensors, and what JSON can hold.
    checksums : sequence of str
        Of the shared tensors.
    modules : sequence of module
        Those whose code decides the result besides the ones that decide every run.

    Raises
    ------
    TypeError
        An argument is none of these.
    """
    decides = {
        "function": f"{function.__module__}.{function.__qualname__}",
        "arguments": [_described(argument) for argument in arguments],
        "data": list(checksums),
        "code": code_fingerprint((*_CODE_THAT_DECIDES, *modules)),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def code_fingerprint(modules: Sequence[Any] = _CODE_THAT_DECIDES) -> str:
    """Return a digest of what modules do: their code without comments, docstrings and layout."""
    digest = hashlib.sha256()
    for module in modules:
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, _MAY_HAVE_DOCSTRING) and ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()


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
    return value


def _do_one(
    function: Callable[..., dict[str, Any]],
    key: str,
    arguments: Sequence[Any],
    arrays: Sequence[np.ndarray],
    expected: dict[str, str] | None,
) -> tuple[str, bytes]:
    """Do one task in this process and return its result, saved; arrays may be read-only."""
    cluster.check_worker(expected)
    _end_with_parent()
    _use_own_gpu()
    torch.set_num_threads(1)
    result = function(*arguments, *(torch.from_numpy(array.copy()) for array in arrays))
    content = io.BytesIO()
    torch.save(result, content)
    return key, content.getvalue()


def _use_own_gpu() -> None:
    """Where there are several GPUs, make one of them this worker process's own, by its number."""
    count = torch.cuda.device_count()
    name = multiprocessing.current_process().name  # such as LokyProcess-3
    if count > 1 and (number := name.rpartition("-")[2]).isdecimal():
        torch.cuda.set_device(int(number) % count)


@functools.cache
def _end_with_parent(seconds: float = 1.0) -> None:
    """Watch, once in each worker process, for the end of the process that started it.

    The workers of a killed notebook would otherwise train on, and then wait for ever.
    """
    if multiprocessing.current_process().name == "MainProcess":
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _fit_one(
    run: Run,
    class_names: tuple[str, ...],
    scale: Scale,
    train_images: Tensor,
    train_labels: Tensor,
    validation_images: Tensor,
    validation_labels: Tensor,
) -> dict[str, Any]:
    """Train one run and return its result as plain data."""
    train = ImageSet(train_images, train_labels, class_names)
    validation = ImageSet(validation_images, validation_labels, class_names)
    model = models.build(run.model, train.num_classes, run.seed)
    result = training.fit(model, run, train, validation, scale)
    kept = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    del kept["run"]
    return kept | {"history": result.history.to_dict("list")}


def _as_result(run: Run, kept: dict[str, Any]) -> FitResult:
    return FitResult(run=run, **kept | {"history": pd.DataFrame(kept["history"])})


def _load(place: Path) -> dict[str, Any] | None:
    """Return the kept result, or None where there is none or the file is damaged."""
    try:
        content = storage.read_checked(place)
    except (FileNotFoundError, storage.CorruptFileError):
        return None
    return _read(content)


def _read(content: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(content), weights_only=True)
