"""Figure 2: the outputs of the ODE block and the answers of the model, at two steps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pynode_jl.backends import Array
from pynode_jl.models import ModelWeights
from pynode_jl.paper._context import FigureResult, ReproductionContext
from pynode_jl.paper._sphere_experiments import COARSE, SPHERE
from pynode_jl.reporting.figures import DecisionPanel, decision_regions
from pynode_jl.reporting.pages import decision_panel
from pynode_jl.runs import Run

_GRID = 200
_FACTORS = (1.0, 0.5)
# The frame of final states: wide enough for this share of them, as a few lie far out.
_SHOWN = 0.98


def make(context: ReproductionContext) -> FigureResult:
    """Draw final states with the head's regions (above), answers over the inputs (below)."""
    run = SPHERE.run(context, COARSE)
    solvers = [run.trained.solver.scaled(factor) for factor in _FACTORS]
    rows, outputs, answers = [], [], []
    for solver in solvers:
        evaluation = run.backend.evaluate(
            run.model, run.trained.weights, run.dataset.x_test, solver
        )
        accuracy = evaluation.accuracy(run.dataset.y_test)
        rows.append({"test solver": solver.label, "accuracy": accuracy})
        outputs.append(_outputs(run, f"block output, {solver.label}", evaluation.states))
        title = f"answers, {solver.label}: {{}}"
        answers.append(decision_panel(title, run.trained, run.dataset, run.backend, solver))
    return FigureResult(
        "Figure 2: the same weights at two steps",
        f"Sphere 2D, one model trained with {solvers[0].label} (seed 0;"
        f" {SPHERE.words[context.full]}), tested at {solvers[0].label} and at"
        f" {solvers[1].label}. Above: the test samples where"
        " the ODE block puts them, over the regions of the linear head. Below: the model's answers"
        " over the plane of inputs. Halving the step should change little; here it moves the"
        " samples across the head's line.",
        decision_regions([*outputs, *answers]),
        pd.DataFrame(rows),
        facts={"run": run.folder.name},
    )


def _outputs(run: Run, title: str, states: Array) -> DecisionPanel:
    tail = (1 - _SHOWN) / 2
    low, high = np.quantile(states, [tail, 1 - tail], axis=0)
    half = 0.6 * float((high - low).max())
    x, y = (np.linspace(c - half, c + half, _GRID) for c in (low + high) / 2)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    head = ModelWeights.from_dict(run.trained.weights)
    logits = run.model.logits(grid.reshape(-1, 2), head)
    classes = np.argmax(logits, axis=-1).reshape(_GRID, _GRID)
    shown = (np.abs(states - (low + high) / 2) <= half).all(axis=1)
    return DecisionPanel(
        title, x, y, classes, states[shown], run.dataset.y_test[shown], names=("$y_1$", "$y_2$")
    )
