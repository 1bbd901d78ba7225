"""Panels for models whose states lie in the plane: solved here, drawn by `reporting.figures`."""

from __future__ import annotations

import numpy as np

from pynode_jl.backends import Array, Backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import REFERENCE
from pynode_jl.reporting.figures import DecisionPanel, TrajectoryPanel
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Classification
from pynode_jl.training import TrainedLike, as_trained_model

#: The ODE, for the eye: a picture needs no tighter flow, and its grid reaches beyond the data.
FLOW = REFERENCE.with_tolerance(1e-5, 1e-5)

_SAMPLES = 24
_FLOW_TIMES = 60
_GRID = 160
_ROOM = 1.1


def in_the_plane(trained: TrainedLike) -> bool:
    """Whether the model's states can be drawn as they are.

    Example:
        >>> from pynode_jl.reporting.pages import in_the_plane
        >>> in_the_plane(trained)
        False
    """
    return trained.model.field.state_shape == (2,) and trained.model.augment == 0


def trajectory_panel(
    title: str, trained: TrainedLike, dataset: Dataset, backend: Backend, flow: Solver = FLOW
) -> TrajectoryPanel:
    """Solve the first test samples by the training solver's steps and by the ODE's `flow`.

    `title` stands above the panel; `trained` starts from the test part of `dataset`; `backend`
    solves.

    Example:
        >>> from pynode_jl.reporting.pages import trajectory_panel
        >>> plane = pn.Model(pn.MLP(2, width=4), classes=2)
        >>> untrained = pn.TrainedModel(plane, plane.init(0), pn.Solver("Euler", dt=0.5))
        >>> spheres = pn.concentric_spheres(n_train=4, n_test=4)
        >>> trajectory_panel("untrained", untrained, spheres, pn.get_backend("jax")).steps.shape
        (3, 4, 2)
    """
    model, x = trained.model, as_trained_model(trained).initial_states(dataset.x_test[:_SAMPLES])
    span = (model.t0, model.t1)
    steps = backend.solve(
        model.field, trained.field_weights, x, span, trained.solver, save_steps=True, throw=False
    )
    times = [float(t) for t in np.linspace(model.t0, model.t1, _FLOW_TIMES + 1)[1:]]
    exact = backend.solve(
        model.field, trained.field_weights, x, span, flow, save_at=times, throw=False
    )
    labels = dataset.y_test[:_SAMPLES] if isinstance(model.task, Classification) else None
    return TrajectoryPanel(title, steps.y, labels, np.concatenate([x[None], exact.y]))


def decision_panel(
    title: str, trained: TrainedLike, dataset: Dataset, backend: Backend, solver: Solver
) -> DecisionPanel:
    """Evaluate the model over a square around the test samples, and on these, under `solver`.

    The last ``{}`` in the title becomes the accuracy.

    `trained` answers for the test part of `dataset`.

    Example:
        >>> from pynode_jl.reporting.pages import decision_panel
        >>> plane = pn.Model(pn.MLP(2, width=4), classes=2)
        >>> untrained = pn.TrainedModel(plane, plane.init(0), pn.Solver("Euler", dt=0.5))
        >>> spheres = pn.concentric_spheres(n_train=4, n_test=4)
        >>> backend = pn.get_backend("jax")
        >>> decision_panel("{}", untrained, spheres, backend, untrained.solver).points.shape
        (4, 2)
    """
    axis, grid = grid_around(dataset.x_test)
    answers, seen = (
        backend.evaluate(
            trained.model, trained.weights, as_trained_model(trained).inputs(x), solver
        )
        for x in (grid, dataset.x_test)
    )
    # The last one: a user's name may have braces of its own.
    before, _, after = title.rpartition("{}")
    return DecisionPanel(
        f"{before}{seen.accuracy(dataset.y_test):.1%}{after}" if "{}" in title else title,
        axis,
        axis,
        answers.predictions.reshape(_GRID, _GRID),
        dataset.x_test,
        dataset.y_test,
        seen.predictions,
    )


def grid_around(points: Array) -> tuple[Array, Array]:
    """Return the coordinates (g,) of a square grid around points of the plane, and it (g g, 2).

    Example:
        >>> from pynode_jl.reporting.pages import grid_around
        >>> [each.shape for each in grid_around(np.eye(2))]
        [(160,), (25600, 2)]
    """
    reach = _ROOM * float(np.abs(points).max())
    axis = np.linspace(-reach, reach, _GRID, dtype=np.float32)
    return axis, np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
