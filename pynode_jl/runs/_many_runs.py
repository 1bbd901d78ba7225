"""Swap matrices of run folders: which runs, and their matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pynode_jl.backends import RetCode
from pynode_jl.diagnostics import Criterion, SwapMatrix, swap_matrix
from pynode_jl.errors import DataChangedError, PyNODEError, RunFolderError
from pynode_jl.runs._run import Run
from pynode_jl.solvers import Solver, catalogue
from pynode_jl.training import Trained


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

    Example:
        >>> from pynode_jl.runs import find_runs
        >>> run = pn.Run.create(pn.Config(), "runs/new")
        >>> find_runs(["runs"])
        Traceback (most recent call last):
        pynode_jl.errors.RunFolderError: ...
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
    """Return every explicit Runge-Kutta method of the JAX backend that takes fixed steps.

    Example:
        >>> from pynode_jl.runs import explicit_zoo
        >>> "RK4" in explicit_zoo(), "KenCarp4" in explicit_zoo()
        (True, False)
    """
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

    Example:
        >>> from pynode_jl.runs import runs_matrix
        >>> data, train = {"n_train": 64, "n_test": 16}, {"iterations": 4, "batch_size": 32}
        >>> config = pn.Config.from_dict({"backend": "jax", "data": data, "train": train})
        >>> run = pn.Run.create(config, "runs/tiny")
        >>> trained = run.train()
        >>> runs_matrix([run], ["RK4"], factors=[1.0]).table["test"].tolist()
        ['RK4']
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
