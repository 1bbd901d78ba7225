"""Calibration of shifts: how often are the verdicts on regressions wrong, and their intervals?

`python benchmarks/calibrate_shifts.py` judges 400 linear regressions (tests/verdict_models.py:
dimension 1 to 5; stable, growing, oscillating, stiff, defective; explicit, implicit and adaptive
training solvers at all steps; errors of four distributions; 30 to 2,000 test samples) by the
default swap. The truth is the shift between the training solver's answers and those of the exact
flow, a matrix exponential, over 100,000 samples. It prints the table and writes
docs/calibration_shifts.csv.
"""

from __future__ import annotations

import math
import sys
import time

import pandas as pd
from calibration import ROOT, calibrate, decisive_solver, rates

from pynode_jl.backends import get_backend
from pynode_jl.diagnostics import SwapReport, swap

sys.path.insert(0, str(ROOT / "tests"))

from verdict_models import RandomRegression, random_regression

MARGIN = 0.1


def judged(seed: int) -> dict[str, object]:
    """One regression's verdict and interval beside the truth."""
    drawn = random_regression(seed)
    begun = time.perf_counter()
    report = swap(drawn.trained, drawn.dataset, margin=MARGIN, backend=get_backend("jax"))
    verdict, ode = report.verdict, report.verdict.ode
    return {
        "seed": seed,
        "kind": drawn.kind,
        "residuals": drawn.residuals,
        "dim": drawn.trained.model.field.size,
        "solver": drawn.trained.solver.label,
        "fixed": drawn.trained.solver.fixed,
        "samples": verdict.samples,
        "shift": drawn.shift,
        "estimate": math.nan if ode is None else ode.share,
        "low": math.nan if ode is None else ode.low,
        "high": math.nan if ode is None else ode.high,
        "finer_shift": finer_shift(drawn, report),
        "verdict": verdict.kind,
        "reason": verdict.reason,
        "seconds": time.perf_counter() - begun,
    }


def finer_shift(drawn: RandomRegression, report: SwapReport) -> float:
    """The true shift under the finer solve that decided; nan where none did."""
    solver = decisive_solver(report)
    if report.verdict.reason != "finer" or solver is None:
        return math.nan
    trained, task = drawn.trained, drawn.trained.model.task
    found = get_backend("jax").evaluate(trained.model, trained.weights, drawn.pool, solver)
    changes = task.changes(drawn.answers, found.outputs, drawn.pool_targets)
    return task.shift(changes, task.scale(drawn.answers, drawn.pool_targets))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """The rates that verdicts and intervals are held to, each with its exact 95 % interval."""
    above, also = rows["shift"] > MARGIN, rows["finer_shift"] > MARGIN
    asked = rows["verdict"].isin(["valid", "tied", "undecided"])
    large = (rows["samples"] >= 1000) & ~rows["shift"].between(MARGIN / 2, 2 * MARGIN)
    # Below it float32's own rounding is the shift. An adaptive solver controls the error of a whole
    # batch: it solves the 100,000 samples by other steps than the test set, to another shift.
    told = rows["low"].notna() & (rows["shift"] > 1e-4) & rows["fixed"]
    cases = {
        "shift above the margin: called valid": (above, rows["verdict"] == "valid"),
        "shift within the margin: called tied": (~above & ~also, rows["verdict"] == "tied"),
        "n >= 1000, shift outside [margin/2, 2 margin]: undecided": (
            large & asked,
            rows["verdict"] == "undecided",
        ),
        "fixed steps: true shift below its interval": (told, rows["shift"] < rows["low"]),
        "fixed steps: true shift above its interval": (told, rows["shift"] > rows["high"]),
    }
    for n in sorted(rows["samples"].unique()):
        outside = (rows["shift"] < rows["low"]) | (rows["shift"] > rows["high"])
        cases[f"fixed steps, n = {n}: outside its interval"] = (
            told & (rows["samples"] == n),
            outside,
        )
    return rates(cases, "so")


if __name__ == "__main__":
    calibrate(judged, summary, 400, "calibration_shifts.csv")
