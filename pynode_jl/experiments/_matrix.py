"""Swap matrices of run folders: which runs, and the page that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pynode_jl import figures
from pynode_jl.analysis import Criterion, SwapMatrix, clusters, swap_matrix
from pynode_jl.backends import RetCode
from pynode_jl.errors import DataChangedError, PyNODEError, RunFolderError
from pynode_jl.experiments._run import Run
from pynode_jl.report import Facts, Picture, Section, Table, Text, write_report
from pynode_jl.solvers import Solver, catalogue
from pynode_jl.training import Trained

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


def find_runs(
    folders: Iterable[str | Path], on_skip: Callable[[Path, str], None] | None = None
) -> list[Run]:
    """Return the runs in folders that are trained to their end.

    Args:
        folders: a run's own folder each, or one that holds runs.
        on_skip: called with each folder that is passed over and the reason: training unfinished or
            failed, a run that cannot be read, no run at all.

    Raises:
        RunFolderError: no run in any of them.
        DataChangedError: a run's data are not those that it was trained on.
    """
    found: list[Run] = []
    asked = list(map(Path, folders))

    def skip(folder: Path, reason: str) -> None:
        if on_skip is not None:
            on_skip(folder, reason)

    for folder in asked:
        homes = sorted({file.parent for file in folder.glob("**/config.toml")})
        if not homes:
            skip(folder, "no run in it")
        for home in homes:
            try:
                run = Run.open(home)
                reason = _unfinished(run.trained)
            except DataChangedError:
                raise
            except PyNODEError as error:
                skip(home, str(error))
                continue
            if reason:
                skip(home, reason)
            else:
                found.append(run)
    if not found:
        raise RunFolderError(
            "folders",
            ", ".join(map(str, asked)),
            "runs trained to their end, or folders with such runs in them",
            "`pynode-jl train` makes one.",
        )
    return found


def _unfinished(trained: Trained) -> str:
    """Why a run has not been trained to its end; "" if it has."""
    stand = f"iteration {trained.state.iteration} of {trained.recipe.iterations}"
    if trained.retcode != RetCode.Success:
        return f"training failed at {stand}: {trained.retcode.meaning}"
    return "" if trained.finished else f"training stands at {stand}"


def explicit_zoo() -> tuple[str, ...]:
    """Every explicit Runge-Kutta method of the embedded backend that takes fixed steps."""
    return tuple(row.name for row in catalogue(backend="jax", implicit=False) if row.fixed_step)


def runs_matrix(
    runs: Sequence[Run],
    tests: Sequence[str | Solver] | None = None,
    *,
    factors: Sequence[float] | None = None,
    margin: float = 0.03,
    confidence: float = 0.95,
    criterion: Criterion = "flips",
    on_solve: Callable[[int, int, str], None] | None = None,
) -> SwapMatrix:
    """Make the `swap_matrix` of runs, on the first one's backend.

    The rule of the verdicts is one for all, whatever the runs' own configurations say.
    """
    models = [(run.trained, run.dataset) for run in runs]
    return swap_matrix(
        models,
        tests,
        factors=factors,
        margin=margin,
        confidence=confidence,
        criterion=criterion,
        backend=runs[0].backend,
        on_solve=on_solve,
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
