"""Swap matrices of run folders: which runs, and their matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pynode_jl._io import user_path
from pynode_jl.diagnostics import Criterion, SwapMatrix, swap_matrix
from pynode_jl.errors import InvalidValueError, PyNODEError, RunFolderError
from pynode_jl.runs._config import TABLES
from pynode_jl.runs._config_table import first_key
from pynode_jl.runs._identity import training_settings
from pynode_jl.runs._run import Run, unfinished
from pynode_jl.solvers import Solver, catalogue

_SEEDS = ("seed", "data.seed")
#: By table, the key that says which others the table can have.
_KINDS = {name: first_key(table) for name, table in TABLES.items() if table.MAKERS}


def find_runs(
    folders: Iterable[str | Path], on_skip: Callable[[Path, str], None] | None = None
) -> list[Run]:
    """Return the runs in folders that are trained to their end.

    Args:
        folders: a run's own folder each, or one that holds runs.
        on_skip: called with each folder that is passed over and the reason: training unfinished or
            failed, a run that cannot be read or whose data have changed, the same configuration and
            seed as one before, no run at all.

    Raises:
        RunFolderError: no run in any of them that can be used, with each reason.
        PyNODEError: the only run there is cannot be used.

    Example:
        >>> from pynode_jl.runs import find_runs
        >>> run = pn.Run.create(pn.Config(), "runs/new")
        >>> find_runs(["runs"])
        Traceback (most recent call last):
        pynode_jl.errors.RunFolderError: ...
    """
    found: list[Run] = []
    asked = [user_path("folders", folder) for folder in folders]
    skipped: dict[str, str] = {}
    refused: list[PyNODEError] = []

    def skip(folder: Path, reason: str) -> None:
        skipped[str(folder)] = reason
        if on_skip is not None:
            on_skip(folder, reason)

    for home in _homes(asked, skip):
        try:
            run = Run.open(home)
            reason = unfinished(run.trained) or _repeated(run, found)
        except PyNODEError as error:
            skip(home, str(error))
            refused.append(error)
            continue
        if reason:
            skip(home, reason)
        else:
            found.append(run)
    if not found:
        if len(skipped) == len(refused) == 1:
            raise refused[0]
        reasons = "; ".join(f"{folder}: {reason}" for folder, reason in skipped.items())
        raise RunFolderError(
            "folders",
            ", ".join(map(str, asked)),
            "runs trained to their end, or folders with such runs in them",
            f"`pynode-jl train` makes one. {reasons}",
        )
    return found


def _homes(folders: Iterable[Path], skip: Callable[[Path, str], None]) -> list[Path]:
    """Return the runs' own folders in all of them, each once."""
    homes: dict[Path, Path] = {}
    for folder in folders:
        try:
            here = sorted({file.parent for file in folder.glob("**/config.toml")})
        except OSError as error:
            skip(folder, f"{error}")
            continue
        if not here:
            skip(folder, "no run in it")
        for home in here:
            homes.setdefault(home.resolve(), home)
    return list(homes.values())


def _repeated(run: Run, others: Sequence[Run]) -> str:
    """Say which run before it is of the same configuration and seed; "" if none is."""
    for other in others:
        same = training_settings(run.config) == training_settings(other.config)
        if same and run.trained.fingerprint == other.trained.fingerprint:
            return f"the same configuration and seed as {other.folder}"
    return ""


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return a label for each run: its solver, and where others with it are configured otherwise,
    what differs. Those of one label are seeds of one configuration.

    Of runs with different controllers, data or fields the options of these say nothing more.
    """
    solvers = [run.trained.solver.label for run in runs]
    settings = [
        {key: value for key, value in found.items() if key not in _SEEDS}
        for found in (training_settings(run.config) for run in runs)
    ]
    labels = []
    for solver, mine in zip(solvers, settings, strict=True):
        alike = [each for label, each in zip(solvers, settings, strict=True) if label == solver]
        keys = dict.fromkeys(key for each in alike for key in (*each, *mine))
        differing = [key for key in keys if any(_differs(key, each, mine) for each in alike)]
        labels.append(", ".join([solver, *(f"{key}={mine.get(key)}" for key in differing)]))
    return labels


def _differs(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.get(key) == other.get(key):
        return False
    table, _, option = key.rpartition(".")
    kind = _KINDS.get(table, option)
    return option == kind or one.get(f"{table}.{kind}") == other.get(f"{table}.{kind}")


def of_one_task(
    runs: Sequence[Run], on_skip: Callable[[Path, str], None] | None = None
) -> list[Run]:
    """Return the runs of the first one's task; `on_skip` is told of each other, and why.

    Example:
        >>> from pynode_jl.runs import of_one_task
        >>> of_one_task([])
        []
    """
    kinds = [run.model.task.kind for run in runs]
    for run, kind in zip(runs, kinds, strict=True):
        if kind != kinds[0] and on_skip is not None:
            on_skip(run.folder, f"its task is a {kind}, that of those before a {kinds[0]}")
    return [run for run, kind in zip(runs, kinds, strict=True) if kind == kinds[0]]


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
    margin: float | None = None,
    confidence: float = 0.95,
    criterion: Criterion = "flips",
    on_solve: Callable[[int, int, str], None] | None = None,
    on_skip: Callable[[Path, str], None] | None = None,
) -> SwapMatrix:
    """Make the `swap_matrix` of runs, on the first one's backend.

    `on_skip` is called with the folder of a run that cannot be swapped, and the reason; the others
    go on. The rule of the verdicts is one for all, whatever the runs' own configurations say. Runs
    are seeds of one configuration where all other settings are equal; otherwise they have rows of
    their own, with the settings that differ.

    `tests`, `margin`, `confidence`, `criterion` and `on_solve` are those of `swap_matrix`.

    Raises:
        InvalidValueError: there is none.

    Example:
        >>> from pynode_jl.runs import runs_matrix
        >>> data, train = {"n_train": 64, "n_test": 16}, {"iterations": 4, "batch_size": 32}
        >>> config = pn.Config.from_dict({"backend": "jax", "data": data, "train": train})
        >>> run = pn.Run.create(config, "runs/tiny")
        >>> trained = run.train()
        >>> runs_matrix([run], ["RK4"], factors=[1.0]).table["test"].tolist()
        ['RK4']
    """
    if not runs:
        raise InvalidValueError("runs", runs, "at least one run", "`find_runs` finds some.")
    models = [(run.trained, run.dataset) for run in runs]
    return swap_matrix(
        models,
        tests,
        factors=factors,
        margin=margin,
        confidence=confidence,
        criterion=criterion,
        labels=_labels(runs),
        backend=runs[0].backend,
        on_solve=on_solve,
        on_skip=None
        if on_skip is None
        else lambda number, error: on_skip(runs[number - 1].folder, str(error)),
    )
