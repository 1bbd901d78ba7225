"""The page of a swap matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pynode_jl._io import make_folder, write_text
from pynode_jl.diagnostics import SwapMatrix, clusters
from pynode_jl.reporting import figures
from pynode_jl.reporting.figures import Measure
from pynode_jl.reporting.html import Facts, Section, Text
from pynode_jl.reporting.pages._layout import Drawing, table, write_page
from pynode_jl.runs import Run

_COLUMNS = {
    "train_solver": "trained with",
    "test": "tested with",
    "order": "order",
    "damage": "damage",
    "accuracy": "accuracy",
    "score": "score",
    "low": "low",
    "high": "high",
    "shift": "shift",
    "shift_low": "shift, low",
    "shift_high": "shift, high",
    "flips": "flips",
    "flips_low": "flips, low",
    "flips_high": "flips, high",
    "state_error": "state error",
    "finer": "finer",
    "failed": "failed",
    "seeds": "seeds",
}
_WORST = 20
_OWN = {"flips": ".1%"}
_OWN_SHIFTS = {"low": ".4g", "high": ".4g"}
_TRAINED = (
    "as trained, as an ODE: mean {} and, for several seeds, Student's 95 % interval over"
    " them. The last columns count the seeds by verdict."
)
_DAMAGE = (
    "damage: accuracy lost against the training solver's own, in points, mean over seeds. Solves"
    " finer than training (measured: final states at least as near to the ODE's) come first: there"
    " an ODE loses nothing. low, high: Student's 95 % interval of the mean accuracy over seeds;"
    " none for one seed. flips: share of answers that change; its interval is exact, over test"
    " samples, for one seed, and Student's, over seeds, for several."
)
_DAMAGE_SHIFTS = (
    "damage: what the score gets worse by against the training solver's own, mean over seeds."
    " Solves finer than training (measured: final states at least as near to the ODE's) come first:"
    " there an ODE loses nothing. low, high: Student's 95 % interval of the mean score over seeds;"
    " none for one seed. shift: how far answers are from those as trained; its interval is"
    " bootstrapped over test samples for one seed, and Student's, over seeds, for several."
)


def write_matrix_report(runs: Sequence[Run], matrix: SwapMatrix, folder: Path) -> Path:
    """Write ``matrix.html``, ``matrix.csv`` and the heat map, as PNG and PDF, to `folder`.

    Returns:
        The page's path.
    """
    make_folder(folder)
    write_text(folder / "matrix.csv", matrix.table.to_csv(index=False))
    grid, measure = matrix.grid(), _measure(matrix)
    trees = clusters(_comparable(grid, measure))
    chance = math.nan if matrix.report is None else matrix.report.chance
    figure = figures.swap_matrix_heatmap(
        grid,
        row_tree=trees.rows,
        column_tree=trees.columns,
        own=matrix.grid("own"),
        failed=matrix.grid("failed"),
        chance=1.0 / runs[0].dataset.classes if measure.in_percent else chance,
        measure=measure,
    )
    trainings = _counted(len(grid), "training solver")
    tests = _counted(grid.shape[1], "test solver")
    caption = (
        f"Test {measure.metric} of {_counted(len(runs), 'run')}: {trainings} (down) under {tests}"
        " (across), means over seeds. Rows and columns that behave alike are neighbours, joined"
        " early by the trees. A framed cell is the training solver; hatched: the solve failed;"
        " white: no such solve."
    )
    damage = matrix.table
    shown: dict[str, Any] = {"formats": _OWN_SHIFTS if measure.shifts else _OWN, "measure": measure}
    finer = damage[damage["finer"]]
    trained = matrix.trained.rename(columns={"train_solver": "trained with"})
    *_, page = write_page(
        folder / "matrix.html",
        title=f"Swap matrix: {trainings} by {tests}",
        subtitle=f"What is left of {measure.metric} when the solver changes?",
        drawings={"matrix": Drawing(figure, caption)},
        numbers=[
            Section(
                "By training solver",
                [Text(_TRAINED.format(measure.metric)), table(trained, measure=measure)],
            ),
            Section(
                "By damage",
                [
                    Text(_DAMAGE_SHIFTS if measure.shifts else _DAMAGE),
                    table(finer.head(_WORST), _COLUMNS, "The worst among finer solves", **shown),
                    table(damage, _COLUMNS, "Every pair", folded=True, **shown),
                ],
            ),
        ],
        facts=[
            Facts(
                {
                    "evaluations": int(matrix.table["seeds"].sum()),
                    "seconds in them": f"{matrix.seconds:.1f}",
                    "runs": "\n".join(str(run.folder) for run in runs),
                }
            )
        ],
    )
    return page


def _measure(matrix: SwapMatrix) -> Measure:
    return Measure() if matrix.report is None else Measure.of(matrix.report)


def _comparable(grid: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Return what rows and columns are compared by: of errors, which may span decades, the log."""
    if measure.in_percent:
        return grid
    known = grid.where(np.isfinite(grid))
    if known.min().min() <= 0:
        return known
    logs = np.log10(known.to_numpy(float))
    return pd.DataFrame(logs, index=known.index, columns=known.columns)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
