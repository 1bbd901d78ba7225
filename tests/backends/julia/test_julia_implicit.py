"""Implicit solvers in Julia: both precisions, fixed and adaptive steps, every kind of field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from julia_problems import distance, needs_julia, problem

from pynode_jl.backends import RetCode, get_backend
from pynode_jl.backends.julia import JuliaSource, julia_solver, lux_field, sublibrary
from pynode_jl.datasets import concentric_spheres
from pynode_jl.diagnostics import swap
from pynode_jl.errors import (
    BackendUnavailableError,
    InvalidValueError,
    SolveError,
    WrongSolverError,
)
from pynode_jl.fields import MLP, FunctionField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver, info
from pynode_jl.training import TrainedModel

pytestmark = needs_julia

STIFF = (
    "TRBDF2",
    "Rosenbrock23",
    "Rodas5P",
    "QNDF",
    "FBDF",
    "KenCarp4",
    "RadauIIA5",
    "AutoTsit5",
)
FIXED = [name for name in STIFF if info(name).fixed_step]
# Compilation is minutes: the default suite takes one of each family.
FEW = {"TRBDF2", "Rosenbrock23"}


def few(names: Any) -> list[Any]:
    return [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.fixture(scope="module")
def julia() -> Any:
    return get_backend("julia")


def dtypes() -> Any:
    return pytest.mark.parametrize(
        ("dtype", "bound"), [(np.float32, 2e-3), (np.float64, 1e-3)], ids=["float32", "float64"]
    )


@dtypes()
@pytest.mark.parametrize("name", ["mlp", "conv1d, windows"])
@pytest.mark.parametrize("solver", few(STIFF))
def test_adaptive_solves(
    julia: Any, backend: Any, solver: str, name: str, dtype: Any, bound: float
) -> None:
    field, weights, y0 = problem(name, dtype)
    tolerance = 1e-5 if solver in ("TRBDF2", "Rosenbrock23") else 1e-6
    found = julia.solve(
        field, weights, y0, (0.0, 1.0), Solver(solver, rtol=tolerance, atol=tolerance)
    )
    exact = backend.solve(field, weights, y0, (0.0, 1.0), Solver("Tsit5", rtol=1e-6, atol=1e-6))
    assert found.y.dtype == dtype
    assert distance(found.y1, exact.y1) < bound


@dtypes()
@pytest.mark.parametrize("solver", few(FIXED))
def test_fixed_solves(julia: Any, backend: Any, solver: str, dtype: Any, bound: float) -> None:
    field, weights, y0 = problem("mlp", dtype)
    found = julia.solve(field, weights, y0, (0.0, 1.0), Solver(solver, dt=1 / 64))
    exact = backend.solve(field, weights, y0, (0.0, 1.0), Solver("Tsit5", rtol=1e-6, atol=1e-6))
    assert found.stats.naccept == 64
    assert distance(found.y1, exact.y1) < bound


@dtypes()
@pytest.mark.parametrize("solver", few(STIFF))
def test_lux_layers(julia: Any, solver: str, dtype: Any, bound: float) -> None:
    field = small_lux_field()
    weights = {name: value.astype(dtype) for name, value in field.initial}
    y0 = np.random.default_rng(0).normal(size=(4, 2)).astype(dtype)
    exact = julia.solve(field, weights, y0, (0.0, 1.0), Solver("Tsit5", rtol=1e-6, atol=1e-6))
    found = julia.solve(field, weights, y0, (0.0, 1.0), Solver(solver, rtol=1e-5, atol=1e-5))
    assert found.y.dtype == dtype
    assert distance(found.y1, exact.y1) < bound


def small_lux_field() -> Any:
    import juliacall

    try:
        lux = sublibrary("Lux")
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    make = "lux -> lux.Chain(lux.Dense(2 => 8, tanh), lux.Dense(8 => 2))"
    return lux_field(juliacall.Main.seval(make)(lux), (2,), seed=3)


# y' = -2 tanh(3 y) + sin 5 t, whose Jacobian at a step's start says little of its end.
def stiffening(weights: Any, t: Any, y: Any) -> Any:
    import jax.numpy as jnp

    return -2 * jnp.tanh(3 * y) + jnp.sin(5 * t)


def stiffening_in_numpy(weights: Any, t: float, y: np.ndarray) -> np.ndarray:
    return -2 * np.tanh(3 * y) + np.sin(5 * t)


STIFFENING = {
    "julia": FunctionField(
        JuliaSource("(dy, y, p, t) -> (dy .= -2 .* tanh.(3 .* y) .+ sin(5t))"),
        (2,),
        backend="julia",
    ),
    "numpy": FunctionField(stiffening_in_numpy, (2,), backend="numpy"),
}
STATES = np.array([[2.0, -3.0], [0.5, 0.01], [-1.5, 6.0]])


@pytest.mark.parametrize("language", STIFFENING)
@pytest.mark.parametrize("dt", [1 / 2, 1 / 4, 1 / 10])
@pytest.mark.parametrize("solver", ["ImplicitEuler", "TRBDF2", "KenCarp4", "SDIRK2"])
def test_large_fixed_steps_are_the_jax_backends(
    julia: Any, backend: Any, solver: str, dt: float, language: str
) -> None:
    step = Solver(solver, dt=dt)
    theirs = backend.solve(FunctionField(stiffening, (2,)), {}, STATES, (0.0, 2.0), step)
    ours = julia.solve(STIFFENING[language], {}, STATES, (0.0, 2.0), step)
    assert ours.stats.retcode == RetCode.Success
    assert ours.stats.naccept == theirs.stats.naccept
    assert distance(ours.y1, theirs.y1) < 1e-8


@pytest.mark.parametrize("solver", few(FIXED))
@pytest.mark.parametrize("language", STIFFENING)
def test_functions_under_implicit_solvers(julia: Any, solver: str, language: str) -> None:
    """Julia's by dual numbers, Python's by differences: no automatic differentiation of Python."""
    for dtype, bound in ((np.float32, 1e-3), (np.float64, 1e-4)):
        y0 = STATES.astype(dtype)
        exact = julia.solve(
            STIFFENING["julia"], {}, y0, (0.0, 1.0), Solver("Tsit5", rtol=1e-6, atol=1e-6)
        )
        found = julia.solve(
            STIFFENING[language], {}, y0, (0.0, 1.0), Solver(solver, rtol=1e-6, atol=1e-6)
        )
        assert found.y.dtype == dtype
        assert distance(found.y1, exact.y1) < bound


def test_a_solve_without_a_solution_says_so(julia: Any) -> None:
    """Not every stage has a solution: no states of no meaning come back."""
    field = FunctionField(
        JuliaSource("(dy, y, p, t) -> (dy .= 1 .+ y .^ 2)"), (1,), backend="julia"
    )
    with pytest.raises(SolveError, match="ConvergenceFailure"):
        julia.solve(field, {}, np.array([[3.0]]), (0.0, 1.0), Solver("ImplicitEuler", dt=1.0))


# Exponential methods, on fields that do not depend on time: for others their orders are lower

# EPIRK5s3, of order 5, is broken in OrdinaryDiffEqExponentialRK, as its docstring says.
EXPONENTIAL = {
    "Exprb32": 3,
    "Exprb43": 4,
    "Exp4": 4,
    "EPIRK4s3A": 4,
    "EPIRK4s3B": 4,
    "EPIRK5s3": 2,
    "EXPRB53s3": 5,
    "EPIRK5P1": 5,
    "EPIRK5P2": 5,
}


def exponentials() -> list[Any]:
    few = ("Exprb43", "Exp4")
    return [n if n in few else pytest.param(n, marks=pytest.mark.slow) for n in EXPONENTIAL]


def autonomous(batch: int, dtype: Any = np.float64) -> tuple[MLP, dict[str, Any], np.ndarray]:
    field, random = MLP(3, width=8, activation="tanh"), np.random.default_rng(5)
    weights = {k: random.normal(0, 0.6, s).astype(dtype) for k, s in field.weight_shapes().items()}
    return field, weights, random.normal(0, 1, (batch, 3)).astype(dtype)


@pytest.mark.parametrize("solver", exponentials())
def test_orders_of_exponential_methods(julia: Any, backend: Any, solver: str) -> None:
    problem = (*autonomous(7), (0.0, 1.0))
    exact = backend.solve(*problem, Solver("Vern7", rtol=1e-12, atol=1e-12)).y1
    errors = [distance(julia.solve(*problem, Solver(solver, dt=1 / n)).y1, exact) for n in (8, 16)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(EXPONENTIAL[solver], abs=0.4)
    assert errors[1] < 1e-2
    backwards = (*problem[:3], (1.0, 0.0))
    exact = backend.solve(*backwards, Solver("Vern7", rtol=1e-9, atol=1e-9)).y1
    assert distance(julia.solve(*backwards, Solver(solver, dt=1 / 16)).y1, exact) < 1e-2


@dtypes()
@pytest.mark.parametrize("solver", exponentials())
def test_exponential_methods_on_a_large_batch(
    julia: Any, backend: Any, solver: str, dtype: Any, bound: float
) -> None:
    problem, small = ((*autonomous(n, dtype), (0.0, 1.0)) for n in (1000, 50))
    exact = backend.solve(*problem, Solver("Tsit5", rtol=1e-6, atol=1e-6)).y1
    steps = [Solver(solver, dt=1 / 16)]
    if info(solver).adaptive:
        steps.append(Solver(solver, rtol=1e-4, atol=1e-4))
    for step in steps:
        found = julia.solve(*problem, step)
        assert found.y.dtype == dtype
        assert distance(found.y1, exact) < bound
        # A dense exponential would take 8000 times as long for 20 times the samples.
        julia.solve(*small, step)
        few, many = (
            min(julia.solve(*each, step).stats.seconds for _ in range(3))
            for each in (small, problem)
        )
        assert many < 500 * few


def test_exponential_methods_do_not_mix_samples(julia: Any) -> None:
    field, weights, y0 = autonomous(9)
    solver = Solver("Exprb43", dt=1 / 4)
    alone = [julia.solve(field, weights, y[None], (0.0, 1.0), solver).y1[0] for y in y0]
    assert distance(julia.solve(field, weights, y0, (0.0, 1.0), solver).y1, np.array(alone)) < 1e-14


def test_exponential_methods_of_states_without_bounds(julia: Any) -> None:
    text = "(dy, y, p, t) -> (dy .= y .^ 3)"
    field = FunctionField(JuliaSource(text), (1,), backend="julia")
    for name in ("Exprb43", "Exp4"):
        with pytest.raises(SolveError, match="Unstable"):
            julia.solve(field, {}, np.array([[9.0]]), (0.0, 1.0), Solver(name, dt=1 / 4))


# Failures are of this package, and of one solver


def test_a_julia_error_is_a_failed_solve(julia: Any) -> None:
    for source, said in (
        ('(dy, y, p, t) -> error("mine")', "mine"),
        ("(dy, y, p, t) -> (dy .= nonsense)", "nonsense"),
    ):
        field = FunctionField(JuliaSource(source), (1,), backend="julia")
        for solver in (Solver("Euler", dt=0.5), Solver("TRBDF2", dt=0.5)):
            with pytest.raises(SolveError, match=said) as failure:
                julia.solve(field, {}, np.ones((1, 1)), (0.0, 1.0), solver)
            assert failure.value.retcode == "Failure"
            assert "Stacktrace" not in str(failure.value)


def test_a_python_error_is_a_failed_solve(julia: Any) -> None:
    def broken(weights: Any, t: float, y: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("mine")

    field = FunctionField(broken, (1,), backend="numpy")
    for solver in (Solver("Euler", dt=0.5), Solver("TRBDF2", dt=0.5)):
        with pytest.raises(SolveError, match="mine"):
            julia.solve(field, {}, np.ones((1, 1)), (0.0, 1.0), solver)


def test_a_swap_goes_on_past_a_julia_error(julia: Any) -> None:
    """One solver of a swap meets an error of Julia's own: one row fails, the others stand."""
    source = "(dy, y, p, t) -> (dy .= convert.(Float64, -y))"  # takes no dual numbers
    field = FunctionField(JuliaSource(source), (2,), backend="julia")
    model = Model(field, classes=2)
    data = concentric_spheres(seed=0, n_train=16, n_test=16)
    data = replace(data, x_test=data.x_test.astype(np.float64))
    trained = TrainedModel(model, model.init(0), Solver("Euler", dt=1 / 4))
    tests = [Solver("TRBDF2", dt=1 / 4), Solver("Midpoint", dt=1 / 4)]
    table = swap(trained, data, tests, backend=julia).table
    codes = dict(zip(table["label"], table["retcode"], strict=True))
    assert codes["Midpoint h=1/4"] == "Success"
    assert codes["TRBDF2 h=1/4"] != "Success"


@pytest.mark.parametrize("text", ["(dy, y, p, t) -> (dy .= ", "1 + 1", "nonsense", ")"])
def test_a_source_that_is_no_function(julia: Any, text: str) -> None:
    field = FunctionField(JuliaSource(text), (1,), backend="julia")
    with pytest.raises(InvalidValueError, match=r"JuliaSource\.text") as failure:
        julia.solve(field, {}, np.ones((1, 1)), (0.0, 1.0), Solver("Euler", dt=0.5))
    assert "Julia says: " in str(failure.value)
    assert not str(failure.value).endswith((": ", ":"))


def test_a_layer_that_is_no_layer(julia: Any) -> None:
    import juliacall

    small_lux_field()  # or skip
    for layer in (juliacall.Main.seval("sin"), np.sin, 3):
        with pytest.raises(InvalidValueError, match="a layer of Lux"):
            lux_field(layer, (2,))


# Options and solver objects


@pytest.mark.slow
def test_options_of_an_implicit_solver(julia: Any) -> None:
    field, weights, y0 = problem("mlp")
    solves = {
        text: julia.solve(
            field, weights, y0, (0.0, 1.0), Solver("TRBDF2", dt=1 / 8, options=options)
        ).y1
        for text, options in {
            "default": {},
            "differences": {"autodiff": "AutoFiniteDiff"},
            "as before": {"autodiff": False},
            "Newton's": {"nlsolve": "NLNewton(max_iter = 100, κ = 1//1000, check_div = false)"},
            "linear": {"linsolve": "KrylovJL_GMRES"},
            "a symbol": {"extrapolant": "constant"},
        }.items()
    }
    assert all(distance(y1, solves["default"]) < 1e-6 for y1 in solves.values())


@pytest.mark.parametrize(
    "options",
    [
        {"nlsolve": "Newton"},
        {"nlsolve": "run(`ls`)"},
        {"nlsolve": "NLNewton(max_iter = f(1))"},
        {"linsolve": "LUFactorization(1)"},
        {"autodiff": "AutoFiniteDiff("},
    ],
    ids=str,
)
def test_an_option_that_is_none(julia: Any, options: dict[str, Any]) -> None:
    field, weights, y0 = problem("mlp")
    with pytest.raises(InvalidValueError, match="Julia says"):
        julia.solve(field, weights, y0, (0.0, 1.0), Solver("TRBDF2", dt=0.5, options=options))


@pytest.mark.slow
def test_solver_objects(julia: Any) -> None:
    """The spelling of docs/julia.md."""
    sdirk, adtypes = sublibrary("OrdinaryDiffEqSDIRK"), sublibrary("ADTypes")
    newton = sublibrary("OrdinaryDiffEqNonlinearSolve")
    field, weights, y0 = problem("mlp")
    named = julia.solve(field, weights, y0, (0.0, 1.0), Solver("KenCarp4", dt=1 / 8))
    for made in (
        sdirk.KenCarp4(autodiff=adtypes.AutoFiniteDiff()),
        sdirk.KenCarp4(linsolve=sublibrary("LinearSolve").KrylovJL_GMRES()),
        sdirk.KenCarp4(nlsolve=newton.NLNewton(max_iter=100, check_div=False)),
    ):
        ours = julia.solve(field, weights, y0, (0.0, 1.0), julia_solver(made, dt=1 / 8))
        assert distance(ours.y1, named.y1) < 1e-6
    with pytest.raises(BackendUnavailableError, match="NoSuchPackage"):
        sublibrary("NoSuchPackage")


# Names and time


def test_names_say_what_is_missing(julia: Any) -> None:
    names, missing = julia.solvers(), julia.missing_solvers()
    assert {"Euler", "TRBDF2", "QNDF"} <= set(names)
    assert not set(names) & set(missing)
    assert all(text.endswith(".") for text in missing.values())
    for name in missing:
        with pytest.raises(InvalidValueError) as failure:
            julia.solve(*problem("mlp"), (0.0, 1.0), some_solver(name))
        assert missing[name] in str(failure.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SIR54", "do not sum to 0"),
        ("CKLLSRK43_2", "the rejected state"),
        ("AN5", "does not converge"),
    ],
)
def test_solvers_that_are_right_with_fixed_steps_only(julia: Any, name: str, reason: str) -> None:
    with pytest.raises(WrongSolverError, match=reason):
        julia.solve(*problem("mlp"), (0.0, 1.0), Solver(name, rtol=1e-3))


def some_solver(name: str) -> Solver:
    return Solver(name, dt=0.5) if info(name).fixed_step else Solver(name)


def test_compilation_is_told(julia: Any) -> None:
    text = "(dy, y, p, t) -> (dy .= -y)"
    field = FunctionField(JuliaSource(text), (1,), backend="julia")
    arguments = (field, {}, np.ones((1, 1)), (0.0, 1.0), Solver("Euler", dt=0.5))
    first, again = (julia.solve(*arguments).stats for _ in range(2))
    assert first.compiled
    assert 0 < first.compile_seconds <= first.seconds
    assert not again.compiled
    assert again.compile_seconds == 0
    assert (first + again).compile_seconds == first.compile_seconds
