"""The counter-example: no folds at one step do not exclude them at a smaller one.

y' = diag(-3, -2) y. An Euler step has the determinant (1 - 3 h)(1 - 2 h): at h = 1 both directions
are reversed and the determinant is positive, at h = 0.4 one is and it is negative.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pynode_jl.diagnostics import folds, order_violations
from pynode_jl.fields import LinearField
from pynode_jl.models import Model, ModelWeights
from pynode_jl.paper._context import FigureResult, ReproductionContext
from pynode_jl.reporting.figures import TrajectoryPanel, trajectories
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedModel

RATES = (3.0, 2.0)
STEPS = (1.0, 0.4, 0.25)
_END = 2.0


def make(context: ReproductionContext) -> FigureResult:
    """Draw trajectories of a square of points at three steps, with what the diagnostics find."""
    field = LinearField(2)
    model = Model(field, classes=2, t1=_END)
    rates = {"layers.0.weight": -np.diag(RATES).astype(np.float32), "layers.0.bias": np.zeros(2)}
    weights = ModelWeights(rates, np.zeros((2, 2)), np.zeros(2)).to_dict()
    side = np.array([0.5, 1.0])
    x = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    dense = np.random.default_rng(0).uniform(0.5, 1.0, size=(60, 2))
    times = list(np.linspace(0, _END, 41)[1:])
    panels, rows = [], []
    for dt in STEPS:
        trained = TrainedModel(model, weights, Solver("Euler", dt=dt))
        solve = context.integrator.solve
        own = solve(field, trained.field_weights, x, (0.0, _END), trained.solver, save_steps=True)
        exact = np.exp(-np.array(RATES) * np.array([0.0, *times])[:, None, None]) * x
        found = folds(trained, x, backend=context.integrator)
        crossed = order_violations(trained, dense, backend=context.integrator)
        seen = "folds" if found.folded.any() else "no folds"
        panels.append(TrajectoryPanel(f"Euler, h = {dt:g}: {seen}", own.y, [0, 1, 1, 0], exact))
        rows.append(
            {
                "h": dt,
                "1 - 3 h": 1 - RATES[0] * dt,
                "1 - 2 h": 1 - RATES[1] * dt,
                "determinant": float(found.sign[0, 0] * np.exp(found.log_abs[0, 0])),
                "folded": bool(found.folded.any()),
                "neighbours reversed": crossed.share,
            }
        )
    return FigureResult(
        "No folds at one step do not exclude them below it",
        f"y' = -(3 y1, 2 y2), four points and their exact flow up to t = {_END:g}. At h = 1 an"
        " Euler step reverses both directions: a half-turn, whose determinant is positive; no"
        " fold is seen, nor is a triangle reversed, though trajectories overshoot at each step. At"
        " h = 0.4 it reverses one direction only: folds. At h = 0.25 none. A step without folds"
        " vouches neither for itself nor for smaller ones.",
        trajectories(panels),
        pd.DataFrame(rows),
        {"determinant": "+.2f", "neighbours reversed": ".0%"},
        {"field": "y' = diag(-3, -2) y", "determinant of an Euler step": "(1 - 3 h)(1 - 2 h)"},
        subtitle="An example for a remark of Ott et al., ResNet After All?, ICLR 2021",
    )
