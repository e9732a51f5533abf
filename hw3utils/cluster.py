"""Where many runs are computed: local processes, or the workers of a Dask scheduler.

With the environment variable ``HW3_CLUSTER`` set to a scheduler's address the same sweeps go to its
workers, on this machine or on others; without it, to processes here. (Not through joblib's backend
for Dask: it waits for ever where a call cannot be read, or where its workers die again and again.)
"""

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import torch

__all__ = ["ClusterError", "address", "check", "check_worker", "identity", "results"]

CONNECT_SECONDS = 20
_ADDRESS = re.compile(r"(tcp|tls|ucx)://[^\s/:]+:\d{1,5}|(tcp|tls)://\[[0-9a-fA-F:]+\]:\d{1,5}")
_PACKAGE = Path(__file__).parent


class ClusterError(RuntimeError):
    """The scheduler cannot be reached, or a worker would not give this code's results."""


def address() -> str | None:
    """Return the scheduler's address from ``HW3_CLUSTER``, or None where it is not set.

    Raises
    ------
    ValueError
        It does not look like ``tcp://HOST:PORT``.
    """
    asked = os.environ.get("HW3_CLUSTER")
    if not asked:
        return None
    if not _ADDRESS.fullmatch(asked):
        raise ValueError(f"HW3_CLUSTER={asked!r}: an address like tcp://HOST:8786 expected")
    return asked


@functools.cache
def identity() -> dict[str, str]:
    """Return what must be the same wherever results are computed: this package's code, and torch's.

    The code as one SHA-256 digest over all files of the package.
    """
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return {"hw3utils": digest.hexdigest(), "torch": torch.__version__}


def check_worker(expected: dict[str, str] | None) -> None:
    """Refuse to compute in a process whose code differs from that of the process that asks.

    Raises
    ------
    ClusterError
        The message says what differs. With None, for local processes, nothing is compared.
    """
    if expected is None:
        return
    different = [name for name, value in expected.items() if identity().get(name) != value]
    if different:
        raise ClusterError(f"a worker has another version of {' and '.join(different)}")


def check() -> int:
    """Return the number of the cluster's workers, 0 where no cluster is asked for.

    Raises
    ------
    ValueError, ClusterError
        See `address` and `results`.
    """
    if (scheduler := address()) is None:
        return 0
    with _connected(scheduler) as client:
        return len(client.scheduler_info(n_workers=-1)["workers"])


def results(
    function: Callable[..., Any],
    calls: Sequence[Sequence[Any]],
    shared: Sequence[Any],
    n_jobs: int,
) -> Iterator[Any]:
    """Yield ``function(*call, shared, expected)`` for every call, in the order in which they end.

    ``expected`` is for `check_worker`. When a worker dies, others do its calls again.

    Parameters
    ----------
    function : callable
        Defined at the top level of a module that the workers have.
    calls : sequence of sequence
        The arguments of each call. Started in this order.
    shared : sequence
        Large objects: sent once to each worker.
    n_jobs : int
        Local processes; a cluster uses all its workers.

    Raises
    ------
    ClusterError
        The scheduler does not answer or is lost, or a worker has other code or several threads.
    Exception
        What a call raised; or Dask's ``KilledWorker``: the same call ran in several workers that
        died.
    """
    if (scheduler := address()) is None:
        parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
        yield from parallel(joblib.delayed(function)(*call, shared, None) for call in calls)
        return
    with _connected(scheduler) as client:
        from distributed import CancelledError, as_completed

        try:
            [sent] = client.scatter([shared], broadcast=True, hash=False)
            futures = [
                client.submit(function, *call, sent, identity(), pure=False) for call in calls
            ]
            for future in as_completed(futures, loop=client.loop):
                yield future.result()
                future.release()
        except (OSError, CancelledError) as error:
            raise ClusterError(
                f"the scheduler at {scheduler} was lost; finished runs are kept, the same command "
                "goes on from there"
            ) from error


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[Any]:
    """Yield a client of a scheduler all of whose workers are fit for this project's runs."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ClusterError(
            "HW3_CLUSTER needs Dask: pip install 'hw3utils[cluster]', in a checkout -e '.[cluster]'"
        ) from error
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise ClusterError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client:
        _refuse_unfit_workers(client)
        yield client


def _refuse_unfit_workers(client: Any) -> None:
    workers = client.scheduler_info(n_workers=-1)["workers"]
    found = client.run(identity, on_error="return")
    for name, worker in workers.items():
        told = found.get(name)
        if isinstance(told, ModuleNotFoundError | AttributeError):
            raise ClusterError(f"the worker {name} has no hw3utils or an old one: install this")
        if isinstance(told, Exception):
            raise ClusterError(f"the worker {name} cannot run hw3utils: {told}")
        different = [each for each, value in identity().items() if told and told[each] != value]
        if different:
            raise ClusterError(
                f"the worker {name} has another version of {' and '.join(different)}; install the "
                "same there, and start it again"
            )
        if worker["nthreads"] != 1:
            raise ClusterError(
                f"the worker {name} has {worker['nthreads']} threads; start it with --nthreads 1, "
                "and --nworkers with the number of cores: a run's random numbers are the process's"
            )
