"""The page of a swap matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pynode_jl._io import make_folder, write_text
from pynode_jl.diagnostics import SwapMatrix, clusters
from pynode_jl.reporting import figures
from pynode_jl.reporting.html import Facts, Section, Text
from pynode_jl.reporting.pages._layout import Drawing, table, write_page
from pynode_jl.runs import Run

_COLUMNS = {
    "train_solver": "trained with",
    "test": "tested with",
    "order": "order",
    "damage": "damage",
    "accuracy": "accuracy",
    "low": "low",
    "high": "high",
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
    make_folder(folder)
    write_text(folder / "matrix.csv", matrix.table.to_csv(index=False))
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
    trainings = _counted(len(grid), "training solver")
    tests = _counted(grid.shape[1], "test solver")
    caption = (
        f"Test accuracy of {_counted(len(runs), 'run')}: {trainings} (down) under {tests}"
        " (across), means over seeds. Rows and columns that behave alike are neighbours, joined"
        " early by the trees. A framed cell is the training solver; hatched: the solve failed;"
        " white: no such solve."
    )
    damage = matrix.table
    finer = damage[damage["finer"]]
    trained = matrix.trained.rename(columns={"train_solver": "trained with"})
    *_, page = write_page(
        folder / "matrix.html",
        title=f"Swap matrix: {trainings} by {tests}",
        subtitle="What is left of accuracy when the solver changes?",
        drawings={"matrix": Drawing(figure, caption)},
        numbers=[
            Section("By training solver", [Text(_TRAINED), table(trained)]),
            Section(
                "By damage",
                [
                    Text(_DAMAGE),
                    table(
                        finer.head(_WORST), _COLUMNS, "The worst among finer solves", formats=_OWN
                    ),
                    table(damage, _COLUMNS, "Every pair", formats=_OWN, folded=True),
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


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
