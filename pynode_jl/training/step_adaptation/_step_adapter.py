"""What a step adapter is: a frozen configuration with pure transitions on a small frozen state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from pynode_jl.backends import Array, Backend, Evaluation
from pynode_jl.fields import Weights
from pynode_jl.models import Model, ModelWeights
from pynode_jl.resampling import Intervals, ratio_intervals
from pynode_jl.seeding import generator
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Task
from pynode_jl.training.step_adaptation._sentences import validation_text


@dataclass(frozen=True)
class ControlState:
    """Where a step adapter stands: the solver in force, and what else it remembers, as plain JSON
    values, so that a killed run goes on from its checkpoint bit for bit.

    `memory` is that other: plain JSON values by name.

    Example:
        >>> from pynode_jl.training.step_adaptation import ControlState
        >>> ControlState(pn.Solver("Euler", dt=1 / 8), {}).solver.label
        'Euler h=1/8'
    """

    solver: Solver
    memory: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One look at whether the model still is an ODE, and what came of it.

    Attributes:
        iteration: updates made before it.
        solver: in force until then.
        test_solver: the finer one that it was compared with; None where nothing was compared.
        accuracy, test_accuracy: accuracy, or the task's score, on the samples looked at, under the
            two (nan where not compared).
        statistic: what was decided on: the paper's difference of accuracies, our share of answers
            lost, the shift of answers that are numbers (nan where not compared).
        action: "start", "shrink", "grow" or "hold".
        chosen: the solver in force from then on.
        nf: evaluations of the right-hand side that the check cost.
        best: the weights looked at are the best yet; training returns the last that were so marked.

    Example:
        >>> from pynode_jl.training.step_adaptation import Check
        >>> solver = pn.Solver("Euler", dt=1 / 8)
        >>> half = solver.scaled(0.5)
        >>> Check(50, solver, half, 0.9, 0.7, 0.2, "halve", half, 24).chosen.label
        'Euler h=1/16'
    """

    iteration: int
    solver: Solver
    test_solver: Solver | None
    accuracy: float
    test_accuracy: float
    statistic: float
    action: str
    chosen: Solver
    nf: int
    best: bool = False

    @classmethod
    def quiet(cls, iteration: int, solver: Solver, action: str, chosen: Solver, nf: int) -> Check:
        """Return a check that compared nothing."""
        nan = float("nan")
        return cls(iteration, solver, None, nan, nan, nan, action, chosen, nf)


@dataclass(frozen=True)
class Validation:
    """The end's test on held-out samples: what may be said of the model, and how surely.

    Attributes:
        solver: the training solver at the step or tolerance that was validated.
        trained_with: the solver in force in the last iteration; coarser than `solver` if the
            validation had to tighten.
        test_solver: what stands for the ODE.
        samples: held-out samples.
        lost, won: those among them that only `solver`, and only the ODE, answers right.
        bound: with probability `confidence` the share of samples in the data's distribution whose
            answer the ODE changes is at most this.
        margin: what `bound` must not exceed.
        confidence: of the statement, whatever the number of attempts.
        nf: evaluations of the right-hand side that it cost.
        flips: answers that the ODE changes, right or wrong. None in runs of version 0.1, whose
            bound is that of `lost` alone.
        shift: how far the ODE shifts answers that are numbers, `bound` being of that; None of a
            classification.
        unit: of the shift (`Task.unit`).

    Example:
        >>> from pynode_jl.training.step_adaptation import Validation
        >>> fine, exact = pn.Solver("Euler", dt=1 / 64), pn.Solver("Tsit5", rtol=1e-6)
        >>> found = Validation(fine, fine, exact, 400, 0, 0.007, 0.03, 0.95, 500, flips=0)
        >>> found.bound <= found.margin
        True
    """

    solver: Solver
    trained_with: Solver
    test_solver: Solver
    samples: int
    lost: int
    bound: float
    margin: float
    confidence: float
    nf: int
    flips: int | None = None
    won: int = 0
    shift: float | None = None
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether the bound is within the margin."""
        return self.bound <= self.margin

    @property
    def needed(self) -> int:
        """The fewest held-out samples that pass at the first attempt if no answer changes."""
        return math.ceil(math.log((1 - self.confidence) / 2) / math.log1p(-self.margin))

    @property
    def text(self) -> str:
        """One or two sentences with its figures."""
        return validation_text(self)


class Probe:
    """What a step adapter may look at between two chunks; it counts every evaluation.

    Attributes:
        model: the model.
        seed: the run's; a step adapter's draws come from its stream "controller".
        iteration: updates made so far, of `iterations` in all.
        x, labels: the last iteration's batch (the first one's, before any).
        pool: training samples that batches are drawn from, ``(n, *input_shape)``; `pool_labels`.
        held: samples kept out of training, as many as it asked for; `held_labels`.
        recent_nf: evaluations in each of the last five iterations' forward solves.
        nf: evaluations made through this probe.
        backend: what solves.

    Example:
        >>> from pynode_jl.training.step_adaptation import Probe
        >>> all_of_it = (data.x_train, data.y_train)
        >>> samples = dict.fromkeys(("batch", "pool", "held"), all_of_it)
        >>> look = {"seed": 0, "iteration": 0, "iterations": 10, **samples}
        >>> probe = Probe(pn.get_backend("jax"), model, trained.weights, **look)
        >>> probe.evaluate(trained.solver, probe.x).accuracy(probe.labels), probe.nf
        (1.0, 1)
    """

    def __init__(
        self,
        backend: Backend,
        model: Model,
        weights: Weights,
        *,
        seed: int,
        iteration: int,
        iterations: int,
        batch: tuple[Array, Array],
        pool: tuple[Array, Array],
        held: tuple[Array, Array],
        recent_nf: Sequence[int] = (),
    ) -> None:
        self._backend = backend
        self._weights = weights
        self.model = model
        self.seed = seed
        self.iteration = iteration
        self.iterations = iterations
        self.x, self.labels = batch
        self.pool, self.pool_labels = pool
        self.held, self.held_labels = held
        self.recent_nf = tuple(recent_nf)
        self.nf = 0

    def evaluate(self, solver: Solver, x: Array) -> Evaluation:
        """Return the model's answers to `x` under `solver`, in the precision of `x`."""
        evaluation = self._backend.evaluate(self.model, self._weights, x, solver)
        self.nf += evaluation.stats.nf
        return evaluation

    @property
    def weights(self) -> ModelWeights:
        """The model's weights, as a tree."""
        return ModelWeights.from_dict(self._weights)

    @property
    def task(self) -> Task:
        """What the model answers."""
        return self.model.task

    @property
    def unit(self) -> float:
        """The task's margin in units of a classification's, 0.03: what shares are multiplied by
        where answers are numbers."""
        return 1.0 if self.task.comparison == "flips" else self.task.margin / 0.03

    def shift(
        self, own: Evaluation, other: Evaluation, targets: Array, *, error: float = 0.025
    ) -> Intervals:
        """Return how far answers that are numbers are from others, in the task's measure.

        Args:
            own, other: answers to the same samples.
            targets: of the samples.
            error: probability that an end of the interval is wrong.
        """
        task = self.task
        changes = task.changes(own.outputs, other.outputs, targets)
        return ratio_intervals(
            changes,
            task.scale(own.outputs, targets),
            lower_error=error,
            upper_error=error,
            root=task.root,
        )

    def slope(self, t: float, y: Array) -> Array:
        """Return f(t, y), in float64, for states ``(n, *state_shape)``."""
        self.nf += 1
        return self._backend.rhs(self.model.field, self.weights.field, t, np.asarray(y, np.float64))

    def sample(self, count: int) -> tuple[Array, Array]:
        """`count` samples of the pool, drawn anew at each iteration, and their labels."""
        size = len(self.pool)
        draw = generator(self.seed, "controller", self.iteration).permutation(size)[:count]
        return self.pool[draw], self.pool_labels[draw]


@runtime_checkable
class StepAdapter(Protocol):
    """What decides the training solver's step or tolerance, between two chunks of training.

    All that it remembers is in the `ControlState` that it returns and is given back.

    Example:
        >>> from pynode_jl.training.step_adaptation import CONTROLLERS
        >>> sorted(CONTROLLERS)
        ['paper', 'steady']
    """

    @property
    def every(self) -> int:
        """Iterations between two checks."""

    @property
    def holdout(self) -> float:
        """The share of the training samples to be kept out of training."""

    def check_solver(self, solver: Solver) -> None:
        """Refuse a training solver that cannot be adapted."""

    def start(self, solver: Solver, probe: Probe) -> tuple[ControlState, Check]:
        """Choose the first solver, before the first iteration.

        `solver` is the recipe's, `probe` what it may look at.
        """

    def check(self, state: ControlState, probe: Probe) -> tuple[ControlState, Check]:
        """Choose the next solver, after every `every` iterations.

        `state` is what it returned last, `probe` what it may look at.
        """

    def validate(self, state: ControlState, probe: Probe) -> Validation | None:
        """Test the finished model; None from a step adapter that promises nothing.

        `state` is what it returned last, `probe` what it may look at.
        """
