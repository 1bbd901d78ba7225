"""The page of a swap matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pynode_jl._io import make_folder, write_text
from pynode_jl.diagnostics import SwapMatrix, clusters
from pynode_jl.reporting import figures
from pynode_jl.reporting.html import Facts, Picture, Section, Table, Text, write_report
from pynode_jl.runs import Run

_FORMATS = {
    "accuracy": ".1%",
    "low": ".1%",
    "high": ".1%",
    "flips": ".1%",
    "flips_low": ".1%",
    "flips_high": ".1%",
    "damage": "+.1%",
    "state_error": ".1e",
}
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
_TRAINED_FORMATS = {
    **{
        f"{name}{end}": ".1%"
        for name in ("as trained", "as an ODE")
        for end in ("", ", low", ", high")
    },
    "worst damage": "+.1%",
}
_WORST = 20


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
    figures.save(figure, folder / "matrix")
    caption = (
        f"Test accuracy of {len(runs)} runs, {len(grid)} training solvers (down), under"
        f" {grid.shape[1]} test solvers (across), means over seeds. Rows and columns that behave"
        " alike are neighbours and joined early by the trees. A framed cell is the solver trained"
        " with; hatched: the solve failed; white: no such solve."
    )
    damage = matrix.table[_SHOWN]
    finer = damage[damage["finer"]]
    cells = int(matrix.table["seeds"].sum())
    return write_report(
        folder / "matrix.html",
        title=f"Swap matrix: {len(grid)} training solvers by {grid.shape[1]} test solvers",
        subtitle="What is left of accuracy when the solver changes?",
        sections=[
            Section("Matrix", [Picture(figure, caption, caption)]),
            Section(
                "By training solver",
                [
                    Text(
                        "as trained, as an ODE: mean accuracy and, for several seeds, Student's"
                        " 95 % interval over them. The last columns count the seeds by verdict."
                    ),
                    Table(matrix.trained, _TRAINED_FORMATS),
                ],
            ),
            Section(
                "By damage",
                [
                    Text(
                        "damage: accuracy lost against the training solver's own, in points, mean"
                        " over seeds. Solves finer than training (measured: final states at least"
                        " as near to the ODE's) come first: there an ODE loses nothing. low, high:"
                        " Student's 95 % interval of the mean accuracy over seeds; none for one"
                        " seed. flips: share of answers that change; its interval is exact, over"
                        " test samples, for one seed, and Student's, over seeds, for several."
                    ),
                    Table(finer.head(_WORST), _FORMATS, caption="The worst among finer solves"),
                    Table(damage, _FORMATS, caption="Every pair", folded=True),
                ],
            ),
            Section(
                "What was run",
                [
                    Facts(
                        {
                            "evaluations": cells,
                            "seconds in them": f"{matrix.seconds:.1f}",
                            "runs": "\n".join(str(run.folder) for run in runs),
                        }
                    )
                ],
            ),
        ],
    )
