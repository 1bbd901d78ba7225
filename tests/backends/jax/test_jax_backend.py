"""The JAX backend: where solves end, what they cost, what they refuse, and how it trains."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from pynode_jl.backends import Adam, Backend, RetCode, Stats, TrainState
from pynode_jl.backends.jax import JaxBackend, field_eval, jit
from pynode_jl.errors import (
    BackendLacksSolverError,
    InvalidValueError,
    PyNODEError,
    SolveError,
    UnknownNameError,
    WrongSolverError,
)
from pynode_jl.fields import (
    ACTIVATIONS,
    MLP,
    ConvField1d,
    ConvField2d,
    Field,
    FunctionField,
    LinearField,
    VectorField,
)
from pynode_jl.models import Model
from pynode_jl.solvers import Solver, tableau

DECAY = FunctionField(lambda w, t, y: -y, (1,))
CLOCK = FunctionField(lambda w, t, y: jnp.ones_like(y), (1,))
OSCILLATOR = FunctionField(lambda w, t, y: jnp.stack([y[:, 1], -y[:, 0]], 1), (2,))
BLOW_UP = FunctionField(lambda w, t, y: y * y, (1,))
ONE = np.ones((1, 1))
TWO = np.array([[1.0, 0.0], [0.3, -0.7]])
HEUN = Solver("Heun")


def doubled(weights: dict[str, Any]) -> dict[str, np.ndarray]:
    """Weights in float64, biases made non-zero."""
    random = np.random.default_rng(7)
    return {k: v + 0.1 * random.standard_normal(v.shape) for k, v in weights.items()}


def test_backend_is_a_backend(backend: Any) -> None:
    assert isinstance(backend, Backend)
    assert backend.devices()[0] in ("cpu", "gpu")
    assert {"Euler", "Midpoint", "RK4", "KenCarp4"} <= set(backend.solvers())


# Where solves end ---------------------------------------------------------------------------------


def test_every_reciprocal_step_divides_the_interval() -> None:
    for n in range(1, 513):
        for dt in (1 / n, float(np.float32(1 / n))):
            grid = Solver("Euler", dt=dt).grid(0.0, 1.0)
            assert (grid.n, grid.dt, grid.dt_last) == (n, 1 / n, 1 / n)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 3, 49, 100, 161, 333, 512])
def test_fixed_steps_end_at_t1(backend: Any, n: int, dtype: type) -> None:
    solution = backend.solve(CLOCK, {}, 0 * ONE.astype(dtype), (0, 1), Solver("Euler", dt=1 / n))
    assert solution.stats.naccept == n
    assert solution.t == [1.0]
    assert solution.y1 == pytest.approx(1.0, abs=float(2 * n * np.finfo(dtype).eps))


def test_last_step_is_shortened(backend: Any) -> None:
    solution = backend.solve(CLOCK, {}, 0 * ONE, (0, 1), Solver("Euler", dt=0.3), save_steps=True)
    np.testing.assert_allclose(solution.t, [0, 0.3, 0.6, 0.9, 1.0], rtol=1e-15)
    np.testing.assert_allclose(solution.y[:, 0, 0], solution.t, rtol=1e-15)


@pytest.mark.parametrize("solver", [Solver("RK4", dt=0.007), Solver("DP5", rtol=1e-9, atol=1e-9)])
def test_backwards_integration_returns(backend: Any, solver: Solver) -> None:
    there = backend.solve(OSCILLATOR, {}, TWO, (0.2, 1.7), solver)
    back = backend.solve(OSCILLATOR, {}, there.y1, (1.7, 0.2), solver, save_steps=True)
    np.testing.assert_allclose(back.y1, TWO, atol=1e-8)
    assert back.t[0] == 1.7
    assert back.t[-1] == 0.2
    assert (np.diff(back.t) < 0).all()


@pytest.mark.parametrize("solver", [Solver("RK4", dt=0.01), Solver("DP5", rtol=1e-9, atol=1e-9)])
@pytest.mark.parametrize("span", [(0.0, 1.0), (1.0, -1.0)])
def test_save_at_gives_the_states_there(
    backend: Any, solver: Solver, span: tuple[float, float]
) -> None:
    t0, t1 = span
    times = list(t0 + (t1 - t0) * np.array([0.1, 0.25, 0.7, 1.0]))
    solution = backend.solve(DECAY, {}, ONE, span, solver, save_at=times)
    assert solution.t.tolist() == times
    assert solution.y.shape == (4, 1, 1)
    np.testing.assert_allclose(solution.y[:, 0, 0], np.exp(t0 - np.array(times)), rtol=1e-8)


def test_save_at_may_end_before_t1(backend: Any) -> None:
    solution = backend.solve(DECAY, {}, ONE, (0, 1), Solver("RK4", dt=0.01), save_at=[0.5])
    assert solution.t.tolist() == [0.5]
    assert solution.stats.naccept == 50


def test_save_at_changes_steps_little(backend: Any) -> None:
    """A save time cuts one step; the controller must not take the cut one for its own choice."""
    solver = Solver("DP5", rtol=1e-8, atol=1e-8)
    plain = backend.solve(OSCILLATOR, {}, TWO, (0, 40), solver).stats
    pairs = [t for i in range(2, 40, 2) for t in (i - 1e-3, float(i))]
    saved = backend.solve(OSCILLATOR, {}, TWO, (0, 40), solver, save_at=[*pairs, 40.0]).stats
    assert saved.naccept <= plain.naccept + 2 * len(pairs)
    assert saved.nreject <= plain.nreject + len(pairs) // 2


def test_save_at_finer_than_the_fixed_step(backend: Any) -> None:
    """As Julia's tstops: steps are cut to hit the save times."""
    times = [0.05, 0.1, 0.15, 1.0]
    solution = backend.solve(CLOCK, {}, 0 * ONE, (0, 1), Solver("Euler", dt=0.1), save_at=times)
    np.testing.assert_allclose(solution.y[:, 0, 0], times, rtol=1e-14)


@pytest.mark.parametrize("steps", [100, 5000])
def test_save_steps_returns_every_step(backend: Any, steps: int) -> None:
    """The adaptive one too: its steps are not known before the solve."""
    fixed = backend.solve(DECAY, {}, ONE, (0, 1), Solver("Euler", dt=1 / steps), save_steps=True)
    assert len(fixed.t) == len(fixed.y) == steps + 1
    np.testing.assert_allclose(fixed.t, np.arange(steps + 1) / steps, atol=1e-15)
    np.testing.assert_allclose(fixed.y[:, 0, 0], (1 - 1 / steps) ** np.arange(steps + 1), rtol=1e-9)
    tolerance = {100: 1e-5, 5000: 4e-9}[steps]
    adaptive = backend.solve(
        DECAY, {}, ONE, (0, 1), Solver("Heun", rtol=tolerance, atol=tolerance), save_steps=True
    )
    assert len(adaptive.t) == len(adaptive.y) == adaptive.stats.naccept + 1
    assert adaptive.stats.naccept > steps
    np.testing.assert_allclose(adaptive.y[:, 0, 0], np.exp(-adaptive.t), rtol=1e-3)


def test_far_from_zero_in_float32(backend: Any) -> None:
    """t itself is coarse there; the number of steps and their sizes must not be."""
    y0 = ONE.astype(np.float32)
    near = backend.solve(DECAY, {}, y0, (0, 1), Solver("RK4", dt=1 / 64))
    far = backend.solve(DECAY, {}, y0, (1e6, 1e6 + 1), Solver("RK4", dt=1 / 64))
    assert far.y1 == near.y1
    assert far.stats.naccept == 64


# What solves cost ---------------------------------------------------------------------------------


class Counter:
    """A field that counts its evaluations, and those of its Jacobian, where they happen."""

    def __init__(self, rhs: Callable[[Any, Any], Any], size: int) -> None:
        self.nf = self.njac = 0

        @jax.custom_jvp
        def counted(y: Any) -> Any:
            jax.debug.callback(self._evaluated, y[0, 0])
            return y

        @counted.defjvp
        def counted_jvp(primals: Any, tangents: Any) -> Any:
            jax.debug.callback(self._differentiated, primals[0][0, 0])
            return primals[0], tangents[0]

        self.field = FunctionField(lambda _, t, y: rhs(t, counted(y)), (size,))

    def _evaluated(self, _: object) -> None:
        self.nf += 1

    def _differentiated(self, _: object) -> None:
        self.njac += 1


# Van der Pol's relaxation oscillation, driven: it makes controllers reject.
def _van_der_pol(t: Any, y: Any) -> Any:
    x, v = y[:, 0], y[:, 1]
    return jnp.stack([v, 8 * (1 - x * x) * v - x + jnp.sin(3 * t)], 1)


@pytest.fixture(scope="module")
def counter() -> Counter:
    return Counter(_van_der_pol, 2)


# nf expected where it is known beforehand: stages that the solution needs, times steps.
@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        (Solver("Euler", dt=1 / 16), 16),
        (Solver("RK4", dt=1 / 16), 64),
        (Solver("BS3", dt=1 / 16), 48),
        (Solver("DP5", dt=1 / 16), 96),
        (Solver("ImplicitEuler", dt=1 / 16), None),
        (HEUN, None),
        (Solver("BS3"), None),
        (Solver("DP5"), None),
        (Solver("BS5"), None),
        (Solver("KenCarp4"), None),
    ],
    ids=str,
)
def test_counts_are_true(
    backend: Any, counter: Counter, solver: Solver, expected: int | None
) -> None:
    span = (0.0, 1.0) if solver.fixed else (0.0, 8.0)
    counter.nf = counter.njac = 0
    stats = backend.solve(counter.field, {}, np.array([[2.0, 0.0]]), span, solver).stats
    jax.effects_barrier()
    assert (stats.nf, stats.njac) == (counter.nf, counter.njac)
    table = tableau(solver.name)
    assert expected in (None, stats.nf)
    assert (stats.njac > 0) == (not table.explicit)
    if not solver.fixed:
        assert stats.nreject > 0  # else rejected steps would not have been counted
    if not solver.fixed and table.explicit:
        tries = stats.naccept + stats.nreject
        # Two evaluations choose the first step. A first stage is f(t, y), known after a rejection;
        # FSAL knows it after an accepted step too.
        known = tries - 1 if table.fsal else stats.nreject
        assert stats.nf == 2 + tries * table.stages - known


def test_counts_add_up_over_save_times(backend: Any, counter: Counter) -> None:
    counter.nf = 0
    times = [1.0, 2.5, 2.6, 8.0]
    stats = backend.solve(
        counter.field, {}, np.array([[2.0, 0.0]]), (0, 8), Solver("DP5"), save_at=times
    ).stats
    jax.effects_barrier()
    assert stats.nf == counter.nf


def test_training_reports_forward_evaluations(backend: Any, task: Task) -> None:
    assert (task.train(backend, Solver("Euler", dt=1 / 8), 3).nf == 8).all()
    assert (task.train(backend, HEUN, 3).nf >= 2 + 2 * 2).all()


def test_stats_add() -> None:
    a = Stats(1, 2, 3, 4, RetCode.Success, 0.5)
    b = Stats(10, 20, 30, 40, RetCode.MaxIters, 1.0, compiled=True)
    assert a + b == Stats(11, 22, 33, 44, RetCode.MaxIters, 1.5, compiled=True)
    assert (b + Stats(0, 0, 0, 0, RetCode.Unstable)).retcode == RetCode.MaxIters


# Compilation --------------------------------------------------------------------------------------


@contextlib.contextmanager
def nothing_compiles(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="jax"), jax.log_compiles():
        yield
        compiled = [r.getMessage() for r in caplog.records if "ompil" in r.getMessage()]
    assert not compiled


def test_nothing_compiles_is_not_blind(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AssertionError, match="ompil"), nothing_compiles(caplog):
        jax.jit(lambda x: x + 41.5)(np.ones(3))


def test_other_steps_tolerances_and_solvers_do_not_recompile(
    backend: Any, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    weights, x = task.model.init(0), task.x
    for first in (Solver("RK4", dt=1 / 7), HEUN, Solver("SDIRK2", dt=1 / 4)):
        backend.evaluate(task.model, weights, x, first)
    with nothing_compiles(caplog):
        for solver in (
            Solver("RK4", dt=1 / 300),
            Solver("RK4", dt=0.3, max_steps=77),
            Solver("Euler", dt=1 / 16),
            Solver("Midpoint", dt=1 / 16),
            Solver("RK38", dt=1 / 16),
            Solver("Heun", rtol=1e-5),
            Solver("Ralston", rtol=1e-4, atol=1e-9),
            Solver("BS3", atol=1e-7),
            Solver("ImplicitEuler", dt=1 / 5),
        ):
            assert not backend.evaluate(task.model, weights, x, solver).stats.compiled


def test_training_at_another_step_does_not_recompile(
    backend: Any, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    task.train(backend, Solver("Euler", dt=1 / 8), 3)
    with nothing_compiles(caplog):
        task.train(backend, Solver("Euler", dt=1 / 500), 7)
        task.train(backend, Solver("Euler", dt=0.3), 1)


# Failures -----------------------------------------------------------------------------------------


def _failing(solver: Solver, *, field: Field = BLOW_UP, t1: float = 2.0, y0: Any = ONE) -> Any:
    return field, {}, y0, (0.0, t1), solver


FAILURES = {
    "blow-up, adaptive": (
        _failing(Solver("DP5")),
        {RetCode.DtLessThanMin, RetCode.Unstable},
    ),
    "blow-up, fixed": (_failing(Solver("RK4", dt=0.1)), {RetCode.Unstable}),
    "max_steps, adaptive": (
        _failing(Solver("DP5", rtol=1e-9, max_steps=5), field=OSCILLATOR, y0=TWO),
        {RetCode.MaxIters},
    ),
    "max_steps, fixed": (
        _failing(Solver("RK4", dt=0.01, max_steps=199), field=DECAY),
        {RetCode.MaxIters},
    ),
    # k = (1 + 0.3 k)^2 has no real root.
    "no stage": (
        _failing(Solver("ImplicitEuler", dt=0.3), t1=0.3),
        {RetCode.ConvergenceFailure},
    ),
    "NaN state": (_failing(Solver("DP5"), y0=np.nan * ONE), {RetCode.Unstable}),
    "NaN state, fixed": (_failing(Solver("RK4", dt=0.1), y0=np.nan * ONE), {RetCode.Unstable}),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failed_solves_say_why(backend: Any, case: str) -> None:
    arguments, codes = FAILURES[case]
    solution = backend.solve(*arguments, throw=False)
    assert solution.stats.retcode in codes
    with pytest.raises(SolveError) as caught:
        backend.solve(*arguments)
    code = solution.stats.retcode
    assert caught.value.retcode == code
    assert str(caught.value).startswith(f"{code}: {arguments[4].label}. ")
    assert ("y0 holds 1 NaN of 1 numbers" if "NaN" in case else code.meaning) in str(caught.value)


def test_max_steps_that_suffice(backend: Any) -> None:
    solver = Solver("RK4", dt=0.01, max_steps=200)
    assert backend.solve(DECAY, {}, ONE, (0, 2), solver).stats.naccept == 200


def test_max_steps_is_for_the_whole_solve(backend: Any) -> None:
    free, limited = (Solver("DP5", rtol=1e-9, atol=1e-9, max_steps=n) for n in (None, 12))
    times = list(np.linspace(0.25, 1, 4))
    needed = backend.solve(DECAY, {}, ONE, (0, 1), free, save_at=times).stats
    assert needed.naccept + needed.nreject > 12
    stats = backend.solve(DECAY, {}, ONE, (0, 1), limited, save_at=times, throw=False).stats
    assert stats.retcode == RetCode.MaxIters
    assert stats.naccept + stats.nreject <= 12


def test_max_steps_limits_gradients_too(backend: Any) -> None:
    for solver in (Solver("RK4", dt=0.01, max_steps=99), Solver("DP5", rtol=1e-12, max_steps=3)):
        with pytest.raises(SolveError, match="MaxIters"):
            backend.vjp(DECAY, {}, ONE, (0, 1), solver, ONE)


def test_save_steps_of_a_failed_solve_end_where_it_ended(backend: Any) -> None:
    solution = backend.solve(BLOW_UP, {}, ONE, (0, 2), Solver("DP5"), save_steps=True, throw=False)
    assert solution.t[-1] <= 1.001
    # Nearer to the pole an error in y grows with y itself.
    np.testing.assert_allclose(solution.y[:10, 0, 0], 1 / (1 - solution.t[:10]), rtol=1e-2)


def test_evaluate_never_throws(backend: Any, task: Task) -> None:
    wild = {k: 1e38 * (v + 1) for k, v in task.model.init(0).items()}
    for solver in (Solver("RK4", dt=1 / 4), HEUN, Solver("SDIRK2", dt=1 / 4)):
        evaluation = backend.evaluate(task.model, wild, task.x, solver)
        assert evaluation.stats.retcode != RetCode.Success
        assert evaluation.logits.shape == (len(task.x), 2)
        assert evaluation.predictions.shape == (len(task.x),)
    blown = backend.evaluate(task.model, wild, task.x, Solver("RK4", dt=1 / 4))
    assert (blown.predictions == -1).any()


# Refusals -----------------------------------------------------------------------------------------

FIELD = MLP(2, width=3, depth=1)
WEIGHTS = FIELD.init(0)
EULER = Solver("Euler", dt=0.5)


def _without(name: str) -> dict[str, Any]:
    return {k: v for k, v in WEIGHTS.items() if k != name}


REFUSED: dict[str, tuple[dict[str, Any], type[PyNODEError], str]] = {
    "no batch axis": ({"y0": TWO[0]}, InvalidValueError, r"y0.shape = \(2,\).*batch"),
    "scalar": ({"y0": np.float64(1)}, InvalidValueError, "y0.shape"),
    "other width": ({"y0": np.ones((2, 3))}, InvalidValueError, r"y0.shape = \(2, 3\)"),
    "empty batch": ({"y0": np.ones((0, 2))}, InvalidValueError, "batch >= 1"),
    "complex": ({"y0": TWO.astype(complex)}, InvalidValueError, "y0.dtype"),
    "half": ({"y0": TWO.astype(np.float16)}, InvalidValueError, "float32 or float64"),
    "text": ({"y0": np.array([["a", "b"]])}, InvalidValueError, "y0.dtype"),
    "missing weight": (
        {"weights": _without("layers.2.bias")},
        InvalidValueError,
        r"missing \['layers.2.bias'\]",
    ),
    "unknown weight": (
        {"weights": WEIGHTS | {"layers.9.bias": ONE}},
        InvalidValueError,
        r"unknown \['layers.9.bias'\]",
    ),
    "weight of another shape": (
        {"weights": WEIGHTS | {"layers.0.bias": np.ones(4)}},
        InvalidValueError,
        r"weights\['layers.0.bias'\].shape = \(4,\)",
    ),
    "empty interval": ({"t_span": (1.0, 1.0)}, InvalidValueError, "t_span"),
    "NaN interval": ({"t_span": (0.0, np.nan)}, InvalidValueError, "t_span"),
    "infinite interval": ({"t_span": (0.0, np.inf)}, InvalidValueError, "t_span"),
    "save_at unsorted": ({"save_at": [0.5, 0.2]}, InvalidValueError, "save_at"),
    "save_at twice": ({"save_at": [0.5, 0.5]}, InvalidValueError, "save_at"),
    "save_at at t0": ({"save_at": [0.0, 0.5]}, InvalidValueError, "save_at"),
    "save_at beyond t1": ({"save_at": [0.5, 1.5]}, InvalidValueError, "save_at"),
    "save_at NaN": ({"save_at": [0.5, np.nan]}, InvalidValueError, "save_at"),
    "save_at empty": ({"save_at": []}, InvalidValueError, "save_at"),
    "both": ({"save_at": [1.0], "save_steps": True}, InvalidValueError, "save_steps"),
    "zoo's solver": (
        {"solver": Solver("Rosenbrock23")},
        BackendLacksSolverError,
        'Rosenbrock23.*backend="julia"',
    ),
    "no error weights": (
        {"solver": Solver("RK4", rtol=1e-3)},
        BackendLacksSolverError,
        r'Solver\("RK4", dt=...\)',
    ),
    "options": (
        {"solver": Solver("Euler", dt=0.5, options={"lazy": False})},
        WrongSolverError,
        "options",
    ),
    "step too long": ({"solver": Solver("Euler", dt=2.0)}, InvalidValueError, "dt = 2.0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_solve_refuses(backend: Any, case: str) -> None:
    changes, error, message = REFUSED[case]
    arguments = {
        "field": FIELD, "weights": WEIGHTS, "y0": TWO, "t_span": (0.0, 1.0), "solver": EULER,
    }  # fmt: skip
    with pytest.raises(error, match=message):
        backend.solve(**arguments | changes)


def test_gradients_refuse(backend: Any) -> None:
    with pytest.raises(UnknownNameError, match="unknown gradient 'discret': did you mean discrete"):
        backend.vjp(FIELD, WEIGHTS, TWO, (0, 1), EULER, TWO, gradient="discret")
    with pytest.raises(WrongSolverError, match="explicit"):
        backend.vjp(
            FIELD, WEIGHTS, TWO, (0, 1), Solver("SDIRK2", dt=0.5), TWO, gradient="BacksolveAdjoint"
        )
    with pytest.raises(InvalidValueError, match="cotangent"):
        backend.vjp(FIELD, WEIGHTS, TWO, (0, 1), EULER, np.ones((3, 2)))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("x", np.ones((20, 3))),
        ("x", np.ones((0, 2))),
        ("labels", np.zeros(7)),
        ("labels", np.full(64, 2)),
        ("labels", np.full(64, -1)),
        ("labels", np.full(64, 0.5)),
        ("batches", np.array([[0, 64]])),
        ("batches", np.array([[-1, 3]])),
        ("batches", np.arange(4)),
        ("batches", np.ones((1, 4))),
    ],
    ids=lambda value: str(np.shape(value)) if isinstance(value, np.ndarray) else value,
)
def test_train_refuses(backend: Any, task: Task, argument: str, value: np.ndarray) -> None:
    arguments = {"x": task.x, "targets": task.labels, "batches": task.batches[:1]}
    arguments["targets" if argument == "labels" else argument] = value
    state, solver = TrainState.start(task.model.init(0)), Solver("Euler", dt=1 / 8)
    with pytest.raises(InvalidValueError, match=argument):
        backend.train(task.model, state, **arguments, solver=solver, optimizer=Adam(1e-2))


@pytest.mark.parametrize(
    "wrong",
    [lambda w, t, y: y[:, :1], lambda w, t, y: y.sum(0), lambda w, t, y: jnp.float32(1)],
)
def test_function_of_the_wrong_shape_is_refused(backend: Any, wrong: Callable[..., Any]) -> None:
    """Broadcasting would make a wrong solve of it, silently."""
    for solver in (EULER, HEUN):
        with pytest.raises(InvalidValueError, match="function"):
            backend.solve(FunctionField(wrong, (2,)), {}, TWO, (0, 1), solver)


def test_device_is_checked() -> None:
    with pytest.raises(InvalidValueError, match="device"):
        JaxBackend("tpu")


# Precision and array kinds ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_that_of_the_state(backend: Any, task: Task, dtype: type) -> None:
    y0 = TWO.astype(dtype)
    solution = backend.solve(FIELD, WEIGHTS, y0, (0, 1), EULER)
    assert solution.y.dtype == solution.t.dtype == dtype
    to_weights, to_y0 = backend.vjp(FIELD, WEIGHTS, y0, (0, 1), EULER, y0)
    assert {v.dtype for v in to_weights.values()} | {to_y0.dtype} == {np.dtype(dtype)}
    assert backend.evaluate(
        task.model, task.model.init(0), task.x.astype(dtype), EULER
    ).logits.dtype == dtype  # fmt: skip
    assert backend.step_jacobian(FIELD, WEIGHTS, y0, 0.0, 0.5, EULER).dtype == dtype
    # JAX's global switch is the user's.
    assert not jax.config.jax_enable_x64
    assert jnp.ones(1).dtype == jnp.float32


def test_float64_is_float64(backend: Any) -> None:
    solver = Solver("DP5", rtol=1e-12, atol=1e-12)
    assert abs(backend.solve(DECAY, {}, ONE, (0, 1), solver).y1 - np.exp(-1)) < 1e-11


@pytest.mark.parametrize(
    "convert",
    [
        torch.from_numpy,
        lambda a: torch.from_numpy(a).requires_grad_(),
        lambda a: torch.from_numpy(a.T.copy()).T,
        jnp.asarray,
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a.tolist(),
    ],
    ids=["torch", "torch leaf", "torch strided", "jax", "fortran", "view", "list"],
)
def test_any_array_is_taken(backend: Any, convert: Callable[[Any], Any]) -> None:
    y0 = TWO.astype(np.float32)
    expected = backend.solve(FIELD, WEIGHTS, y0, (0, 1), EULER).y1
    taken = backend.solve(FIELD, WEIGHTS, convert(y0), (0, 1), EULER).y1
    assert isinstance(taken, np.ndarray)
    np.testing.assert_array_equal(taken, expected)


@pytest.mark.parametrize("convert", [jnp.asarray, torch.tensor, torch.nn.Parameter])
def test_any_weights_are_taken(backend: Any, convert: Callable[[Any], Any]) -> None:
    as_tensor = torch.from_numpy if convert is torch.nn.Parameter else (lambda a: a)
    weights = {k: convert(as_tensor(v)) for k, v in WEIGHTS.items()}
    expected = backend.solve(FIELD, WEIGHTS, TWO, (0, 1), EULER).y1
    np.testing.assert_array_equal(backend.solve(FIELD, weights, TWO, (0, 1), EULER).y1, expected)


def test_inputs_are_not_changed(backend: Any, task: Task) -> None:
    state, x = TrainState.start(task.model.init(0)), task.x.copy()
    before = {k: v.copy() for k, v in state.weights.items()}
    x.setflags(write=False)
    solver = Solver("Euler", dt=1 / 8)
    backend.train(task.model, state, x, task.labels, task.batches[:3], solver, Adam(1e-2))
    for name, value in before.items():
        np.testing.assert_array_equal(state.weights[name], value)
    assert state.iteration == 0


# Training -----------------------------------------------------------------------------------------


class Task:
    """Points inside or outside of a circle, and a small model for them."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.x = random.normal(size=(64, 2)).astype(np.float32)
        self.labels = (np.linalg.norm(self.x, axis=1) > 1.1).astype(int)
        self.batches = random.integers(0, 64, size=(100, 16))
        self.model = Model(MLP(2, width=8, depth=1), classes=2)

    def train(
        self, backend: Any, solver: Solver, iterations: int, state: TrainState | None = None
    ) -> Any:
        state = TrainState.start(self.model.init(0)) if state is None else state
        batches = self.batches[state.iteration : state.iteration + iterations]
        return backend.train(self.model, state, self.x, self.labels, batches, solver, Adam(1e-2))


@pytest.fixture(scope="module")
def task() -> Task:
    return Task()


def _equal(a: TrainState, b: TrainState) -> bool:
    return a.iteration == b.iteration and all(
        np.array_equal(getattr(a, part)[name], getattr(b, part)[name])
        for part in ("weights", "mu", "nu")
        for name in a.weights
    )


@pytest.mark.parametrize("solver", [Solver("Euler", dt=1 / 8), HEUN], ids=str)
def test_loss_falls(backend: Any, task: Task, solver: Solver) -> None:
    result = task.train(backend, solver, 100)
    assert result.retcode == RetCode.Success
    assert result.state.iteration == len(result.loss) == len(result.accuracy) == 100
    assert result.loss[-10:].mean() < 0.8 * result.loss[:10].mean()
    before = backend.evaluate(task.model, task.model.init(0), task.x, solver)
    after = backend.evaluate(task.model, result.state.weights, task.x, solver)
    assert after.accuracy(task.labels) > before.accuracy(task.labels)


def test_metrics_are_those_of_the_batch_before_its_update(backend: Any, task: Task) -> None:
    solver = Solver("Euler", dt=1 / 8)
    one = task.train(backend, solver, 1)
    two = task.train(backend, solver, 1, one.state)
    for result, weights in ((one, task.model.init(0)), (two, one.state.weights)):
        batch = task.batches[result.state.iteration - 1]
        evaluation = backend.evaluate(task.model, weights, task.x[batch], solver)
        logits, labels = evaluation.logits.astype(float), task.labels[batch]
        shifted = logits - logits.max(1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
        np.testing.assert_allclose(result.loss, losses.mean(), rtol=1e-5)
        np.testing.assert_allclose(result.accuracy, evaluation.accuracy(labels), rtol=1e-6)


def test_chunking_does_not_matter(backend: Any, task: Task) -> None:
    solver = Solver("Euler", dt=1 / 8)
    whole = task.train(backend, solver, 100)
    for size in (50, 1):
        state, losses = None, []
        for _ in range(0, 100, size):
            result = task.train(backend, solver, size, state)
            state = result.state
            losses.append(result.loss)
        assert state is not None
        assert _equal(state, whole.state)
        np.testing.assert_array_equal(np.concatenate(losses), whole.loss)


def test_two_runs_are_equal_bit_for_bit(backend: Any, task: Task) -> None:
    first, second = (task.train(backend, HEUN, 20) for _ in range(2))
    assert _equal(first.state, second.state)


@pytest.mark.parametrize("broken", [0, 7, 63])
def test_divergence_keeps_the_last_good_state(backend: Any, broken: int) -> None:
    task = Task()
    task.batches[task.batches == 5] = 6
    task.batches[broken, 3] = 5
    good = task.train(backend, Solver("Euler", dt=1 / 8), broken) if broken else None
    task.x[5] = np.nan
    result = task.train(backend, Solver("Euler", dt=1 / 8), 100)
    assert result.retcode == RetCode.Unstable
    assert result.state.iteration == len(result.loss) == len(result.nf) == broken
    assert np.isfinite(result.loss).all()
    assert all(np.isfinite(v).all() for v in result.state.weights.values())
    expected = good.state if good else TrainState.start(task.model.init(0))
    assert _equal(result.state, expected)


def test_failing_solve_ends_training(backend: Any, task: Task) -> None:
    result = task.train(backend, Solver("Heun", rtol=1e-12, atol=1e-12), 5)
    assert result.retcode in (RetCode.MaxIters, RetCode.DtLessThanMin)
    assert result.state.iteration == 0
    assert _equal(result.state, TrainState.start(task.model.init(0)))


# Models and fields --------------------------------------------------------------------------------


def _right_hand_side(field: VectorField, weights: Any, t: float, y: np.ndarray) -> np.ndarray:
    with jax.enable_x64(y.dtype == np.float64):
        prepare, apply = field_eval.right_hand_side(field)
        return np.asarray(apply(prepare(jax.tree.map(jnp.asarray, weights)), jnp.asarray(t), y))


def _cases() -> dict[str, VectorField]:
    fields: dict[str, VectorField] = {
        f"conv1d {d}": ConvField1d(d, channels=5) for d in (1, 2, 3, 4, 10, 900)
    }
    fields |= {f"conv1d {d}, time": ConvField1d(d, time_dependent=True) for d in (1, 2, 10)}
    fields |= {
        f"conv2d {shape}": ConvField2d(shape, channels=4, time_dependent=time)
        for shape, time in (((1, 5, 4), False), ((3, 6, 6), True), ((2, 1, 1), False))
    }
    fields |= {f"mlp {name}": MLP(3, activation=name) for name in ACTIVATIONS}
    return fields | {"mlp, time": MLP(2, time_dependent=True), "linear": LinearField(4)}


@pytest.mark.parametrize("case", _cases())
def test_fields_are_torchs(case: str, torch_twin: Any) -> None:
    field = _cases()[case]
    weights = doubled(field.init(3))
    y = np.random.default_rng(1).normal(size=(3, *field.state_shape)) * 2
    expected = torch_twin(field, weights)(0.37, torch.from_numpy(y)).detach().numpy()
    np.testing.assert_allclose(
        _right_hand_side(field, weights, 0.37, y), expected, rtol=1e-12, atol=1e-12
    )


def test_time_reaches_the_field_in_a_solve(backend: Any, torch_twin: Any) -> None:
    field = ConvField1d(3, channels=4, time_dependent=True)
    weights, y0 = doubled(field.init(0)), np.random.default_rng(0).normal(size=(2, 3))
    y1 = backend.solve(field, weights, y0, (0.25, 0.75), Solver("Midpoint", dt=0.5)).y1
    f, y = torch_twin(field, weights), torch.from_numpy(y0)
    expected = y + 0.5 * f(0.5, y + 0.25 * f(0.25, y))
    np.testing.assert_allclose(y1, expected.detach().numpy(), rtol=1e-13)


@pytest.mark.parametrize(
    "field", [MLP(5, width=4, depth=1), ConvField2d((3, 4, 4), channels=3)], ids=["vector", "image"]
)
def test_augmented_model_pads_solves_and_reads_out(backend: Any, field: VectorField) -> None:
    model = Model(field, classes=3, t0=0.5, t1=-0.5, augment=2)
    weights = doubled(model.init(1))
    x = np.random.default_rng(0).normal(size=(4, *model.input_shape))
    padded = np.zeros((4, *field.state_shape))
    padded[:, : model.input_shape[0]] = x
    inner = {k.removeprefix("field."): v for k, v in weights.items() if k.startswith("field.")}
    solver = Solver("RK4", dt=1 / 4)
    y1 = backend.solve(field, inner, padded, (0.5, -0.5), solver).y1
    logits = y1.reshape(4, -1) @ weights["head.weight"].T + weights["head.bias"]
    evaluation = backend.evaluate(model, weights, x, solver)
    np.testing.assert_allclose(evaluation.states, y1, rtol=1e-13)
    np.testing.assert_allclose(evaluation.logits, logits, rtol=1e-12)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (MLP(2, width=6, depth=1, time_dependent=True), "RK4"),
        (MLP(3, width=6, depth=1, time_dependent=True), "ImplicitEuler"),
        (ConvField1d(10, channels=3, activation="silu", time_dependent=True), "Midpoint"),
        (ConvField2d((1, 3, 4), channels=2, activation="tanh"), "Euler"),
        (ConvField1d(900, channels=2, activation="tanh"), "Euler"),
        pytest.param(
            MLP(2, width=6, depth=1, time_dependent=True), "KenCarp4", marks=pytest.mark.slow
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.state_shape),
)
def test_step_jacobian_is_that_of_the_step(backend: Any, field: VectorField, name: str) -> None:
    t, dt, eps, size = 0.2, -0.3, 1e-3, field.size
    solver, weights = Solver(name, dt=0.3), doubled(field.init(2))
    y = np.random.default_rng(0).normal(size=(2, *field.state_shape))
    jacobian = backend.step_jacobian(field, weights, y, t, dt, solver)
    assert jacobian.shape == (2, size, size)
    columns = list(range(size)) if size <= 12 else [0, 1, 450, 898, 899]
    # All shifted states are one batch: no field mixes samples. Central differences of order 4.
    shifts = eps * np.eye(size)[columns].reshape(-1, 1, *field.state_shape)
    stacked = np.stack([y + k * shifts for k in (1, -1, 2, -2)])
    batch = stacked.reshape(-1, *field.state_shape)
    after = backend.solve(field, weights, batch, (t, t + dt), solver).y1
    p1, m1, p2, m2 = after.reshape(4, len(columns), 2, size)
    expected = (8 * (p1 - m1) - (p2 - m2)) / (12 * eps)
    np.testing.assert_allclose(
        jacobian[:, :, columns], np.transpose(expected, (1, 2, 0)), atol=1e-9
    )


def test_compiled_kernels_are_dropped_before_the_system_runs_out_of_maps(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (FIELD, WEIGHTS, TWO, (0, 1), EULER)
    first = backend.solve(*arguments).y
    assert not backend.solve(*arguments).stats.compiled
    assert not jit.drop_compiled(most=1.0)
    assert jit.drop_compiled(most=0.0)
    again = backend.solve(*arguments)
    assert again.stats.compiled
    np.testing.assert_array_equal(again.y, first)
    # The maps are counted after every so many compilations, and only then.
    counted: list[float] = []
    monkeypatch.setattr(jit, "drop_compiled", counted.append)
    monkeypatch.setattr(jit, "_BETWEEN_COUNTS", 1)
    backend.solve(*arguments)
    assert counted == []
    backend.solve(FIELD, WEIGHTS, np.tile(TWO, (3, 1)), (0, 1), EULER)
    assert len(counted) == 1


def test_the_programs_used_longest_ago_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a process that meets ever new shapes takes more and more memory."""
    monkeypatch.setattr(jit, "_KERNELS", weakref.WeakSet())
    monkeypatch.setattr(jit, "_recent", OrderedDict())
    monkeypatch.setattr(jit, "_MOST_PROGRAMS", 4)
    old, new = jit.jitted(lambda x: x + 1), jit.jitted(lambda x: x + 2)
    for n in range(1, 4):
        jit.run(old, np.zeros(n))
    for n in range(1, 4):
        assert jit.run(new, np.zeros(n))[0].shape == (n,)
    assert (old._cache_size(), new._cache_size()) == (0, 3)
    result, seconds = jit.run(old, np.zeros(1))
    assert result == 1.0
    assert seconds > 0
