"""Our controller: explore coarsely, refine until a finer solver takes no answers away, hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pynode_jl.adaptation._bounds import lower_bound, upper_bound
from pynode_jl.adaptation._pairs import check_count, check_share, finer_step, test_method
from pynode_jl.adaptation._protocol import Check, ControlState, Probe, Validation
from pynode_jl.backends import Array, Evaluation, RetCode
from pynode_jl.solvers import Solver

# The first refinement goes far, at once, with some reserve; a later one takes about a tenth off.
_FIRST_LEAST, _FIRST_MOST, _RESERVE = 1 / 8, 1 / 2, 0.7
_LEAST_FACTOR, _MOST_FACTOR = 0.88, 0.92
# Checks left out after the first one: what was learnt from a coarse step's error takes some hundred
# iterations to unlearn.
_REST = 4
# While holding, a refinement needs this many times the allowed share: a clear violation.
_HYSTERESIS = 2.0
# Confidence of the bound that a refinement needs.
_SURE = 0.95
# How much more accurate a check's test solve is than the solver in force, by its order.
_FINER = 50.0
# What stands for the ODE at the end, in float64.
_EXACT = Solver("Tsit5", rtol=1e-6, atol=1e-6)
_LEAST_TOLERANCE = 1e-9
_TIGHTENINGS = 6


@dataclass(frozen=True)
class SteadyController:
    """Coarse exploration, then steps (or tolerances) that only get finer; a validated end.

    **Explore.** For the share `explore` of the iterations the recipe's own, coarse solver is kept.
    What training gains there by the solver's error it unlearns at finer steps; but a coarse step
    also leads out of minima that an ODE is caught in, since its trajectories may cross (Sphere 2D:
    three quarters right for thousands of iterations).

    **Refine.** From then on, every `every` iterations, `samples` training samples, drawn anew
    whatever the batch size, are answered under the solver in force and under a finer one. What
    counts is the share of answers that are right and are *lost* under the finer one: accuracy that
    the solver's error has made. Where the exact (Clopper-Pearson) bound of the counts since the
    last move says with 95 % confidence that it exceeds `allowed`, the step shrinks: the first time
    to an eighth at most, later by about a tenth. How far, the margins tell: a right answer's
    *ratio* is what the finer solve takes from its margin (its logit over the next one), over that
    margin; it is lost where the ratio exceeds 1. Errors go as h^p, and the ratios' upper quantile
    gives the step at which no more than `allowed` would be lost. Nothing makes a step longer: there
    is no oscillation.

    **Hold.** From the share `hold` of the iterations on, the step stays unless twice `allowed` is
    exceeded.

    **Guarantee.** `holdout` of the training samples are never trained on nor looked at before the
    end. There the model's answers are compared with its ODE's (Tsit5, 1e-6, float64): with
    `confidence`, at most `margin` of all samples are answered right with the solver and wrong by
    the ODE, so that the ODE's accuracy is lower by no more. If the bound is above `margin`, the
    step is halved (the weights stay) and the test made again, the confidence being shared between
    the attempts; if the last attempt fails too, the validation says so.

    Attributes:
        test: the finer method; None for RK4, or the next order's above (`NEXT_ORDER`), DP5 for
            tolerances.
        explore: share of the iterations before the first check.
        hold: share of the iterations before the step is held.
        allowed: share of answers that may be lost.
        every: iterations between two checks.
        samples: training samples in a check.
        holdout, margin, confidence: of the validation.
        most_steps: a fixed step is never shorter than the interval divided by this while training.

    Raises:
        InvalidValueError: a share outside (0, 1), a count below 1.
    """

    test: str | None = None
    explore: float = 0.45
    hold: float = 0.5
    allowed: float = 0.01
    every: int = 100
    samples: int = 512
    holdout: float = 0.2
    margin: float = 0.03
    confidence: float = 0.95
    most_steps: int = 500

    def __post_init__(self) -> None:
        for name in ("explore", "hold", "allowed", "holdout", "margin", "confidence"):
            check_share(name, getattr(self, name))
        for name in ("every", "samples", "most_steps"):
            check_count(name, getattr(self, name))

    def check_solver(self, solver: Solver) -> None:
        """Refuse a pair that shows no error.

        Raises:
            WrongSolverError: a test method of a lower order, or of the same one at fixed steps.
        """
        self._method(solver)

    def start(self, solver: Solver, probe: Probe) -> tuple[ControlState, Check]:
        """The recipe's own solver."""
        check = Check.quiet(probe.iteration, solver, "start", solver, probe.nf)
        return ControlState(solver, _Memory().to_dict()), check

    def check(self, state: ControlState, probe: Probe) -> tuple[ControlState, Check]:
        """Count lost answers; refine where the counts are sure enough."""
        solver, memory = state.solver, _Memory(**state.memory)
        progress = probe.iteration / probe.iterations
        if progress < self.explore or memory.waiting:
            memory = replace(memory, waiting=max(0, memory.waiting - 1))
            check = Check.quiet(probe.iteration, solver, "hold", solver, probe.nf)
            return ControlState(solver, memory.to_dict()), check
        allowed = self.allowed if progress < self.hold else _HYSTERESIS * self.allowed
        x, labels = probe.sample(self.samples)
        test_solver = self._finer(solver)
        own = probe.evaluate(solver, x)
        # With tolerances float32 may not reach the finer one.
        test = probe.evaluate(test_solver, x if solver.fixed else x.astype(np.float64))
        lost = _lost(own, test, labels)
        memory = memory.counting(lost, len(x), 4 * self.samples)
        action, chosen = "hold", solver
        if lower_bound(memory.lost, memory.seen, _SURE) > allowed:
            factor = self._factor(solver, _ratios(own, test, labels), memory.moves)
            chosen = self._refined(solver, factor, probe)
            action = "hold" if chosen == solver else "shrink"
            memory = _Memory(moves=memory.moves + 1, waiting=0 if memory.moves else _REST)
        check = Check(
            probe.iteration,
            solver,
            test_solver,
            own.accuracy(labels),
            test.accuracy(labels),
            lost / len(x),
            action,
            chosen,
            probe.nf,
        )
        return ControlState(chosen, memory.to_dict()), check

    def validate(self, state: ControlState, probe: Probe) -> Validation | None:
        """Compare held-out answers with the ODE's; halve the step until the bound holds."""
        exact = probe.evaluate(_EXACT, probe.held.astype(np.float64))
        solver = state.solver
        for attempt in range(1, _TIGHTENINGS + 2):
            own = probe.evaluate(solver, probe.held)
            # Without the ODE's own answers nothing can be said for the model.
            known = exact.stats.retcode == RetCode.Success
            lost = _lost(own, exact, probe.held_labels) if known else len(probe.held)
            # The chance of being wrong is shared: a half, a quarter, ... of it to each attempt.
            sure = 1 - (1 - self.confidence) / 2**attempt
            bound = upper_bound(lost, len(probe.held), sure)
            if bound <= self.margin or attempt > _TIGHTENINGS:
                break
            solver = solver.scaled(0.5)
        return Validation(
            solver,
            state.solver,
            _EXACT,
            len(probe.held),
            lost,
            bound,
            self.margin,
            self.confidence,
            probe.nf,
        )

    def _method(self, solver: Solver) -> str:
        if self.test is None and solver.fixed and (solver.info.order or 9) < 3:
            return test_method(solver, "RK4")
        return test_method(solver, self.test)

    def _finer(self, solver: Solver) -> Solver:
        name = self._method(solver)
        if solver.fixed:
            return finer_step(solver, name, _FINER)
        return Solver(name, rtol=solver.rtol, atol=solver.atol).scaled(1 / _FINER)

    def _factor(self, solver: Solver, ratios: Array, moves: int) -> float:
        quantile = float(np.quantile(ratios, 1 - self.allowed))
        ideal = float(max(quantile, 1.0) ** (-1 / (solver.info.order or 1)))
        factor = (
            min(max(ideal, _LEAST_FACTOR), _MOST_FACTOR)
            if moves
            else min(max(_RESERVE * ideal, _FIRST_LEAST), _FIRST_MOST)
        )
        return factor if solver.fixed else float(factor ** _tolerance_order(solver))

    def _refined(self, solver: Solver, factor: float, probe: Probe) -> Solver:
        """`solver` times `factor`, but not beyond the finest that is allowed."""
        if solver.dt is not None:
            finest = abs(probe.model.t1 - probe.model.t0) / self.most_steps / solver.dt
        else:
            finest = _LEAST_TOLERANCE / (solver.rtol or 1.0)
        return solver if finest >= 1 else solver.scaled(max(factor, finest))


@dataclass(frozen=True)
class _Memory:
    """Answers lost and seen since the last move, moves made, checks still to be left out."""

    lost: int = 0
    seen: int = 0
    moves: int = 0
    waiting: int = 0

    def counting(self, lost: int, seen: int, most: int) -> _Memory:
        """With more counts; old ones fade, since weights move."""
        fade = 2 if self.seen + seen > most else 1
        return replace(self, lost=self.lost // fade + lost, seen=self.seen // fade + seen)

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def _tolerance_order(solver: Solver) -> int:
    """The power of its steps that a tolerance goes with: the error estimate's order and one."""
    order = solver.info.order or 1
    return 1 + min(order, solver.info.embedded_order or order)


def _lost(own: Evaluation, test: Evaluation, labels: Array) -> int:
    """How many answers are right in `own` and wrong in `test`."""
    return int(((own.predictions == labels) & (test.predictions != labels)).sum())


def _ratios(own: Evaluation, test: Evaluation, labels: Array) -> Array:
    """By sample, what share of its margin a finer solve takes away, (n,); above 1 it is lost.

    0 for a wrong answer, which has none to lose.
    """
    margin, left = _margins(own.logits, labels), _margins(test.logits, labels)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = (margin - left) / margin
    # A finer solve that fails takes everything away.
    ratios = np.where(np.isfinite(left), ratios, 2.0)
    return np.where(own.predictions == labels, ratios, 0.0)


def _margins(logits: Array, labels: Array) -> Array:
    rows = np.arange(len(logits))
    others = logits.astype(np.float64)
    true = others[rows, labels]
    others[rows, labels] = -np.inf
    margins: Array = true - others.max(axis=1)
    return margins
