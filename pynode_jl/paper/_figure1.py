"""Figure 1: trajectories of a coarse and a fine model, and accuracy against the number of steps."""

from __future__ import annotations

import pandas as pd

from pynode_jl.paper._context import FigureResult, ReproductionContext
from pynode_jl.paper._sphere_experiments import COARSE, FINE, SPHERE
from pynode_jl.reporting.figures import accuracy_against_count, trajectories
from pynode_jl.reporting.pages import trajectory_panel
from pynode_jl.runs import Run
from pynode_jl.solvers import Solver

_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512)
_TESTS = ("Euler", "RK4")


def make(context: ReproductionContext) -> FigureResult:
    """Draw paths of the same test samples under two models, and both models at 1 to 512 steps."""
    runs = {
        f"trained with {Solver.parse(solver).label}": [
            SPHERE.run(context, solver, seed) for seed in range(context.seeds)
        ]
        for solver in (COARSE, FINE)
    }
    tables = {
        name: pd.concat([_accuracies(run) for run in of_seeds], ignore_index=True)
        for name, of_seeds in runs.items()
    }
    counts = {name: _steps(of_seeds[0]) for name, of_seeds in runs.items()}
    numbers = pd.concat([t.assign(model=name) for name, t in tables.items()], ignore_index=True)
    numbers = numbers.groupby(["model", "solver", "steps"], as_index=False, sort=False).agg(
        accuracy=("accuracy", "mean"), lowest=("accuracy", "min"), highest=("accuracy", "max")
    )
    over = "one seed" if context.seeds == 1 else f"mean and range over {context.seeds} seeds"
    return FigureResult(
        "Figure 1: a ResNet in an ODE's clothes",
        f"Figure 1a: Sphere 2D, test samples of seed 0 under two models of the same field: a"
        " model's own steps and the flow of the ODE that its field defines. Where steps and flow"
        " part, the answers are the solver's, not the ODE's. Figure 1b: test accuracy against the"
        f" number of steps at test time, under Euler and under RK4 ({over}); the line across is"
        " chance. The coarse model's accuracy stands on one number of steps; the fine model keeps"
        f" its own from its own number on. Trained for {SPHERE.words[context.full]}.",
        None,
        numbers,
        facts={
            "runs": ", ".join(run.folder.name for each in runs.values() for run in each),
            "seeds": context.seeds,
        },
        more={
            "a": trajectories(
                [
                    trajectory_panel(name, run.trained, run.dataset, run.backend)
                    for name, (run, *_) in runs.items()
                ]
            ),
            "b": accuracy_against_count(tables, trained_with=counts, chance=0.5),
        },
    )


def _steps(run: Run) -> int:
    return run.trained.solver.grid(run.model.t0, run.model.t1).n


def _accuracies(run: Run) -> pd.DataFrame:
    trained, data = run.trained, run.dataset
    span = abs(run.model.t1 - run.model.t0)
    return pd.DataFrame(
        {
            "steps": count,
            "solver": name,
            "accuracy": run.backend.evaluate(
                trained.model, trained.weights, data.x_test, Solver(name, dt=span / count)
            ).accuracy(data.y_test),
        }
        for name in _TESTS
        for count in _COUNTS
    )
