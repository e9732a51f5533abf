"""Many training runs: in parallel, each cached on disk, none done twice.

A run's result is kept under a key made of its description, the data's checksums, the code that
decides the result and the version of torch. An interrupted sweep starts again where it stopped.
"""

import ast
import dataclasses
import hashlib
import io
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import torch
from tqdm.auto import tqdm

from hw3utils import data, evaluation, models, paths, runs, schedules, storage, training
from hw3utils.data import ImageSet, Scale
from hw3utils.runs import FitResult, Run

__all__ = ["code_fingerprint", "fit_all", "fit_arms", "num_workers", "result_key"]

_CODE_THAT_DECIDES = (data, evaluation, models, runs, schedules, training)
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
    cache_dir = Path(cache_dir) if cache_dir else paths.cache_dir()
    for run in wanted:
        training.check_fits(models.build(run.model, train.num_classes, 0), run, train, scale)
    places = {run: cache_dir / f"{result_key(run, train, validation, scale)}.pt" for run in wanted}
    results = {run: found for run, place in places.items() if (found := _load(place, run))}
    missing = [run for run in places if run not in results]
    missing.sort(key=lambda run: run.num_updates(len(train)), reverse=True)
    arrays = [
        part.numpy() for images in (train, validation) for part in (images.images, images.labels)
    ]
    parallel = joblib.Parallel(n_jobs=n_jobs or num_workers(), return_as="generator_unordered")
    finished = parallel(
        joblib.delayed(_fit_one)(run, arrays, train.class_names, scale, places[run])
        for run in missing
    )
    with tqdm(total=len(places), initial=len(results), desc=title, unit="run") as bar:
        for run, result in finished:
            results[run] = result
            bar.update()
            bar.set_postfix(loss=f"{result.final['train_loss']:.3f}")
    return [results[run] for run in wanted]


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


def _fit_one(
    run: Run, arrays: list[Any], class_names: tuple[str, ...], scale: Scale, place: Path
) -> tuple[Run, FitResult]:
    """Train one run in this process and keep its result; arrays may be read-only memory maps."""
    torch.set_num_threads(1)
    tensors = [torch.from_numpy(array.copy()) for array in arrays]
    train = ImageSet(tensors[0], tensors[1], class_names)
    validation = ImageSet(tensors[2], tensors[3], class_names)
    model = models.build(run.model, train.num_classes, run.seed)
    result = training.fit(model, run, train, validation, scale)
    _save(place, result)
    return run, result


def _save(place: Path, result: FitResult) -> None:
    content = io.BytesIO()
    kept = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    del kept["run"]
    torch.save(kept | {"history": result.history.to_dict("list")}, content)
    storage.write_checked(place, content.getvalue())


def _load(place: Path, run: Run) -> FitResult | None:
    """Return the kept result, or None where there is none or the file is damaged."""
    try:
        content = storage.read_checked(place)
    except (FileNotFoundError, storage.CorruptFileError):
        return None
    kept = torch.load(io.BytesIO(content), weights_only=True)
    return FitResult(run=run, **kept | {"history": pd.DataFrame(kept["history"])})
