"""The Julia backend: found or refused plainly, and the same numbers as the JAX one.

Where Julia is not set up, the tests that need one are skipped, with the command that enables them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from julia_problems import (
    EXPLICIT,
    FIELDS,
    PARITY,
    distance,
    needs_julia,
    problem,
)

from pynode_jl.backends import Adam, RetCode, TrainState, get_backend
from pynode_jl.backends.julia import JuliaSource, _discovery, _process, discover
from pynode_jl.backends.julia._names import FIXED_STEPS_ONLY, OTHER_ABSCISSAE, OTHER_STEPS
from pynode_jl.errors import (
    BackendLacksSolverError,
    BackendUnavailableError,
    InvalidValueError,
    SolveError,
    UnknownNameError,
    WrongSolverError,
)
from pynode_jl.fields import MLP, ConvField1d, FunctionField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver, catalogue, info

COMMON = {"Euler", "Midpoint", "Heun", "RK4", "BS3", "Tsit5", "DP5", "Vern7"}


def _few(names: list[str]) -> list[Any]:
    return [n if n in COMMON else pytest.param(n, marks=pytest.mark.zoo) for n in names]


@pytest.fixture(scope="module")
def julia() -> Any:
    return get_backend("julia")


def _must_have(julia: Any, solver: str) -> None:
    """Skip a solver that the running version of its library does not have."""
    field, weights, y0 = problem("mlp")
    try:
        julia.solve(field, weights, y0, (0.0, 0.1), Solver(solver, dt=0.1))
    except BackendLacksSolverError as error:
        pytest.skip(str(error))


# Without Julia


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"PYTHON_JULIACALL_EXE": sys.executable}, "PYTHON_JULIACALL_PROJECT is not set"),
        ({"PYTHON_JULIACALL_PROJECT": "."}, "PYTHON_JULIACALL_EXE is not set"),
        (
            {"PYTHON_JULIACALL_EXE": "/no/julia", "PYTHON_JULIACALL_PROJECT": "."},
            "no executable file",
        ),
        (
            {"PYTHON_JULIACALL_EXE": sys.executable, "PYTHON_JULIACALL_PROJECT": "/no/env"},
            "no Project.toml",
        ),
    ],
)
def test_half_a_set_up_is_refused_by_name(
    variables: dict[str, str], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_discovery.importlib.util, "find_spec", lambda name: name)
    for name in ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found, text, *_ = discover()
    assert not found
    assert word in text
    assert "Pkg.develop" in text


def test_no_juliacall_names_the_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_discovery.importlib.util, "find_spec", lambda name: None)
    found, text, *_ = discover()
    assert not found
    assert "pip install 'pynode-jl[julia]'" in text
    monkeypatch.setattr(_process, "_started", _process._started.__wrapped__)
    with pytest.raises(BackendUnavailableError, match="pip install"):
        _process.julia()


@pytest.mark.parametrize(
    ("exe", "said"), [(sys.executable, "Python"), ("/no/such/file", "No such file"), ("true", "''")]
)
def test_an_executable_that_is_no_julia_is_named(exe: str, said: str) -> None:
    reason = _process._no_julia(shutil.which(exe) or exe)
    assert reason is not None
    assert said in reason or exe == "true"  # GNU's answers with its version
    assert "PYTHON_JULIACALL_EXE" in reason


def test_what_julia_says_in_short() -> None:
    for error, said in {
        "ArgumentError: no\nStacktrace:\n [1] f()": "ArgumentError: no",
        "ParseError:\n# Error @ none:1:3\n1 +": "ParseError: # Error @ none:1:3 1 +",
        "\n mine \n": "mine",
        "": "Exception",
    }.items():
        assert _process.first_line(Exception(error)) == said


def test_the_julia_package_is_found() -> None:
    assert (_discovery.julia_package() / "src" / "PyNODE.jl").is_file()


def test_auto_is_what_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYNODE_BACKEND", "jax")
    assert get_backend("auto").name == "jax"
    monkeypatch.setenv("PYNODE_BACKEND", "juia")
    with pytest.raises(UnknownNameError, match="julia"):
        get_backend("auto")
    monkeypatch.delenv("PYNODE_BACKEND")
    assert get_backend("auto").name == ("julia" if discover().found else "jax")


# Parity with the JAX backend


@needs_julia
@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_fields_agree(julia: Any, backend: Any, name: str, dtype: Any, bound: float) -> None:
    field, weights, y0 = problem(name, dtype)
    solver = Solver("RK4", dt=0.3)
    ours = julia.solve(field, weights, y0, (0.2, 1.2), solver, save_at=[0.5, 1.2])
    theirs = backend.solve(field, weights, y0, (0.2, 1.2), solver, save_at=[0.5, 1.2])
    assert ours.y.dtype == dtype
    assert ours.y.shape == theirs.y.shape
    assert ours.stats.naccept == theirs.stats.naccept == 1 + 3
    assert distance(ours.y, theirs.y) < bound


@needs_julia
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize("solver", _few(PARITY))
def test_tableaus_agree(julia: Any, backend: Any, solver: str, dtype: Any, bound: float) -> None:
    if not info(solver).fixed_step:
        pytest.skip("no fixed steps")
    _must_have(julia, solver)
    if solver in OTHER_STEPS:
        pytest.xfail(OTHER_STEPS[solver])
    # Julia's abscissae of these are not the row sums: another method where f depends on t.
    name = "conv1d, one matrix" if solver in OTHER_ABSCISSAE else "mlp"
    field, weights, y0 = problem(name, dtype)
    step = Solver(solver, dt=1 / 7)
    ours = julia.solve(field, weights, y0, (0.0, 1.0), step)
    theirs = backend.solve(field, weights, y0, (0.0, 1.0), step)
    assert ours.stats.naccept == 7
    assert distance(ours.y, theirs.y) < bound


@needs_julia
@pytest.mark.parametrize("solver", _few(PARITY))
def test_tight_tolerances_agree(julia: Any, backend: Any, solver: str) -> None:
    row = info(solver)
    if not row.adaptive or row.tableau is None or row.tableau.b_error is None:
        pytest.skip("not adaptive on both")
    if solver in FIXED_STEPS_ONLY:
        pytest.skip(f"Julia: {FIXED_STEPS_ONLY[solver]}")
    field, weights, y0 = problem("conv1d, one matrix" if solver in OTHER_ABSCISSAE else "mlp")
    tolerance = 1e-5 if (row.order or 0) <= 2 else 1e-9
    tight = Solver(solver, rtol=tolerance, atol=tolerance)
    ours = julia.solve(field, weights, y0, (0.0, 1.0), tight)
    theirs = backend.solve(field, weights, y0, (0.0, 1.0), tight)
    assert distance(ours.y, theirs.y) < 100 * tolerance


@needs_julia
def test_steps_are_saved_and_run_backwards(julia: Any) -> None:
    field, weights, y0 = problem("mlp")
    there = julia.solve(
        field, weights, y0, (0.0, 1.0), Solver("Tsit5", rtol=1e-10, atol=1e-10), save_steps=True
    )
    assert there.t[0] == 0.0
    assert there.t[-1] == 1.0
    assert len(there.t) == there.stats.naccept + 1
    np.testing.assert_array_equal(there.y[0], y0)
    back = julia.solve(field, weights, there.y1, (1.0, 0.0), Solver("RK4", dt=1 / 512))
    assert distance(back.y1, y0) < 1e-8


# Gradients and training


@needs_julia
@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(
    "solver", [Solver("Euler", dt=0.3), Solver("DP5", dt=0.25), Solver("Tsit5", rtol=1e-9)]
)
def test_gradients_agree(julia: Any, backend: Any, name: str, solver: Solver) -> None:
    field, weights, y0 = problem(name)
    cotangent = np.random.default_rng(3).normal(size=y0.shape)
    ours = julia.vjp(field, weights, y0, (0.0, 1.0), solver, cotangent)
    theirs = backend.vjp(field, weights, y0, (0.0, 1.0), solver, cotangent)
    # Two controllers' steps differ by rounding; fixed ones do not.
    bound = 1e-10 if solver.fixed else 1e-6
    assert distance(ours[1], theirs[1]) < bound
    for key, value in theirs[0].items():
        assert ours[0][key].shape == value.shape
        assert distance(ours[0][key], value) < bound


@needs_julia
@pytest.mark.parametrize("solver", _few(EXPLICIT))
def test_gradients_of_tableaus_agree(julia: Any, backend: Any, solver: str) -> None:
    _must_have(julia, solver)
    if solver in OTHER_STEPS:
        pytest.skip(OTHER_STEPS[solver])
    field, weights, y0 = problem("conv1d, one matrix")
    step, cotangent = Solver(solver, dt=0.2), np.cos(y0)
    ours = julia.vjp(field, weights, y0, (0.0, 1.0), step, cotangent)
    theirs = backend.vjp(field, weights, y0, (0.0, 1.0), step, cotangent)
    assert distance(ours[1], theirs[1]) < 1e-10
    assert all(distance(ours[0][key], value) < 1e-10 for key, value in theirs[0].items())


@needs_julia
def test_step_jacobians_agree(julia: Any, backend: Any) -> None:
    field, weights, y0 = problem("conv1d, windows")
    arguments = (field, weights, y0, 0.3, -0.2, Solver("RK4", dt=1.0))
    assert distance(julia.step_jacobian(*arguments), backend.step_jacobian(*arguments)) < 1e-12


@needs_julia
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-10), (np.float32, 2e-4)])
@pytest.mark.parametrize("solver", [Solver("Euler", dt=1 / 4), Solver("Tsit5", rtol=1e-6)])
def test_a_training_agrees(
    julia: Any, backend: Any, solver: Solver, dtype: Any, bound: float
) -> None:
    model = Model(ConvField1d(3, channels=8, activation="tanh"), classes=3, augment=1)
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(64, 2)).astype(dtype), random.integers(0, 3, 64)
    batches = random.integers(0, 64, (100, 16)).astype(np.int32)
    start = TrainState.start(model.init(0))
    runs = [
        each.train(model, start, x, labels, batches, solver, Adam(1e-3))
        for each in (julia, backend)
    ]
    ours, theirs = runs
    assert ours.retcode == RetCode.Success
    assert ours.state.iteration == 100
    bound = bound if solver.fixed else max(bound, 1e-6)
    assert distance(ours.loss, theirs.loss) < bound
    assert all(
        distance(ours.state.weights[key], value) < bound
        for key, value in theirs.state.weights.items()
    )
    # Either one evaluates what the other has trained.
    solved = [
        each.evaluate(model, run.state.weights, x, solver)
        for each, run in ((backend, ours), (julia, theirs))
    ]
    assert distance(solved[0].logits, solved[1].logits) < bound


@needs_julia
def test_training_goes_on_from_its_state_bit_for_bit(julia: Any) -> None:
    model, random = Model(MLP(2, width=4), classes=2), np.random.default_rng(0)
    x = random.normal(size=(32, 2)).astype(np.float32)
    labels = random.integers(0, 2, 32)
    batches = random.integers(0, 32, (6, 8)).astype(np.int32)
    arguments = (Solver("Midpoint", dt=0.5), Adam(1e-2))
    start = TrainState.start(model.init(0))
    whole = julia.train(model, start, x, labels, batches, *arguments).state
    half = julia.train(model, start, x, labels, batches[:3], *arguments).state
    resumed = julia.train(model, half, x, labels, batches[3:], *arguments).state
    assert start.iteration == 0
    for key, value in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[key], value)
        np.testing.assert_array_equal(resumed.nu[key], whole.nu[key])


@needs_julia
def test_a_diverging_training_keeps_the_last_good_state(julia: Any) -> None:
    model = Model(MLP(2, width=4, activation="relu"), classes=2)
    start = TrainState.start({k: v * 1e20 for k, v in model.init(0).items()})
    x = np.ones((8, 2), np.float32)
    batches = np.zeros((3, 8), np.int32)
    chunk = julia.train(
        model, start, x, np.zeros(8), batches, Solver("Euler", dt=1 / 16), Adam(1e-2)
    )
    assert chunk.retcode == RetCode.Unstable
    assert len(chunk.loss) == chunk.state.iteration == 0
    np.testing.assert_array_equal(chunk.state.weights["head.weight"], start.weights["head.weight"])


# Fields and solvers of Julia's own, failures


@needs_julia
def test_a_field_written_in_julia(julia: Any) -> None:
    source = JuliaSource("(dy, y, p, t) -> (dy .= p.rate .* y)")
    field = FunctionField(source, (2,), (("rate", np.array([-1.0, 0.5])),), backend="julia")
    y0 = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    solution = julia.solve(
        field, field.init(0), y0, (0.0, 1.0), Solver("Tsit5", rtol=1e-10, atol=1e-10)
    )
    np.testing.assert_allclose(solution.y1, y0 * np.exp([-1.0, 0.5]), rtol=1e-8)


@needs_julia
def test_options_reach_the_constructor(julia: Any) -> None:
    field, weights, y0 = problem("mlp")
    with pytest.raises(WrongSolverError, match="nonsense") as failure:
        julia.solve(
            field, weights, y0, (0.0, 1.0), Solver("Tsit5", dt=0.1, options={"nonsense": 1})
        )
    assert failure.value.__cause__ is not None


@needs_julia
def test_failures_are_return_codes(julia: Any) -> None:
    source = JuliaSource("(dy, y, p, t) -> (dy .= y .^ 2)")
    field = FunctionField(source, (1,), backend="julia")
    y0 = np.ones((1, 1))
    with pytest.raises(SolveError):
        julia.solve(field, {}, y0, (0.0, 2.0), Solver("Tsit5", rtol=1e-6))
    few = Solver("Tsit5", rtol=1e-12, atol=1e-12, max_steps=3)
    solution = julia.solve(field, {}, y0, (0.0, 0.9), few, throw=False)
    assert solution.stats.retcode == RetCode.MaxIters


@needs_julia
def test_julias_own_error_is_the_cause(julia: Any) -> None:
    field = FunctionField(JuliaSource('(dy, y, p, t) -> error("mine")'), (1,), backend="julia")
    with pytest.raises(SolveError, match="mine") as failure:
        julia.solve(field, {}, np.ones((1, 1)), (0.0, 1.0), Solver("Euler", dt=0.5))
    assert type(failure.value.__cause__).__name__ == "JuliaError"


@needs_julia
def test_what_julia_lacks_is_refused(julia: Any) -> None:
    field, weights, y0 = problem("mlp")
    only_ours = next(r.name for r in catalogue(backend="jax") if r.sublibrary is None)
    with pytest.raises(BackendLacksSolverError, match="jax"):
        julia.solve(field, weights, y0, (0.0, 1.0), Solver(only_ours, dt=0.5))
    python = FunctionField(lambda w, t, y: y, (3,))
    with pytest.raises(InvalidValueError, match="JuliaSource"):
        julia.solve(python, {}, y0, (0.0, 1.0), Solver("Euler", dt=0.5))
    with pytest.raises(BackendUnavailableError, match="gpu"):
        get_backend("julia", "gpu")


@needs_julia
@pytest.mark.parametrize("first", ["torch", "pynode_jl"])
def test_torch_in_either_order(first: str) -> None:
    start = "import pynode_jl; b = pynode_jl.get_backend('julia')"
    both = ["import torch", start]
    lines = both if first == "torch" else both[::-1]
    code = "\n".join([*lines, "torch.ones(3).sum()", "print(b.name)"])
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert done.stdout.decode().split() == ["julia"], done.stderr.decode()
    assert done.returncode == 0


@needs_julia
def test_only_one_module_imports_juliacall() -> None:
    package = Path(_process.__file__).parents[2]
    importers = {
        file.name for file in package.rglob("*.py") if "import juliacall" in file.read_text()
    }
    assert importers == {"_process.py"}
