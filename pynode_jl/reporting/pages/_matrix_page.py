"""The page of a swap matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pynode_jl.diagnostics import SwapMatrix, clusters
from pynode_jl.reporting import figures
from pynode_jl.reporting.html import Facts, Section, Text
from pynode_jl.reporting.pages._layout import Drawing, table, write_page
from pynode_jl.runs import Run

_SHOWN = [
    "train_solver",
    "test",
    "order",
    "damage",
    "accuracy",
    "low",
    "high",
    "flips",
    "flips_low",
    "flips_high",
    "state_error",
    "finer",
    "failed",
    "seeds",
]
_WORST = 20
_OWN = {"flips": ".1%"}
_TRAINED = (
    "as trained, as an ODE: mean accuracy and, for several seeds, Student's 95 % interval over"
    " them. The last columns count the seeds by verdict."
)
_DAMAGE = (
    "damage: accuracy lost against the training solver's own, in points, mean over seeds. Solves"
    " finer than training (measured: final states at least as near to the ODE's) come first: there"
    " an ODE loses nothing. low, high: Student's 95 % interval of the mean accuracy over seeds;"
    " none for one seed. flips: share of answers that change; its interval is exact, over test"
    " samples, for one seed, and Student's, over seeds, for several."
)


def write_matrix_report(runs: Sequence[Run], matrix: SwapMatrix, folder: Path) -> Path:
    """Write ``matrix.html``, ``matrix.csv`` and the heat map, as PNG and PDF, to `folder`.

    Returns:
        The page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    matrix.table.to_csv(folder / "matrix.csv", index=False)
    grid = matrix.grid()
    trees = clusters(grid)
    figure = figures.swap_matrix_heatmap(
        grid,
        row_tree=trees.rows,
        column_tree=trees.columns,
        own=matrix.grid("own"),
        failed=matrix.grid("failed"),
        chance=1.0 / runs[0].dataset.classes,
    )
    caption = (
        f"Test accuracy of {len(runs)} runs, {len(grid)} training solvers (down), under"
        f" {grid.shape[1]} test solvers (across), means over seeds. Rows and columns that behave"
        " alike are neighbours and joined early by the trees. A framed cell is the solver trained"
        " with; hatched: the solve failed; white: no such solve."
    )
    damage = matrix.table[_SHOWN]
    finer = damage[damage["finer"]]
    *_, page = write_page(
        folder / "matrix.html",
        title=f"Swap matrix: {len(grid)} training solvers by {grid.shape[1]} test solvers",
        subtitle="What is left of accuracy when the solver changes?",
        drawings={"matrix": Drawing(figure, caption)},
        numbers=[
            Section("By training solver", [Text(_TRAINED), table(matrix.trained)]),
            Section(
                "By damage",
                [
                    Text(_DAMAGE),
                    table(finer.head(_WORST), None, "The worst among finer solves", formats=_OWN),
                    table(damage, None, "Every pair", formats=_OWN, folded=True),
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
