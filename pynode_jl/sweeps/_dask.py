"""Runs executed by Dask distributed, on whatever cluster a scheduler has."""

from __future__ import annotations

import os
import sys
from concurrent.futures import Future
from functools import partial
from typing import Any

from pynode_jl._version import __version__
from pynode_jl.errors import ExecutorLostError, MissingDependencyError, SweepError
from pynode_jl.sweeps._executors import Executor, one_thread
from pynode_jl.sweeps._job import Job, Outcome, execute

_CONNECT = 20.0  # seconds


class DaskExecutor(Executor):
    """Executes jobs on the workers of a Dask scheduler.

    The workers need pynode_jl, of this version, and the sweep's folder under the same path. Each
    worker should have one thread (``dask worker --nthreads 1``). Dask gives a lost worker's job to
    another one, and ends workers that have too much memory.

    Args:
        scheduler: its address, ``tcp://host:8786``, or a `distributed.Client`.
        memory: bytes that a run may have: where workers declare a resource ``memory``, no more runs
            are given to one than fit.

    Raises:
        MissingDependencyError: distributed is not installed.
        SweepError: no scheduler answers, or a worker has another version.

    Example:
        >>> from pynode_jl.sweeps import DaskExecutor
        >>> DaskExecutor("")
        Traceback (most recent call last):
        pynode_jl.errors.SweepError: dask = '': expected the address of a scheduler. ...
    """

    def __init__(self, scheduler: Any, *, memory: int | None = None) -> None:
        distributed = _distributed()
        self._own = not isinstance(scheduler, distributed.Client)
        if self._own:
            if not isinstance(scheduler, str) or not scheduler:
                raise SweepError(
                    "dask", scheduler, "the address of a scheduler", "Use tcp://localhost:8786."
                )
            try:
                scheduler = distributed.Client(scheduler, timeout=_CONNECT, set_as_default=False)
            except (OSError, ValueError, TypeError) as error:
                hint = f"Start one: dask scheduler. {error}"
                raise SweepError("dask", scheduler, "a scheduler that answers", hint) from error
        self._client = scheduler
        try:
            self._check_versions()
            self._client.register_worker_callbacks(partial(_begin, _version()))
            resources = {"memory": memory} if memory is not None and self._limited() else None
            self._pool = self._client.get_executor(pure=False, retries=0, resources=resources)
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """The threads of all workers that there are now.

        Raises:
            ExecutorLostError: the scheduler has gone.
        """
        if self._client.status != "running":
            raise ExecutorLostError("the connection to Dask's scheduler is lost.")
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return sum(int(each["nthreads"]) for each in workers.values())

    def submit(self, job: Job) -> Future[Outcome]:
        """Start a job on a worker.

        Raises:
            ExecutorLostError: the scheduler has gone.
        """
        try:
            future: Future[Outcome] = self._pool.submit(execute, job)
        except Exception as error:  # Dask's errors of a closed connection are of many types
            raise ExecutorLostError(f"Dask takes no job: {error}") from error
        return future

    def kill(self, future: Future[Outcome]) -> None:
        """Cancel a job. One that has begun ends with its worker, or at its limit of time.

        `future` is what `submit` returned.
        """
        future.cancel()

    def close(self) -> None:
        """End the connection, and with it the jobs that have not begun."""
        if self._own:
            self._client.close(timeout=2)

    def _check_versions(self) -> None:
        here = _version()
        for worker, version in self._client.run(_version).items():
            if version != here:
                raise SweepError(
                    "dask",
                    f"worker {worker}: pynode_jl {version}",
                    f"pynode_jl {here}, as here",
                    "Install it in the workers' environment.",
                )

    def _limited(self) -> bool:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return any("memory" in each.get("resources", {}) for each in workers)


def _begin(version: str, dask_worker: Any) -> None:
    """Give a worker one thread, before it computes; one of another version that joins leaves."""
    if _version() == version:
        os.environ.update(one_thread(os.environ))
        return
    said = f"pynode_jl {_version()} is here, {version} where the sweep is: this worker leaves it."
    print(said, file=sys.stderr, flush=True)
    dask_worker.loop.add_callback(dask_worker.close, reason=said)


def _version() -> str:
    """Return this process's version; a worker that is asked returns its own."""
    return __version__


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingDependencyError(
            "distributed", "a cluster", "pip install 'pynode-jl[dask]', or use local processes."
        ) from error
    return distributed
