"""Our controller: explore coarsely, refine until a finer solver takes no answers away, hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pynode_jl._validation import real_number, whole_number
from pynode_jl.backends import Array, Evaluation, RetCode
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.proportions import lower_bound, upper_bound
from pynode_jl.resampling import LEAST_SAMPLES
from pynode_jl.solvers import Solver, SolverInfo, info
from pynode_jl.training.step_adaptation._pairs import (
    finer_step,
    test_method,
)
from pynode_jl.training.step_adaptation._step_adapter import Check, ControlState, Probe, Validation

# By how much the step is divided over the whole of "refine" if every check asks for it. The pace is
# what matters: a jump from a coarse step to a fine one leaves a model that the optimizer has to
# rebuild, often in a worse minimum; a tenth off every 50 iterations carries it along (Sphere 2D,
# 10,000 iterations, 1/8 to 1/128: measured in docs/results.md).
_RANGE = 16.0
_FASTEST, _SLOWEST = 0.5, 0.91
# While holding, a refinement needs this many times the allowed share: a clear violation.
_HYSTERESIS = 5.0
# Confidence of the bound that a refinement needs.
_SURE = 0.95
# How much more accurate a check's test solve is than the solver in force, by its order.
_FINER = 50.0
# What stands for the ODE at the end, in float64.
_EXACT = Solver("Tsit5", rtol=1e-6, atol=1e-6)
_LEAST_TOLERANCE = 1e-9
_TIGHTENINGS = 6
# For infinity in what is stored as JSON.
_HUGE = 1e300


@dataclass(frozen=True)
class SteadyController:
    """Coarse exploration, then steps (or tolerances) that only get finer; a validated end.

    **Explore.** For the share `explore` of the iterations the recipe's own, coarse solver is kept.
    What training gains there by the solver's error it unlearns at finer steps; but a coarse step
    costs little, and leads out of minima that an ODE is caught in, since its trajectories may cross
    (Sphere 2D: three quarters right for thousands of iterations).

    **Refine.** From then on, every `every` iterations, `samples` training samples, drawn anew
    whatever the batch size, are answered under the solver in force and under a finer one. What
    counts is the share of answers that are right and are *lost* under the finer one: accuracy that
    the solver's error has made. Where the exact (Clopper-Pearson) bound of the counts since the
    last move says with 95 % confidence that it exceeds `allowed`, the step shrinks, at a pace that
    divides it by 16 over the whole phase (a tolerance as much as that takes): slowly enough for the
    weights to follow. Nothing makes a step longer: there is no oscillation.

    **Hold.** From the share `hold` of the iterations on, the step stays unless five times `allowed`
    is exceeded; checks are half as frequent. An optimizer at a constant rate keeps going over the
    edges of what it has found, and an ODE's accuracy rises and falls by points between one check
    and the next while the training solver's stays; so of all weights that were checked, those are
    kept that the *finer* solver answered best with. They are what training returns.

    **Guarantee.** `holdout` of the training samples are never trained on nor looked at before the
    end. There the model's answers are compared with its ODE's (Tsit5, 1e-6, float64): with
    `confidence`, at most `margin` of all samples are answered otherwise by the ODE, so that its
    accuracy differs by no more. If the bound is above `margin`, the step is halved (the weights
    stay) and the test made again, the confidence being shared between the attempts; if the last
    attempt fails too, the validation says so, and whether so few samples could have passed at all.

    Its methods take what those of a `StepAdapter` take: the solver or the last `state`, and a
    `probe`.

    Attributes:
        test: the finer method; by default RK4, or the next order's above (`NEXT_ORDER`), DP5 for
            tolerances.
        explore: share of the iterations before the first check.
        hold: share of the iterations before the step is held.
        allowed: share of answers that may be lost.
        every: iterations between two checks.
        samples: training samples in a check, or all, where they are fewer.
        holdout, margin, confidence: of the validation.
        most_steps: a fixed step is never shorter than the interval divided by this while training.

    Raises:
        InvalidValueError: a share outside (0, 1), `hold` not above `explore`, a count below 1.

    Example:
        >>> from pynode_jl.training.step_adaptation import SteadyController
        >>> SteadyController(margin=0.05).margin
        0.05
    """

    test: str | None = None
    explore: float = 0.35
    hold: float = 0.5
    allowed: float = 0.01
    every: int = 50
    samples: int = 2048
    holdout: float = 0.2
    margin: float = 0.03
    confidence: float = 0.95
    most_steps: int = 500

    def __post_init__(self) -> None:
        for name in ("explore", "hold", "allowed", "holdout", "margin", "confidence"):
            default = type(self).__dataclass_fields__[name].default
            real_number(name, getattr(self, name), f"{default} is the default.", above=0, below=1)
        for name in ("every", "samples", "most_steps"):
            whole_number(name, getattr(self, name))
        if self.hold <= self.explore:
            raise InvalidValueError(
                "hold",
                self.hold,
                f"a share above explore = {self.explore}",
                "Refining lies between them.",
            )

    def check_solver(self, solver: Solver) -> None:
        """Refuse a pair that shows no error.

        Raises:
            WrongSolverError: a test method of a lower order, or of the same one at fixed steps.
        """
        self._method(solver)

    def check_held_out(self, samples: int) -> None:
        """Refuse to promise what so few held-out samples cannot show.

        Raises:
            DataError: the validation could not be passed even if no answer changed.
        """
        needed = self._held_out_needed(1)
        if samples < needed:
            raise DataError(
                "held-out samples",
                samples,
                f"{needed} or more, as a margin of {self.margin:.1%} with {self.confidence:.0%}"
                " confidence needs even if no answer changes",
                f"Take {math.ceil(needed / self.holdout)} training samples, or raise holdout or"
                " margin.",
            )

    def _held_out_needed(self, attempt: int) -> int:
        """Return the fewest samples that pass at an attempt if no answer changes."""
        error = (1 - self.confidence) / 2**attempt
        return math.ceil(math.log(error) / math.log1p(-self.margin))

    def start(self, solver: Solver, probe: Probe) -> tuple[ControlState, Check]:
        """Return the recipe's own solver."""
        check = Check.quiet(probe.iteration, solver, "start", solver, probe.nf)
        # Of scores the larger is not always the better, nor are they 0 or more.
        worst = 0.0 if probe.task.comparison == "flips" else -_HUGE
        return ControlState(solver, _Memory(best=worst).to_dict()), check

    def check(self, state: ControlState, probe: Probe) -> tuple[ControlState, Check]:
        """Count lost answers; refine where the counts are sure enough; mark the best weights."""
        solver, memory = state.solver, _Memory.of(state.memory)
        progress = probe.iteration / probe.iterations
        if progress < self.explore or memory.waiting:
            memory = replace(memory, waiting=False)
            check = Check.quiet(probe.iteration, solver, "hold", solver, probe.nf)
            return ControlState(solver, memory.to_dict()), check
        holding = progress >= self.hold
        x, labels = probe.sample(self.samples)
        test_solver = self._finer(solver)
        own = probe.evaluate(solver, x)
        # With tolerances float32 may not reach the finer one.
        test = probe.evaluate(test_solver, x if solver.fixed else x.astype(np.float64))
        allowed = _HYSTERESIS * self.allowed if holding else self.allowed
        if probe.task.comparison == "shift":
            shift = probe.shift(own, test, labels, error=1 - _SURE)
            statistic, least = float(shift.value[0]), float(shift.low[0])
        else:
            lost = _lost(own, test, labels)
            memory = memory.counting(lost, len(x), 4 * self.samples)
            statistic = lost / len(x)
            least = float(lower_bound(memory.lost, memory.seen, 1 - _SURE)) if memory.seen else 0.0
        chosen = solver
        if least > allowed * probe.unit:
            chosen = self._refined(solver, probe)
            memory = replace(memory, lost=0, seen=0)
        score = test.score(probe.task, labels)
        good = score if probe.task.higher_is_better else -score
        best = good >= memory.best
        check = Check(
            probe.iteration,
            solver,
            test_solver,
            own.score(probe.task, labels),
            score,
            statistic,
            "hold" if chosen == solver else "shrink",
            chosen,
            probe.nf,
            best,
        )
        memory = replace(memory, waiting=holding, best=max(memory.best, good))
        return ControlState(chosen, memory.to_dict()), check

    def validate(self, state: ControlState, probe: Probe) -> Validation | None:
        """Compare held-out answers with the ODE's; halve the step until the bound holds."""
        exact = probe.evaluate(_EXACT, probe.held.astype(np.float64))
        solver, labels = state.solver, probe.held_labels
        for attempt in range(1, _TIGHTENINGS + 2):
            own = probe.evaluate(solver, probe.held)
            # Without the ODE's own answers nothing can be said for the model.
            known = exact.stats.retcode == RetCode.Success
            # The chance of being wrong is shared: a half, a quarter, ... of it to each attempt.
            error = (1 - self.confidence) / 2**attempt
            if probe.task.comparison == "shift":
                shift = probe.shift(own, exact, labels, error=error)
                bound = float(shift.high[0]) if known else math.inf
                vain = len(probe.held) < LEAST_SAMPLES
            else:
                same = own.predictions == exact.predictions
                flips = int((~same).sum()) if known else len(probe.held)
                bound = float(upper_bound(flips, len(probe.held), error))
                # A next attempt has half the chance of being wrong, and so needs more samples.
                vain = self._held_out_needed(attempt + 1) > len(probe.held)
            if bound <= self.margin * probe.unit or attempt > _TIGHTENINGS or vain:
                break
            solver = solver.scaled(0.5)
        if probe.task.comparison == "shift":
            return Validation(
                solver,
                state.solver,
                _EXACT,
                len(probe.held),
                0,
                min(bound, _HUGE),
                self.margin * probe.unit,
                self.confidence,
                probe.nf,
                shift=min(float(shift.value[0]), _HUGE),
                unit=probe.task.unit,
            )
        return Validation(
            solver,
            state.solver,
            _EXACT,
            len(probe.held),
            _lost(own, exact, labels),
            bound,
            self.margin,
            self.confidence,
            probe.nf,
            flips,
            _lost(exact, own, labels),
        )

    def _method(self, solver: Solver) -> str:
        if self.test is None and solver.fixed and solver.order < 3:
            return test_method(solver, "RK4")
        return test_method(solver, self.test)

    def _finer(self, solver: Solver) -> Solver:
        name = self._method(solver)
        if solver.fixed:
            # A method of more stages may take longer steps: as many evaluations, a smaller error.
            return finer_step(
                solver, name, _FINER, longest=_stages(info(name)) / _stages(solver.info)
            )
        return Solver(name, solver.stepping).scaled(1 / _FINER)

    def _refined(self, solver: Solver, probe: Probe) -> Solver:
        """`solver` at a finer step or tolerance, but not beyond the finest that is allowed."""
        checks = (self.hold - self.explore) * probe.iterations / self.every
        pace = min(max(_RANGE ** (-1 / checks), _FASTEST), _SLOWEST)
        finest = _LEAST_TOLERANCE
        if solver.fixed:
            finest = abs(probe.model.t1 - probe.model.t0) / self.most_steps
        else:
            pace = pace ** _tolerance_order(solver)
        finest /= solver.stepping.size
        return solver if finest >= 1 else solver.scaled(max(pace, finest))


@dataclass(frozen=True)
class _Memory:
    """Answers lost and seen since the last move, the best accuracy under a finer solver, and
    whether the next check is left out."""

    lost: int = 0
    seen: int = 0
    best: float = 0.0
    waiting: bool = False

    def counting(self, lost: int, seen: int, most: int) -> _Memory:
        """With more counts; old ones fade, since weights move."""
        fade = 2 if self.seen + seen > most else 1
        return replace(self, lost=self.lost // fade + lost, seen=self.seen // fade + seen)

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def of(cls, memory: Mapping[str, Any]) -> _Memory:
        """Read what `to_dict` wrote.

        Raises:
            InvalidValueError: something else.
        """
        start = vars(cls())
        # No memory at all is a start.
        kinds = {name: type(value) for name, value in memory.items()}
        if memory and kinds != {name: type(value) for name, value in start.items()}:
            raise InvalidValueError(
                "control.memory", dict(memory), f"values such as {start}", "Train anew."
            )
        return cls(**memory)


def _tolerance_order(solver: Solver) -> int:
    """Return the power of the step that a tolerance scales with: the error estimate's order + 1."""
    return 1 + min(solver.order, solver.info.embedded_order or solver.order)


def _lost(own: Evaluation, test: Evaluation, labels: Array) -> int:
    """How many answers are right in `own` and wrong in `test`."""
    return int(((own.predictions == labels) & (test.predictions != labels)).sum())


def _stages(method: SolverInfo) -> int:
    """Return the evaluations in a step of the method; 1 if its tableau is not known."""
    return 1 if method.tableau is None else method.tableau.stages
