"""Figure 5: what the paper's controller and ours saw and did while a model was trained."""

from __future__ import annotations

import pandas as pd

from pynode_jl.paper._context import Desk, Plate
from pynode_jl.paper._experiments import CONTROLLERS, Subject
from pynode_jl.paper._sphere_experiments import SPHERE
from pynode_jl.reporting.figures import adaptation_trace
from pynode_jl.runs import checks_table


def make(desk: Desk) -> Plate:
    """Accuracy, step and cross-check by iteration, a column for each controller; seed 0."""
    return plate(desk, SPHERE)


def plate(desk: Desk, subject: Subject) -> Plate:
    """The same for another subject."""
    traces, thresholds = {}, {}
    for controller in CONTROLLERS:
        trained = subject.adapted(desk, controller, 0).trained
        name = f"{controller} controller"
        traces[name] = checks_table(trained.history)
        settings = trained.recipe.controller
        thresholds[name] = getattr(settings, "threshold", getattr(settings, "allowed", 0.0))
    return Plate(
        "Figure 5: the step while it is adapted",
        f"{subject.name}, Euler, seed 0. Top: accuracy on the samples looked at, under the solver"
        " in force and under the finer one. Middle: the step. Bottom: what is decided on, and the"
        " threshold: the difference of the two accuracies (the paper's controller), the share of"
        " right answers that the finer solver loses (ours, which first looks when it settles)."
        f" Trained for {subject.words[desk.full]}.",
        adaptation_trace(traces, thresholds=thresholds),
        pd.concat(
            [table.assign(controller=name) for name, table in traces.items()], ignore_index=True
        ),
        {"accuracy": ".1%", "test_accuracy": ".1%", "statistic": ".2%"},
    )
