"""Where many runs are computed: local processes, or the workers of a Dask scheduler.

With the environment variable ``HW3_CLUSTER`` set to a scheduler's address the same sweeps go to its
workers, on this machine or on others; without it, to processes here. (Not through joblib's backend
for Dask: it waits for ever where a call cannot be read, or where its workers die again and again.)
"""

import contextlib
import ctypes
import functools
import gc
import io
import multiprocessing
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor

from hw3utils import settings
from hw3utils.training import fingerprints

CONNECT_SECONDS = 20
_ADDRESS = re.compile(r"(tcp|tls|ucx)://[^\s/:]+:\d{1,5}|(tcp|tls)://\[[0-9a-fA-F:]+\]:\d{1,5}")


class WorkerError(RuntimeError):
    """The scheduler cannot be reached, or a worker would not give this code's results."""


def pick_device() -> torch.device:
    """Return the device to train on: cuda where there is one, else mps, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def num_workers() -> int:
    """Return how many processes train at a time: ``HW3_JOBS``, or one for each CPU core.

    Raises a ValueError where ``HW3_JOBS`` is not a whole number of at least 1.
    """
    return settings.jobs() or joblib.cpu_count()


def processes() -> int:
    """Return how many processes to use for large networks: one for each GPU, else `num_workers`."""
    if pick_device().type == "cpu":
        return num_workers()
    return max(1, torch.cuda.device_count())


def address() -> str | None:
    """Return the scheduler's address from ``HW3_CLUSTER``, or None where it is not set.

    Raises a ValueError where it does not look like ``tcp://HOST:PORT``.
    """
    asked = os.environ.get("HW3_CLUSTER")
    if not asked:
        return None
    if not _ADDRESS.fullmatch(asked):
        raise ValueError(f"HW3_CLUSTER={asked!r}: an address like tcp://HOST:8786 expected")
    return asked


def check_cluster() -> int:
    """Return the number of the cluster's workers, 0 where no cluster is asked for.

    Raises as `address` and `results` do.
    """
    if (scheduler := address()) is None:
        return 0
    with _connected(scheduler) as client:
        return len(client.scheduler_info(n_workers=-1)["workers"])


def results(
    function: Callable[..., dict[str, Any]],
    tasks: Mapping[str, Sequence[Any]],
    shared: Sequence[Tensor],
    n_jobs: int | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Yield each task's key and its result, saved by torch, in the order in which they end.

    When a worker dies, others do its tasks again.

    Parameters
    ----------
    function, tasks, shared
        As in `sweeps.each_cached`.
    n_jobs : int, optional
        Local processes, `num_workers` unless it is given; a cluster uses all its workers.

    Raises
    ------
    WorkerError
        The scheduler does not answer or is lost, a worker has several threads or other code, or the
        code was edited since this process started.
    Exception
        What a call raised; or Dask's ``KilledWorker``: the same call ran in several workers that
        died.
    """
    arrays = [tensor.cpu().numpy() for tensor in shared]
    calls = [
        (function, key, arguments, identity(function, arguments))
        for key, arguments in tasks.items()
    ]
    if (scheduler := address()) is None:
        _give_back_memory()
        # What is shared lies in a file, for each process to map: joblib's own place is memory.
        parallel = joblib.Parallel(
            n_jobs or num_workers(), return_as="generator_unordered",
            temp_folder=tempfile.gettempdir(), mmap_mode="c",
        )  # fmt: skip
        here = os.getpid()
        yield from parallel(joblib.delayed(compute_for)(here, *call, arrays) for call in calls)
        return
    with _connected(scheduler, function) as client:
        from distributed import CancelledError, as_completed

        try:
            [sent] = client.scatter([arrays], broadcast=True, hash=False)
            futures = [client.submit(compute, *call, sent, pure=False) for call in calls]
            for future in as_completed(futures, loop=client.loop):
                yield future.result()
                future.release()
        except (OSError, CancelledError) as error:
            raise WorkerError(
                f"the scheduler at {scheduler} was lost; finished runs are kept, the same command "
                "goes on from there"
            ) from error


def identity(
    function: Callable[..., Any] | None = None, arguments: Sequence[Any] = ()
) -> dict[str, str]:
    """Return what must be the same wherever a task is computed: the code that it executes, torch.

    Without a function the code is that of `compute` alone.
    """
    functions = (function, compute) if function else (compute,)
    code = fingerprints.code_digest(functions, arguments)
    return {"hw3utils": code, "torch": torch.__version__}


@fingerprints.task
def compute(
    function: Callable[..., dict[str, Any]],
    key: str,
    arguments: Sequence[Any],
    expected: Mapping[str, str],
    arrays: Sequence[np.ndarray],
) -> tuple[str, bytes]:
    """Do one task in this process and return its key and result; arrays may be read-only.

    Raises a WorkerError where this process has other code than the one that asks: the result would
    be kept under the wrong key.
    """
    if different := _different(identity(function, arguments), expected):
        raise WorkerError(
            f"a worker has another version of {different} than the process that asks: was the code "
            "edited since that one started? Then restart it (in a notebook, the kernel)"
        )
    _end_with_parent()
    _use_own_gpu()
    torch.set_num_threads(1)
    writable = (array if array.flags.writeable else array.copy() for array in arrays)
    result = function(*arguments, *map(torch.from_numpy, writable))
    content = io.BytesIO()
    torch.save(result, content)
    return key, content.getvalue()


def compute_for(parent: int, *call: Any) -> tuple[str, bytes]:
    """Do as `compute`, unless the process ``parent``, which asks, has ended before this begins.

    A worker that was about to take a task when that process was killed would train it for nobody.
    """
    if multiprocessing.current_process().name != "MainProcess":
        if os.getppid() != parent:
            os._exit(1)
        _spare_what_is_imported()
    _give_back_memory()  # what the task before this one has left
    return compute(*call)


@functools.cache
def _spare_what_is_imported() -> None:
    """Keep Python's collector from going through all libraries' objects before each task.

    That took a tenth of a second, as long as the smallest tasks.
    """
    gc.freeze()


def _give_back_memory() -> None:
    """Give what is not used here any more back to the system, where the C library can."""
    gc.collect()  # a network that refers to itself is not freed before
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _different(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    return " and ".join(name for name, value in expected.items() if found.get(name) != value)


@contextlib.contextmanager
def _connected(scheduler: str, function: Callable[..., Any] | None = None) -> Iterator[Any]:
    """Yield a client of a scheduler all of whose workers are fit to compute ``function``."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise WorkerError(
            "HW3_CLUSTER needs Dask: pip install 'hw3utils[cluster]', in a checkout -e '.[cluster]'"
        ) from error
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise WorkerError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client:
        _refuse_unfit_workers(client, function)
        yield client


def _refuse_unfit_workers(client: Any, function: Callable[..., Any] | None) -> None:
    workers = client.scheduler_info(n_workers=-1)["workers"]
    found = client.run(identity, function, on_error="return")
    for name, worker in workers.items():
        told = found.get(name, {})
        if isinstance(told, ModuleNotFoundError | AttributeError):
            raise WorkerError(f"the worker {name} has no hw3utils or an old one: install this")
        if isinstance(told, Exception):
            raise WorkerError(f"the worker {name} cannot run hw3utils: {told}")
        if told and (different := _different(told, identity(function))):
            raise WorkerError(
                f"the worker {name} has another version of {different}; install the same there, "
                "and start it again"
            )
        if worker["nthreads"] != 1:
            raise WorkerError(
                f"the worker {name} has {worker['nthreads']} threads; start it with --nthreads 1, "
                "and --nworkers with the number of cores: a run's random numbers are the process's"
            )


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
