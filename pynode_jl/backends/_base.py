"""`Backend`: the one contract between the Python side and whatever integrates.

The public methods are here, once: they check arguments, measure the time, and turn a failed solve
into an exception. A backend fills in the hooks, whose names begin with an underscore, and takes
checked arguments there. `tests/backends/test_contract.py` holds all backends to the same behaviour.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np

from pynode_jl._validation import flag, interval, real_number
from pynode_jl.backends import _arguments
from pynode_jl.backends._failures import raise_unless_success, trained_while_finite
from pynode_jl.backends._gradients import GradientMethod, parsed_gradient
from pynode_jl.backends._optimizers import Optimizer
from pynode_jl.backends._precision import (
    Precision,
    check_weights_resolved,
    checked_precision,
    in_precision,
    is_mixed,
)
from pynode_jl.backends._registry import BACKENDS, Capabilities
from pynode_jl.backends._results import (
    Array,
    ChunkResult,
    Evaluation,
    Gradients,
    Pullback,
    RetCode,
    Solution,
    TrainState,
)
from pynode_jl.backends._times import Clock, check_resolved, check_within, segment_grids
from pynode_jl.backends._training import TrainingCall, TrainingChunk
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import Field, Weights, checked_field
from pynode_jl.models import Model, check_model
from pynode_jl.solvers import DenseMethod, Solver, StepGrid

#: The most steps of one solve, where the solver does not say. Julia's `maxiters`.
MAX_STEPS = 100_000


@dataclass(frozen=True)
class InitialValueProblem:
    """A checked initial value problem.

    Attributes:
        field: the vector field.
        weights: its weights by name, in the precision of `y0`.
        y0: ``(batch, *state_shape)``, float32 or float64; the solve runs in this precision.
        t0: the time of `y0`.
        stops: the times where states are wanted, strictly monotone; the last one ends the solve.
        solver: the solver.
    """

    field: Field
    weights: dict[str, Array]
    y0: Array
    t0: float
    stops: tuple[float, ...]
    solver: Solver

    @property
    def t1(self) -> float:
        """The end of the interval."""
        return self.stops[-1]

    @property
    def max_steps(self) -> int:
        """The most steps of the whole solve, over all stops."""
        return self.solver.max_steps or MAX_STEPS

    @property
    def clock(self) -> Clock:
        """t0 and the stops as the solve counts them."""
        return Clock.of((self.t0, *self.stops))

    def grids(self) -> list[StepGrid]:
        """Return the fixed steps of each segment between stops; one segment may be one short step.

        Raises:
            WrongSolverError: the solver adapts its steps.
        """
        return segment_grids(self.solver, (self.t0, *self.stops))


class Backend(ABC):
    """What integrates, trains and evaluates.

    States are ``(batch, *state_shape)``. Anything with ``__dlpack__`` or ``__array__`` is taken,
    NumPy arrays come back. Arrays cross once per solve or once per chunk of training.

    Example:
        >>> backend = pn.get_backend("jax")
        >>> backend.name, "Vern7" in backend.solvers()
        ('jax', True)
    """

    name: ClassVar[str]
    #: Numbers in all Jacobians that a diagnostic may ask for: what costs seconds, not minutes.
    jacobian_numbers: ClassVar[float] = 2e8

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do: its row of `BACKENDS`."""
        return BACKENDS[self.name].capabilities

    @abstractmethod
    def devices(self) -> tuple[str, ...]:
        """Return the kinds of available devices: "cpu", "gpu"."""

    @abstractmethod
    def solvers(self) -> tuple[str, ...]:
        """Return the names of the solvers that this backend can run."""

    @final
    def solve(
        self,
        field: Field,
        weights: Mapping[str, Any],
        y0: Any,
        t_span: tuple[float, float],
        solver: Solver,
        *,
        save_at: Sequence[float] | None = None,
        save_steps: bool = False,
        throw: bool = True,
    ) -> Solution:
        """Integrate y' = field(t, y).

        Args:
            field: the vector field, with state shape ``state_shape``.
            weights: its weights by name, as `field.init` gives them.
            y0: initial states, ``(batch, *state_shape)``, float32 or float64; the solve runs in
                their precision, to which the weights are rounded. Integers and lists are float64
                if all weights are, and else float32.
            t_span: ``(t0, t1)``; t1 < t0 integrates backwards.
            solver: the method and its step or tolerances. Its `max_steps` is one budget for the
                whole solve. A fixed step longer than the interval is refused.
            save_at: times, strictly monotone from t0 (left out) to at most t1. The steps end there
                (Julia's ``tstops``): a step that would pass one is cut. Default: t1 alone.
            save_steps: return t0, every accepted step and t1 instead.
            throw: raise if the solve fails; else the times and states up to there come back, with
                the return code in the stats.

        Returns:
            `Solution` with NumPy arrays.

        Raises:
            SolveError: the solve failed and `throw` is true.
            BackendLacksSolverError: this backend does not have that solver.
            InvalidValueError: an argument that cannot be used.

        Example:
            >>> import numpy as np, pynode_jl as pn
            >>> field = pn.LinearField(1)
            >>> weights = {"layers.0.weight": -np.eye(1), "layers.0.bias": np.zeros(1)}
            >>> solution = pn.get_backend("jax").solve(
            ...     field, weights, np.ones((1, 1)), (0.0, 1.0), pn.Solver("Euler", dt=1 / 2)
            ... )
            >>> solution.y1.item()
            0.25
        """
        flag("save_steps", save_steps)
        flag("throw", throw)
        if save_steps and save_at is not None:
            raise InvalidValueError(
                "save_steps", True, "False where save_at is given", "Ask for one of the two."
            )
        problem = self._problem(field, weights, y0, t_span, solver, save_at)
        started = time.perf_counter()
        solution = self._solve(problem, save_steps)
        solution = _timed(solution, started)
        if throw:
            self._raise_unless_success(problem, solution.stats.retcode)
        return solution

    @final
    def pullback(
        self,
        field: Field,
        weights: Mapping[str, Any],
        y0: Any,
        t_span: tuple[float, float],
        solver: Solver,
        *,
        save_at: Sequence[float] | None = None,
        gradient: GradientMethod = "discrete",
        dense: DenseMethod | None = None,
        keep: bool = True,
    ) -> tuple[Solution, Pullback]:
        """Integrate once, save the trajectory, and differentiate the states later.

        Args:
            field, weights, y0, t_span, solver, save_at: as for `solve`.
            gradient: "discrete" differentiates the solver's own steps, exactly (the step sizes that
                a controller chose held constant); the others are the adjoint ODE's, as `GRADIENTS`
                describes them, at t1 only.
            dense: step by this method over the saved times, and interpolate there; `solver` then
                gives tolerances and budget only. For backends with `capabilities.dense_output`.
            keep: whether to save the trajectory. Without it the pullback refuses.

        Returns:
            The solution, and a function from cotangents, of the shape of its states, to
            `Gradients`. It holds the weights as they were.

        Raises:
            SolveError: the solve failed.
            InvalidValueError: an argument that cannot be used.
        """
        flag("keep", keep)
        parsed_gradient(gradient, self.name)
        if dense is not None and not self.capabilities.dense_output:
            raise InvalidValueError(
                "dense", dense, f"None on the {self.name} backend", "Its steps end at each time."
            )
        problem = self._problem(field, weights, y0, t_span, solver, save_at, dense)
        if gradient != "discrete" and (dense is not None or len(problem.stops) > 1):
            raise InvalidValueError(
                "gradient", gradient, '"discrete" where states are saved', "Leave save_at out."
            )
        started = time.perf_counter()
        solution, pull = self._pullback(problem, gradient, dense, keep)
        solution = _timed(solution, started)
        self._raise_unless_success(problem, solution.stats.retcode)

        def checked(cotangents: Any) -> Gradients:
            if not keep:
                raise InvalidValueError(
                    "keep", keep, "True where a gradient is wanted", "The steps are gone."
                )
            return pull(_arguments.like("cotangents", cotangents, solution.y))

        return solution, checked

    @final
    def vjp(
        self,
        field: Field,
        weights: Mapping[str, Any],
        y0: Any,
        t_span: tuple[float, float],
        solver: Solver,
        cotangent: Any,
        *,
        gradient: GradientMethod = "discrete",
    ) -> tuple[Weights, Array]:
        """Return the gradients of ``sum(cotangent * y(t1))`` to the weights, by name, and to `y0`.

        It is `pullback` at one time; arguments and errors are the same.

        Args:
            field, weights, y0, t_span, solver, gradient: as for `pullback`.
            cotangent: ``(batch, *state_shape)``, the derivative of a loss with respect to y(t1).
        """
        initial = _arguments.batch("y0", y0, checked_field(field).state_shape, weights)
        weighting = _arguments.like("cotangent", cotangent, initial)
        _, pull = self.pullback(field, weights, initial, t_span, solver, gradient=gradient)
        gradients = pull(weighting[None])
        return gradients.weights, gradients.y0

    @final
    def rhs(self, field: Field, weights: Mapping[str, Any], t: float, y: Any) -> Array:
        """Return f(t, y) of a `field` with `weights` for states `y`, ``(batch, *state_shape)``."""
        states = _arguments.batch("y", y, checked_field(field).state_shape, weights)
        arrays = _arguments.weights(weights, field.weight_shapes(), states.dtype)
        check_within((t := real_number("t", t, "A time such as 0.5."),), states.dtype)
        return self._rhs(field, arrays, t, states)

    @final
    def train(
        self,
        model: Model,
        state: TrainState,
        x: Any,
        targets: Any,
        batches: Array,
        solver: Solver,
        optimizer: Optimizer,
        *,
        iterations: int | None = None,
        gradient: GradientMethod = "discrete",
        precision: Precision = "full",
    ) -> ChunkResult:
        """Run one iteration of training per row of `batches`.

        Args:
            model: the model.
            state: where training stands.
            x: all training inputs, ``(n, *input_shape)``.
            targets: all training targets, as the model's task has them: labels, ``(n,)``, say.
            batches: indices into them, ``(iterations, batch)``.
            solver: the solver to train with.
            optimizer: what makes updates of gradients.
            iterations: of the whole training, for a schedule of the learning rate that decays.
            gradient: as for `pullback`.
            precision: what is computed in which precision, a name of `PRECISIONS`.

        Returns:
            `ChunkResult`; it ends early, at the last good state, where an iteration meets a loss or
            gradient that is not finite or a solve that fails.

        Raises:
            InvalidValueError: an argument that cannot be used, or a batch that the device has no
                memory for.
        """
        [result] = self.train_many(
            [
                TrainingCall(
                    model, state, x, targets, batches, solver, optimizer,
                    iterations=iterations, gradient=gradient, precision=precision,
                )
            ]
        )  # fmt: skip
        return result

    @final
    def train_many(
        self, calls: Sequence[TrainingCall], *, exact: bool = False
    ) -> list[ChunkResult]:
        """Run iterations of several trainings, each as `train` would; failures are each one's own.

        JAX runs those of one program together; then results differ from `train`'s by rounding.

        Args:
            calls: the arguments of `train` for each.
            exact: results are `train`'s, bit for bit: trainings are run one by one.

        Returns:
            Their results, in the same order; of the wall time each has an equal share.
        """
        flag("exact", exact)
        chunks = [TrainingChunk.of(call, self.name, self._check_solver) for call in calls]
        started = time.perf_counter()
        results = self._train_many(chunks, exact)
        results = [
            result
            if result.state.finite
            else trained_while_finite(self._train, chunk, len(result.loss))
            for chunk, result in zip(chunks, results, strict=True)
        ]
        seconds = (time.perf_counter() - started) / max(len(chunks), 1)
        return [replace(result, seconds=seconds) for result in results]

    @final
    def evaluate(
        self,
        model: Model,
        weights: Mapping[str, Any],
        x: Any,
        solver: Solver,
        *,
        precision: Precision = "full",
    ) -> Evaluation:
        """Return a model's outputs for inputs `x`, ``(n, *input_shape)``, solved as one batch.

        An adaptive solver controls the error of the whole batch. A solve that fails is reported by
        its return code; its outputs are what the state at that point gives. `weights` are all of
        the model's, by name. In the training's `precision` its answers are those that training saw.
        """
        check_model(model)
        solver = Solver.of(solver)
        checked_precision(precision, solver, backend=self.name)
        self._check_solver(solver, None)
        inputs = in_precision(_arguments.batch("x", x, model.input_shape), precision)
        _arguments.check_interval(model, solver, inputs.dtype)
        arrays = _arguments.weights(weights, model.weight_shapes(), inputs.dtype)
        started = time.perf_counter()
        kept = precision if is_mixed(precision) else "full"
        found = self._evaluate(model, arrays, inputs, solver, kept)
        seconds = time.perf_counter() - started
        return replace(found, stats=replace(found.stats, seconds=seconds))

    @final
    def step_jacobian(
        self,
        field: Field,
        weights: Mapping[str, Any],
        y: Any,
        t: float,
        dt: float,
        solver: Solver,
    ) -> Array:
        """Return the Jacobian of one step's map y -> y_next for each sample.

        Args:
            field, weights: as for `solve`.
            y: states to take it at, ``(batch, *state_shape)``.
            t, dt: where the step starts and how long it is (signed).
            solver: whose method; its own step or tolerances play no part.

        Returns:
            ``(batch, size, size)``, row i the gradient of the next state's i-th number.
        """
        states = _arguments.batch("y", y, checked_field(field).state_shape, weights)
        t, dt = real_number("t", t, "A time such as 0.5."), real_number("dt", dt, "Signed: 1/16.")
        t0, t1 = interval("t_span", (t, t + dt))
        check_within((t0, t1), states.dtype)
        step = Solver.of(solver).with_step(abs(t1 - t0))
        self._check_solver(step, None)
        arrays = _arguments.weights(weights, field.weight_shapes(), states.dtype)
        return self._step_jacobian(
            InitialValueProblem(field, arrays, states, t0, (t1,), step), float(dt)
        )

    def _problem(
        self,
        field: Field,
        weights: Mapping[str, Any],
        y0: Any,
        t_span: tuple[float, float],
        solver: Solver,
        save_at: Sequence[float] | None,
        dense: DenseMethod | None = None,
    ) -> InitialValueProblem:
        solver = Solver.of(solver)
        self._check_solver(solver, dense)
        initial = _arguments.batch("y0", y0, checked_field(field).state_shape, weights)
        t0, t1 = interval("t_span", t_span)
        stops = tuple(_arguments.stops(save_at, t0, t1))
        check_weights_resolved(solver.tableau, float(np.finfo(initial.dtype).eps))
        check_resolved((t0, *stops), initial.dtype)
        if solver.fixed:
            solver.grid(t0, stops[-1])  # refuses a step longer than the whole interval
        arrays = _arguments.weights(weights, field.weight_shapes(), initial.dtype)
        return InitialValueProblem(field, arrays, initial, t0, stops, solver)

    def _raise_unless_success(self, problem: InitialValueProblem, code: RetCode) -> None:
        if code == RetCode.Success:
            return
        given = {f"weights[{name!r}]": each for name, each in problem.weights.items()}
        raise_unless_success(
            problem.solver,
            code,
            {"y0": problem.y0, **given},
            lambda: self._rhs(problem.field, problem.weights, problem.t0, problem.y0),
        )

    @abstractmethod
    def _check_solver(self, solver: Solver, dense: DenseMethod | None) -> None:
        """Refuse a solver that this backend does not have, or not so.

        Raises:
            BackendLacksSolverError, WrongSolverError: what is wrong and what to do.
        """

    @abstractmethod
    def _solve(self, problem: InitialValueProblem, save_steps: bool) -> Solution:
        """Integrate. A failure is a return code; times after it are left out."""

    @abstractmethod
    def _pullback(
        self,
        problem: InitialValueProblem,
        gradient: GradientMethod,
        dense: DenseMethod | None,
        keep: bool,
    ) -> tuple[Solution, Callable[[Array], Gradients]]:
        """Integrate and return what differentiates the states."""

    @abstractmethod
    def _rhs(self, field: Field, weights: dict[str, Array], t: float, y: Array) -> Array:
        """Return f(t, y)."""

    @abstractmethod
    def _train(self, chunk: TrainingChunk) -> ChunkResult:
        """Run the iterations of a chunk."""

    def _train_many(self, chunks: list[TrainingChunk], exact: bool) -> list[ChunkResult]:
        """Run the iterations of several chunks: one by one, unless a backend does better."""
        return [self._train(chunk) for chunk in chunks]

    @abstractmethod
    def _evaluate(
        self,
        model: Model,
        weights: dict[str, Array],
        x: Array,
        solver: Solver,
        precision: Precision,
    ) -> Evaluation:
        """Return a model's outputs and states."""

    @abstractmethod
    def _step_jacobian(self, problem: InitialValueProblem, dt: float) -> Array:
        """Return the Jacobians of the one step of `dt` that the problem asks for."""


def _timed(solution: Solution, started: float) -> Solution:
    seconds = time.perf_counter() - started
    return Solution(solution.t, solution.y, solution.stats.timed(seconds))
