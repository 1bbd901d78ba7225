"""The ODE itself, as exactly as a comparison asks: the flow that a swap measures its solvers by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pynode_jl.backends import Evaluation, RetCode
from pynode_jl.solvers import Solver

#: What stands for the exact flow, at its tightest. Tight for float32 answers; tighter ones cost
#: minutes on ReLU fields, at whose kinks every method is of low order.
REFERENCE = Solver("Tsit5", rtol=1e-7, atol=1e-7)
_TOLERANCES = (1e-4, 1e-5, 1e-6)

#: Rounding in float32 puts a floor under measured errors: below it all are equally fine.
ROUNDING = 1e-5
# The reference's own error may be this share of the training solver's, and change this share of
# the answers.
_SHARE = 0.01
_ANSWERS = 0.005


def exact_flow(evaluate: Callable[[Solver], Evaluation], own: Evaluation) -> Evaluation:
    """The ODE's answers and final states, solved in float64 as tightly as there is need.

    A coarsely trained field is stiff to solve exactly: on 8x8 digits a tolerance of 1e-7 took 2775
    evaluations of a field trained at h = 1, where the training solver's states are off by as much
    as they are large. So the tolerance falls by tens until two solves in turn agree to a hundredth
    of the training solver's own error and on 99.5 % of the answers, or `REFERENCE` is reached.

    Args:
        evaluate: the model under a solver, its inputs in float64.
        own: the same samples under the training solver.
    """
    coarser: Evaluation | None = None
    for tolerance in _TOLERANCES:
        finer = evaluate(REFERENCE.with_tolerance(tolerance, tolerance))
        if coarser is not None and _agree(coarser, finer, own):
            return finer
        coarser = finer
    return evaluate(REFERENCE)


def state_error(evaluation: Evaluation, exact: Evaluation) -> float:
    """Mean over samples of |y - y_exact| / (1 + |y_exact|) at t1; inf where not finite.

    Relative where states are large: a coarsely trained field may throw some samples far out, and
    they alone would decide an absolute error.
    """
    count = exact.states.shape[0]
    reference = exact.states.reshape(count, -1)
    states = evaluation.states.astype(np.float64).reshape(count, -1)
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.linalg.norm(states - reference, axis=1)
        error = float(np.mean(distance / (1.0 + np.linalg.norm(reference, axis=1))))
    return error if np.isfinite(error) else float("inf")


def _agree(coarser: Evaluation, finer: Evaluation, own: Evaluation) -> bool:
    if {coarser.stats.retcode, finer.stats.retcode} != {RetCode.Success}:
        return False
    allowed = max(_SHARE * min(state_error(own, finer), 1.0), ROUNDING)
    changed = float(np.mean(coarser.predictions != finer.predictions))
    return state_error(coarser, finer) <= allowed and changed <= _ANSWERS
