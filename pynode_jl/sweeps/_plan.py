"""What a sweep will cost, before it runs: a few iterations of each kind of run, measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pandas as pd

from pynode_jl._validation import real_number
from pynode_jl.backends import get_backend
from pynode_jl.diagnostics import swap
from pynode_jl.errors import PyNODEError
from pynode_jl.sweeps._definition import PlannedRun, Sweep
from pynode_jl.sweeps._preflight import check_runs, shape_of
from pynode_jl.sweeps._store import SweepStore
from pynode_jl.training import Trained, train

_CHUNK = 10  # iterations that are timed at once
_CHUNKS = 3  # the first compiles
_OF_THE_KIND = (
    *("train.solver", "train.gradient", "train.precision", "train.optimizer", "adapt.controller"),
)


@dataclass(frozen=True)
class Plan:
    """A sweep's runs and what they will cost.

    Attributes:
        table: a row for each kind of run, those that differ in seed, learning rate or number of
            iterations alone: what it is, its `runs` and those `missing`, evaluations of the field
            and `seconds_an_iteration`, `swap_seconds`, `seconds` in all for what is missing, and
            `how`: "measured", "scaled" from another kind by evaluations, or why neither.
        runs: of the sweep.
        missing: of them without a result.
        compile_seconds: once for each worker, as far as measured.

    Example:
        >>> from pynode_jl.sweeps import plan
        >>> found = plan(pn.Sweep(grid={"seed": [0, 1]}), seconds=0)
        >>> found.runs, found.table["how"].tolist()
        (2, ['not measured'])
    """

    table: pd.DataFrame
    runs: int
    missing: int
    compile_seconds: float

    def seconds(self, workers: int = 1) -> float:
        """Return about how long so many `workers` take; nan where a kind was not measured."""
        work = self.table["seconds"].to_numpy(float).sum()
        return float(work) / workers + self.compile_seconds


@dataclass
class _Kind:
    """Runs of one data, model and training solver."""

    runs: list[PlannedRun] = field(default_factory=list)
    missing: list[PlannedRun] = field(default_factory=list)
    nf: float = math.nan
    iteration: float = math.nan
    swapping: float = math.nan
    compiling: float = 0.0
    how: str = "not measured"


def plan(
    sweep: Sweep,
    store: SweepStore | None = None,
    *,
    seconds: float = 60.0,
    on_measure: Callable[[str], None] | None = None,
) -> Plan:
    """Measure a few iterations of each kind of run, and estimate what the sweep costs.

    Args:
        sweep: the sweep.
        store: where it will run: what is done there costs nothing more.
        seconds: about how long to measure; kinds beyond that are scaled from others.
        on_measure: told what is measured next.

    Raises:
        SweepError: a run's settings fit no data or model.
    """
    real_number("seconds", seconds, "60 is a minute.", least=0)
    check_runs(sweep.runs)
    done = _done(sweep, store)
    kinds: dict[str, dict[str, _Kind]] = {}
    for run in sweep.runs:
        kind = kinds.setdefault(shape_of(run), {}).setdefault(_kind_of(run), _Kind())
        kind.runs.append(run)
        if run.key not in done:
            kind.missing.append(run)
    end = time.monotonic() + seconds
    for kind in _in_order([list(each.values()) for each in kinds.values()]):
        if time.monotonic() >= end or not kind.missing:
            continue
        if on_measure is not None:
            on_measure(_said(kind.runs[0]))
        _measure(kind)
    rows = []
    for others in kinds.values():
        for kind in others.values():
            _scale(kind, list(others.values()))
            rows.append(_row(kind))
    missing = len(sweep.runs) - sum(run.key in done for run in sweep.runs)
    compiling = sum(kind.compiling for each in kinds.values() for kind in each.values())
    return Plan(pd.DataFrame(rows), len(sweep.runs), missing, compiling)


def _done(sweep: Sweep, store: SweepStore | None) -> set[str]:
    if store is None:
        return set()
    return {run.key for run in sweep.runs if store.result_path(run).exists()}


def _in_order(groups: Sequence[list[_Kind]]) -> Iterator[_Kind]:
    """Yield one kind of each data and model, then the others, those with most iterations first."""
    weighed = [sorted(group, key=_iterations, reverse=True) for group in groups]
    yield from (group[0] for group in weighed)
    yield from sorted((k for group in weighed for k in group[1:]), key=_iterations, reverse=True)


def _iterations(kind: _Kind) -> int:
    return sum(run.config.train.iterations for run in kind.missing)


class _EnoughError(Exception):
    """Raised in a callback: the training has been measured."""


def _measure(kind: _Kind) -> None:
    """Time a few iterations, and a swap of what they give."""
    config = kind.missing[0].config
    config = config.changed({"train.chunk": min(_CHUNK, config.train.chunk)})
    stands: list[Trained] = []
    times = [time.monotonic()]

    def keep(trained: Trained) -> None:
        stands.append(trained)
        times.append(time.monotonic())
        if len(stands) == _CHUNKS:
            raise _EnoughError

    try:
        backend = get_backend(config.backend, config.device or None)
        dataset = config.dataset()
        model = config.make_model(dataset)
        with suppress(_EnoughError):
            train(model, dataset, config.recipe(), backend=backend, on_chunk=keep)
        first, last = (stands[0], stands[-1]) if len(stands) > 1 else (None, stands[-1])
        done = last.state.iteration - (0 if first is None else first.state.iteration)
        spent = times[len(stands)] - times[0 if first is None else 1]
        kind.iteration = spent / max(done, 1)
        kind.compiling = max(0.0, times[1] - times[0] - kind.iteration * _CHUNK)
        kind.nf = float(last.history.nf.mean())
        settings, took = config.swap, []
        for _ in range(2):  # the first compiles
            begun = time.monotonic()
            swap(
                last,
                dataset,
                settings.solvers or None,
                factors=settings.factors or None,
                margin=settings.margin,
                confidence=settings.confidence,
                criterion=settings.criterion,
                backend=backend,
            )
            took.append(time.monotonic() - begun)
        kind.swapping = took[1]
        kind.compiling += max(0.0, took[0] - took[1])
        kind.how = "measured"
    except (PyNODEError, IndexError) as error:
        kind.how = f"failed: {error}"


def _scale(kind: _Kind, others: Sequence[_Kind]) -> None:
    """Estimate a kind that was not measured from the one that is nearest to it in evaluations."""
    if kind.how != "not measured":
        return
    kind.nf = _evaluations(kind.runs[0])
    measured = [each for each in others if each.how == "measured"]
    if not measured:
        return

    def distance(other: _Kind) -> float:
        return abs(math.log(other.nf / kind.nf)) if kind.nf > 0 < other.nf else math.inf

    nearest = min(measured, key=distance)
    ratio = kind.nf / nearest.nf if math.isfinite(kind.nf) else 1.0
    kind.iteration, kind.swapping = nearest.iteration * ratio, nearest.swapping
    kind.how = "scaled"


def _evaluations(run: PlannedRun) -> float:
    """Return the evaluations of an iteration's forward solve; nan where these are not known."""
    solver, model = run.config.recipe().solver, run.config.model
    tableau = solver.tableau
    if not solver.fixed or tableau is None:
        return math.nan
    return float(solver.grid(model.t0, model.t1).n * len(tableau.b))


def _kind_of(run: PlannedRun) -> str:
    settings = run.identity.settings
    return repr([settings.get(key) for key in _OF_THE_KIND] + [run.identity.swap])


def _row(kind: _Kind) -> dict[str, object]:
    run = kind.runs[0]
    total = _iterations(kind) * kind.iteration + len(kind.missing) * kind.swapping
    return {
        "solver": run.config.recipe().solver.label,
        "adapted": run.config.adapt.controller,
        "data": run.config.data.name,
        "field": run.config.field.kind,
        "runs": len(kind.runs),
        "missing": len(kind.missing),
        "evaluations": kind.nf,
        "seconds_an_iteration": kind.iteration,
        "swap_seconds": kind.swapping,
        "seconds": total if kind.missing else 0.0,
        "how": kind.how if kind.missing else "done",
    }


def _said(run: PlannedRun) -> str:
    return f"{run.config.recipe().solver.label} on {run.config.data.name}"
