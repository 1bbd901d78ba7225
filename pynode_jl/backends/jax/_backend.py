"""The embedded backend: `JaxBackend`, the protocol of `pynode_jl.backends` on JAX."""

from __future__ import annotations

import contextlib
import itertools
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pynode_jl.backends import _arguments
from pynode_jl.backends._gradients import GradientMethod, parsed_gradient
from pynode_jl.backends._precision import Precision, checked_precision
from pynode_jl.backends._protocol import (
    Adam,
    Array,
    ChunkResult,
    Evaluation,
    Gradients,
    Pullback,
    RetCode,
    Solution,
    Stats,
    TrainState,
)
from pynode_jl.backends.jax import _fields, _integrate, _memory, _pullback, _step
from pynode_jl.backends.jax._jit import jitted
from pynode_jl.errors import (
    BackendLacksSolverError,
    BackendUnavailableError,
    InvalidValueError,
    SolveError,
    WrongSolverError,
)
from pynode_jl.fields import Field, Weights
from pynode_jl.models import Model, ModelWeights
from pynode_jl.solvers import DenseMethod, Solver, Tableau, catalogue, controller, tableau

# Julia's maxiters.
_MAX_STEPS = 100_000
# Stage counts that tableaus are padded to: few compilations, little idle work.
_PADDED_STAGES = (4, 8, 16, 40)
# Room for the steps that a gradient records: at least what dt = 1/512 needs, more for small states.
# Fixed steps of states too large for that in `_LEAST_BYTES` get what they need, rounded up: each
# iteration fills its room with zeros first (200 MB of them took 0.1 s, the rest of it 0.04 s).
_LEAST_ROOM = 512
_LEAST_BYTES = 2**24
_MOST_ROOM = 4096
_ROOM_BYTES = 2**26
# What is recorded may take this much before states are dropped and solved again (`Room.every`).
_RECORD_BYTES = 2**29
# Iterations of one compiled call are padded to these.
_LEAST_ROWS = 64


class JaxBackend:
    """Solves, trains and evaluates with JAX on this process's CPU or GPU.

    Args:
        device: "cpu", "gpu", or None for JAX's default.

    Raises:
        BackendUnavailableError: JAX sees no such device.
    """

    name = "jax"

    def __init__(self, device: str | None = None) -> None:
        self._device = _device(device)
        self._fitting: set[Any] = set()
        # Steps that a pullback made room for.
        self._kept: dict[tuple[Field, Tableau | DenseMethod], int] = {}
        # The last pullback's room for stages, for the next one to take over.
        self._spare: dict[Any, Any] = {}

    def devices(self) -> tuple[str, ...]:
        """The kinds of devices that JAX sees, its default first."""
        default = jax.default_backend()
        return tuple(dict.fromkeys((default, "cpu")))

    def solvers(self) -> tuple[str, ...]:
        """The solvers of the catalogue that have a tableau."""
        return tuple(row.name for row in catalogue(backend="jax"))

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
                their precision.
            t_span: ``(t0, t1)``; t1 < t0 integrates backwards.
            solver: the method and its step or tolerances.
            save_at: times, monotone from t0 towards t1, that the steps hit exactly (Julia's
                ``tstops``); the states there are returned. Default: t1 alone.
            save_steps: return t0, every accepted step and t1 instead.
            throw: raise if the solve fails; else its last time and state come back with the return
                code in the stats.

        Returns:
            `Solution` with NumPy arrays.

        Raises:
            SolveError: the solve failed and `throw` is true.
            BackendLacksSolverError: this backend has no tableau of that name.
        """
        table = _tableau(solver)
        initial = _arguments.batch("y0", y0, field.state_shape)
        t0, t1 = _arguments.span(t_span)
        stops = _arguments.stops(save_at, t0, t1)
        if save_steps and save_at is not None:
            raise InvalidValueError(
                "save_steps", True, "False where save_at is given", "Ask for one of the two."
            )
        if solver.fixed:
            solver.grid(t0, t1)  # refuses a step longer than the whole interval
        room = _integrate.Room(_record_room(solver, t0, t1) if save_steps else 0)
        kind = _looped_kind(table)
        kernel = _solve_kernel(field, kind, solver.fixed, room)
        with self._precision(initial.dtype):
            starts = [t0, *stops[:-1]]
            controls = [
                _control(_within(solver, a, b), a, b, initial.dtype)
                for a, b in zip(starts, stops, strict=True)
            ]
            arguments = (
                self._put(_arguments.weights(weights, field.weight_shapes(), initial.dtype)),
                _padded(table, solver.fixed, initial.dtype),
                jax.tree.map(lambda *rows: np.stack(rows), *controls),
                np.array(starts, initial.dtype),
                np.array(stops, initial.dtype),
                self._put(initial),
                _max_steps(solver),
            )
            (times, ys, tally, record), seconds, compiled = _timed(kernel, *arguments)
            stats = _stats(tally, seconds, compiled)
            if save_steps and stats.naccept > room.steps:
                # Only now is it known how many steps there are to return.
                room = _integrate.Room(_integrate.rounded_up(stats.naccept))
                kernel = _solve_kernel(field, kind, solver.fixed, room)
                times, ys, tally, record = kernel(*arguments)
        if throw and stats.retcode != RetCode.Success:
            raise SolveError(stats.retcode, f"{solver.label}. {stats.retcode.meaning}")
        times, states = np.asarray(times), np.asarray(ys)
        if save_steps:
            n = stats.naccept
            times = np.append(np.asarray(record.t)[:n], times[-1:])
            states = np.concatenate([np.asarray(record.y)[:n], states[-1:]])
        elif stats.retcode != RetCode.Success:
            # After the time where a solve failed there is nothing to return.
            ended = 1 + int(np.argmax(np.append(times != np.array(stops, times.dtype), True)))
            times, states = times[:ended], states[:ended]
        return Solution(times, states, stats)

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
        """Gradients of ``sum(cotangent * y(t1))``.

        Args:
            field, weights, y0, t_span, solver: as for `solve`.
            cotangent: weights of the final state, of its shape.
            gradient: "discrete" differentiates the solver's own steps, exactly (the step sizes that
                a controller chose held constant); "BacksolveAdjoint" solves the adjoint ODE
                backwards (Chen et al. 2018), for explicit solvers.

        Returns:
            The gradients to the weights, by name, and to `y0`.

        Raises:
            SolveError: the solve failed.
        """
        table = _tableau(solver)
        initial = _arguments.batch("y0", y0, field.state_shape)
        t0, t1 = _arguments.span(t_span)
        control = _control(solver, t0, t1, initial.dtype)
        weighting = _arguments.like("cotangent", cotangent, initial)
        room = _gradient_room(solver, control, initial.nbytes)
        method = parsed_gradient(gradient, self.name).method
        kernel = _vjp_kernel(field, table.name, solver.fixed, room, method)
        with self._precision(initial.dtype):
            (to_weights, to_y0, tally), _, _ = _timed(
                kernel,
                self._put(_arguments.weights(weights, field.weight_shapes(), initial.dtype)),
                control,
                _gradient_limit(solver, room),
                initial.dtype.type(t0),
                initial.dtype.type(t1),
                self._put(initial),
                self._put(weighting),
            )
        stats = _stats(tally, 0.0, False)
        if stats.retcode != RetCode.Success:
            raise SolveError(stats.retcode, f"{solver.label}. {stats.retcode.meaning}")
        return {name: np.asarray(value) for name, value in to_weights.items()}, np.asarray(to_y0)

    def pullback(
        self,
        field: Field,
        weights: Mapping[str, Any],
        y0: Any,
        t_span: tuple[float, float],
        solver: Solver,
        *,
        save_at: Sequence[float] | None = None,
    ) -> tuple[Solution, Pullback]:
        """Integrate once and keep the steps, to differentiate the states at several times.

        Args:
            field, weights, y0, t_span, solver, save_at: as for `solve`.

        Returns:
            The solution, and a function from cotangents, of the shape of its states, to
            `Gradients`. The derivative is exact for the steps taken (their sizes, where a
            controller chose them, held constant). It holds the weights as they were.

        Raises:
            SolveError: the solve failed.
        """
        method = _tableau(solver)
        return self._kept_solve(field, weights, y0, t_span, solver, method, save_at, keep=True)

    def interpolated(
        self,
        field: Field,
        weights: Mapping[str, Any],
        y0: Any,
        t_span: tuple[float, float],
        solver: Solver,
        *,
        method: DenseMethod,
        save_at: Sequence[float] | None = None,
        keep: bool = True,
    ) -> tuple[Solution, Pullback]:
        """`pullback` with steps that go over the saved times, whose states are interpolated.

        Args:
            field, weights, y0, t_span, save_at: as for `solve`.
            solver: the tolerances, and the most steps.
            method: how it steps; the tableau that `solver` names is not used.
            keep: whether to keep the steps. Without them the pullback refuses.

        Returns:
            As `pullback`. The steps keep their lengths in the derivative to the times; all of them
            shift with t0.

        Raises:
            SolveError: the solve failed.
        """
        return self._kept_solve(field, weights, y0, t_span, solver, method, save_at, keep=keep)

    def _kept_solve(
        self,
        field: Field,
        weights: Mapping[str, Any],
        y0: Any,
        t_span: tuple[float, float],
        solver: Solver,
        method: Tableau | DenseMethod,
        save_at: Sequence[float] | None,
        *,
        keep: bool,
    ) -> tuple[Solution, Pullback]:
        initial = _arguments.batch("y0", y0, field.state_shape)
        dtype = initial.dtype
        t0, t1 = _arguments.span(t_span)
        stops = _arguments.stops(save_at, t0, t1)
        # Without a device of its own a kernel takes NumPy arrays as they are, in half the time.
        put = self._put if self._device is not None else lambda tree: tree
        key, shapes = (field, method), field.weight_shapes()
        with self._precision(dtype):
            schedule = _schedule(solver, method, (t0, *stops), dtype)
            kept = put(_arguments.weights(weights, shapes, dtype))
            arguments = (kept, schedule.controls, schedule.times, put(initial), schedule.limit)
            kind = (field, method, solver.fixed, len(initial), dtype)

            def run(room: _pullback.Keeping) -> Any:
                space = self._spare.pop((kind, room), None)
                if space is None:
                    space = put(_pullback.space(field, method, room, len(initial), dtype))
                return _timed(
                    _pullback.forward(field, method, solver.fixed, room), *arguments, space
                )

            def room_for(steps: int) -> _pullback.Keeping:
                return _pullback.keeping(field, method, solver.fixed, steps, len(initial), dtype)

            steps_before = schedule.steps or self._kept.get(key, 0)
            room = room_for(steps_before) if keep else _pullback.Keeping(0)
            (states, tally, steps), seconds, compiled = run(room)
            stats = _stats(np.asarray(tally).tolist(), seconds, compiled)
            if keep and stats.naccept > room.steps:
                # Only now is it known how many steps there are to keep; remembered for next time.
                self._kept[key] = stats.naccept
                room = room_for(stats.naccept)
                (states, _, steps), _, _ = run(room)
        if stats.retcode != RetCode.Success:
            raise SolveError(stats.retcode, f"{solver.label}. {stats.retcode.meaning}")
        solution = Solution(np.array(stops), np.asarray(states), stats)

        def pull(cotangents: Any) -> Gradients:
            if not keep:
                raise InvalidValueError(
                    "keep", keep, "True where a gradient is wanted", "The steps are gone."
                )
            weighting = _arguments.like("cotangents", cotangents, solution.y)
            with self._precision(dtype):
                back = _pullback.backward(field, method, room)
                flat = np.asarray(back(kept, schedule.times, steps, put(weighting)))
            to_weights = _arguments.unflattened(flat, shapes)
            times = flat.size - len(stops) - 1  # where the times' begin
            to_y0 = flat[times - initial.size : times].reshape(initial.shape)
            return Gradients(to_weights, to_y0.copy(), flat[times:].copy())

        if room.stages:
            weakref.finalize(pull, self._spared, (kind, room), steps[0].stages)
        return solution, pull

    def _spared(self, key: Any, space: Any) -> None:
        self._spare = {key: space}

    def train(
        self,
        model: Model,
        state: TrainState,
        x: Any,
        labels: Any,
        batches: Array,
        solver: Solver,
        optimizer: Adam,
        *,
        gradient: GradientMethod = "discrete",
        precision: Precision = "full",
    ) -> ChunkResult:
        """Run one iteration of training per row of `batches` in one compiled call.

        Args:
            model: the model.
            state: where training stands.
            x: all training inputs, ``(n, *input_shape)``.
            labels: all training labels, ``(n,)``.
            batches: indices into them, ``(iterations, batch)``.
            solver: the solver to train with.
            optimizer: Adam's constants.
            gradient: as for `vjp`.
            precision: what the field's layers work in (`PRECISIONS`).

        Returns:
            `ChunkResult`; it ends early, at the last good state, where an iteration meets a loss or
            gradient that is not finite or a solve that fails.

        Raises:
            InvalidValueError: a batch that the device has no memory for; the message says how large
                a one it has. A precision that does not go with solver, gradient or field.
        """
        table = _tableau(solver)
        checked_precision(precision, solver, gradient, backend=self.name)
        inputs = _arguments.batch("x", x, model.input_shape)
        dtype = inputs.dtype
        targets = _arguments.labels(labels, inputs.shape[0], model.classes)
        indices = _arguments.batches(batches, inputs.shape[0])
        rows, batch = indices.shape
        control = _control(solver, model.t0, model.t1, dtype)

        def room_for(batch: int) -> _integrate.Room:
            return _gradient_room(solver, control, batch * model.field.size * dtype.itemsize)

        room = room_for(batch)
        self._check_memory(
            ("batch_size", model, batch, len(inputs), table.name, room),
            batch,
            lambda batch: _memory.training_bytes(
                model,
                batch,
                len(inputs),
                table,
                room_for(batch),
                dtype.itemsize,
                cpu=_memory.on_cpu(self._device),
            ),
            "Make the batches smaller, or the field narrower.",
        )
        method = parsed_gradient(gradient, self.name).method
        kernel = _train_kernel(model, table.name, solver.fixed, room, method, optimizer, precision)
        padded_rows = max(_LEAST_ROWS, 1 << (rows - 1).bit_length())
        with self._precision(dtype):
            shapes = model.weight_shapes()
            (state_out, metrics, done, code), seconds, _ = _timed(
                kernel,
                (
                    self._put(_arguments.weights(state.weights, shapes, dtype)),
                    self._put(_arguments.weights(state.mu, shapes, dtype)),
                    self._put(_arguments.weights(state.nu, shapes, dtype)),
                    np.int32(state.iteration),
                ),
                self._put(inputs),
                self._put(targets),
                np.pad(indices, ((0, padded_rows - rows), (0, 0))),
                np.int32(rows),
                control,
                _gradient_limit(solver, room),
            )
        weights, mu, nu, iteration = jax.tree.map(np.asarray, state_out)
        loss, accuracy, nf = (np.asarray(row)[: int(done)] for row in metrics)
        return ChunkResult(
            TrainState(weights, mu, nu, int(iteration)),
            loss,
            accuracy,
            nf,
            seconds,
            _integrate.CODES[int(code)],
        )

    def evaluate(
        self,
        model: Model,
        weights: Mapping[str, Any],
        x: Any,
        solver: Solver,
        *,
        precision: Precision = "full",
    ) -> Evaluation:
        """A model's logits for inputs `x`, (n, *input_shape), solved as one batch.

        An adaptive solver controls the error of the whole batch. A solve that fails is reported by
        its return code, its logits are what the state at that point gives. In another `precision`
        than full its answers are those that training saw.
        """
        table = _tableau(solver)
        checked_precision(precision, solver, backend=self.name)
        inputs = _arguments.batch("x", x, model.input_shape)
        dtype = inputs.dtype
        kind = _looped_kind(table)
        self._check_memory(
            ("len(x)", model, len(inputs), kind, dtype.name),
            len(inputs),
            lambda n: _memory.evaluation_bytes(
                model, n, table, kind.stages, dtype.itemsize, cpu=_memory.on_cpu(self._device)
            ),
            "Evaluate fewer samples at a time.",
        )
        kernel = _evaluate_kernel(model, kind, solver.fixed, precision)
        with self._precision(dtype):
            (logits, states, tally), seconds, compiled = _timed(
                kernel,
                self._put(_arguments.weights(weights, model.weight_shapes(), dtype)),
                _padded(table, solver.fixed, dtype),
                _control(solver, model.t0, model.t1, dtype),
                self._put(inputs),
                _max_steps(solver),
            )
        return Evaluation(np.asarray(logits), np.asarray(states), _stats(tally, seconds, compiled))

    def step_jacobian(
        self,
        field: Field,
        weights: Mapping[str, Any],
        y: Any,
        t: float,
        dt: float,
        solver: Solver,
    ) -> Array:
        """Jacobian of one step's map y -> y_next.

        Args:
            field, weights: as for `solve`.
            y: states to take it at, ``(batch, *state_shape)``.
            t, dt: where the step starts and how long it is (signed).
            solver: whose method; its own step or tolerances play no part.

        Returns:
            ``(batch, size, size)``, row i the gradient of the next state's i-th number.
        """
        table = _tableau(solver)
        states = _arguments.batch("y", y, field.state_shape)
        kernel = _jacobian_kernel(field, table.name)
        with self._precision(states.dtype):
            jacobian, _, _ = _timed(
                kernel,
                self._put(_arguments.weights(weights, field.weight_shapes(), states.dtype)),
                states.dtype.type(t),
                states.dtype.type(dt),
                self._put(states),
            )
        return np.asarray(jacobian)

    def _check_memory(
        self, key: tuple[Any, ...], batch: int, needed: Callable[[int], int], mend: str
    ) -> None:
        """Once for each `key`: what a run holds already is no reason to stop it halfway."""
        if key not in self._fitting:
            _memory.check_batch(key[0], batch, needed, self._device, mend)
            self._fitting.add(key)

    def _put(self, tree: Any) -> Any:
        return jax.device_put(tree, self._device)

    @contextlib.contextmanager
    def _precision(self, dtype: np.dtype[Any]) -> Iterator[None]:
        """float64 for this call only: JAX's global switch is the user's.

        And float32 that is float32: by JAX's default products of it round to 10 bits on an A100 or
        H100 (TF32), which a swap would take for the solver's error.
        """
        with jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"):
            yield


class _Kind(NamedTuple):
    """What of a tableau a looped kernel is compiled for; the numbers themselves are arguments."""

    stages: int
    implicit: bool
    explicit_first: bool
    error_rule: str


class _Table(NamedTuple):
    padded: _step.PaddedTableau
    fsal: np.bool_


def _looped_kind(table: Tableau) -> _Kind:
    stages = next(size for size in _PADDED_STAGES if size >= table.stages)
    return _Kind(stages, not table.explicit, _integrate.explicit_first(table), table.error_rule)


def _padded(table: Tableau, fixed: bool, dtype: np.dtype[Any]) -> _Table:
    stages = _looped_kind(table).stages
    return _Table(
        _step.padded(table, stages, with_error=not fixed, dtype=dtype), np.bool_(table.fsal)
    )


def _looped_method(kind: _Kind, table: _Table, rhs: _step.RHS) -> _integrate.Method:
    return _integrate.looped_method(
        table.padded,
        rhs,
        implicit=kind.implicit,
        explicit_first=kind.explicit_first,
        fsal=table.fsal,
        error_rule=kind.error_rule,
    )


@lru_cache(maxsize=256)
def _solve_kernel(
    field: Field, kind: _Kind, fixed: bool, room: _integrate.Room
) -> Callable[..., Any]:
    del fixed  # part of the key: the control's type decides the trace
    prepare, apply = _fields.right_hand_side(field)

    @jitted
    def kernel(
        weights: Any, table: _Table, controls: Any, starts: Any, stops: Any, y0: Any, limit: Any
    ) -> Any:
        rhs = _step.RHS(apply, prepare(weights))
        method = _looped_method(kind, table, rhs)

        def segment(carry: Any, inputs: Any) -> Any:
            y, memory, tally = carry
            control, start, stop = inputs
            # Once a segment has failed the rest is not solved: an empty interval, no steps.
            failed = tally.code != 0
            stop = jnp.where(failed, start, stop)
            if isinstance(control, _integrate.FixedControl):
                control = control._replace(n=jnp.where(failed, 0, control.n))
            left = limit - tally.naccept - tally.nreject
            end = _integrate.solve(rhs, method, control, start, stop, y, memory, left, room=room)
            code = jnp.where(failed, tally.code, end.tally.code)
            total = jax.tree.map(jnp.add, tally, end.tally)._replace(code=code)
            return (end.y, end.memory, total), (end.t, end.y, end.record)

        zero = jnp.int32(0)
        start = (y0, _integrate.fresh_memory(y0.dtype), _integrate.Tally(*[zero] * 5))
        (_, _, tally), (times, ys, records) = jax.lax.scan(
            segment, start, (controls, starts, stops)
        )
        return times, ys, tally, jax.tree.map(lambda row: row[0], records)

    return kernel


@lru_cache(maxsize=256)
def _evaluate_kernel(
    model: Model, kind: _Kind, fixed: bool, precision: Precision
) -> Callable[..., Any]:
    del fixed
    prepare, apply = _fields.right_hand_side(model.field, precision=precision)

    @jitted
    def kernel(weights: Any, table: _Table, control: Any, x: Any, limit: Any) -> Any:
        tree = ModelWeights.from_dict(weights)
        rhs = _step.RHS(apply, prepare(tree.field))
        y0 = model.initial_state(x)
        t0, t1 = jnp.asarray(model.t0, x.dtype), jnp.asarray(model.t1, x.dtype)
        end = _integrate.solve(
            rhs,
            _looped_method(kind, table, rhs),
            control,
            t0,
            t1,
            y0,
            _integrate.fresh_memory(x.dtype),
            limit,
        )
        return model.logits(end.y, tree), end.y, end.tally

    return kernel


@lru_cache(maxsize=256)
def _differentiable(
    field: Field,
    name: str,
    fixed: bool,
    room: _integrate.Room,
    gradient: GradientMethod,
    precision: Precision = "full",
) -> Callable[..., tuple[jax.Array, _integrate.Tally]]:
    """``(weights, control, limit, t0, t1, y0) -> (y1, tally)``, with a reverse derivative."""
    prepare, apply = _fields.right_hand_side(field, precision=precision)
    table = tableau(name)
    if gradient == "discrete":
        return _integrate.differentiable(
            prepare,
            apply,
            _fields.right_hand_side(field, reverse_only=True, precision=precision).apply,
            table,
            adaptive=not fixed,
            room=room,
            width=_fields.width(field),
        )

    # diffrax takes over a second to import, and is of use here only.
    from pynode_jl.backends.jax import _diffrax

    def adjoint(weights: Any, control: Any, limit: Any, t0: Any, t1: Any, y0: Any) -> Any:
        del limit  # diffrax compiles its limit in: `room`
        y, steps, reached = _diffrax.backsolve(
            apply, prepare, name, weights, control, t0, t1, y0, room.steps
        )
        zero = jnp.int32(0)
        # diffrax counts steps, not evaluations; FSAL saves one in all steps but the first.
        nf = steps * (table.stages - table.fsal) + int(table.fsal)
        code = jnp.where(reached, zero, _integrate.CODES.index(RetCode.MaxIters))
        return y, _integrate.Tally(nf, zero, steps, zero, code)

    return adjoint


@lru_cache(maxsize=256)
def _vjp_kernel(
    field: Field, name: str, fixed: bool, room: _integrate.Room, gradient: GradientMethod
) -> Callable[..., Any]:
    solve = _differentiable(field, name, fixed, room, gradient)

    @jitted
    def kernel(
        weights: Any, control: Any, limit: Any, t0: Any, t1: Any, y0: Any, cotangent: Any
    ) -> Any:
        def final(weights: Any, y0: Any) -> Any:
            return solve(weights, control, limit, t0, t1, y0)

        _, pull, tally = jax.vjp(final, weights, y0, has_aux=True)
        return (*pull(cotangent), tally)

    return kernel


@lru_cache(maxsize=256)
def _train_kernel(
    model: Model,
    name: str,
    fixed: bool,
    room: _integrate.Room,
    gradient: GradientMethod,
    optimizer: Adam,
    precision: Precision,
) -> Callable[..., Any]:
    solve = _differentiable(model.field, name, fixed, room, gradient, precision)
    adam = optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.eps)

    def loss_of(weights: Any, x: Any, labels: Any, control: Any, limit: Any) -> Any:
        tree, y0 = ModelWeights.from_dict(weights), model.initial_state(x)
        t0, t1 = jnp.asarray(model.t0, x.dtype), jnp.asarray(model.t1, x.dtype)
        y, tally = solve(tree.field, control, limit, t0, t1, y0)
        logits = model.logits(y, tree)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (jnp.mean(jnp.argmax(logits, axis=1) == labels), tally)

    @jitted
    def kernel(
        state: Any, x: Any, labels: Any, batches: Any, rows: Any, control: Any, limit: Any
    ) -> Any:
        def unfinished(carry: Any) -> Any:
            i, _, _, code = carry
            return (i < rows) & (code == 0)

        def iterate(carry: Any) -> Any:
            i, (weights, mu, nu, count), metrics, _ = carry
            index = batches[i]
            (loss, (accuracy, tally)), slope = jax.value_and_grad(loss_of, has_aux=True)(
                weights, x[index], labels[index], control, limit
            )
            update, moments = adam.update(slope, optax.ScaleByAdamState(count, mu, nu))
            updated = jax.tree.map(lambda w, u: w - optimizer.learning_rate * u, weights, update)
            finite = jnp.stack([jnp.isfinite(g).all() for g in jax.tree.leaves((loss, slope))])
            unstable = _integrate.CODES.index(RetCode.Unstable)
            code = jnp.where(tally.code != 0, tally.code, jnp.where(finite.all(), 0, unstable))
            new = (updated, moments.mu, moments.nu, moments.count)
            kept = jax.tree.map(
                lambda a, b: jnp.where(code == 0, a, b), new, (weights, mu, nu, count)
            )
            values = (loss, accuracy.astype(loss.dtype), tally.nf)
            metrics = tuple(row.at[i].set(v) for row, v in zip(metrics, values, strict=True))
            return i + (code == 0), kept, metrics, code.astype(jnp.int32)

        size = batches.shape[0]
        metrics = (jnp.zeros(size, x.dtype), jnp.zeros(size, x.dtype), jnp.zeros(size, jnp.int32))
        done, state, metrics, code = jax.lax.while_loop(
            unfinished, iterate, (jnp.int32(0), state, metrics, jnp.int32(0))
        )
        return state, metrics, done, code

    return kernel


@lru_cache(maxsize=256)
def _jacobian_kernel(field: Field, name: str) -> Callable[..., Any]:
    prepare, apply = _fields.right_hand_side(field)
    table = tableau(name)

    @jitted
    def kernel(weights: Any, t: Any, dt: Any, y: Any) -> Any:
        rhs = _step.RHS(apply, prepare(weights))
        return _step.sample_jacobian(
            lambda y: _step.unrolled(table, rhs, t, dt, y, with_error=False).y, y
        )

    return kernel


def _timed(kernel: Any, *arguments: Any) -> tuple[Any, float, bool]:
    """The kernel's result, the seconds it took, and whether it was compiled for this call."""
    before = kernel._cache_size()
    start = time.perf_counter()
    result = kernel(*arguments)
    jax.tree.leaves(result)[0].block_until_ready()  # and so are all others: they come together
    return result, time.perf_counter() - start, kernel._cache_size() > before


def _stats(tally: Iterable[Any], seconds: float, compiled: bool) -> Stats:
    nf, njac, naccept, nreject, code = (int(value) for value in tally)
    return Stats(nf, njac, naccept, nreject, _integrate.CODES[code], seconds, compiled)


def _tableau(solver: Solver) -> Tableau:
    info = solver.info
    if info.tableau is None or "jax" not in info.backends:
        raise BackendLacksSolverError(
            "solver",
            solver.name,
            "a solver with a Butcher tableau (`pynode-jl solvers --backend jax`)",
            'The zoo runs it: backend="julia".',
        )
    if solver.options:
        raise WrongSolverError(
            "options",
            dict(solver.options),
            "none on the embedded backend",
            'Constructor options belong to Julia\'s algorithms: drop them, or backend="julia".',
        )
    if not solver.fixed and info.tableau.b_error is None:
        raise BackendLacksSolverError(
            "solver",
            solver.name,
            "a method with embedded error weights where tolerances are given",
            f'Give it a step, Solver("{solver.name}", dt=...), or adapt it with backend="julia".',
        )
    return info.tableau


def _control(
    solver: Solver,
    t0: float,
    t1: float,
    dtype: np.dtype[Any],
    method: Tableau | DenseMethod | None = None,
) -> _integrate.Control:
    real = dtype.type
    if solver.fixed:
        grid = solver.grid(t0, t1)
        return _integrate.FixedControl(np.int32(grid.n), real(grid.dt), real(grid.dt_last))
    assert solver.rtol is not None
    assert solver.atol is not None
    by = method.controller if isinstance(method, DenseMethod) else controller(solver.name)
    control = _integrate.adaptive_control(by, solver.info.order or 1, solver.rtol, solver.atol)
    return _integrate.AdaptiveControl(*(real(value) for value in control))


class _Schedule(NamedTuple):
    """What a pullback's kernel is told of solver and times, on the device; `steps` where fixed."""

    controls: Any
    times: Any
    limit: Any
    steps: int


@lru_cache(maxsize=512)
def _schedule(
    solver: Solver,
    method: Tableau | DenseMethod,
    times: tuple[float, ...],
    dtype: np.dtype[Any],
) -> _Schedule:
    _arguments.check_distinct(times, dtype)
    segments = [(_within(solver, a, b), a, b) for a, b in itertools.pairwise(times)]
    controls = [_control(*segment, dtype, method) for segment in segments]
    return _Schedule(
        jax.tree.map(lambda *rows: jnp.asarray(np.stack(rows)), *controls),
        jnp.asarray(np.array(times, dtype)),
        jnp.asarray(_max_steps(solver)),
        sum(each.grid(a, b).n for each, a, b in segments) if solver.fixed else 0,
    )


def _within(solver: Solver, start: float, stop: float) -> Solver:
    """The solver with a step no longer than the way to the next save time."""
    span = abs(stop - start)
    return solver.with_step(span) if solver.dt is not None and solver.dt > span else solver


def _max_steps(solver: Solver) -> np.int32:
    return np.int32(solver.max_steps or _MAX_STEPS)


def _gradient_limit(solver: Solver, room: _integrate.Room) -> np.int32:
    return np.int32(min(room.steps, solver.max_steps or room.steps))


def _record_room(solver: Solver, t0: float, t1: float) -> int:
    """Room for the steps of a solve that are to be returned, few sizes in all."""
    if solver.fixed:
        return _integrate.rounded_up(max(solver.grid(t0, t1).n, 64))
    return _integrate.rounded_up(solver.max_steps or _MOST_ROOM)


def _gradient_room(
    solver: Solver, control: _integrate.Control, state_bytes: int
) -> _integrate.Room:
    """Room for the steps that a gradient walks back through."""
    if isinstance(control, _integrate.FixedControl):
        # Where states are small another step size finds the same room, and compiles nothing.
        small = _LEAST_ROOM * state_bytes <= _LEAST_BYTES
        steps = max(int(control.n), _LEAST_ROOM if small else 1)
    elif solver.max_steps is not None:
        steps = solver.max_steps
    else:
        fitting = _ROOM_BYTES // max(state_bytes, 1)
        steps = min(max((fitting + 1) // 2, _LEAST_ROOM), _MOST_ROOM)
    steps = _integrate.rounded_up(steps)
    rooms = (_integrate.Room(steps, 1 << i) for i in range(steps.bit_length() // 2 + 1))
    return next(
        (room for room in rooms if room.states * state_bytes <= _RECORD_BYTES),
        _integrate.Room(steps, 1 << (steps.bit_length() // 2)),
    )


@cache
def _device(kind: str | None) -> Any:
    if kind is None:
        return None
    if kind not in ("cpu", "gpu"):
        raise InvalidValueError("device", kind, '"cpu" or "gpu"', "Leave it out for JAX's default.")
    try:
        return jax.devices(kind)[0]
    except RuntimeError as error:
        raise BackendUnavailableError(
            f"device = {kind!r}: JAX sees no such device here. Install a JAX build for it"
            " (`pip install 'jax[cuda12]'`), or leave device out."
        ) from error
