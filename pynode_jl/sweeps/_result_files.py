"""The result of one run of a sweep: one file with its checksum, written when all else is there.

A result lists the checksums of the run's other files. So it is whole or it is not there, and a run
that has it needs no more work.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynode_jl._io import (
    digest,
    floats_of_names,
    named_floats,
    read_bytes,
    read_json,
    write_json,
)
from pynode_jl.diagnostics import SwapReport
from pynode_jl.errors import InputError
from pynode_jl.runs import Run
from pynode_jl.training import Trained

CHECKPOINT = "checkpoint.safetensors"
FORMAT = 1

#: What a result is measured by, column by column: the name and SQLite's type.
METRICS = {
    "method": "TEXT",
    "step": "REAL",
    "verdict": "TEXT",
    "metric": "TEXT",
    "score": "REAL",
    "ode": "REAL",
    "chance": "REAL",
    "change": "REAL",
    "change_low": "REAL",
    "change_high": "REAL",
    "drop": "REAL",
    "loss": "REAL",
    "nf": "REAL",
    "iterations": "INTEGER",
}
#: Of these no two executions of one run agree.
TIMES = {"train_seconds": "REAL", "swap_seconds": "REAL"}

_LAST = 50  # iterations that the final loss is averaged over


@dataclass(frozen=True)
class Failure:
    """Why a run has no result.

    Attributes:
        kind: "diverged", "error", "lost" (its worker), "time", "memory".
        error: in one line.
        traceback: of the exception; "" without one.
        attempts: how often it was tried.

    Example:
        >>> from pynode_jl.sweeps import Failure
        >>> Failure("lost", "its worker ended").final
        False
    """

    kind: str
    error: str
    traceback: str = ""
    attempts: int = 1

    @property
    def final(self) -> bool:
        """Whether trying again would end alike: then it is done only if asked for."""
        return self.kind in ("diverged", "error")


def result_name(swap: str) -> str:
    """Return the name of the file that holds the result of a run's swap."""
    return f"result-{swap}.json"


def failure_name(swap: str) -> str:
    """Return the name of the file that says why there is none."""
    return f"failure-{swap}.json"


def write_result(
    path: Path, run: Run, trained: Trained, report: SwapReport, facts: Mapping[str, Any]
) -> None:
    """Write a run's result: its metrics, its swap, and the checksums of its other files.

    Raises:
        OutputError: it cannot be written.
    """
    table = report.table.astype(object).where(report.table.notna(), None)
    values = {
        "format": FORMAT,
        **facts,
        "metrics": _metrics(trained, report),
        "times": {
            "train_seconds": trained.seconds,
            "swap_seconds": float(report.table["seconds"].sum()),
        },
        "verdict": report.verdict.to_dict(),
        "swap": {name: table[name].tolist() for name in table},
        "files": {CHECKPOINT: digest(read_bytes(run.folder / CHECKPOINT))},
        "packages": run.environment.get("packages", {}),
        "host": platform.node(),
        "finished": _now(),
    }
    write_json(path, named_floats(values))


def read_result(path: Path) -> dict[str, Any]:
    """Return what `write_result` wrote, with the run's other files as it found them.

    Raises:
        InputError: there is none, it is damaged or of a later version, or a file beside it is.
    """
    values: dict[str, Any] = floats_of_names(read_json(path))
    if values.get("format") != FORMAT:
        raise InputError(
            "path",
            str(path),
            f"a result of format {FORMAT}",
            f"It has {values.get('format')!r}: a later version of pynode_jl reads it.",
        )
    for name, checksum in values["files"].items():
        if digest(read_bytes(path.parent / name)) != checksum:
            raise InputError(
                "path",
                str(path.parent / name),
                f"the content that {path.name} has the checksum of",
                "It is damaged, or was changed.",
            )
    return values


def write_failure(path: Path, failure: Failure, settings: Mapping[str, Any]) -> None:
    """Write why a run has no result.

    Raises:
        OutputError: it cannot be written.
    """
    values = {**vars(failure), "format": FORMAT, "settings": settings, "finished": _now()}
    write_json(path, named_floats({**values, "host": platform.node()}))


def read_failure(path: Path) -> Failure | None:
    """Return what `write_failure` wrote; None for no file, or a damaged one."""
    try:
        values = read_json(path)
        return Failure(**{name: values[name] for name in Failure.__dataclass_fields__})
    except (InputError, KeyError):
        return None


def remove(path: Path) -> None:
    """Remove a file that may not be there."""
    with suppress(OSError):  # what cannot be removed is written over, or overruled by a result
        os.unlink(path)


def _metrics(trained: Trained, report: SwapReport) -> dict[str, Any]:
    verdict, history = report.verdict, trained.history
    compared = verdict.decisive or verdict.ode
    nan = math.nan
    return {
        "method": trained.solver.name,
        "step": trained.solver.stepping.size,
        "verdict": verdict.kind,
        "metric": verdict.metric,
        "score": report.trained,
        "ode": report.ode,
        "chance": report.chance,
        "change": nan if compared is None else compared.share,
        "change_low": nan if compared is None else compared.low,
        "change_high": nan if compared is None else compared.high,
        "drop": verdict.drop,
        "loss": float(history.loss[-_LAST:].mean()),
        "nf": float(history.nf.mean()),
        "iterations": trained.state.iteration,
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
