"""What is missing of a sweep, job by job, on whatever executor: until all is done or must stop."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pynode_jl._io import check_room
from pynode_jl._validation import flag, optional_callable, real_number, whole_number
from pynode_jl.errors import ExecutorLostError, InputError, OutputError
from pynode_jl.sweeps._definition import PlannedRun, Sweep
from pynode_jl.sweeps._executors import (
    Executor,
    ProcessExecutor,
    SerialExecutor,
    check_memory_limit,
)
from pynode_jl.sweeps._job import Job, Outcome
from pynode_jl.sweeps._preflight import check_runs
from pynode_jl.sweeps._result_files import Failure, read_result, write_failure
from pynode_jl.sweeps._store import RUNS, SweepStore

_POLL = 0.25  # seconds between looks at limits
_GRACE = 60.0  # beyond a limit of time: a worker starts, and a run ends itself after its chunk
_BUSY_AGAIN = 2.0  # seconds until a run that another process has is looked at again
_SPEED = 32  # results that the rate is measured over
_ROOM = 2**20


@dataclass(frozen=True)
class Progress:
    """Where a sweep stands.

    Attributes:
        total: its runs.
        done: with a result, `found` of them before this call.
        found: results that were there.
        failed: runs that have failed.
        running: under way.
        seconds: since the call.
        rate: results a second, lately (0 before the first).
        remaining: seconds to the end at that rate (nan before the first).
        text: what came last: a run's failure, or what was found damaged.

    Example:
        >>> from pynode_jl.sweeps import Progress
        >>> Progress(total=4, done=1).left
        3
    """

    total: int
    done: int = 0
    found: int = 0
    failed: int = 0
    running: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    text: str = ""

    @property
    def left(self) -> int:
        """How many runs have neither result nor failure."""
        return self.total - self.done - self.failed

    @property
    def remaining(self) -> float:
        """Seconds to the end at the rate of late."""
        return self.left / self.rate if self.rate else float("nan")


OnProgress = Callable[[Progress], None]


def run_sweep(
    sweep: Sweep,
    folder: str | Path,
    *,
    workers: int = 1,
    executor: Executor | None = None,
    seconds: float | None = None,
    memory: int | None = None,
    attempts: int = 3,
    retry: bool = False,
    on_progress: OnProgress | None = None,
) -> SweepStore:
    """Run what is missing of a sweep in a folder.

    Results that are there are checked by their checksums; what is damaged is set aside, named, and
    run again. Call it again after whatever has stopped it: nothing is run twice.

    Args:
        sweep: the sweep.
        folder: its folder, new or not.
        workers: processes of this machine; 1 runs all in this one, unless `memory` is limited.
        executor: in place of `workers`; whoever made it closes it.
        seconds: the most that one run may take.
        memory: the most bytes that one run's worker may have.
        attempts: how often a run is tried whose worker is lost.
        retry: try runs again that have failed before, even where they will fail alike.
        on_progress: called at each change; what it raises ends the sweep, as Ctrl-C does.

    Raises:
        SweepError: the folder holds something else, or a run's settings fit no data or model.
        OutputError: the folder cannot be written; what was complete is kept.

    Example:
        >>> from pynode_jl.sweeps import run_sweep
        >>> base = pn.Config.from_dict({
        ...     "backend": "jax",
        ...     "data": {"n_train": 64, "n_test": 16},
        ...     "field": {"kind": "mlp", "width": 4},
        ...     "train": {"solver": "Euler:dt=1/2", "iterations": 4, "batch_size": 32, "chunk": 4},
        ...     "swap": {"solvers": ["RK4"], "factors": [1.0]},
        ... })
        >>> store = run_sweep(pn.Sweep(base, grid={"seed": [0, 1]}), "sweeps/tiny")
        >>> store.counts()
        {'done': 2, 'failed': 0, 'missing': 0}
    """
    workers = whole_number("workers", workers)
    whole_number("attempts", attempts)
    flag("retry", retry)
    optional_callable("on_progress", on_progress)
    if seconds is not None:
        seconds = real_number("seconds", seconds, "600 is ten minutes.", above=0)
    if memory is not None:
        memory = whole_number("memory", memory)
    store = SweepStore.create(sweep, folder)
    check_room(store.folder, _ROOM)
    check_runs(store.runs)
    limits = _Limits(seconds, memory, attempts)
    own = executor is None
    if executor is None:
        check_memory_limit(memory)
        alone = workers == 1 and memory is None
        executor = SerialExecutor() if alone else ProcessExecutor(workers, _compiled(store))
    schedule = _Schedule(store, executor, limits, on_progress)
    try:
        with store.index.held():
            schedule.find(retry)
            schedule.work()
    finally:
        if own:
            executor.close()
        else:
            schedule.cancel()
    return store


@dataclass(frozen=True)
class _Limits:
    seconds: float | None
    memory: int | None
    attempts: int


@dataclass(eq=False)
class _UnderWay:
    """A job that an executor has."""

    run: PlannedRun
    begun: float
    ended: str = ""  # why it was killed


@dataclass
class _Schedule:
    """The state of one call of `run_sweep`."""

    store: SweepStore
    executor: Executor
    limits: _Limits
    on_progress: OnProgress | None
    todo: deque[PlannedRun] = field(default_factory=deque)
    later: list[tuple[float, PlannedRun]] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)
    at_work: dict[Future[Outcome], _UnderWay] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)  # runs without an end, by their folder
    stopped: str = ""
    begun: float = field(default_factory=time.monotonic)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_SPEED))
    progress: Progress = Progress(0)

    def find(self, retry: bool) -> None:
        """See what is there, and what is missing."""
        self.progress = Progress(len(self.store.runs))
        done = failed = 0
        for run in self.store.runs:
            path = self.store.result_path(run)
            if path.exists():
                try:
                    read_result(path)
                    done += 1
                    continue
                except InputError as error:
                    self._say(f"{error} It is run again.")
            failure = self.store.failure(run)
            if failure is not None and failure.final and not retry:
                failed += 1
                continue
            self.todo.append(run)
        # A longer training goes on from a shorter one: that comes first.
        self.todo = deque(sorted(self.todo, key=lambda run: len(run.shorter)))
        for run in self.todo:
            self.pending[run.folder] = self.pending.get(run.folder, 0) + 1
        self.store.record_all()
        self._show(done=done, found=done, failed=failed)

    def work(self) -> None:
        """Execute what is missing."""
        try:
            while not self.stopped and (self.todo or self.later or self.at_work):
                self._submit()
                self._wait()
        except ExecutorLostError as error:
            raise ExecutorLostError(
                f"{error} {self._kept} Run the sweep again to go on."
            ) from error
        if self.stopped:
            self._drain()
            raise OutputError(
                "folder",
                str(self.store.folder),
                "a folder that can be written",
                f"{self.stopped} {self._kept} Make room, and run the sweep again to go on.",
            )

    @property
    def _kept(self) -> str:
        return f"{self.progress.done} of {self.progress.total} runs are done and kept."

    def cancel(self) -> None:
        """End what is under way."""
        for future in list(self.at_work):
            self.executor.kill(future)

    def _submit(self) -> None:
        now = time.monotonic()
        for when, run in list(self.later):
            if when <= now:
                self.later.remove((when, run))
                self.todo.append(run)
        for _ in range(len(self.todo)):
            if len(self.at_work) >= self.executor.slots:
                return
            run = self.todo.popleft()
            if self._waits(run):
                self.todo.append(run)
                continue
            future = self.executor.submit(self._job(run))
            self.at_work[future] = _UnderWay(run, time.monotonic())
            if not future.done():
                self._show()
            if future.done():
                return  # in this process: look at it before the next

    def _wait(self) -> None:
        if not self.at_work:
            if self.later or self.todo:
                time.sleep(_POLL)
            return
        found, _ = wait(self.at_work, _POLL, FIRST_COMPLETED)
        for future in found:
            under_way = self.at_work.pop(future)
            self._settle(under_way, self._outcome(future, under_way))
        self._look_at_limits()

    def _outcome(self, future: Future[Outcome], under_way: _UnderWay) -> Outcome:
        """Return what came of a job; of a lost worker, a failure or another try."""
        run, error = under_way.run, None
        if not future.cancelled():
            error = future.exception()
            if error is None:
                return future.result()
        kind, _, said = under_way.ended.partition(": ")
        if not kind and not _is_loss(error):
            kind, said = "error", f"{type(error).__name__}: {error}"
        elif not kind:
            _ = self.executor.slots  # with the executor itself lost, no run is to blame
            kind, said = "lost", f"its worker ended ({type(error).__name__}: {error})"
            self.tries[run.key] = self.tries.get(run.key, 0) + 1
            if self.tries[run.key] < self.limits.attempts:
                return Outcome(run.key, "lost", said)
        text = "" if error is None else "".join(traceback.format_exception(error))
        failure = Failure(kind, said, text, self.tries.get(run.key, 0) or 1)
        try:
            self.store.run_folder(run).mkdir(parents=True, exist_ok=True)
            write_failure(self.store.failure_path(run), failure, run.identity.settings)
        except (OSError, OutputError) as problem:
            return Outcome(run.key, "stopped", str(problem))
        return Outcome(run.key, "failed", said)

    def _settle(self, under_way: _UnderWay, outcome: Outcome) -> None:
        run = under_way.run
        for note in outcome.notes:
            self._say(note)
        if outcome.state == "stopped":
            self.stopped = outcome.text
        elif outcome.state == "busy":
            self.later.append((time.monotonic() + _BUSY_AGAIN, run))
        elif outcome.state == "lost":
            self._say(f"{_said(run)}: {outcome.text}; it is tried again.")
            self.todo.append(run)
        else:
            self._end(run, outcome)

    def _end(self, run: PlannedRun, outcome: Outcome) -> None:
        """Note a result or a failure."""
        self.pending[run.folder] -= 1
        if not self.pending[run.folder]:
            del self.pending[run.folder]
        if outcome.state == "done" and not self.store.result_path(run).exists():
            self.stopped = (
                f"a worker has written {self.store.result_path(run)}, and it is not here: workers"
                " need the same folder, on a file system that they share."
            )
            return
        try:
            self.store.record([run])
        except OutputError as error:
            self.stopped = str(error)
        if outcome.state == "done":
            self.recent.append(time.monotonic())
            self._show(done=self.progress.done + 1)
        else:
            self._show(failed=self.progress.failed + 1, text=f"{_said(run)}: {outcome.text}")

    def _look_at_limits(self) -> None:
        now, limits = time.monotonic(), self.limits
        for future, under_way in self.at_work.items():
            if under_way.ended or future.done():
                continue
            if limits.seconds is not None and now - under_way.begun > limits.seconds + _GRACE:
                under_way.ended = f"time: it took longer than {limits.seconds:g} s, and was ended"
            elif limits.memory is not None:
                has = self.executor.memory(future)
                if has > limits.memory:
                    under_way.ended = f"memory: it had {has:,} bytes of {limits.memory:,}"
            if under_way.ended:
                self.executor.kill(future)

    def _drain(self) -> None:
        """Let what is under way end: each either has its result or leaves the last one."""
        while self.at_work:
            found, _ = wait(self.at_work, _POLL, FIRST_COMPLETED)
            for future in found:
                run = self.at_work.pop(future).run
                ended = not future.cancelled() and future.exception() is None
                if ended and future.result().state == "done":
                    self._show(done=self.progress.done + 1)
                    self._quietly_record(run)
            self._look_at_limits()

    def _quietly_record(self, run: PlannedRun) -> None:
        with suppress(OutputError):  # the next call finds it in its folder
            self.store.record([run])

    def _waits(self, run: PlannedRun) -> bool:
        """Whether a run goes on from one that is to come, or another swap has its folder."""
        return any(other in self.pending for other in run.shorter) or any(
            other.run.folder == run.folder for other in self.at_work.values()
        )

    def _job(self, run: PlannedRun) -> Job:
        return Job(
            str(self.store.folder.absolute()),
            run.key,
            f"{RUNS}/{run.folder}",
            run.identity.swap,
            run.config.to_dict(),
            dict(run.identity.settings),
            tuple(f"{RUNS}/{other}" for other in run.shorter),
            self.tries.get(run.key, 0) + 1,
            self.limits.seconds,
            self.limits.memory,
        )

    def _say(self, text: str) -> None:
        self._show(text=text)

    def _show(
        self,
        done: int | None = None,
        found: int | None = None,
        failed: int | None = None,
        text: str = "",
    ) -> None:
        now, rate = time.monotonic(), 0.0
        if self.recent:
            first = self.recent[0] if len(self.recent) == _SPEED else self.begun
            count = len(self.recent) - (1 if len(self.recent) == _SPEED else 0)
            rate = count / max(now - first, 1e-9)
        before = self.progress
        self.progress = replace(
            before,
            done=before.done if done is None else done,
            found=before.found if found is None else found,
            failed=before.failed if failed is None else failed,
            running=len(self.at_work),
            seconds=now - self.begun,
            rate=rate,
            text=text,
        )
        if self.on_progress is not None:
            self.on_progress(self.progress)


def _compiled(store: SweepStore) -> Path:
    """Return the folder in which the workers of this machine share what they have compiled."""
    return store.folder.absolute() / ".compiled"


def _is_loss(error: BaseException | None) -> bool:
    """Whether a job ended with its worker, and not by an error of its own."""
    lost = ("KilledWorker", "CancelledError", "FutureCancelledError", "FuturesCancelledError")
    return error is None or isinstance(error, BrokenExecutor) or type(error).__name__ in lost


def _said(run: PlannedRun) -> str:
    """Return what tells a run from the others: "seed=1, train.solver=Euler:dt=1/2"."""
    settings = ", ".join(f"{key}={value}" for key, value in run.settings.items())
    return f"{run.folder} ({settings})" if settings else run.folder
