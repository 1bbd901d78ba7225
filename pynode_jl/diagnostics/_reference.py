"""The reference solve: the ODE itself, as tightly as a comparison asks, with its own error.

A comparison measures solvers by their distance from this solve and answers by those it gives. So it
comes with an estimate of its error, with the samples whose answer that error leaves open, and with
what it cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pynode_jl._display import ShortRepr
from pynode_jl.backends import Array, Evaluation, RetCode, Stats
from pynode_jl.diagnostics._equality import NanEqual
from pynode_jl.diagnostics._sentences import reference_text
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Task

#: The explicit method at its tightest. Tighter solves cost minutes on ReLU fields, at whose kinks
#: every method is of low order.
REFERENCE = Solver("Tsit5", rtol=1e-7, atol=1e-7)
_TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7)
# Tolerances without an absolute part, where answers hang on states that have decayed to nothing.
_RELATIVE = (1e-5, 1e-6)
_NO_ABSOLUTE = 1e-30
# L-stable, of order 5, and with the same abscissae on every backend.
_IMPLICIT = "KenCarp5"
# Steps after which the explicit method gives way to the implicit one. Of a field that is not stiff
# Tsit5 takes a few hundred at 1e-7.
_EXPLICIT_STEPS = 2_000
_IMPLICIT_STEPS = 10_000
# A Newton iteration solves a system of this many unknowns for each sample at the most.
_LARGEST_IMPLICIT = 128

#: Rounding in float32 puts a floor under measured errors: below it all are equally fine.
ROUNDING = 1e-5
# The reference's own error may be this share of the training solver's, and leave open this share of
# the answers.
_SHARE = 0.01
_ANSWERS = 0.002


@dataclass(frozen=True)
class Attempt:
    """One solve on the way to a reference: its label, return code, and cost."""

    label: str
    retcode: str
    nf: int
    njac: int
    naccept: int
    seconds: float


@dataclass(frozen=True, eq=False)
class ReferenceCost(NanEqual):
    """What a reference is worth and what it cost, as plain data.

    Attributes:
        solver: the label of the last solve that succeeded; "" where none did.
        error: `Reference.error`; None where it failed or was not asked.
        unsure: how many answers its error leaves open; None where answers are numbers.
        attempts: every solve that was made, in order.

    Example:
        >>> cost = pn.swap(trained, data, ["RK4"], backend="jax").cost
        >>> cost.unsure, all(each.retcode == "Success" for each in cost.attempts)
        (0, True)
    """

    solver: str
    error: float | None
    unsure: int | None
    attempts: tuple[Attempt, ...]

    @property
    def nf(self) -> int:
        """Evaluations of the right-hand side in all attempts."""
        return sum(each.nf for each in self.attempts)

    @property
    def seconds(self) -> float:
        """Wall time of all attempts, compilation included."""
        return sum(each.seconds for each in self.attempts)

    @property
    def text(self) -> str:
        """One sentence with its figures."""
        return reference_text(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; `from_dict` reads them back."""
        return {**asdict(self), "nf": self.nf, "seconds": self.seconds}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ReferenceCost:
        """Return what `to_dict` wrote.

        Raises:
            KeyError, TypeError: values that it did not write.
        """
        attempts = tuple(Attempt(**each) for each in values["attempts"])
        return cls(values["solver"], values["error"], values["unsure"], attempts)


@dataclass(frozen=True, repr=False)
class Reference(ShortRepr):
    """The ODE's answers and final states.

    Attributes:
        solver: of the last solve that succeeded; None where none did.
        evaluation: its logits and states, float64; None where the reference failed.
        error: its distance from a solve at a ten times looser tolerance (`state_error`), which is
            above its own error; inf where the reference failed.
        unsure: (n,), the samples whose answer changes if logits move by as much as they did between
            these two solves; all of them where it failed; none of a task that is no classification.
        attempts: every solve that was made, in order.
        doubt: (n,), how far the answers have moved between these two solves, as the task measures
            changes; empty of a classification.

    Example:
        >>> reference = pn.swap(trained, data, ["RK4"], backend="jax").reference
        >>> reference.solver.name, bool(reference.unsure.any())
        ('Tsit5', False)
    """

    solver: Solver | None
    evaluation: Evaluation | None
    error: float
    unsure: Array
    attempts: tuple[Attempt, ...]
    doubt: Array = dataclasses.field(default_factory=lambda: np.zeros(0))

    @property
    def solved(self) -> bool:
        """Whether there is a reference to compare with."""
        return self.evaluation is not None

    @cached_property
    def predictions(self) -> Array:
        """The ODE's answers, (n,); -1 everywhere where the reference failed."""
        if self.evaluation is None:
            return np.full(len(self.unsure), -1)
        return self.evaluation.predictions

    def distance(self, evaluation: Evaluation) -> float:
        """Return the state error of another solve of the same samples; nan without a reference."""
        return float("nan") if self.evaluation is None else state_error(evaluation, self.evaluation)

    def accuracy(self, labels: Array) -> float:
        """Return the ODE's accuracy; nan without a reference.

        `labels` are those of the test set, ``(n,)``.
        """
        return float("nan") if self.evaluation is None else self.evaluation.accuracy(labels)

    def score(self, task: Task, targets: Array) -> float:
        """Return the ODE's score; nan without a reference.

        `targets` are those of the test set.
        """
        return float("nan") if self.evaluation is None else self.evaluation.score(task, targets)

    @property
    def cost(self) -> ReferenceCost:
        """What it is worth and what it cost."""
        return ReferenceCost(
            "" if self.solver is None else self.solver.label,
            self.error if self.solved else None,
            None if self.doubt.size else int(self.unsure.sum()),
            self.attempts,
        )


def not_asked(samples: int) -> Reference:
    """Return the reference that was not solved, since nothing depends on it."""
    return Reference(None, None, float("inf"), np.ones(samples, bool), ())


def reference_solve(
    evaluate: Callable[[Solver], Evaluation],
    own: Evaluation,
    task: Task | None = None,
    targets: Array | None = None,
) -> Reference:
    """Solve the ODE in float64 as tightly as there is need.

    A coarsely trained field is expensive to solve tightly: on 8x8 digits a tolerance of 1e-7 took
    2775 evaluations of a field trained at h = 1, where the training solver's states are off by as
    much as they are large. So the tolerance falls by tens until two solves in turn agree to a
    hundredth of the training solver's own error and leave open no more than 0.2 % of the answers,
    or 1e-7 is reached. Where Tsit5 meets its limit of steps or of step size, KenCarp5 takes over
    (states of up to 128 numbers). A failure that no other method repairs ends the search. Where
    states agree and answers stay open, two solves follow without an absolute tolerance: a head may
    read the sign of a state that has decayed to 1e-20.

    Args:
        evaluate: the model under a solver, its inputs in float64.
        own: the same samples under the training solver.
        task: what the model answers; default a classification.
        targets: of the samples, which other tasks' measures of changes ask for.

    Example:
        >>> from pynode_jl.diagnostics import reference_solve
        >>> def evaluate(solver):
        ...     return pn.get_backend("jax").evaluate(model, trained.weights, x, solver)
        >>> bool(reference_solve(evaluate, evaluate(trained.solver)).error < 0.01)
        True
    """
    search = _Search(evaluate, own, task, targets)
    for tolerance in _TOLERANCES:
        if not search.tighten(tolerance, tolerance) or search.enough:
            break
    if search.converged and not search.enough:
        # States are settled and answers are not: leads are far below the absolute tolerance.
        search.coarser = None
        for tolerance in _RELATIVE:
            if not search.tighten(tolerance, _NO_ABSOLUTE):
                break
    return replace(search.best, attempts=tuple(search.attempts))


class _Search:
    """The solves on the way to a reference: the method in force, the last two, and the best."""

    def __init__(
        self,
        evaluate: Callable[[Solver], Evaluation],
        own: Evaluation,
        task: Task | None,
        targets: Array | None,
    ) -> None:
        self._evaluate = evaluate
        self._own = own
        self._task = task if task is not None and task.comparison == "shift" else None
        self._targets = targets
        self._methods = _methods(int(np.prod(own.states.shape[1:])))
        self._method = next(self._methods)
        self.attempts: list[Attempt] = []
        self.best = not_asked(len(own.outputs))
        self.coarser: Evaluation | None = None

    @property
    def converged(self) -> bool:
        """Whether the best solve's states are settled."""
        if self.best.evaluation is None:
            return False
        own_error = min(state_error(self._own, self.best.evaluation), 1.0)
        return self.best.error <= max(_SHARE * own_error, ROUNDING)

    @property
    def enough(self) -> bool:
        """Whether it leaves few enough answers open, too."""
        return self.converged and bool(self.best.unsure.mean() <= _ANSWERS)

    def tighten(self, rtol: float, atol: float) -> bool:
        """Solve at these tolerances and compare with the solve before; False where it failed."""
        while True:
            solver = self._method.with_tolerance(rtol, atol)
            finer = self._evaluate(solver)
            self.attempts.append(_attempt(solver, finer.stats))
            code = finer.stats.retcode
            if code == RetCode.Success:
                break
            following = None if code == RetCode.Unstable else next(self._methods, None)
            # More steps do not help a step that became too small.
            stuck = code == RetCode.DtLessThanMin
            if following is None or (stuck and not following.info.implicit):
                return False
            self._method = following
        if self.coarser is not None:
            error = state_error(self.coarser, finer)
            unsure, doubt = self._open(self.coarser, finer)
            if not self.converged or unsure.sum() < self.best.unsure.sum():
                self.best = Reference(solver, finer, error, unsure, (), doubt)
        self.coarser = finer
        return True

    def _open(self, coarser: Evaluation, finer: Evaluation) -> tuple[Array, Array]:
        """Return which answers are open, and how far they have moved."""
        if self._task is None or self._targets is None:
            return _unsure(coarser, finer), np.zeros(0)
        moved = self._task.changes(coarser.outputs, finer.outputs, self._targets)
        return np.zeros(len(moved), bool), moved


def _methods(size: int) -> Iterator[Solver]:
    """Methods in the order in which they are tried, each with its limit of steps."""
    yield Solver(REFERENCE.name, max_steps=_EXPLICIT_STEPS)
    if size <= _LARGEST_IMPLICIT:
        yield Solver(_IMPLICIT, max_steps=_IMPLICIT_STEPS)
    # A long interval, or a state too large for Newton's systems: patience is all that is left.
    yield Solver(REFERENCE.name)


def _attempt(solver: Solver, stats: Stats) -> Attempt:
    return Attempt(
        solver.label, str(stats.retcode), stats.nf, stats.njac, stats.naccept, stats.seconds
    )


def _unsure(coarser: Evaluation, finer: Evaluation) -> Array:
    """Return the samples whose answer changes if logits move as they did between two solves."""
    logits = finer.logits.astype(np.float64)
    rows = np.arange(len(logits))
    first = np.argmax(logits, axis=1)

    def lead(each: Array) -> Array:
        return np.asarray(each[rows, first][:, None] - each)

    leads, before = lead(logits), lead(coarser.logits.astype(np.float64))
    with np.errstate(invalid="ignore"):
        open_ = np.abs(leads - before) >= leads
    open_[rows, first] = False
    # Logits that are level stay level: a tie is the model's own, no error's.
    open_ &= (leads > 0) | (before != leads)
    unsure: Array = np.any(open_, axis=1)
    return unsure


def state_error(evaluation: Evaluation, exact: Evaluation) -> float:
    """Mean over samples of |y - y_exact| / (1 + |y_exact|) at all read-outs; inf where not finite.

    Relative where states are large: a coarsely trained field may throw some samples far out, and
    they alone would decide an absolute error.
    """
    reference, states = exact.along, evaluation.along.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.linalg.norm(states - reference, axis=1)
        error = float(np.mean(distance / (1.0 + np.linalg.norm(reference, axis=1))))
    return error if np.isfinite(error) else float("inf")
