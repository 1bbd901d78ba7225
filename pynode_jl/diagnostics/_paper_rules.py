"""The paper's own rules, on accuracies (Ott et al. 2021): kept beside the verdict by flips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from pynode_jl.backends import Array, Evaluation, RetCode
from pynode_jl.diagnostics._verdict import ODE, Verdict
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedModel
from pynode_jl.training.step_adaptation import next_order_solver

#: The accuracies that the paper's own rules allow to be lost.
THREE_POINTS, TEN_POINTS = 0.03, 0.1


def three_points(
    verdict: Verdict, table: pd.DataFrame, train_solver: Solver, accuracy: float
) -> Verdict:
    """Judge by the paper's swap: accuracy under all solvers that claim to be finer, and the ODE.

    Args:
        verdict: to be decided.
        table: of the swap.
        train_solver: the training solver.
        accuracy: of the ODE.
    """
    comparable = table["fixed"] == train_solver.fixed
    claims = (table["order"] >= train_solver.order) & (
        table["step"] <= train_solver.stepping.size * (1 + 1e-9)
    )
    claims = claims.where(comparable, table["finer"]) & (table["retcode"] == RetCode.Success)
    worst = ODE
    finer = table[claims & (table["label"] != train_solver.label)]
    if len(finer) and finer["accuracy"].min() < accuracy:
        lowest = finer.sort_values("accuracy").iloc[0]
        accuracy, worst = float(lowest["accuracy"]), str(lowest["label"])
    return _by_drop(replace(verdict, finer=len(finer)), accuracy, worst, THREE_POINTS)


def ten_points(
    verdict: Verdict,
    trained: TrainedModel,
    solve: Callable[[Solver, Array], Evaluation],
    x: Array,
    labels: Array,
) -> Verdict:
    """Judge by the check of the paper's step adaptation, on the whole test set.

    Args:
        verdict: to be decided.
        trained: the model.
        solve: ``(test solver, inputs) -> evaluation``.
        x, labels: the test samples.
    """
    test = next_order_solver(trained.solver)
    if test.fixed:
        span = abs(trained.model.t1 - trained.model.t0)
        test = test.with_step(min(test.stepping.size, span))
    # With tolerances float32 may not reach the finer one.
    evaluation = solve(test, x if test.fixed else x.astype(np.float64))
    return _by_drop(verdict, evaluation.accuracy(labels), test.label, TEN_POINTS, both_ways=True)


def _by_drop(
    verdict: Verdict, accuracy: float, worst: str, allowed: float, *, both_ways: bool = False
) -> Verdict:
    drop = verdict.trained - accuracy
    return replace(
        verdict,
        kind="tied" if (abs(drop) if both_ways else drop) > allowed else "valid",
        reason="accuracy",
        decisive=None,
        decisive_class=None,
        needed=None,
        drop=drop,
        worst=worst,
        margin=allowed,
    )
