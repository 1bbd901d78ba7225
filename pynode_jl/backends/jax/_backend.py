"""The embedded backend: `JaxBackend`, the protocol of `pynode_jl.backends` on JAX."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pynode_jl.backends import _arguments
from pynode_jl.backends._base import (
    MAX_STEPS,
    Backend,
    InitialValueProblem,
    TrainingChunk,
    segment_grids,
)
from pynode_jl.backends._gradients import GradientMethod, parsed_gradient
from pynode_jl.backends._precision import Precision
from pynode_jl.backends._results import (
    Adam,
    Array,
    ChunkResult,
    Evaluation,
    Gradients,
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
    WrongSolverError,
)
from pynode_jl.fields import Field
from pynode_jl.models import Model
from pynode_jl.solvers import DenseMethod, Solver, Tableau, catalogue, controller, tableau

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


class JaxBackend(Backend):
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
        """Return the kinds of devices that JAX sees, its default first."""
        default = jax.default_backend()
        return tuple(dict.fromkeys((default, "cpu")))

    def solvers(self) -> tuple[str, ...]:
        """Return the solvers of the catalogue that have a tableau."""
        return tuple(row.name for row in catalogue(backend="jax"))

    def _check_solver(self, solver: Solver, dense: DenseMethod | None) -> None:
        if dense is None:
            _tableau(solver)

    def _solve(self, problem: InitialValueProblem, save_steps: bool) -> Solution:
        solver, initial, stops = problem.solver, problem.y0, problem.stops
        table = _tableau(solver)
        room = _integrate.Room(_record_room(solver, problem.t0, problem.t1) if save_steps else 0)
        kind = _looped_kind(table)
        kernel = _solve_kernel(problem.field, kind, solver.fixed, room)
        with self._precision(initial.dtype):
            arguments = (
                self._put(problem.weights),
                _padded(table, solver.fixed, initial.dtype),
                _controls(problem, None),
                np.array([problem.t0, *stops[:-1]], initial.dtype),
                np.array(stops, initial.dtype),
                self._put(initial),
                np.int32(problem.max_steps),
            )
            (times, ys, tally, record), compiled = _run(kernel, *arguments)
            stats = _stats(tally, compiled)
            if save_steps and stats.naccept > room.steps:
                # Only now is it known how many steps there are to return.
                room = _integrate.Room(_integrate.rounded_up(stats.naccept))
                kernel = _solve_kernel(problem.field, kind, solver.fixed, room)
                times, ys, tally, record = kernel(*arguments)
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

    def _pullback(
        self,
        problem: InitialValueProblem,
        gradient: GradientMethod,
        dense: DenseMethod | None,
        keep: bool,
    ) -> tuple[Solution, Callable[[Array], Gradients]]:
        if gradient != "discrete":
            return self._adjoint(problem)
        field, solver, initial = problem.field, problem.solver, problem.y0
        stops, dtype = problem.stops, initial.dtype
        method = dense or _tableau(solver)
        # Without a device of its own a kernel takes NumPy arrays as they are, in half the time.
        put = self._put if self._device is not None else lambda tree: tree
        key, shapes = (field, method), field.weight_shapes()
        with self._precision(dtype):
            schedule = _schedule(solver, method, (problem.t0, *stops), dtype, problem.max_steps)
            kept = put(problem.weights)
            arguments = (kept, schedule.controls, schedule.times, put(initial), schedule.limit)
            kind = (field, method, solver.fixed, len(initial), dtype)

            def run(room: _pullback.Keeping) -> Any:
                space = self._spare.pop((kind, room), None)
                if space is None:
                    space = put(_pullback.space(field, method, room, len(initial), dtype))
                return _run(_pullback.forward(field, method, solver.fixed, room), *arguments, space)

            def room_for(steps: int) -> _pullback.Keeping:
                return _pullback.keeping(field, method, solver.fixed, steps, len(initial), dtype)

            steps_before = schedule.steps or self._kept.get(key, 0)
            room = room_for(steps_before) if keep else _pullback.Keeping(0)
            (states, tally, steps), compiled = run(room)
            stats = _stats(np.asarray(tally).tolist(), compiled)
            if keep and stats.naccept > room.steps:
                # Only now is it known how many steps there are to keep; remembered for next time.
                self._kept[key] = stats.naccept
                room = room_for(stats.naccept)
                (states, _, steps), _ = run(room)
        solution = Solution(np.array(stops), np.asarray(states), stats)

        def pull(weighting: Array) -> Gradients:
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

    def _adjoint(
        self, problem: InitialValueProblem
    ) -> tuple[Solution, Callable[[Array], Gradients]]:
        """The continuous adjoint: one solve forward and backward, when the cotangent is known."""
        field, solver, initial = problem.field, problem.solver, problem.y0
        dtype, (t0, t1) = initial.dtype, (problem.t0, problem.t1)
        control = _control(solver, t0, t1, dtype)
        room = _gradient_room(solver, control, initial.nbytes)
        kernel = _adjoint_kernel(field, _tableau(solver).name, solver.fixed, room)
        arguments = (
            self._put(problem.weights), control, dtype.type(t0), dtype.type(t1),
            self._put(initial),
        )  # fmt: skip
        with self._precision(dtype):
            (_, _, _, _, y1, tally), compiled = _run(
                kernel, *arguments, self._put(np.zeros_like(initial))
            )

        def pull(weighting: Array) -> Gradients:
            with self._precision(dtype):
                to_weights, to_y0, to_t0, to_t1, _, _ = kernel(*arguments, weighting[0])
            return Gradients(
                {name: np.asarray(value) for name, value in to_weights.items()},
                np.asarray(to_y0),
                np.array([to_t0, to_t1], dtype),
            )

        return Solution(np.array([t1]), np.asarray(y1)[None], _stats(tally, compiled)), pull

    def _rhs(self, field: Field, weights: dict[str, Array], t: float, y: Array) -> Array:
        with self._precision(y.dtype):
            slope = _rhs_kernel(field)(self._put(weights), y.dtype.type(t), self._put(y))
        return np.asarray(slope)

    def _train(self, chunk: TrainingChunk) -> ChunkResult:
        model, solver, state, inputs = chunk.model, chunk.solver, chunk.state, chunk.x
        table, dtype, (rows, batch) = _tableau(solver), inputs.dtype, chunk.indices.shape
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
        method = parsed_gradient(chunk.gradient, self.name).method
        kernel = _train_kernel(
            model, table.name, solver.fixed, room, method, chunk.optimizer, chunk.precision
        )
        padded_rows = max(_LEAST_ROWS, 1 << (rows - 1).bit_length())
        with self._precision(dtype):
            (state_out, metrics, done, code), _ = _run(
                kernel,
                (
                    self._put(state.weights),
                    self._put(state.mu),
                    self._put(state.nu),
                    np.int32(state.iteration),
                ),
                self._put(inputs),
                self._put(chunk.labels),
                np.pad(chunk.indices, ((0, padded_rows - rows), (0, 0))),
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
            0.0,
            _integrate.CODES[int(code)],
        )

    def _evaluate(
        self,
        model: Model,
        weights: dict[str, Array],
        x: Array,
        solver: Solver,
        precision: Precision,
    ) -> Evaluation:
        table, dtype = _tableau(solver), x.dtype
        kind = _looped_kind(table)
        self._check_memory(
            ("len(x)", model, len(x), kind, dtype.name),
            len(x),
            lambda n: _memory.evaluation_bytes(
                model, n, table, kind.stages, dtype.itemsize, cpu=_memory.on_cpu(self._device)
            ),
            "Evaluate fewer samples at a time.",
        )
        kernel = _evaluate_kernel(model, kind, solver.fixed, precision)
        with self._precision(dtype):
            (logits, states, tally), compiled = _run(
                kernel,
                self._put(weights),
                _padded(table, solver.fixed, dtype),
                _control(solver, model.t0, model.t1, dtype),
                self._put(x),
                np.int32(solver.max_steps or MAX_STEPS),
            )
        return Evaluation(np.asarray(logits), np.asarray(states), _stats(tally, compiled))

    def _step_jacobian(self, problem: InitialValueProblem, dt: float) -> Array:
        real = problem.y0.dtype.type
        kernel = _jacobian_kernel(problem.field, _tableau(problem.solver).name)
        with self._precision(problem.y0.dtype):
            jacobian = kernel(
                self._put(problem.weights), real(problem.t0), real(dt), self._put(problem.y0)
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
        rhs = _step.RHS(apply, prepare(_fields.field_weights(weights)))
        y0 = _fields.augment(x, model.augment)
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
        return _fields.readout(weights, end.y), end.y, end.tally

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
def _adjoint_kernel(
    field: Field, name: str, fixed: bool, room: _integrate.Room
) -> Callable[..., Any]:
    solve = _differentiable(field, name, fixed, room, "BacksolveAdjoint")
    prepare, apply = _fields.right_hand_side(field)

    @jitted
    def kernel(weights: Any, control: Any, t0: Any, t1: Any, y0: Any, cotangent: Any) -> Any:
        def final(weights: Any, y0: Any) -> Any:
            return solve(weights, control, room.steps, t0, t1, y0)

        y1, pull, tally = jax.vjp(final, weights, y0, has_aux=True)
        to_weights, to_y0 = pull(cotangent)
        prepared = prepare(weights)
        # The flow's own: dy(t1)/dt1 = f(t1, y1), dy(t1)/dt0 = -dy(t1)/dy0 f(t0, y0).
        to_t0 = -jnp.sum(to_y0 * apply(prepared, t0, y0))
        to_t1 = jnp.sum(cotangent * apply(prepared, t1, y1))
        return to_weights, to_y0, to_t0, to_t1, y1, tally

    return kernel


@lru_cache(maxsize=256)
def _rhs_kernel(field: Field) -> Callable[..., Any]:
    prepare, apply = _fields.right_hand_side(field)

    @jitted
    def kernel(weights: Any, t: Any, y: Any) -> Any:
        return apply(prepare(weights), t, y)

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
        y0 = _fields.augment(x, model.augment)
        t0, t1 = jnp.asarray(model.t0, x.dtype), jnp.asarray(model.t1, x.dtype)
        y, tally = solve(_fields.field_weights(weights), control, limit, t0, t1, y0)
        logits = _fields.readout(weights, y)
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


def _run(kernel: Any, *arguments: Any) -> tuple[Any, bool]:
    """The kernel's result, and whether it was compiled for this call."""
    before = kernel._cache_size()
    result = kernel(*arguments)
    jax.tree.leaves(result)[0].block_until_ready()  # and so are all others: they come together
    return result, kernel._cache_size() > before


def _stats(tally: Iterable[Any], compiled: bool) -> Stats:
    nf, njac, naccept, nreject, code = (int(value) for value in tally)
    return Stats(nf, njac, naccept, nreject, _integrate.CODES[code], 0.0, compiled)


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
    (control,) = _segments(solver, (t0, t1), dtype, method)
    return control


def _segments(
    solver: Solver,
    times: tuple[float, ...],
    dtype: np.dtype[Any],
    method: Tableau | DenseMethod | None = None,
) -> list[_integrate.Control]:
    """How the solver steps between each two times."""
    real = dtype.type
    if solver.fixed:
        return [
            _integrate.FixedControl(np.int32(grid.n), real(grid.dt), real(grid.dt_last))
            for grid in segment_grids(solver, times)
        ]
    assert solver.rtol is not None
    assert solver.atol is not None
    by = method.controller if isinstance(method, DenseMethod) else controller(solver.name)
    control = _integrate.adaptive_control(by, solver.info.order or 1, solver.rtol, solver.atol)
    row = _integrate.AdaptiveControl(*(real(value) for value in control))
    return [row] * (len(times) - 1)


def _controls(problem: InitialValueProblem, method: Tableau | DenseMethod | None) -> Any:
    rows = _segments(problem.solver, (problem.t0, *problem.stops), problem.y0.dtype, method)
    return jax.tree.map(lambda *each: np.stack(each), *rows)


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
    max_steps: int,
) -> _Schedule:
    controls = _segments(solver, times, dtype, method)
    return _Schedule(
        jax.tree.map(lambda *rows: jnp.asarray(np.stack(rows)), *controls),
        jnp.asarray(np.array(times, dtype)),
        jnp.asarray(np.int32(max_steps)),
        sum(grid.n for grid in segment_grids(solver, times)) if solver.fixed else 0,
    )


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
