"""One run of a sweep, wherever it is executed: plain data in, plain data out, files in its folder.

Every executor calls `execute`, and so the results are the same on all of them.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynode_jl._io import is_full, locked, make_folder, read_bytes, write_bytes
from pynode_jl.backends import RetCode
from pynode_jl.errors import (
    DataChangedError,
    DivergedError,
    InputError,
    InUseError,
    OutputError,
    PyNODEError,
    RunFolderError,
)
from pynode_jl.runs import Config, Run
from pynode_jl.sweeps._result_files import (
    CHECKPOINT,
    Failure,
    failure_name,
    read_result,
    remove,
    result_name,
    write_failure,
    write_result,
)
from pynode_jl.training import Trained

CLAIMS = ".claims"


@dataclass(frozen=True)
class Job:
    """What an executor is given: plain values, which any process on any machine can read.

    Attributes:
        store: the sweep's folder.
        key: of the run.
        folder: the run's, in that of the sweep.
        swap: digest of the swap's settings.
        config: as `Config.to_dict` gives it.
        settings: canonical, by dotted key.
        shorter: folders of runs that it may go on from.
        attempt: counted from 1.
        seconds: the most that it may take; None for no limit.
        memory: the most bytes that it may have; None for no limit.

    Example:
        >>> from pynode_jl.sweeps import Job
        >>> job = Job("/sweeps/mine", "ab-cd", "runs/ab", "cd", pn.Config().to_dict(), {})
        >>> job.attempt
        1
    """

    store: str
    key: str
    folder: str
    swap: str
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    shorter: tuple[str, ...] = ()
    attempt: int = 1
    seconds: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        key: of the run.
        state: "done", "failed", "busy" (another process has it), or "stopped" (its folder cannot be
            written: a full disk, ...).
        text: why, in one line; "" where it is done.
        notes: what was found damaged, and where it is now.
        computed: whether anything was, or the result was there.

    Example:
        >>> from pynode_jl.sweeps import Outcome
        >>> Outcome("ab-cd", "done").computed
        True
    """

    key: str
    state: str
    text: str = ""
    notes: tuple[str, ...] = ()
    computed: bool = True


class TimeLimitError(PyNODEError):
    """A run took longer than it may."""


def execute(job: Job) -> Outcome:
    """Train a run to its end, swap, and write its result, unless that is there.

    No exception leaves it, but of the kind that ends a process. Killed at any moment, it goes on
    from the last checkpoint when it is called again.
    """
    store = Path(job.store)
    notes: list[str] = []
    try:
        make_folder(store / CLAIMS)
        claim = store / CLAIMS / f"{Path(job.folder).name}.lock"
        with locked(claim, 0, "a run that no other process is at work on"):
            return _claimed(job, store / job.folder, notes)
    except InUseError as error:
        return Outcome(job.key, "busy", str(error), tuple(notes), False)
    except OutputError as error:
        full = "the disk is full: " if is_full(error) else ""
        return Outcome(job.key, "stopped", f"{full}{error}", tuple(notes))


def _claimed(job: Job, folder: Path, notes: list[str]) -> Outcome:
    path = folder / result_name(job.swap)
    if path.exists():
        try:
            read_result(path)
            return Outcome(job.key, "done", computed=False)
        except InputError as error:
            notes.append(f"{error} It is run again.")
            remove(path)
    try:
        _compute(job, folder, notes)
    except (InUseError, OutputError):
        raise
    except Exception as error:  # a run may fail in any way, and stops no other
        said = f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError) or is_full(error):
            return Outcome(job.key, "stopped", said, tuple(notes))
        text = traceback.format_exc()
        failure = Failure(_KINDS.get(type(error), "error"), said, text, job.attempt)
        write_failure(folder / failure_name(job.swap), failure, job.settings)
        return Outcome(job.key, "failed", said, tuple(notes))
    remove(folder / failure_name(job.swap))
    return Outcome(job.key, "done", notes=tuple(notes))


def _compute(job: Job, folder: Path, notes: list[str]) -> None:
    begun = time.monotonic()
    config = Config.from_dict(job.config)
    run = _opened(job, config, folder, notes)

    def check(trained: Trained) -> None:
        if job.seconds is not None and time.monotonic() - begun > job.seconds:
            raise TimeLimitError(
                f"{job.seconds:g} s were over at iteration {trained.state.iteration} of"
                f" {trained.recipe.iterations}; a longer limit goes on from its last checkpoint."
            )

    trained = run.train(check)
    if trained.retcode != RetCode.Success:
        raise DivergedError(
            f"training ended at iteration {trained.state.iteration} of"
            f" {trained.recipe.iterations}: {trained.retcode.meaning}"
        )
    report = run.swap(lambda *_: check(trained))
    facts = {
        "key": job.key,
        "settings": job.settings,
        "attempts": job.attempt,
        "backend": run.backend.name,
    }
    write_result(folder / result_name(job.swap), run, trained, report, facts)


_KINDS: Mapping[type[Exception], str] = {DivergedError: "diverged", TimeLimitError: "time"}


def _opened(job: Job, config: Config, folder: Path, notes: list[str]) -> Run:
    """Return the run, in its folder; what is damaged there is set aside, and the run begun anew."""
    try:
        run = Run.create(config, folder)
        if not (folder / CHECKPOINT).exists():
            _prolong(job, run)
        _ = run.trained
        return run
    except (InUseError, DataChangedError):
        raise
    except RunFolderError as error:
        place = _set_aside(Path(job.store), folder)
        notes.append(f"{error} It is set aside as {place}, and the run is begun anew.")
    return Run.create(config, folder)


def _prolong(job: Job, run: Run) -> None:
    """Begin a run where a shorter one has ended, if one has: the same as from the start."""
    for other in job.shorter:
        shorter = Path(job.store) / other / CHECKPOINT
        try:
            write_bytes(run.folder / CHECKPOINT, read_bytes(shorter))
            stands = run.trained
        except (InputError, RunFolderError):
            remove(run.folder / CHECKPOINT)
            continue
        if stands.retcode == RetCode.Success:
            return
        remove(run.folder / CHECKPOINT)


def _set_aside(store: Path, folder: Path) -> Path:
    home = make_folder(store / "damaged")
    number = 1
    while (place := home / f"{folder.name}-{number}").exists():
        number += 1
    try:
        folder.rename(place)
    except OSError as error:
        raise OutputError(
            "folder", str(folder), "a folder that can be renamed", f"{error}."
        ) from error
    return place


Execute = Callable[[Job], Outcome]
