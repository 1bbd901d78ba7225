"""Pictures of a model's answers that belong to its task: fits, densities, predicted numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pynode_jl.backends import Array, Backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import score_text
from pynode_jl.models import ModelWeights
from pynode_jl.reporting import figures
from pynode_jl.reporting.figures import CurvePanel, FitPanel, MapPanel
from pynode_jl.reporting.pages._layout import Drawing
from pynode_jl.reporting.pages._panels import (
    FLOW,
    decision_panel,
    grid_around,
    in_the_plane,
    trajectory_panel,
)
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Classification, Density, Regression, Trajectory
from pynode_jl.training import TrainedLike, as_trained_model

_SAMPLES = 3
_FLOW_TIMES = 200
# Densities this many nats below the ODE's highest are drawn alike.
_DEEP = 10.0
_MOST_POINTS = 1000
_CURVE = 240


class Shown(NamedTuple):
    """A trained model that pictures are made of: with its data, what solves, and the ODE's solver.

    `dataset` has the samples; `backend` solves.

    Example:
        >>> from pynode_jl.reporting.pages import Shown
        >>> Shown(trained, data, pn.get_backend("jax")).flow.name
        'Tsit5'
    """

    trained: TrainedLike
    dataset: Dataset
    backend: Backend
    flow: Solver = FLOW

    @property
    def solvers(self) -> tuple[tuple[str, Solver], ...]:
        """The training solver and the ODE's, with their names."""
        own = self.trained.solver
        return ((own.label, own), ("as an ODE", self.flow))


def task_drawings(models: Mapping[str, Shown]) -> dict[str, Drawing]:
    """Return the pictures that the models' task has, by name; of several tasks none.

    Args:
        models: by title.

    Example:
        >>> from pynode_jl.reporting.pages import Shown, task_drawings
        >>> task_drawings({"one weight": Shown(trained, data, pn.get_backend("jax"))})
        {}
    """
    kinds = {type(each.trained.model.task) for each in models.values()}
    flat = all(each.trained.model.input_shape == (2,) for each in models.values())
    if len(kinds) != 1:
        return {}
    kind = kinds.pop()
    drawn = {}
    if issubclass(kind, (Classification, Regression)) and all(
        in_the_plane(each.trained) for each in models.values()
    ):
        drawn["trajectories"] = _paths(models)
    if issubclass(kind, Classification) and drawn:
        drawn["regions"] = _regions(models)
    if issubclass(kind, Trajectory):
        for i, (title, each) in enumerate(models.items()):
            drawn["fit" if len(models) == 1 else f"fit-{i + 1}"] = _fit(title, each)
    if flat and issubclass(kind, Density):
        drawn["density"] = _densities(models)
    if flat and issubclass(kind, Regression):
        drawn["answers"] = _answers(models)
    one_input = all(each.trained.model.input_shape == (1,) for each in models.values())
    if one_input and issubclass(kind, Regression):
        drawn["answers"] = _curves(models)
    return drawn


def _paths(models: Mapping[str, Shown]) -> Drawing:
    panels = [
        trajectory_panel(_named(title, each.trained.solver.label), *each)
        for title, each in models.items()
    ]
    return Drawing(
        figures.trajectories(panels),
        "The same test samples under the steps of the training solver and under the flow of the ODE"
        " that the model's field defines.",
    )


def _regions(models: Mapping[str, Shown]) -> Drawing:
    panels = [
        decision_panel(f"{_named(title, how)}: {{}}", *each[:3], solver)
        for title, each in models.items()
        for how, solver in each.solvers
    ]
    return Drawing(
        figures.decision_regions(panels),
        "What the model answers over the plane, under its training solver and as an ODE.",
    )


def _fit(title: str, shown: Shown) -> Drawing:
    trained, dataset, backend, flow = shown
    model = as_trained_model(trained)
    x, observed = dataset.x_test[:_SAMPLES], dataset.y_test[:_SAMPLES]
    n, times = len(x), model.model.times
    answers = backend.evaluate(model.model, model.weights, model.inputs(x), model.solver).outputs
    grid = np.linspace(times[0], times[-1], _FLOW_TIMES + 1)[1:]
    solution = backend.solve(
        model.model.field,
        model.field_weights,
        model.initial_states(x),
        (times[0], times[-1]),
        flow,
        save_at=[float(t) for t in grid],
        throw=False,
    )
    read = model.model.read_out(solution.y, ModelWeights.from_dict(model.weights))

    def flat(states: Array, count: int) -> Array:
        return np.asarray(states, float).reshape(n, count, -1)

    panel = FitPanel(
        _named(title, model.solver.label),
        times[1:],
        flat(observed, len(times) - 1),
        flat(answers, len(times) - 1),
        grid,
        flat(read, len(grid)),
    )
    return Drawing(
        figures.trajectory_fit(panel),
        f"Test samples over time, {model.solver.label} as trained: what was observed, what the"
        " model answers under its training solver, and the flow of the ODE.",
    )


def _densities(models: Mapping[str, Shown]) -> Drawing:
    panels = []
    for title, each in models.items():
        axis, grid = grid_around(each.dataset.x_test)
        for how, solver in each.solvers:
            values, score = _over(each, grid, solver)
            heading = f"{_named(title, how)}\n{score}"
            points = each.dataset.x_test[:_MOST_POINTS]
            panels.append(MapPanel(heading, axis, axis, values[0].reshape(len(axis), -1), points))
    # An ODE's density integrates to one; a coarse solver's may be anything.
    exact = np.concatenate([np.asarray(panel.values).ravel() for panel in panels[1::2]])
    top = float(np.max(exact[np.isfinite(exact)], initial=-math.inf))
    limits = (top - _DEEP, top) if math.isfinite(top) else None
    return Drawing(
        figures.value_maps(panels, name="log-density, nats (1 nat is 1.443 bits)", limits=limits),
        "The log-density over the plane, under the training solver and as an ODE, with test"
        " samples. In grey: no finite answer.",
    )


def _answers(models: Mapping[str, Shown]) -> Drawing:
    panels, seen = [], []
    for title, each in models.items():
        axis, grid = grid_around(each.dataset.x_test)
        points, targets = each.dataset.x_test, each.dataset.y_test[:, 0]
        seen.append(targets)
        for how, solver in each.solvers:
            values, score = _over(each, grid, solver)
            heading = f"{_named(title, how)}\n{score}"
            shape = (len(axis), -1)
            panels.append(
                MapPanel(
                    heading,
                    axis,
                    axis,
                    values[0].reshape(shape),
                    points[:_MOST_POINTS],
                    targets[:_MOST_POINTS],
                )
            )
    limits = float(np.concatenate(seen).min()), float(np.concatenate(seen).max())
    return Drawing(
        figures.value_maps(panels, name="answer (first target)", limits=limits),
        "What the model answers over the plane, under its training solver and as an ODE; dots are"
        " test samples, in the colours of their targets.",
    )


def _curves(models: Mapping[str, Shown]) -> Drawing:
    panels = []
    for title, each in models.items():
        points, targets = each.dataset.x_test[:, 0], each.dataset.y_test[:, 0]
        low, high = float(points.min()), float(points.max())
        room = 0.05 * (high - low) or 1.0
        x = np.linspace(low - room, high + room, _CURVE, dtype=points.dtype)
        (answers, score), (flow, ode) = (_over(each, x[:, None], how) for _, how in each.solvers)
        own = each.trained.solver.label
        panels.append(
            CurvePanel(
                f"{_named(title, own)}\n{score} as trained, {ode} as an ODE",
                x,
                answers[0],
                flow[0],
                points[:_MOST_POINTS],
                targets[:_MOST_POINTS],
            )
        )
    return Drawing(
        figures.curve_fit(panels, name="answer (first target)"),
        "What the model answers by its input, under its training solver and as an ODE, with test"
        " samples. An ODE's curve that leaves the data leaves the panel.",
    )


def _over(shown: Shown, grid: Array, solver: Solver) -> tuple[Array, str]:
    """Return outputs over a grid of inputs, outputs first, and the score on the test samples."""
    trained = as_trained_model(shown.trained)
    model, weights, task = trained.model, trained.weights, trained.model.task
    found, seen = (
        shown.backend.evaluate(model, weights, trained.inputs(x), solver).outputs
        for x in (grid, shown.dataset.x_test)
    )
    with np.errstate(over="ignore", invalid="ignore"):
        score = task.score(task.scores(seen, shown.dataset.y_test))
    return np.asarray(found, float).T, score_text(score, task.metric)


def _named(title: str, how: str) -> str:
    return how if title in ("", how) else f"{title}, {how}"
