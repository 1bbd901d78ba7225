"""The table of a swap: one row for each test solve, by what the task compares."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pynode_jl.backends import Array, Evaluation, RetCode
from pynode_jl.diagnostics._reference import ROUNDING, Reference
from pynode_jl.diagnostics._shifts import ShiftComparisons
from pynode_jl.diagnostics._verdict import Comparisons
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Task

_SOLVE = ("train_solver", "test_solver", "order", "factor", "label", "step", "fixed")
_COST = (
    *("state_error", "finer", "nf", "njac", "naccept", "nreject", "seconds", "retcode", "reason"),
)
_FLIPS = (
    *("accuracy", "agreement", "flips", "flips_low", "flips_high", "lost", "won", "p_value"),
    *("worst_class", "class_samples", "class_flips", "class_low", "logit_distance"),
)
_SHIFTS = (
    *("score", "shift", "shift_low", "shift_high"),
    *("difference", "difference_low", "difference_high", "output_distance"),
)
#: Columns of a swap's table where answers are equal or not.
COLUMNS = (*_SOLVE, *_FLIPS, *_COST)
#: Columns where they differ by a number.
SHIFT_COLUMNS = (*_SOLVE, *_SHIFTS, *_COST)
#: The return code of a row whose solver was not run: the backend does not have it.
NOT_RUN = "NotRun"


def columns_of(comparison: str) -> tuple[str, ...]:
    """Return the columns of the table of a task's comparison, "flips" or "shift".

    Example:
        >>> from pynode_jl.diagnostics import columns_of
        >>> "accuracy" in columns_of("flips"), "shift" in columns_of("shift")
        (True, True)
    """
    return COLUMNS if comparison == "flips" else SHIFT_COLUMNS


def measured(comparison: str) -> list[str]:
    """Return the columns that a row has no number for where nothing was solved."""
    columns = _FLIPS[:-1] if comparison == "flips" else _SHIFTS[:-1]
    return list(columns)


def row(
    task: Task,
    train_solver: Solver,
    solver: Solver,
    factor: float,
    found: Evaluation,
    own: Evaluation,
    reference: Reference,
    targets: Array,
) -> dict[str, object]:
    """Return one solve's row, but for its comparison with the training solver's answers."""
    stats, distance = found.stats, _relative(found.outputs - own.outputs, own.outputs)
    flips = task.comparison == "flips"
    answers: dict[str, object] = {"score": found.score(task, targets), "output_distance": distance}
    if flips:
        answers = {
            "accuracy": found.accuracy(targets),
            "agreement": float(np.mean(found.predictions == own.predictions)),
            "logit_distance": distance,
        }
    return {
        "train_solver": train_solver.label,
        "test_solver": solver.name,
        "order": solver.info.order,
        "factor": factor,
        "label": solver.label,
        "step": solver.stepping.size,
        "fixed": solver.fixed,
        **answers,
        "state_error": reference.distance(found),
        "nf": stats.nf,
        "njac": stats.njac,
        "naccept": stats.naccept,
        "nreject": stats.nreject,
        "seconds": max(0.0, stats.seconds - stats.compile_seconds),
        "retcode": str(stats.retcode),
        "reason": "" if stats.retcode == RetCode.Success else stats.retcode.meaning,
    }


def finer(table: pd.DataFrame, own_error: float, reference_error: float) -> pd.Series[bool]:
    """Which solves are as near to the ODE as the training solver's, or nearer; itself included.

    None where the reference's own error is larger: distances from it rank nothing.
    """
    allowed = max(own_error, ROUNDING)
    near = (table["state_error"] <= allowed) & (reference_error <= allowed)
    return near & (table["retcode"] == RetCode.Success)


def with_comparisons(table: pd.DataFrame, found: Comparisons | ShiftComparisons) -> pd.DataFrame:
    """Return the table with each solve's comparison."""
    if isinstance(found, ShiftComparisons):
        n = len(table)
        difference, low, high = (each[:n] for each in found.difference)
        return table.assign(
            shift=found.shift[:n],
            shift_low=found.low[:n],
            shift_high=found.high[:n],
            difference=difference,
            difference_low=low,
            difference_high=high,
        )
    return _with_flips(table, found)


def _with_flips(table: pd.DataFrame, found: Comparisons) -> pd.DataFrame:
    solves = len(table)
    # The class that changes most surely; the share breaks ties between zeros.
    surest = found.class_low + 1e-9 * found.class_flips / found.class_samples
    c = surest[:solves].argmax(axis=1) if solves else np.zeros(0, int)
    rows = np.arange(solves)
    return table.assign(
        flips=found.flips[:solves],
        flips_low=found.low[:solves],
        flips_high=found.high[:solves],
        lost=found.lost[:solves],
        won=found.won[:solves],
        p_value=found.p_value[:solves],
        worst_class=found.classes[c],
        class_samples=found.class_samples[c].astype(int),
        class_flips=found.class_flips[rows, c].astype(int),
        class_low=found.class_low[rows, c],
    )


def _relative(difference: Array, outputs: Array) -> float:
    """Mean norm over mean norm; of outputs that are all zero, 0 or infinite."""
    # A diverged solve's outputs may overflow float32 when squared.
    distance, size = (
        float(np.linalg.norm(each.astype(np.float64).reshape(len(each), -1), axis=1).mean())
        for each in (difference, outputs)
    )
    if size == 0.0:
        return 0.0 if distance == 0.0 else float("inf")
    return distance / size
