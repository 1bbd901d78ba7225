"""What the calibrations of verdicts share: the solve that decided, the rates, the command line."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from pynode_jl.diagnostics import SwapReport
from pynode_jl.proportions import lower_bound, upper_bound
from pynode_jl.solvers import Solver

ROOT = Path(__file__).resolve().parents[1]


def decisive_solver(report: SwapReport) -> Solver | None:
    """The test solver that decided; None where the ODE did, or nothing."""
    decisive = report.verdict.decisive
    table = report.table
    rows = table[table["label"] == ("" if decisive is None else decisive.label)]
    if rows.empty:
        return None
    row = rows.iloc[0]
    name, size = str(row["test_solver"]), float(row["step"])
    return Solver(name, dt=size) if row["fixed"] else Solver(name, rtol=size, atol=size)


def rates(cases: Mapping[str, tuple[pd.Series, pd.Series]], counted: str) -> pd.DataFrame:
    """How often what a case asks is so, of those that it is asked of; exact 95 % intervals."""
    table = []
    for name, (those, so) in cases.items():
        total, count = int(those.sum()), int((those & so).sum())
        table.append(
            {
                "case": name,
                "models": total,
                counted: count,
                "share": count / max(total, 1),
                "low": float(lower_bound(count, total, 0.025)),
                "high": float(upper_bound(count, total, 0.025)),
            }
        )
    return pd.DataFrame(table)


def calibrate(
    judged: Callable[[int], dict[str, object]],
    summary: Callable[[pd.DataFrame], pd.DataFrame],
    models: int,
    file: str,
) -> tuple[pd.DataFrame, Path]:
    """Judge models as the command line asks, print the tables, write the rows; return them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=models)
    parser.add_argument("--first", type=int, default=0, help="seed of the first model")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # explosive solves overflow
    np.seterr(all="ignore")
    seeds = range(arguments.first, arguments.first + arguments.models)
    rows = pd.DataFrame([judged(seed) for seed in track(seeds, "models")])
    print(pd.crosstab(rows["samples"], rows["verdict"]).to_string())
    print(pd.crosstab(rows["kind"], rows["verdict"]).to_string())
    formats = dict.fromkeys(("share", "low", "high"), "{:.1%}".format)
    print(summary(rows).to_string(index=False, formatters=formats))
    print(f"{rows['seconds'].sum():.0f} s in swaps, {rows['seconds'].median():.2f} s the median")
    rows.drop(columns="seconds").to_csv(arguments.out / file, index=False, float_format="%.5g")
    return rows, arguments.out
