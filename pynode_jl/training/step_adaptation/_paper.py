"""The paper's controller (Ott et al. 2021): accuracy on one batch against a finer solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pynode_jl._validation import choice, real_number, whole_number
from pynode_jl.backends import Evaluation, RetCode
from pynode_jl.solvers import Solver
from pynode_jl.training.step_adaptation._initial_step import initial_step
from pynode_jl.training.step_adaptation._pairs import (
    finer_step,
    finer_tolerance,
    test_method,
)
from pynode_jl.training.step_adaptation._step_adapter import Check, ControlState, Probe, Validation

_SHRINK, _GROW = 0.5, 1.1
_FIRST_TOLERANCE = 1e-6
# Below it even float64 shows rounding, not the method's error.
_LEAST_TOLERANCE = 1e-12


@dataclass(frozen=True)
class PaperController:
    """Step or tolerance adaptation as the paper has it.

    Every `every` iterations the accuracy on the last batch is compared between the training solver
    and a finer one. If they differ by more than `threshold` the step (tolerance) is halved,
    otherwise it grows by a tenth. That is the rule of the paper's text. Its code's adds: the larger
    step is tried on the batch first and taken only if accuracy moves by no more than `threshold`
    (and, for a tolerance, if the number of evaluations is not that of all the last five
    iterations). Growth by default makes it oscillate; it promises nothing about the end.

    Its methods take what those of a `StepAdapter` take: the solver or the last `state`, and a
    `probe`.

    Attributes:
        rule: "code" or "text".
        test: the finer method; by default the next order's (`NEXT_ORDER`), DP5 for tolerances.
        threshold: of accuracy, a share.
        every: iterations between two checks.
        most_steps: a fixed step is never shorter than the interval divided by this.
        first: "rule" starts from Hairer's step, or the tolerance 1e-6; "given" from the recipe's.

    Test solves with tolerances run in float64: float32 does not hold a tenth of 1e-6.

    Raises:
        InvalidValueError: a threshold outside (0, 1), an interval below 1, an unknown rule.

    Example:
        >>> from pynode_jl.training.step_adaptation import PaperController
        >>> recipe = pn.Recipe(pn.Solver("Euler", dt=1 / 16), 1000, controller=PaperController())
        >>> recipe.controller.every
        50
    """

    rule: Literal["code", "text"] = "code"
    test: str | None = None
    threshold: float = 0.1
    every: int = 50
    most_steps: int = 500
    first: Literal["rule", "given"] = "rule"

    def __post_init__(self) -> None:
        real_number("threshold", self.threshold, "The paper's is 0.1.", above=0, below=1)
        whole_number("every", self.every)
        whole_number("most_steps", self.most_steps)
        choice("rule", self.rule, ("code", "text"))
        choice("first", self.first, ("rule", "given"))

    @property
    def holdout(self) -> float:
        """None: the paper looks at training batches only."""
        return 0.0

    def check_solver(self, solver: Solver) -> None:
        """Refuse a pair that shows no error.

        Raises:
            WrongSolverError: a test method of a lower order, or of the same one at fixed steps.
        """
        test_method(solver, self.test)

    def start(self, solver: Solver, probe: Probe) -> tuple[ControlState, Check]:
        """Return the first step by Hairer's rule, or the first tolerance."""
        if self.first == "given":
            chosen = solver
        elif solver.fixed:
            chosen = solver.with_step(
                max(initial_step(probe, solver.order), self._least_step(probe))
            )
        else:
            chosen = solver.with_tolerance(_FIRST_TOLERANCE, _FIRST_TOLERANCE)
        check = Check.quiet(probe.iteration, solver, "start", chosen, probe.nf)
        return ControlState(chosen), check

    def check(self, state: ControlState, probe: Probe) -> tuple[ControlState, Check]:
        """Compare, halve or grow."""
        solver = state.solver
        own = probe.evaluate(solver, probe.x)
        test_solver, test = self._test(solver, own, probe)
        accuracy, test_accuracy = (e.score(probe.task, probe.labels) for e in (own, test))
        difference = _difference(own, test, probe)
        if difference > self.threshold:
            action, chosen = "shrink", self._scaled(solver, _SHRINK, probe)
        else:
            action, chosen = "grow", self._scaled(solver, _GROW, probe)
            if self.rule == "code" and not self._may_grow(chosen, own, probe):
                action, chosen = "hold", solver
        check = Check(
            probe.iteration,
            solver,
            test_solver,
            accuracy,
            test_accuracy,
            difference,
            action,
            chosen,
            probe.nf,
        )
        return ControlState(chosen), check

    def validate(self, state: ControlState, probe: Probe) -> Validation | None:
        """None: the paper's controller ends without a test."""
        del state, probe
        return None

    def _test(self, solver: Solver, own: Evaluation, probe: Probe) -> tuple[Solver, Evaluation]:
        name = test_method(solver, self.test)
        if solver.fixed:
            finer = finer_step(solver, name)
            return finer, probe.evaluate(finer, probe.x)
        x = probe.x.astype(np.float64)
        finer = finer_tolerance(solver, name)
        test = probe.evaluate(finer, x)
        # A test solve that costs no more than the train solve is no finer than it.
        while (
            test.stats.nf <= own.stats.nf
            and test.stats.retcode == RetCode.Success
            and finer.stepping.size / 10 >= _LEAST_TOLERANCE
        ):
            finer = finer.scaled(0.1)
            test = probe.evaluate(finer, x)
        return finer, test

    def _may_grow(self, chosen: Solver, own: Evaluation, probe: Probe) -> bool:
        trial = probe.evaluate(chosen, probe.x)
        if _difference(own, trial, probe) > self.threshold:
            return False
        # A larger tolerance that changes no step is no progress.
        idle = not chosen.fixed and set(probe.recent_nf) == {trial.stats.nf}
        return not idle

    def _scaled(self, solver: Solver, factor: float, probe: Probe) -> Solver:
        if not solver.fixed:
            return solver.scaled(factor)
        span = abs(probe.model.t1 - probe.model.t0)
        size = max(solver.stepping.size * factor, self._least_step(probe))
        return solver.with_step(min(size, span))

    def _least_step(self, probe: Probe) -> float:
        return abs(probe.model.t1 - probe.model.t0) / self.most_steps


def _difference(own: Evaluation, other: Evaluation, probe: Probe) -> float:
    """Return the difference of two accuracies; of answers that are numbers their shift."""
    if probe.task.comparison == "shift":
        changes = probe.task.changes(own.outputs, other.outputs, probe.labels)
        return probe.task.shift(changes, probe.task.scale(own.outputs, probe.labels))
    return abs(own.accuracy(probe.labels) - other.accuracy(probe.labels))
