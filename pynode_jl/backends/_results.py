"""What a backend gives: plain arrays and frozen dataclasses, no framework.

Arrays cross a backend's boundary once per solve or once per chunk of training, never once per
evaluation of the right-hand side. States are ``(batch, *state_shape)``; anything with
``__dlpack__`` or ``__array__`` is taken, NumPy arrays come back.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pynode_jl._display import ShortRepr
from pynode_jl.fields import Weights
from pynode_jl.tasks import Task

#: A NumPy array of any numbers.
Array: TypeAlias = npt.NDArray[Any]


class RetCode(enum.StrEnum):
    """Why a solve ended, in the names of Julia's SciMLBase.ReturnCode.

    Example:
        >>> pn.RetCode.MaxIters.value
        'MaxIters'
    """

    Success = "Success"
    MaxIters = "MaxIters"
    DtLessThanMin = "DtLessThanMin"
    Unstable = "Unstable"
    ConvergenceFailure = "ConvergenceFailure"

    @property
    def meaning(self) -> str:
        """One sentence: what happened and how to fix it."""
        return _MEANINGS[self]


_MEANINGS = {
    RetCode.Success: "The solve reached the end of its interval.",
    RetCode.MaxIters: "More steps than max_steps were needed. Raise Solver(max_steps=...), loosen"
    " the tolerances, or take an implicit solver if the problem is stiff.",
    RetCode.DtLessThanMin: "The step size fell below what the time's precision can hold. Loosen the"
    " tolerances, solve in float64, or take an implicit solver.",
    RetCode.Unstable: "The state became NaN or infinite. Take a smaller dt, tighter tolerances, or"
    " an implicit solver.",
    RetCode.ConvergenceFailure: "Newton's iteration for an implicit stage did not converge. Take a"
    " smaller dt or a tighter tolerance.",
}


@dataclass(frozen=True)
class Stats:
    """What a solve cost.

    Attributes:
        nf: evaluations of the right-hand side, each on the whole batch; rejected steps, the initial
            step size's two and Newton's are all counted.
        njac: evaluations of its Jacobian (implicit solvers), each for the whole batch.
        naccept, nreject: steps accepted and rejected.
        retcode: why the solve ended.
        seconds: wall time, compilation included where `compiled` is true.
        compiled: whether the call compiled something.
        compile_seconds: the seconds of `seconds` that were compilation, where the backend knows.

    Example:
        >>> field, solver = pn.LinearField(1), pn.Solver("RK4", dt=0.5)
        >>> weights = {name: np.zeros(shape) for name, shape in field.weight_shapes().items()}
        >>> backend = pn.get_backend("jax")
        >>> backend.solve(field, weights, np.ones((1, 1)), (0.0, 1.0), solver).stats.nf
        8
    """

    nf: int
    njac: int
    naccept: int
    nreject: int
    retcode: RetCode
    seconds: float = 0.0
    compiled: bool = False
    compile_seconds: float = 0.0

    def timed(self, seconds: float) -> Stats:
        """Return the same stats with this wall time, faster than `replace`: each solve does it."""
        counts = (self.nf, self.njac, self.naccept, self.nreject)
        return Stats(*counts, self.retcode, seconds, self.compiled, self.compile_seconds)

    def __add__(self, other: Stats) -> Stats:
        """Return counts and times added; the first failure's return code stays."""
        return Stats(
            self.nf + other.nf,
            self.njac + other.njac,
            self.naccept + other.naccept,
            self.nreject + other.nreject,
            self.retcode if self.retcode != RetCode.Success else other.retcode,
            self.seconds + other.seconds,
            self.compiled or other.compiled,
            self.compile_seconds + other.compile_seconds,
        )


@dataclass(frozen=True, repr=False)
class Solution(ShortRepr):
    """States along a solve: `t` (times,) and `y` (times, batch, *state_shape).

    `stats` has the counts of steps and evaluations.

    Example:
        >>> field, solver = pn.LinearField(1), pn.Solver("Euler", dt=0.5)
        >>> decay = {"layers.0.weight": np.array([[-1.0]]), "layers.0.bias": np.zeros(1)}
        >>> backend = pn.get_backend("jax")
        >>> backend.solve(field, decay, np.ones((1, 1)), (0.0, 1.0), solver).y1
        array([[0.25]])
    """

    t: Array
    y: Array
    stats: Stats

    @property
    def y1(self) -> Array:
        """The final state, (batch, *state_shape)."""
        last: Array = self.y[-1]
        return last


@dataclass(frozen=True, repr=False)
class Evaluation(ShortRepr):
    """A model's answers and what they cost.

    Attributes:
        outputs: ``(n, *task.outputs(...))``: logits ``(n, classes)`` of a classifier.
        states: at t1, ``(n, *state_shape)``.
        stats: the solve's counts, time and return code.
        path: where a model is read at several times, the states there, ``(n, times,
            *state_shape)``; None elsewhere.

    Example:
        >>> evaluation = pn.get_backend("jax").evaluate(model, trained.weights, x, trained.solver)
        >>> evaluation.accuracy(data.y_test), evaluation.predictions.shape
        (1.0, (200,))
    """

    outputs: Array
    states: Array
    stats: Stats
    path: Array | None = None

    @classmethod
    def of(cls, outputs: Array, states: Array, stats: Stats) -> Evaluation:
        """Return the evaluation of states at all read-outs, ``(times, n, *state_shape)``."""
        path = np.swapaxes(states, 0, 1) if len(states) > 1 else None
        return cls(outputs, states[-1], stats, path)

    @property
    def logits(self) -> Array:
        """The outputs, by their name where the model is a classifier."""
        return self.outputs

    @property
    def along(self) -> Array:
        """The states at all times of read-outs, ``(n, numbers)``."""
        states = self.states if self.path is None else self.path
        return states.reshape(len(states), -1)

    @cached_property
    def predictions(self) -> Array:
        """A classifier's answers: the class of the largest logit, (n,); -1 where one is not
        finite."""
        finite = np.isfinite(self.logits).all(axis=1)
        return np.where(finite, np.argmax(np.nan_to_num(self.logits), axis=1), -1)

    def accuracy(self, labels: npt.ArrayLike) -> float:
        """Share of `labels` (n,) that the predictions match."""
        return float(np.mean(self.predictions == np.asarray(labels)))

    def score(self, task: Task, targets: Array) -> float:
        """Return the task's score of these answers: an accuracy, or an RMSE.

        `targets` are those of the same samples.
        """
        if task.comparison == "flips":
            return self.accuracy(targets)
        with np.errstate(over="ignore", invalid="ignore"):
            return task.score(task.scores(self.outputs.astype(np.float64), targets))


@dataclass(frozen=True, repr=False)
class TrainState(ShortRepr):
    """Everything that the next iteration depends on, besides configuration and data.

    `weights`, `mu` and `nu` (Adam's moments; momentum is in `mu`) are name -> array, in the
    same names; `iteration` counts the updates made.

    Example:
        >>> from pynode_jl.backends import TrainState
        >>> TrainState.start(trained.weights).iteration
        0
    """

    weights: Weights
    mu: Weights
    nu: Weights
    iteration: int = 0

    @property
    def finite(self) -> bool:
        """Whether no number of it is NaN or infinite."""
        parts = (self.weights, self.mu, self.nu)
        return all(bool(np.isfinite(value).all()) for part in parts for value in part.values())

    @classmethod
    def start(cls, weights: Weights) -> TrainState:
        """Return the state before the first iteration."""
        return cls(
            dict(weights),
            {name: np.zeros_like(value) for name, value in weights.items()},
            {name: np.zeros_like(value) for name, value in weights.items()},
        )


@dataclass(frozen=True, repr=False)
class ChunkResult(ShortRepr):
    """What a chunk of training gives back.

    `loss`, `accuracy` (of the batch, before the update; of another task the mean score)
    and `nf` have one entry per iteration done.
    `retcode` is not Success when an iteration met a loss or gradient that is not finite, or a solve
    that failed: `state` is then the last good one, and that iteration has made no update.

    `seconds` is the time that the call took.

    Example:
        >>> from pynode_jl.backends import TrainState
        >>> chunk = pn.get_backend("jax").train(
        ...     model,
        ...     TrainState.start(trained.weights),
        ...     data.x_train,
        ...     data.y_train,
        ...     np.arange(20).reshape(2, 10),
        ...     trained.solver,
        ...     pn.Adam(1e-3),
        ... )
        >>> chunk.state.iteration, chunk.nf.tolist()
        (2, [1, 1])
    """

    state: TrainState
    loss: Array
    accuracy: Array
    nf: Array
    seconds: float
    retcode: RetCode


class Gradients(NamedTuple):
    """What a pullback gives: gradients to the weights, by name, to `y0`, and to the times
    ``(t0, *save_at)``.

    The times' are those of the discrete solution: the steps keep their lengths, but for the last
    one before each saved time, which ends there.

    Example:
        >>> backend, field = pn.get_backend("jax"), pn.LinearField(1)
        >>> decay = {"layers.0.weight": np.array([[-1.0]]), "layers.0.bias": np.zeros(1)}
        >>> solver = pn.Solver("Euler", dt=0.5)
        >>> _, pull = backend.pullback(field, decay, np.ones((1, 1)), (0.0, 1.0), solver)
        >>> pull(np.ones((1, 1, 1))).y0  # (1 - h)**2
        array([[0.25]])
    """

    weights: Weights
    y0: Array
    times: Array


#: ``cotangents -> Gradients``, cotangents of the shape of the solution's states.
Pullback: TypeAlias = Callable[[Any], Gradients]
