"""Three minima: the particle's own phase portrait, and those of two models that learned it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pynode_jl.backends import Array
from pynode_jl.datasets.particle import MINIMA, advance, particle_field, resting_minimum
from pynode_jl.diagnostics import swap
from pynode_jl.paper._context import FigureResult, ReproductionContext
from pynode_jl.reporting.figures import PhasePanel, phase_portrait
from pynode_jl.runs import Config, DataConfig, FieldConfig, Run, TrainConfig
from pynode_jl.solvers import Solver

_COARSE, _FINE = "Euler:dt=1/2", "Euler:dt=1/64"
_SHORT: dict[str, Any] = {"iterations": 3000, "learning_rate": 3e-3}
_GRID = 120
_PATHS = 3
_PARTICLE_TIME, _PARTICLE_STEP = 30.0, 1 / 64


def make(context: ReproductionContext) -> FigureResult:
    """Draw the damped particle, a model trained with h = 1/2 and one with h = 1/64."""
    runs = {solver: _run(context, solver) for solver in (_COARSE, _FINE)}
    x, y = np.linspace(-1, 2, _GRID), np.linspace(-2, 2, _GRID)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    starts = np.array([[-0.9, 1.4], [1.8, -1.2], [0.9, 1.0]][:_PATHS])

    true = PhasePanel(
        "the particle: where it comes to rest",
        x,
        y,
        particle_field(grid).reshape(_GRID, _GRID, 2),
        resting_minimum(grid[:, 0], grid[:, 1], t_end=100.0).reshape(_GRID, _GRID),
        np.stack([MINIMA, np.zeros(3)], axis=1),
        list(np.moveaxis(_particle(starts), 1, 0)),
    )
    panels, rows = [true], []
    for run in runs.values():
        report = swap(run.trained, run.dataset, backend=run.backend)
        solver = run.trained.solver
        panels.append(_panel(f"a model, {solver.label}: {report.trained:.1%}", run, x, y, starts))
        rows.append(
            {
                "trained with": solver.label,
                "as trained": report.trained,
                "as an ODE": report.ode,
                "verdict": report.verdict.kind,
            }
        )
    return FigureResult(
        "Three minima: phase portraits",
        "Left: the damped particle in its potential of three wells; the colour is the well that"
        " catches it, the lines are its field, with three of its trajectories. Then: the fields"
        " that two models have learned for the same task, a linear head reading the class off"
        " their final state; the colour is the model's answer under its training solver, the"
        " trajectories are that solver's from the same starts. A model need not find the particle's"
        f" field: it only has to part the classes. Seed 0; {_protocol(context.full)}.",
        phase_portrait(panels, names=("$x$", "$v$")),
        pd.DataFrame(rows),
        facts={"runs": ", ".join(run.folder.name for run in runs.values())},
    )


def _protocol(full: bool) -> str:
    return "10,000 iterations at 1e-4" if full else "3,000 iterations at learning rate 3e-3"


def _run(context: ReproductionContext, solver: str) -> Run:
    training = TrainConfig(solver=solver) if context.full else TrainConfig(solver=solver, **_SHORT)
    config = Config(
        backend=context.backend,
        data=DataConfig("three_minima"),
        field=FieldConfig("mlp", {"width": 32}),
        train=training,
    )
    steps = round(1 / Solver.parse(solver).stepping.size)
    return context.train_run(
        f"minima-euler-h{steps}-{'full' if context.full else 'short'}-s0", config
    )


def _panel(title: str, run: Run, x: Array, y: Array, starts: Array) -> PhasePanel:
    trained, model, solve = run.trained, run.model, run.backend.solve
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    weights = trained.field_weights
    slopes = run.backend.rhs(model.field, weights, model.t0, grid)
    answers = run.backend.evaluate(model, trained.weights, grid, trained.solver).predictions
    paths = solve(
        model.field, weights, starts, (model.t0, model.t1), trained.solver, save_steps=True
    ).y
    return PhasePanel(
        title,
        x,
        y,
        slopes.reshape(len(y), len(x), 2),
        answers.reshape(len(y), len(x)),
        paths=list(np.moveaxis(paths, 1, 0)),
    )


def _particle(starts: Array) -> Array:
    """Return the particle's trajectories, (times, n, 2)."""
    states = [starts]
    for _ in range(round(_PARTICLE_TIME / _PARTICLE_STEP)):
        x, v = states[-1].T
        states.append(np.stack(advance(x, v, _PARTICLE_STEP), axis=1))
    return np.stack(states)
