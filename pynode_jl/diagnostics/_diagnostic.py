"""Diagnostics: measurements that explain a verdict, each with an outcome and its limits.

A `Diagnostic` has a name and a function from a `Context` to a `Finding`. A new one is a function in
a module of its own and a row of `DIAGNOSTICS` (in `diagnostics._certificate`): the certificate, its
page, its JSON and the command are loops over that tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from pynode_jl import proportions
from pynode_jl._display import ShortRepr, short
from pynode_jl.backends import Array, Backend, Evaluation
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics._reference import REFERENCE, Reference
from pynode_jl.diagnostics._sentences import points
from pynode_jl.diagnostics._swap_report import SwapReport
from pynode_jl.errors import InvalidValueError, PyNODEError, SolveError
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedModel

Outcome = Literal["supports", "contradicts", "inconclusive", "not run"]

# A Jacobian has size^2 numbers: so many are made in one call (inside a field, with its channels,
# they take tens of times the memory), and a backend says how many in all.
NUMBERS_AT_ONCE = 2e6
#: The share of samples that may fold, cross or be off, where the verdict's margin is no share.
SHARE_MARGIN = 0.03


@dataclass(frozen=True, repr=False)
class Finding:
    """What one diagnostic found.

    Attributes:
        name: the diagnostic's.
        outcome: whether it supports that the model is an ODE, contradicts it, does neither
            ("inconclusive"), or was "not run".
        text: what was found, in a sentence or two; of one that was not run, the reason.
        limits: what it does not show.
        data: its figures, as plain values, for JSON.
        clause: the finding as a short clause ("its trajectories fold (16 of 16)"), which weakens a
            valid verdict where the outcome contradicts it.
        report: the measurement itself, for pictures and further analysis; not part of JSON.

    Example:
        >>> from pynode_jl.diagnostics import DIAGNOSTICS
        >>> folds = [each for each in DIAGNOSTICS if each.name == "folds"]
        >>> finding = pn.certify(trained, data, diagnostics=folds, backend="jax").finding("folds")
        >>> finding.outcome, finding.clause
        ('contradicts', 'its trajectories fold (64 of 64 ...)')
    """

    name: str
    outcome: Outcome
    text: str
    limits: str
    data: Mapping[str, Any] = field(default_factory=dict)
    clause: str = ""
    report: Any = None

    def __repr__(self) -> str:
        return f"Finding({self.name!r}, {self.outcome!r}, {short(self.text)})"

    def to_dict(self) -> dict[str, Any]:
        """Return name, outcome, text, limits and data."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "text": self.text,
            "limits": self.limits,
            "data": dict(self.data),
        }


@dataclass(frozen=True)
class Share:
    """A count among samples, and the exact interval of the share that it estimates.

    Attributes:
        count, total: of samples.
        low, high: ends of the interval, each wrong with a probability of at most half of what the
            confidence leaves.

    Example:
        >>> from pynode_jl.diagnostics import Share
        >>> share = Share.of(12, 1000, confidence=0.95)
        >>> share.interval, share.outcome(margin=0.03)
        ('0.6 to 2.1%', 'supports')
    """

    count: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int, confidence: float, *, unsure: int = 0) -> Share:
        """Return the share of `count` among `total`; up to `unsure` more may belong to it."""
        error = (1.0 - confidence) / 2.0
        most = min(count + unsure, total)
        return cls(
            count,
            total,
            float(proportions.lower_bound(count, total, error)),
            float(proportions.upper_bound(most, total, error)),
        )

    def outcome(self, margin: float) -> Outcome:
        """Return "contradicts" if surely above the margin, "supports" if surely within it."""
        if self.low > margin:
            return "contradicts"
        return "supports" if self.high <= margin else "inconclusive"

    @property
    def interval(self) -> str:
        """The interval in percent: "0.6 to 2.1%"."""
        return f"{points(self.low)} to {points(self.high)}%"

    def told(self, noun: str) -> str:
        """Return count, samples and interval in words: "12 of 1000 answers (0.6 to 2.1%)".

        `noun` is what is counted: "answers".
        """
        return f"{self.count} of {self.total} {noun} ({self.interval})"

    def __str__(self) -> str:
        return f"{self.count} of {self.total} ({self.interval})"

    def to_dict(self) -> dict[str, Any]:
        """Return counts and interval as plain values."""
        return {"count": self.count, "total": self.total, "low": self.low, "high": self.high}


@dataclass(frozen=True, repr=False)
class Context(ShortRepr):
    """What diagnostics share: the model, its data, the swap, and the one reference solve.

    Attributes:
        trained, dataset, backend: what is looked at, and what integrates.
        swap: its swap report, whose reference is that of all diagnostics.
        samples: how many test samples those take that cost a Jacobian each at every step.

    Example:
        >>> from pynode_jl.diagnostics import Context
        >>> report = pn.swap(trained, data, ["RK4"], backend="jax")
        >>> context = Context(trained, data, pn.get_backend("jax"), report, samples=16)
        >>> context.margin, context.confidence
        (0.03, 0.95)
    """

    trained: TrainedModel
    dataset: Dataset
    backend: Backend
    swap: SwapReport
    samples: int

    @property
    def margin(self) -> float:
        """The share of samples up to which a model still holds.

        Of a task whose answers are numbers, whose verdict has another measure, 0.03.
        """
        flips = self.trained.model.task.comparison == "flips"
        return self.swap.verdict.margin if flips else SHARE_MARGIN

    @property
    def confidence(self) -> float:
        """Of all intervals."""
        return self.swap.verdict.confidence

    @property
    def reference(self) -> Reference:
        """The shared reference solve of the whole test set.

        Raises:
            InvalidValueError: the swap report has none: it was read from a file.
        """
        if self.swap.reference is None:
            raise InvalidValueError(
                "swap", self.swap, "a report with its reference", "Make it anew with `swap`."
            )
        return self.swap.reference

    @property
    def exact(self) -> Evaluation:
        """The whole test set under the reference.

        Raises:
            SolveError: the ODE could not be solved.
        """
        if self.reference.evaluation is None:
            raise SolveError("Failure", "the ODE could not be solved")
        return self.reference.evaluation

    @property
    def flow(self) -> Solver:
        """The solver to follow the ODE's flow with: the reference's."""
        return self.reference.solver or REFERENCE

    @cached_property
    def own(self) -> Evaluation:
        """The whole test set under the training solver."""
        return self.backend.evaluate(
            self.trained.model,
            self.trained.weights,
            self.trained.inputs(self.dataset.x_test),
            self.trained.solver,
        )

    @cached_property
    def own_steps(self) -> int:
        """How many steps the training solver takes."""
        if self.trained.solver.fixed:
            return self.trained.solver.grid(self.trained.model.t0, self.trained.model.t1).n
        return max(self.own.stats.naccept, 1)

    @property
    def stepped(self) -> Solver:
        """The training solver; of one that adapts, its method at as many equal steps as it took."""
        model = self.trained.model
        if self.trained.solver.fixed:
            return self.trained.solver
        return self.trained.solver.with_step(abs(model.t1 - model.t0) / self.own_steps)

    @property
    def x(self) -> Array:
        """The first `samples` test inputs."""
        return self.trained.inputs(self.dataset.x_test[: self.samples])

    @cached_property
    def few(self) -> Array:
        """As many of `x` as Jacobians can be made for, at each of the training solver's steps."""
        square = self.trained.model.field.size**2
        most = min(
            NUMBERS_AT_ONCE / square, self.backend.jacobian_numbers / (square * self.own_steps)
        )
        return self.x[: int(most)]

    def share(self, count: int, total: int, *, unsure: int = 0) -> Share:
        """Return a share with its interval at the verdict's confidence.

        `count` of `total` samples, and up to `unsure` more, belong to it.
        """
        return Share.of(int(count), int(total), self.confidence, unsure=int(unsure))


def has_jacobians(context: Context) -> bool:
    """Return whether the state is small enough for Jacobians."""
    return len(context.few) > 0


@dataclass(frozen=True)
class Diagnostic:
    """One way of looking at a trained model.

    Attributes:
        name: in findings and on pages.
        run: measures, and returns its finding. A `PyNODEError` that it raises becomes the reason of
            a finding "not run".
        limits: what it does not show; also of a finding that leaves its own empty.
        applies: whether it can be run on this model at all.
        needs: what it needs to apply, in words: "states of one or two numbers".
        reference: whether it needs the reference solve.

    Example:
        >>> from pynode_jl.diagnostics import DIAGNOSTICS
        >>> [each.name for each in DIAGNOSTICS][:3]
        ['answers by step', 'error share', 'folds']
    """

    name: str
    run: Callable[[Context], Finding]
    limits: str
    applies: Callable[[Context], bool] = lambda context: True
    needs: str = ""
    reference: bool = True

    def __call__(self, context: Context) -> Finding:
        """Return the finding; "not run", with the reason, where it cannot be made."""
        if self.reference and not context.reference.solved:
            return self.not_run("The ODE could not be solved: there is nothing to compare with.")
        if not self.applies(context):
            model = context.trained.model
            here = f"a state has {model.field.size} numbers"
            if "state" not in self.needs:
                here = f"the task is {model.task.kind}"
            return self.not_run(f"It needs {self.needs}; here {here}.")
        try:
            found = self.run(context)
        except PyNODEError as error:
            return self.not_run(str(error))
        return replace(found, name=self.name, limits=found.limits or self.limits)

    def not_run(self, reason: str) -> Finding:
        """Return the finding of a diagnostic that was not run."""
        return Finding(self.name, "not run", reason, self.limits)
