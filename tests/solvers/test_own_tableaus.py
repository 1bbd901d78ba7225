"""A user's own tableau: a solver like those of the catalogue, in every place that takes one."""

from __future__ import annotations

import copy
import json
import pickle
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import pynode_jl as pn
from pynode_jl.backends import Adam, Backend, TrainState
from pynode_jl.errors import BackendLacksSolverError, InvalidValueError, WrongSolverError
from pynode_jl.fields import MLP
from pynode_jl.solvers import TORCHDIFFEQ_TABLEAUS, Solver, Tableau, controller, tableau

TSIT5 = replace(tableau("Tsit5"), name="My Tsit5")
TRAPEZOID = replace(tableau("Trapezoid"), name="My Trapezoid")
BS3 = replace(tableau("BS3"), name="My BS3")
PAIRS = [
    (Solver("BS3", dt=0.3), Solver(BS3, dt=0.3)),
    (Solver("Tsit5", rtol=1e-4), Solver(TSIT5, rtol=1e-4)),
    (Solver("Trapezoid", dt=0.3), Solver(TRAPEZOID, dt=0.3)),
]
HEUN = {"name": "X", "c": [0.0, 1.0], "a": [[0.0, 0.0], [1.0, 0.0]], "b": [0.5, 0.5]}

# --- The Solver ---------------------------------------------------------------------------------


def test_it_is_a_solver() -> None:
    solver = Solver(TSIT5, rtol=1e-4, atol=1e-5)
    assert (solver.name, solver.order, solver.fixed) == ("My Tsit5", 5, False)
    assert solver.label == "My Tsit5 rtol=1e-4 atol=1e-5"
    assert solver.tableau is TSIT5
    assert solver.with_step(0.1) == Solver(TSIT5, dt=0.1)
    assert solver.scaled(0.1) == Solver(TSIT5, rtol=1e-4 * 0.1, atol=1e-5 * 0.1)
    assert replace(solver, max_steps=9).tableau is TSIT5
    assert solver.controller == controller("Tsit5")
    row = solver.info
    assert (row.kind, row.implicit, row.adaptive, row.backends) == (
        "explicit RK", False, True, ("jax",)
    )  # fmt: skip
    implicit = Solver(replace(tableau("KenCarp4"), name="My KenCarp4"))
    assert implicit.controller == controller("KenCarp4")


def test_it_is_equal_to_the_same_numbers_and_to_nothing_else() -> None:
    solver = Solver(TSIT5, dt=0.1)
    assert solver == Solver(replace(TSIT5), dt=0.1)
    assert hash(solver) == hash(Solver(replace(TSIT5), dt=0.1))
    assert solver != Solver("Tsit5", dt=0.1)
    assert solver != Solver(
        replace(TSIT5, b=TSIT5.b + 1e-12 * np.array([1, -1, 0, 0, 0, 0, 0])), dt=0.1
    )


@pytest.mark.parametrize("solver", [own for _, own in PAIRS])
def test_it_is_written_down_and_read_back(solver: Solver) -> None:
    values = solver.to_dict()
    assert Solver.from_dict(json.loads(json.dumps(values))) == solver
    assert Solver.from_dict(tomllib.loads(tomli_w.dumps(values))) == solver
    assert Solver.of(values) == solver
    assert pickle.loads(pickle.dumps(solver)) == solver
    assert copy.deepcopy(solver) == solver


def test_the_catalogue_s_own_tableau_is_the_catalogue_s_solver() -> None:
    assert Solver(tableau("Tsit5"), rtol=1e-4) == Solver("Tsit5", rtol=1e-4)
    assert Solver(tableau("Tsit5"), dt=0.1).own_tableau is None


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (replace(TSIT5, name="Euler"), "name = 'Euler': .*another method in the catalogue"),
        (Tableau(**HEUN, order=3), "order = 3: .*at most 2: .*miss a condition of order 3 by 1"),
        (replace(TSIT5, b_error=TSIT5.b), "(?s)b_error = .*do up to 0"),
        (replace(TSIT5, b_error=0 * TSIT5.b), "b_error = .*not zero"),
        (replace(TSIT5, embedded_order=5), "(?s)b_error = .*up to order 5.*do up to 4"),
    ],
)
def test_what_it_refuses(table: Tableau, text: str) -> None:
    with pytest.raises(InvalidValueError, match=text):
        Solver(table, dt=0.1)


def test_orders_above_eight_are_those_of_quadrature() -> None:
    feagin = replace(tableau("Feagin14"), name="Mine")
    assert Solver(feagin, dt=0.1).order == 14
    with pytest.raises(InvalidValueError, match=r"order = 9: .*at most 8"):
        Solver(replace(tableau("DP8"), name="Mine", order=9), dt=0.1)


def test_a_method_without_error_weights_takes_no_tolerances() -> None:
    with pytest.raises(WrongSolverError, match=r"rtol = 0.001.*X has no error estimate"):
        Solver(Tableau(**HEUN), rtol=1e-3)
    with pytest.raises(InvalidValueError, match=r"name = 'Euler': .*'X'"):
        replace(Solver(Tableau(**HEUN), dt=0.1), name="Euler")


# --- Backends and front ends --------------------------------------------------------------------


class Case:
    field = MLP(2, width=3, time_dependent=True)
    weights = field.init(1)
    y0 = np.random.default_rng(3).normal(size=(3, 2))


def equal(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture(scope="module")
def jax_backend() -> Backend:
    return pn.get_backend("jax")


@pytest.mark.parametrize(("known", "own"), PAIRS, ids=["fixed", "adaptive", "implicit"])
def test_a_copy_steps_bit_for_bit_as_the_original(
    known: Solver, own: Solver, jax_backend: Backend
) -> None:
    arguments = (Case.field, Case.weights, Case.y0, (0.0, 1.0))
    results = []
    for solver in (known, own):
        solution, pull = jax_backend.pullback(*arguments, solver)
        gradients = pull(np.ones_like(solution.y))
        results.append(
            (
                jax_backend.solve(*arguments, solver).y,
                solution.y,
                gradients.y0,
                *gradients.weights.values(),
            )
        )
    for pair in zip(*results, strict=True):
        equal(*pair)


def test_step_jacobians_take_it(jax_backend: Backend) -> None:
    arguments = (Case.field, Case.weights, Case.y0, 0.0, 0.2)
    equal(*(jax_backend.step_jacobian(*arguments, solver) for solver in PAIRS[0]))


@pytest.mark.slow
def test_training_evaluation_and_the_adjoint_take_it(jax_backend: Backend) -> None:
    model = pn.Model(Case.field, classes=2)
    weights = model.init(0)
    x, labels = np.float32(Case.y0), np.array([0, 1, 0])
    state = TrainState.start(weights)
    (known, own), results = PAIRS[0], []
    for solver in (known, own):
        chunk = jax_backend.train(model, state, x, labels, np.zeros((2, 3), int), solver, Adam())
        evaluation = jax_backend.evaluate(model, chunk.state.weights, x, solver)
        results.append((chunk.loss, evaluation.logits))
    for pair in zip(*results, strict=True):
        equal(*pair)
    arguments = (Case.field, Case.weights, Case.y0, (0.0, 1.0), own, np.ones_like(Case.y0))
    adjoint = jax_backend.vjp(*arguments, gradient="BacksolveAdjoint")
    np.testing.assert_allclose(adjoint[1], jax_backend.vjp(*arguments)[1], rtol=1e-2)


def test_julia_refuses_it_by_name() -> None:
    names = pytest.importorskip("pynode_jl.backends.julia._names")
    assert 'Julia has no such solver. Use backend="jax"' in names.why_not(Solver(BS3, dt=0.1).info)


def test_a_run_stores_it(tmp_path: Path) -> None:
    solver = Solver(BS3, dt=0.25)
    values = pn.Config().to_dict()
    values["train"]["solver"] = solver.to_dict()
    path = tmp_path / "run.toml"
    path.write_text(pn.Config.from_dict(values).to_toml(), encoding="utf-8")
    assert pn.Config.from_toml(path).recipe().solver == solver


def test_the_jax_backend_refuses_stages_that_are_solved_together(jax_backend: Backend) -> None:
    gauss = Solver(TORCHDIFFEQ_TABLEAUS["gl4"], dt=0.5)
    with pytest.raises(BackendLacksSolverError, match=r"solved one by one.*torch"):
        jax_backend.solve(Case.field, Case.weights, Case.y0, (0.0, 1.0), gauss)


def test_torch_takes_it() -> None:
    torch = pytest.importorskip("torch")
    odeint = pytest.importorskip("pynode_jl.torch").odeint
    y0, t = torch.tensor([1.0, 0.5], dtype=torch.float64), torch.tensor([0.0, 0.7, 1.0])

    def solved(method: Any) -> Any:
        return odeint(lambda t, y: torch.sin(3 * t) * y, y0, t.double(), method=method)

    for known, own in PAIRS:
        assert torch.equal(solved(known), solved(own))
    gauss = solved(Solver(TORCHDIFFEQ_TABLEAUS["gl6"], dt=0.1))
    assert torch.allclose(gauss, solved(Solver("Vern7", rtol=1e-10, atol=1e-10)), atol=1e-8)


def test_torch_offloads_it_to_the_jax_backend() -> None:
    torch = pytest.importorskip("torch")
    odeint = pytest.importorskip("pynode_jl.torch").odeint

    class Field(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, t: Any, y: Any) -> Any:
            return torch.tanh(self.layer(y))

    torch.manual_seed(0)
    field, y0, t = Field(), torch.ones(3, 2), torch.tensor([0.0, 1.0])
    # Each is another method under one name: what is planned for one must not serve the other.
    heun, midpoint = (
        Tableau("X", [0, c], [[0, 0], [c, 0]], [1 - b, b]) for c, b in ((1.0, 0.5), (0.5, 1.0))
    )
    found = []
    for table in (heun, midpoint):
        there, here = (
            odeint(field, y0, t, method=Solver(table, dt=0.5), backend=each)
            for each in ("jax", "torch")
        )
        assert torch.allclose(there, here, atol=1e-6)
        found.append(there)
    assert not torch.allclose(*found, atol=1e-5)


def test_the_jax_front_end_and_diffrax_take_it() -> None:
    jnp = pytest.importorskip("jax.numpy")
    from pynode_jl.jax import diffrax_solver, odeint

    t = jnp.array([0.0, 0.7, 1.0])
    for known, own in PAIRS[:2]:
        solved = [odeint(lambda y, t: jnp.sin(3 * t) * y, 1.0, t, method=s) for s in (known, own)]
        equal(*solved)
    assert type(diffrax_solver(TSIT5)).__name__ == "My Tsit5"
    equal(diffrax_solver(TSIT5).tableau.b_sol, TSIT5.b)


def test_swaps_and_certificates_take_it() -> None:
    model = pn.Model(Case.field, classes=2)
    trained = pn.Trained.of(model, model.init(0), Solver(TSIT5, dt=0.25))
    x = np.random.default_rng(0).normal(size=(8, 2))
    data = pn.Dataset("own", x, np.arange(8) % 2, x, np.arange(8) % 2, 2)
    report = pn.swap(trained, data, factors=(1.0, 0.5), backend="jax")
    own = report.table[report.table["test_solver"] == "My Tsit5"]
    assert list(own["label"]) == ["My Tsit5 h=1/4", "My Tsit5 h=1/8"]
    certificate = pn.certify(trained, data, samples=4, backend="jax")
    assert certificate.solver == trained.solver
    assert json.loads(certificate.to_json())["solver"]["tableau"]["name"] == "My Tsit5"


# --- One step, whatever the coefficients --------------------------------------------------------


@st.composite
def explicit_tableaus(draw: st.DrawFn) -> Tableau:
    s = draw(st.integers(1, 6))
    entries = st.floats(-2, 2, allow_subnormal=False)
    a = np.tril(draw(arrays(float, (s, s), elements=entries)), -1)
    b = draw(arrays(float, s, elements=entries))
    b[0] += 1 - b.sum()
    return Tableau("Random", None, a, b)


def reference_step(table: Tableau, f: Any, t: float, y: np.ndarray, dt: float) -> np.ndarray:
    ks: list[np.ndarray] = []
    for i in range(table.stages):
        base = y + dt * sum((table.a[i, j] * k for j, k in enumerate(ks)), np.zeros_like(y))
        ks.append(f(t + table.c[i] * dt, base))
    return y + dt * sum(w * k for w, k in zip(table.b, ks, strict=True))


@settings(max_examples=50)
@given(explicit_tableaus(), st.floats(0.01, 1.0))
def test_a_step_is_the_one_of_the_textbook(table: Tableau, dt: float) -> None:
    backend = pn.get_backend("jax")

    def f(t: float, y: np.ndarray) -> np.ndarray:
        return backend.rhs(Case.field, Case.weights, t, y)

    solved = backend.solve(Case.field, Case.weights, Case.y0, (0.2, 0.2 + dt), Solver(table, dt=dt))
    expected = reference_step(table, f, 0.2, Case.y0, dt)
    np.testing.assert_allclose(solved.y1, expected, rtol=1e-12, atol=1e-12)
