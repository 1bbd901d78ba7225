"""Figure 5: what the paper's controller and ours saw and did while a model was trained."""

from __future__ import annotations

import pandas as pd

from pynode_jl.paper._context import FigureResult, ReproductionContext
from pynode_jl.paper._experiments import CONTROLLERS, ExperimentSpec
from pynode_jl.paper._image_experiments import image_experiment
from pynode_jl.paper._sphere_experiments import SPHERE
from pynode_jl.reporting.figures import adaptation_trace
from pynode_jl.runs import checks_table


def make(context: ReproductionContext) -> FigureResult:
    """Draw accuracy, step and cross-check by iteration, a column for each controller; seed 0."""
    return make_figure(context, SPHERE)


def make_for_images(context: ReproductionContext) -> FigureResult:
    """Draw the same for digits, or for CIFAR-10 in the full protocol."""
    return make_figure(context, image_experiment(context))


def make_figure(context: ReproductionContext, spec: ExperimentSpec) -> FigureResult:
    """Draw the same for another experiment."""
    traces, thresholds = {}, {}
    for controller in CONTROLLERS:
        trained = spec.adapted(context, controller, 0).trained
        name = f"{controller} controller"
        traces[name] = checks_table(trained.history)
        settings = trained.recipe.controller
        thresholds[name] = getattr(settings, "threshold", getattr(settings, "allowed", 0.0))
    return FigureResult(
        "Figure 5: the step while it is adapted",
        f"{spec.name}, Euler, seed 0. accuracy: on the samples looked at, under the solver in force"
        " and under the finer one. step: the one in force. cross-check: what is decided on, and the"
        " threshold: the difference of the two accuracies (the paper's controller), the share of"
        " right answers that the finer solver loses (ours, which first looks when it settles)."
        f" Trained for {spec.words[context.full]}.",
        adaptation_trace(traces, thresholds=thresholds),
        pd.concat(
            [table.assign(controller=name) for name, table in traces.items()], ignore_index=True
        ),
    )
