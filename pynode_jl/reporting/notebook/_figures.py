"""Objects as figures: what `plot` of each class draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

from matplotlib.figure import Figure

from pynode_jl._validation import choice, instance
from pynode_jl.backends import BackendLike, as_backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import Certificate, SwapMatrix, SwapReport, clusters
from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting import figures
from pynode_jl.reporting.figures import Measure
from pynode_jl.reporting.pages import Shown, evidence_drawing, task_drawings
from pynode_jl.runs import Run
from pynode_jl.tasks import Task
from pynode_jl.training import History, Trained, TrainedModel


@singledispatch
def figure(value: object, **options: Any) -> Figure:
    """Return the figure of an object.

    Raises:
        InvalidValueError: `value` has no figure.

    Example:
        >>> from pynode_jl.reporting.notebook import figure
        >>> drawn = figure(pn.swap(trained, data, ["RK4"], backend="jax"), kind="flips")
    """
    raise InvalidValueError("value", value, "an object that has a figure", "Draw its data.")


@figure.register
def _(value: History, *, task: Task | None = None, name: str = "training") -> Figure:
    if not len(value):
        raise InvalidValueError("history", "no iteration", "one or more", "Train first.")
    measure = Measure() if task is None else _measure(task)
    return figures.training_history({name: value.table(task)}, measure=measure)


def _measure(task: Task) -> Measure:
    shifts = task.comparison == "shift"
    return Measure(task.metric, task.unit, task.higher_is_better, shifts, shifts and task.signed)


@figure.register
def _(value: Trained) -> Figure:
    return figure(value.history, task=value.model.task, name=value.solver.label)


@figure.register
def _(value: TrainedModel, *, data: Dataset, kind: str, backend: BackendLike) -> Figure:
    instance("data", data, Dataset, "a Dataset", "Give the data that it was trained on.")
    shown = Shown(value, data, as_backend(backend, value.model))
    drawn = task_drawings({"": shown})
    if not drawn:
        raise InvalidValueError(
            "data.state_shape",
            data.state_shape,
            "states of two numbers, or trajectories: others have no picture",
            "Plot the history of its training, or its swap report.",
        )
    # The answers come first: paths are a picture of how they are reached.
    order = sorted(drawn, key=lambda name: name == "trajectories")
    return drawn[choice("kind", kind, order) if kind else order[0]].figure


@figure.register
def _(value: SwapReport, *, kind: str) -> Figure:
    choice("kind", kind, tuple(_SWAPS))
    if value.table.empty:
        raise InvalidValueError("report", "no test solves", "one or more", "Swap some in.")
    return _SWAPS[kind](value, Measure.of(value))


def _by_solver(report: SwapReport, measure: Measure) -> Figure:
    chance = report.chance if math.isfinite(report.chance) or not measure.in_percent else 0.0
    tables = {report.verdict.solver: report.table}
    return figures.swap_heatmap(tables, chance=chance, measure=measure)


def _by_step(report: SwapReport, measure: Measure) -> Figure:
    tables = {report.verdict.solver: report.table}
    return figures.accuracy_against_step(tables, chance=report.chance, measure=measure)


def _changes(report: SwapReport, measure: Measure) -> Figure:
    tables = {report.verdict.solver: report.comparisons}
    return figures.flip_intervals(tables, margin=report.verdict.margin, measure=measure)


_SWAPS: Mapping[str, Callable[[SwapReport, Measure], Figure]] = {
    "solvers": _by_solver,
    "steps": _by_step,
    "flips": _changes,
}


@figure.register
def _(value: Certificate) -> Figure:
    found = value.finding("answers by step")
    if found is None or found.report is None:
        raise InvalidValueError(
            "certificate",
            "no measured answers by step",
            "a certificate made here, with that diagnostic, of a model that can be judged",
            "certificate.swap.plot() draws its swaps.",
        )
    return evidence_drawing(value).figure


@figure.register
def _(value: SwapMatrix) -> Figure:
    measure = Measure() if value.report is None else Measure.of(value.report)
    grid = value.grid()
    chance = math.nan if value.report is None else value.report.chance
    trees = clusters(grid)
    return figures.swap_matrix_heatmap(
        grid,
        row_tree=trees.rows,
        column_tree=trees.columns,
        own=value.grid("own"),
        failed=value.grid("failed"),
        chance=0.0 if measure.in_percent and not math.isfinite(chance) else chance,
        measure=measure,
    )


@figure.register
def _(value: Run) -> Figure:
    return figure(value.trained)
