"""The Julia backend: `JuliaBackend`, the protocol of `pynode_jl.backends` on OrdinaryDiffEq."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from pynode_jl._validation import instance
from pynode_jl.backends import _arguments
from pynode_jl.backends._base import (
    Backend,
    InitialValueProblem,
)
from pynode_jl.backends._failures import raise_unless_success
from pynode_jl.backends._gradients import GradientMethod, parsed_gradient
from pynode_jl.backends._optimizers import Adam
from pynode_jl.backends._precision import Precision
from pynode_jl.backends._results import (
    Array,
    ChunkResult,
    Evaluation,
    Gradients,
    RetCode,
    Solution,
    Stats,
    TrainState,
)
from pynode_jl.backends._times import Clock
from pynode_jl.backends._training import TrainingChunk
from pynode_jl.backends.julia import _fields, _names, _objectives, _process
from pynode_jl.backends.julia._algorithms import (
    julia_algorithm,
    julia_steps,
    julia_tableau,
    tableau_of,
)
from pynode_jl.backends.julia._calls import retcode, run
from pynode_jl.errors import (
    BackendUnavailableError,
    InvalidValueError,
    SolveError,
)
from pynode_jl.fields import Field, LogDensityField
from pynode_jl.models import Model, ModelWeights
from pynode_jl.solvers import DenseMethod, Solver, Tableau

_log = logging.getLogger("pynode_jl.julia")


class JuliaBackend(Backend):
    """Solves, trains and evaluates in Julia, in this process.

    Args:
        device: "cpu" or None; "gpu" where LuxCUDA is in the Julia environment and finds one:
            explicit solvers then run there, on the field's Lux chain.

    Raises:
        BackendUnavailableError: Julia is not installed or broken, or it sees no such device; the
            message says how to fix it.
    """

    name = "julia"

    def __init__(self, device: str | None = None) -> None:
        if device not in (None, "cpu", "gpu"):
            raise InvalidValueError("device", device, '"cpu" or "gpu"', "Leave it out.")
        self._module = _process.julia().PyNODE
        self._run_at = self._module.run_b
        if device == "gpu" and "gpu" not in self.devices():
            raise BackendUnavailableError(
                "device = 'gpu': Julia sees none. Add LuxCUDA to its environment (using Pkg;"
                ' Pkg.add("LuxCUDA")) on a machine with a CUDA driver, leave device out, or use'
                ' backend="jax".'
            )
        self._device = device or "cpu"

    def devices(self) -> tuple[str, ...]:
        """Return the available kinds of devices. Looking for a GPU loads LuxCUDA, if installed."""
        if self._module.has_package("LuxCUDA"):
            _process.need("gpu")
        return tuple(sorted(str(name) for name in self._module.DEVICES))

    def solvers(self) -> tuple[str, ...]:
        """Return the solvers of a plain y' = f(t, y) that this Julia environment can solve with."""
        return _names.solvers(self._device)

    def missing_solvers(self) -> dict[str, str]:
        """Return the other solvers of a plain y' = f(t, y), by name.

        Each has the package and the version that provide it, or the reason why none does.
        """
        return _names.missing(self._device)

    def compiled_solvers(self) -> tuple[str, ...]:
        """Return the solvers that `pynode-jl julia precompile` has compiled ahead of time."""
        return tuple(map(str, self._module.compiled_solvers()))

    def versions(self) -> dict[str, str]:
        """Versions of Julia, juliacall and the solvers."""
        return _process.versions()

    def _check_solver(self, solver: Solver, dense: DenseMethod | None) -> None:
        julia_algorithm(solver, self._device)

    def _solve(self, problem: InitialValueProblem, save_steps: bool) -> Solution:
        """Integrate in one crossing."""
        flat = np.ascontiguousarray(problem.y0)
        place = (flat.ctypes.data, flat.size, _fields.element(flat))
        field, solver, clock = problem.field, problem.solver, problem.clock
        how = (solver, clock, save_steps)
        weights, kept, call = _in_julia(field, problem.weights)
        if _fields.in_python(field):
            prepared = _made_ready(_fields.called_back(field, problem.weights), *how)
        else:
            prepared = _prepared(field, len(flat), place[-1], self._device, *how)
        if save_steps:  # how many there are the solver decides
            found, compiling = run(solver, self._module.run, prepared, *place, *weights, call=call)
            counts = found.retcode, found.nf, found.njac, found.naccept, found.nreject
            times = np.array(found.t)
            if clock.origin:
                times = (clock.origin + times.astype(np.float64)).astype(flat.dtype)
            y = np.array(found.y).T.reshape(len(times), *flat.shape)
        else:
            stops = problem.stops
            times, y = np.array(stops, flat.dtype), np.empty((len(stops), *flat.shape), flat.dtype)
            *counts, reached, last, compiling = run(
                solver, self._run_at, y.ctypes.data, prepared, *place, *weights, call=call
            )
            # After the time where a solve failed there is nothing to return.
            times, y = times[:reached], y[:reached]
            if counts[0] != RetCode.Success:
                times[-1] = clock.origin + last
        del kept  # alive until here, as are `flat` and what it views
        code, nf, njac, naccept, nreject = counts
        stats = Stats(nf, njac, naccept, nreject, retcode(code), 0.0, compiling > 0, compiling)
        return Solution(times, y, stats)

    def _pullback(
        self,
        problem: InitialValueProblem,
        gradient: GradientMethod,
        dense: DenseMethod | None,
        keep: bool,
    ) -> tuple[Solution, Callable[[Array], Gradients]]:
        """Integrate and save the trajectory in Julia; its reverse sweep is another crossing."""
        if gradient != "discrete":
            return self._adjoint(problem, gradient)
        field, solver, stops = problem.field, problem.solver, problem.stops
        initial = np.ascontiguousarray(problem.y0)
        shapes, batch = field.weight_shapes(), len(initial)
        flat = _arguments.flattened(problem.weights)
        rhs = self._differentiable(field, batch, initial.dtype)
        sweep = _sweep(field, batch, initial.dtype.name, self._device, tableau_of(solver, field))
        states = np.empty((len(stops), *initial.shape), initial.dtype)
        (kept, nf, njac, naccept, nreject, code), compiling = run(
            solver,
            self._module.measured,
            self._module.keep_b,
            _fields.at(states.reshape(len(stops), -1)),
            rhs,
            sweep,
            julia_algorithm(solver),
            *map(_fields.at, (flat, initial.ravel())),
            problem.clock.times[0],
            julia_steps(solver, problem.clock, True),
        )
        stats = Stats(nf, njac, naccept, nreject, retcode(code), 0.0, compiling > 0, compiling)

        def pull(cotangents: Array) -> Gradients:
            bars = np.ascontiguousarray(cotangents)
            to_weights, to_y0 = np.empty_like(flat), np.empty_like(initial)
            to_times = np.empty(len(stops) + 1, initial.dtype)
            run(
                solver,
                self._module.pull_back_b,
                *map(_fields.at, (to_weights, to_y0.ravel(), to_times)),
                kept,
                _fields.at(bars.reshape(len(stops), -1)),
            )
            return Gradients(_arguments.unflattened(to_weights, shapes), to_y0, to_times)

        return Solution(np.array(stops), states, stats), pull

    def _adjoint(
        self, problem: InitialValueProblem, gradient: GradientMethod
    ) -> tuple[Solution, Callable[[Array], Gradients]]:
        """SciMLSensitivity's derivative at t1: it solves forwards and backwards when it is asked.

        The times' gradients are the flow's own: dy(t1)/dt1 = f(t1, y1), dy(t1)/dt0 =
        -dy(t1)/dy0 f(t0, y0).
        """
        field, solver, shapes = problem.field, problem.solver, problem.field.weight_shapes()
        initial = np.ascontiguousarray(problem.y0)
        flat = _arguments.flattened(problem.weights)
        ends = (problem.t0, problem.t1)
        path = self._path(field, len(initial), initial.dtype, ends, solver, gradient)
        solution = self._solve(problem, False)

        def pull(cotangents: Array) -> Gradients:
            bar = np.array(cotangents[0], order="C")
            to_weights = np.zeros_like(flat)
            code = run(
                solver,
                self._module.vjp_b,
                *map(_fields.at, (to_weights, bar.ravel())),
                path,
                *map(_fields.at, (flat, initial.ravel())),
            )
            raise_unless_success(solver, retcode(code))
            along = (
                -np.sum(bar * self._rhs(field, problem.weights, ends[0], initial)),
                np.sum(cotangents[0] * self._rhs(field, problem.weights, ends[1], solution.y1)),
            )
            to_times = np.array(along, initial.dtype)
            return Gradients(_arguments.unflattened(to_weights, shapes), bar, to_times)

        return solution, pull

    def _rhs(self, field: Field, weights: dict[str, Array], t: float, y: Array) -> Array:
        flat, slope = np.ascontiguousarray(y), np.empty(y.shape, y.dtype)
        given, kept, call = _in_julia(field, weights)
        rhs = (
            _fields.called_back(field, weights)
            if _fields.in_python(field)
            else _fields.right_hand_side(field, len(flat), flat.dtype.name, self._device)
        )
        place = (flat.ctypes.data, flat.size, _fields.element(flat))
        try:
            call(self._module.derivative_b, slope.ctypes.data, rhs, t, *place, *given)
        except _process.julia_error() as error:
            raise SolveError(
                "Failure", f"f(t, y). Julia says: {_process.first_line(error)}"
            ) from error
        del kept
        return slope

    def _train(self, chunk: TrainingChunk) -> ChunkResult:
        """Run the iterations in one crossing."""
        model, solver, state = chunk.model, chunk.solver, chunk.state
        # The backend's capabilities, which are checked before, have no other.
        optimizer = instance("optimizer", chunk.optimizer, Adam, "an Adam", 'Or use backend="jax".')
        indices, inputs = np.ascontiguousarray(chunk.indices), np.ascontiguousarray(chunk.x)
        n, dtype, shapes = len(inputs), inputs.dtype, model.weight_shapes()
        objective = _objectives.objective(model.task, dtype)
        path = self._path(model.field, indices.shape[1], dtype, model.times, solver, chunk.gradient)
        head = _objectives.head(model, path)
        # What an initial state has besides the input is the same in every batch.
        start = np.ascontiguousarray(model.initial_state(inputs[indices[0]]))
        targets = np.ascontiguousarray(chunk.targets)
        if targets.ndim > 1:  # (n, stops, numbers)
            targets = targets.reshape(n, len(model.times) - 1, -1)
        # Copies that Julia updates in place: a failed iteration must leave `state` as it is.
        flat = [_arguments.flattened(each) for each in (state.weights, state.mu, state.nu)]
        metrics = np.zeros((len(indices), 3), dtype)
        done, code = run(
            solver,
            self._module.train_b,
            *map(_fields.at, (*flat, metrics)),
            path,
            *map(
                _fields.at,
                (start.reshape(len(start), -1), inputs.reshape(n, -1), targets, indices),
            ),
            head,
            objective,
            self._module.Adam(optimizer.learning_rate, optimizer.b1, optimizer.b2, optimizer.eps),
            state.iteration,
        )
        loss, score, nf = metrics[:done].T
        weights, mu, nu = (_arguments.unflattened(each, shapes) for each in flat)
        return ChunkResult(
            TrainState(weights, mu, nu, state.iteration + int(done)),
            loss.copy(),
            score.copy(),
            nf.astype(np.int32),
            0.0,
            retcode(code),
        )

    def _evaluate(
        self,
        model: Model,
        weights: dict[str, Array],
        x: Array,
        solver: Solver,
        precision: Precision,
    ) -> Evaluation:
        tree = ModelWeights.from_dict(weights)
        y0, (t0, *stops) = model.initial_state(x, tree), model.times
        problem = InitialValueProblem(model.field, dict(tree.field), y0, t0, tuple(stops), solver)
        solution = self._solve(problem, False)
        states = solution.y
        if short := len(stops) - len(states):
            # The solve failed: what it reached stands for all later times.
            states = np.concatenate([states, np.repeat(states[-1:], short, axis=0)])
        return Evaluation.of(model.read_out(states, tree), states, solution.stats)

    def _step_jacobian(self, problem: InitialValueProblem, dt: float) -> Array:
        field, states = problem.field, np.ascontiguousarray(problem.y0)
        ends = (problem.t0, problem.t1)
        path = self._path(field, len(states), states.dtype, ends, problem.solver, "discrete")
        jacobian = np.zeros((len(states), field.size, field.size), states.dtype)
        flat = _arguments.flattened(problem.weights)
        run(
            problem.solver,
            self._module.path_jacobian_b,
            _fields.at(jacobian),
            path,
            *map(_fields.at, (flat, states.ravel())),
        )
        return jacobian

    def _differentiable(self, field: Field, batch: int, dtype: np.dtype[Any]) -> Any:
        """Return the right-hand side of a field that Julia can take gradients of."""
        rhs = _fields.right_hand_side(field, batch, dtype.name, self._device)
        if not _fields.differentiable(field):
            raise InvalidValueError(
                "field",
                field,
                "a VectorField or a Lux layer (`lux_field`) where a gradient is asked for",
                'Write it as one, or use backend="jax".',
            )
        return rhs

    def _path(
        self,
        field: Field,
        batch: int,
        dtype: np.dtype[Any],
        times: tuple[float, ...],
        solver: Solver,
        gradient: str,
    ) -> Any:
        """Return the solve of a gradient over (t0, *stops): what `vjp_b` and `train_b` run."""
        method, product = parsed_gradient(gradient, self.name)
        rhs = self._differentiable(field, batch, dtype)
        algorithm, t0 = julia_algorithm(solver), times[0]
        if method == "discrete":
            table = julia_tableau(tableau_of(solver, field))
            clock = Clock.of(times)
            # Adaptive solves save their steps, to be walked back through.
            steps = julia_steps(solver, clock, not solver.fixed)
            return self._module.Path(rhs, algorithm, table, steps, clock.times[0])
        if isinstance(field, LogDensityField):
            raise InvalidValueError(
                "gradient", gradient, '"discrete" for a density', 'Take it, or backend="jax".'
            )
        steps = julia_steps(solver, Clock(0.0, times), False)
        if method == "NeuralODE":
            _process.need("node")
            return run(solver, self._module.node_path, rhs, algorithm, steps, t0)
        _process.need("adjoint")
        return run(solver, self._module.adjoint_path, rhs, algorithm, steps, t0, method, product)


def _in_julia(field: Field, arrays: Mapping[str, Array]) -> tuple[Any, Any, Any]:
    """Return weights as `run!` takes them, what keeps them alive, and how Julia is called."""
    if _fields.in_python(field):
        return (None,), None, _process.call_holding_the_lock
    return *_fields.parameters(field, arrays), _process.call


@lru_cache(maxsize=32)
def _prepared(field: Field, batch: int, dtype: str, device: str, *how: Any) -> Any:
    """Return the parts of a solve that do not change, cached: each look-up is a call into Julia."""
    return _made_ready(_fields.right_hand_side(field, batch, dtype, device), *how)


def _made_ready(rhs: Any, solver: Solver, clock: Clock, save_steps: bool) -> Any:
    steps = julia_steps(solver, clock, save_steps)
    return _process.julia().PyNODE.Prepared(
        rhs, solver.info.takes_jacobian, julia_algorithm(solver), clock.times[0], steps
    )


@lru_cache(maxsize=32)
def _sweep(field: Field, batch: int, dtype: str, device: str, table: Tableau) -> Any:
    """Buffers of the gradient along steps of a tableau that come from elsewhere."""
    rhs = _fields.right_hand_side(field, batch, dtype, device)
    return _process.julia().PyNODE.Sweep(rhs.network, julia_tableau(table), 0)
