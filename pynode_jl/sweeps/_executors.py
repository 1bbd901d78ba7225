"""Where runs are executed: in this process, in others of this machine, or on a cluster.

An `Executor` starts jobs and returns futures; which job comes next, what a lost worker means and
when to stop is decided once, in `_schedule`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

from pynode_jl._validation import whole_number
from pynode_jl.errors import ExecutorLostError, InvalidValueError
from pynode_jl.sweeps._job import Job, Outcome, execute

#: One thread a worker: workers beside each other do not contend, and sums have one order.
ONE_THREAD: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "JULIA_NUM_THREADS": "1",
}
_CACHE, _CACHE_FROM = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
_STARTS = 5
#: Who is stopped at once leaves semaphores. Python's tracker takes them away: no news to users.
_WARNINGS, _LEFT = "PYTHONWARNINGS", "ignore:resource_tracker:UserWarning"
_XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false"


class Executor(Protocol):
    """What executes the jobs of a sweep: it starts them, and gives a future for each.

    Example:
        >>> from pynode_jl.sweeps import Executor, SerialExecutor
        >>> Executor in SerialExecutor.__mro__
        True
    """

    @property
    def slots(self) -> int:
        """How many jobs may be under way at once, now."""
        ...

    def submit(self, job: Job) -> Future[Outcome]:
        """Start a job. The future fails where its worker is lost, and only there.

        Raises:
            ExecutorLostError: no job can be started any more.
        """
        ...

    def memory(self, future: Future[Outcome]) -> int:
        """Return how many bytes the worker of a job's `future` has now; 0 if that is not known."""
        return 0

    def kill(self, future: Future[Outcome]) -> None:
        """End a job at once, with its worker if need be; its `future` fails or is cancelled."""
        ...

    def close(self) -> None:
        """End all jobs and workers."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SerialExecutor(Executor):
    """Executes jobs in this process, one after the other.

    Example:
        >>> from pynode_jl.sweeps import SerialExecutor
        >>> SerialExecutor().slots
        1
    """

    slots = 1

    def submit(self, job: Job) -> Future[Outcome]:
        """Execute a job; the future is done."""
        future: Future[Outcome] = Future()
        future.set_result(execute(job))
        return future

    def kill(self, future: Future[Outcome]) -> None:
        """Do nothing: the job is over.

        `future` is what `submit` returned.
        """

    def close(self) -> None:
        """Do nothing: there is no worker."""


class ProcessExecutor(Executor):
    """Executes jobs in long-lived processes of this machine, so that each compiles once.

    Each worker is a pool of its own: where one is lost, it is known which job it had.

    Args:
        workers: how many.
        compiled: a folder in which they share what JAX has compiled, unless the environment names
            one (JAX_COMPILATION_CACHE_DIR); None for no sharing.

    Example:
        >>> from pynode_jl.sweeps import ProcessExecutor
        >>> with ProcessExecutor(2) as executor:
        ...     executor.slots
        2
    """

    def __init__(self, workers: int, compiled: Path | None = None) -> None:
        self._workers = whole_number("workers", workers, hint="One for each core is usual.")
        self._compiled = compiled
        self._unstarted = 0  # workers in a row that ended before they could work
        self._idle: list[_Worker] = []
        self._at_work: dict[Future[Outcome], _Worker] = {}

    @property
    def slots(self) -> int:
        """The number of workers.

        Raises:
            ExecutorLostError: none can be started.
        """
        if self._unstarted >= _STARTS:
            raise ExecutorLostError(
                f"{self._unstarted} workers in a row ended as they started. (A script that starts"
                ' workers needs `if __name__ == "__main__":`.)'
            )
        return self._workers

    def submit(self, job: Job) -> Future[Outcome]:
        """Start a job on an idle worker, or on a new one.

        Raises:
            ExecutorLostError: no process can be started.
        """
        while self._idle:
            worker = self._idle.pop()
            try:
                return self._given(worker, job)
            except BrokenExecutor:  # it ended while it was idle
                worker.kill()
        try:
            return self._given(_Worker(self._compiled), job)
        except (BrokenExecutor, OSError) as error:
            raise ExecutorLostError(f"no worker can be started: {error}.") from error

    def memory(self, future: Future[Outcome]) -> int:
        """Return the resident memory of the job's worker.

        `future` is what `submit` returned.
        """
        worker = self._at_work.get(future)
        return 0 if worker is None else resident_bytes(worker.pid)

    def kill(self, future: Future[Outcome]) -> None:
        """End the job's worker; its future fails."""
        worker = self._at_work.get(future)
        if worker is not None:
            worker.kill()

    def close(self) -> None:
        """End all workers, and what they are at."""
        for worker in [*self._idle, *self._at_work.values()]:
            worker.kill()
        self._idle.clear()

    def _given(self, worker: _Worker, job: Job) -> Future[Outcome]:
        future = worker.pool.submit(execute, job)
        self._at_work[future] = worker
        future.add_done_callback(self._settled)
        return future

    def _settled(self, future: Future[Outcome]) -> None:
        worker = self._at_work.pop(future)
        if future.cancelled() or future.exception() is not None:
            self._unstarted = 0 if worker.pid else self._unstarted + 1
            worker.kill()
        else:
            self._unstarted = 0
            self._idle.append(worker)


class _Worker:
    """A process of its own, in a pool of one."""

    def __init__(self, compiled: Path | None) -> None:
        context = multiprocessing.get_context("spawn")
        values = one_thread(os.environ)  # before libraries count the cores
        values[_WARNINGS] = ",".join(filter(None, (os.environ.get(_WARNINGS), _LEFT)))
        if compiled is not None and _CACHE not in os.environ:
            values |= {_CACHE: str(compiled), _CACHE_FROM: "0.2"}
        with _Environment(values):
            self.pool = ProcessPoolExecutor(1, context, initializer=_begin)
            with _interrupts_held():
                self._pid = self.pool.submit(os.getpid)
        self._killed = False

    @property
    def pid(self) -> int:
        return self._pid.result() if self._pid.done() and not self._pid.exception() else 0

    def kill(self) -> None:
        if not self._killed:
            self._killed = True
            for process in list((self.pool._processes or {}).values()):
                process.kill()
            self.pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while a process is started, which inherits that until it ignores it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Environment:
    """Sets variables while processes are started."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self._values}
        os.environ.update(self._values)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def one_thread(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that give a worker one thread; XLA's flags in `environment` stay.

    Example:
        >>> from pynode_jl.sweeps import one_thread
        >>> one_thread({"XLA_FLAGS": "--a"})["XLA_FLAGS"]
        '--a --xla_cpu_multi_thread_eigen=false'
    """
    flags = environment.get("XLA_FLAGS", "")
    if _XLA_FLAGS not in flags:
        flags = f"{flags} {_XLA_FLAGS}".strip()
    return {**ONE_THREAD, "XLA_FLAGS": flags}


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process of this machine; 0 for one that has ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def check_memory_limit(memory: int | None) -> None:
    """Refuse a limit of memory where the memory of a process cannot be read.

    Raises:
        InvalidValueError: this system has no /proc.
    """
    if memory is not None and not Path("/proc/self/statm").exists():
        hint = f"Leave it out on {sys.platform}, or let Dask's workers have the limit."
        raise InvalidValueError("memory", memory, "None where there is no /proc", hint)


def _begin() -> None:
    """Prepare a worker: Ctrl-C is its parent's affair, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
