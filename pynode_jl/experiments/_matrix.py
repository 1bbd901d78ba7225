"""Swap matrices of run folders: which runs, and the page that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pynode_jl import figures
from pynode_jl.analysis import SwapMatrix, clusters, swap_matrix
from pynode_jl.errors import RunFolderError
from pynode_jl.experiments._run import Run
from pynode_jl.report import Facts, Picture, Section, Table, Text, write_report
from pynode_jl.solvers import Solver, catalogue

_FORMATS = {
    "accuracy": ".1%",
    "lowest": ".1%",
    "highest": ".1%",
    "damage": "+.1%",
    "agreement": ".1%",
    "state_error": ".1e",
}
_SHOWN = [
    "train_solver",
    "test",
    "order",
    "damage",
    "accuracy",
    "lowest",
    "highest",
    "agreement",
    "state_error",
    "finer",
    "failed",
    "seeds",
]
_WORST = 20


def find_runs(folders: Iterable[str | Path]) -> list[Run]:
    """The runs in folders, trained to their end: a run's own folder, or one that holds runs.

    Raises:
        RunFolderError: a folder without any.
    """
    found: list[Run] = []
    for folder in map(Path, folders):
        homes = sorted({file.parent for file in folder.glob("**/config.toml")})
        runs = [run for run in map(Run.open, homes) if run.trained.finished]
        if not runs:
            raise RunFolderError(
                "folder",
                str(folder),
                "a run trained to its end, or a folder with such runs in it",
                "`pynode-jl train` makes one.",
            )
        found += runs
    return found


def explicit_zoo() -> tuple[str, ...]:
    """Every explicit Runge-Kutta method of the embedded backend that takes fixed steps."""
    return tuple(row.name for row in catalogue(backend="jax", implicit=False) if row.fixed_step)


def runs_matrix(
    runs: Sequence[Run],
    tests: Sequence[str | Solver] | None = None,
    *,
    factors: Sequence[float] | None = None,
    on_solve: Callable[[int, int, str], None] | None = None,
) -> SwapMatrix:
    """`swap_matrix` of runs, on the first one's backend."""
    models = [(run.trained, run.dataset) for run in runs]
    return swap_matrix(models, tests, factors=factors, backend=runs[0].backend, on_solve=on_solve)


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
                    Table(
                        matrix.trained,
                        {"as trained": ".1%", "as an ODE": ".1%", "worst damage": "+.1%"},
                    )
                ],
            ),
            Section(
                "By damage",
                [
                    Text(
                        "damage: accuracy lost against the training solver's own, in points, mean"
                        " over seeds. Solves finer than training come first: there an ODE loses"
                        " nothing."
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
