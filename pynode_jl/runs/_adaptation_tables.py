"""What an adapted run comes to: its trace, and one row of figures a seed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from pynode_jl.backends import Backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import swap
from pynode_jl.solvers import Solver
from pynode_jl.training import History, Trained

#: What an adapted model is swapped to: at the step in force and at half of it, and its own ODE.
FIXED_TESTS = ("Midpoint", "RK4", "Tsit5:tol=1e-6")
ADAPTIVE_TESTS = ("Fehlberg21", "DP5", "Tsit5:tol=1e-6")
_FACTORS = {True: (0.5, 1.0), False: (0.1, 1.0)}


def checks_table(history: History) -> pd.DataFrame:
    """Return a controller's checks, one a row; step is the one in force before the check.

    `history` is a training's.

    Example:
        >>> from pynode_jl.runs import checks_table
        >>> from pynode_jl.training import History
        >>> len(checks_table(History()))
        0
    """
    return pd.DataFrame(
        {
            "iteration": check.iteration,
            "solver": check.solver.label,
            "step": check.solver.stepping.size,
            "test_solver": "" if check.test_solver is None else check.test_solver.label,
            "accuracy": check.accuracy,
            "test_accuracy": check.test_accuracy,
            "statistic": check.statistic,
            "action": check.action,
            "next_step": check.chosen.stepping.size,
            "nf": check.nf,
            "best": check.best,
        }
        for check in history.checks
    )


def spread(history: History) -> float:
    """Return the standard deviation of the step's (tolerance's) log over the last half of training.

    It tells how much a controller oscillates; 0 for a fixed step. It is over all of these
    iterations, not over a sample of them.

    `history` is a training's.

    Example:
        >>> from pynode_jl.runs import spread
        >>> from pynode_jl.training import History
        >>> spread(History(np.ones(4), np.ones(4), np.full(4, 8), np.full(4, 1 / 8)))
        0.0
    """
    last = history.step[len(history) // 2 :]
    return float(np.log(last).std()) if len(last) else math.nan


def over_seeds(values: npt.ArrayLike, digits: int = 1) -> str:
    """Return a mean over seeds and its sample deviation (n - 1) as text.

    Values that are not finite are left out. One value has no deviation, and none has no mean: then
    the text is that value, or "-".

    `values` has one for each seed; the text has so many `digits` after the point.

    Example:
        >>> from pynode_jl.runs import over_seeds
        >>> over_seeds([98.0, 99.0, 100.0])
        '99.0 +- 1.0'
    """
    given = np.asarray(values, float)
    given = given[np.isfinite(given)]
    if not given.size:
        return "-"
    mean = f"{given.mean():.{digits}f}"
    return mean if given.size == 1 else f"{mean} +- {given.std(ddof=1):.{digits}f}"


def adaptation_row(trained: Trained, dataset: Dataset, backend: Backend) -> dict[str, object]:
    """Return the figures of one adapted run.

    `dataset` is what `trained` was trained with.

    Returns:
        seed, solver (in force at the end), accuracy (test set, with it), ode (the ODE's accuracy),
        verdict (its kind by flips, from `FIXED_TESTS` or `ADAPTIVE_TESTS`), flips, flips_low and
        flips_high (the share of answers that the decisive comparison changes, and its interval),
        under (which comparison that is), drop and lowest (accuracy lost under the worst of the ODE
        and the solves that are measured to be finer, and which that is), nf_training and nf_checks
        (evaluations an iteration), nf (evaluations of an answer with the solver in force at the
        end), spread, validation (its text; "none" from a controller that
        promises nothing). Shares and accuracies are nan, names "" where the verdict has none. Where
        answers are numbers, score and shift, shift_low, shift_high stand for accuracy and flips.

    Example:
        >>> from pynode_jl.runs import adaptation_row
        >>> data = pn.concentric_spheres(n_train=64, n_test=16)
        >>> model = pn.Model(pn.MLP(2, width=4), classes=2)
        >>> recipe = pn.Recipe(pn.Solver("Euler", dt=0.5), iterations=4, batch_size=32, chunk=4)
        >>> trained = pn.train(model, data, recipe, backend="jax")
        >>> adaptation_row(trained, data, pn.get_backend("jax"))["solver"]
        'Euler h=1/2'
    """
    solver = trained.solver
    tests = FIXED_TESTS if solver.fixed else ADAPTIVE_TESTS
    fine_enough = [
        name for name in tests if ":" in name or Solver(name, solver.stepping).order >= solver.order
    ]
    report = swap(trained, dataset, fine_enough, factors=_FACTORS[solver.fixed], backend=backend)
    verdict = report.verdict
    found = verdict.decisive
    model = trained.trained_model
    inputs = model.inputs(dataset.x_test)
    answers = backend.evaluate(model.model, model.weights, inputs, solver)
    history, done = trained.history, max(1, trained.state.iteration)
    validation = trained.validation
    cost = history.check_nf + (0 if validation is None else validation.nf)
    flips = trained.model.task.comparison == "flips"
    score, change = ("accuracy", "flips") if flips else ("score", "shift")
    return {
        "seed": trained.recipe.seed,
        "solver": solver.label,
        score: report.trained,
        "ode": report.ode,
        "verdict": verdict.kind,
        change: math.nan if found is None else found.share,
        f"{change}_low": math.nan if found is None else found.low,
        f"{change}_high": math.nan if found is None else found.high,
        "under": "" if found is None else found.label,
        "drop": verdict.drop,
        "lowest": verdict.worst,
        "nf_training": history.training_nf / done,
        "nf_checks": cost / done,
        "nf": answers.stats.nf,
        "spread": spread(history),
        "validation": "none" if validation is None else validation.text,
    }
