"""Gradients on the Julia side: the discrete one against the JAX backend's and finite
differences, SciMLSensitivity's and DiffEqFlux's against it, in the limit of small steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from julia_problems import distance, needs_julia, problem

from pynode_jl.backends import GRADIENTS, VJPS, Adam, TrainState, get_backend
from pynode_jl.backends._gradients import REFUSED
from pynode_jl.backends.julia._names import OTHER_ABSCISSAE, OTHER_STEPS
from pynode_jl.errors import BackendUnavailableError, InvalidValueError, UnknownNameError
from pynode_jl.fields import MLP, ConvField1d
from pynode_jl.models import Model
from pynode_jl.solvers import Solver, catalogue, tableau

DIRK = [
    row.name
    for row in catalogue(backend="jax")
    if "julia" in row.backends and not tableau(row.name).explicit
]
FEW = {"ImplicitEuler", "Trapezoid", "SDIRK2", "TRBDF2", "KenCarp4"}
TIGHT = Solver("Tsit5", rtol=1e-11, atol=1e-11)
ADJOINTS = [name for name, each in GRADIENTS.items() if each.takes_vjp]
# Enzyme is one of SciMLSensitivity's own dependencies, but needs its compiled library.
PRODUCTS = [name for name in VJPS if name != "EnzymeVJP"]


@pytest.fixture(scope="module")
def julia() -> Any:
    return get_backend("julia")


def needs_packages(feature: str) -> None:
    from pynode_jl.backends.julia import _process

    try:
        _process.need(feature)
    except BackendUnavailableError as error:
        pytest.skip(str(error))


@needs_julia
@pytest.mark.parametrize(
    "solver", [n if n in FEW else pytest.param(n, marks=pytest.mark.zoo) for n in DIRK]
)
def test_implicit_gradients_agree(julia: Any, backend: Any, solver: str) -> None:
    if solver in OTHER_STEPS:
        pytest.skip(OTHER_STEPS[solver])
    field, weights, y0 = problem("conv1d, one matrix" if solver in OTHER_ABSCISSAE else "mlp")
    step, cotangent = Solver(solver, dt=0.25), np.cos(y0)
    ours = julia.vjp(field, weights, y0, (0.0, 1.0), step, cotangent)
    theirs = backend.vjp(field, weights, y0, (0.0, 1.0), step, cotangent)
    assert distance(ours[1], theirs[1]) < 1e-10
    assert all(distance(ours[0][key], value) < 1e-10 for key, value in theirs[0].items())


@needs_julia
@pytest.mark.parametrize("solver", ["Euler", "Tsit5", "KenCarp4"])
def test_discrete_gradient_against_differences(julia: Any, solver: str) -> None:
    field, weights, y0 = problem("conv1d, windows")
    step, cotangent, h = Solver(solver, dt=0.25), np.sin(y0), 1e-6
    to_weights, to_y0 = julia.vjp(field, weights, y0, (0.0, 1.0), step, cotangent)

    def value(weights: Any, y0: Any) -> float:
        return float(np.sum(cotangent * julia.solve(field, weights, y0, (0.0, 1.0), step).y1))

    random = np.random.default_rng(1)
    for _ in range(3):
        along = random.normal(size=y0.shape)
        slope = (value(weights, y0 + h * along) - value(weights, y0 - h * along)) / (2 * h)
        assert np.sum(along * to_y0) == pytest.approx(slope, rel=1e-6, abs=1e-8)
        ways = {key: random.normal(size=each.shape) for key, each in weights.items()}
        ends = [
            value({k: each + s * h * ways[k] for k, each in weights.items()}, y0) for s in (1, -1)
        ]
        expected = sum(float(np.sum(ways[k] * to_weights[k])) for k in weights)
        assert expected == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-8)


@needs_julia
@pytest.mark.parametrize(
    "gradient",
    [
        pytest.param("InterpolatingAdjoint", marks=pytest.mark.slow),
        *(
            pytest.param(name, marks=pytest.mark.zoo)
            for name in (
                *(each for each in ADJOINTS if each != "InterpolatingAdjoint"),
                *(f"InterpolatingAdjoint:{vjp}" for vjp in PRODUCTS[1:]),
                "ForwardDiffSensitivity",
                "ReverseDiffAdjoint",
                "TrackerAdjoint",
            )
        ),
    ],
)
def test_sensitivities_tend_to_the_discrete_gradient(julia: Any, gradient: str) -> None:
    needs_packages("adjoint")
    field, weights, y0 = problem("conv1d, one matrix")
    cotangent = np.cos(y0)
    exact = julia.vjp(field, weights, y0, (0.0, 1.0), TIGHT, cotangent)
    theirs = julia.vjp(field, weights, y0, (0.0, 1.0), TIGHT, cotangent, gradient=gradient)
    assert distance(theirs[1], exact[1]) < 1e-6
    assert all(distance(theirs[0][key], value) < 1e-6 for key, value in exact[0].items())


@needs_julia
@pytest.mark.slow
def test_an_adjoint_is_another_gradient_at_coarse_steps(julia: Any) -> None:
    solver = Solver("Euler", dt=1 / 4)
    needs_packages("adjoint")
    field, weights, y0 = problem("conv1d, one matrix")
    cotangent = np.cos(y0)
    discrete = julia.vjp(field, weights, y0, (0.0, 1.0), solver, cotangent)
    adjoint = julia.vjp(
        field, weights, y0, (0.0, 1.0), solver, cotangent, gradient="InterpolatingAdjoint"
    )
    assert distance(adjoint[1], discrete[1]) > 1e-6


@needs_julia
@pytest.mark.zoo
def test_the_loops_derivative_is_the_discrete_gradient(julia: Any) -> None:
    needs_packages("adjoint")
    field, weights, y0 = problem("conv1d, one matrix")
    solver, cotangent = Solver("Euler", dt=1 / 4), np.cos(y0)
    discrete = julia.vjp(field, weights, y0, (0.0, 1.0), solver, cotangent)
    for gradient in ("ForwardDiffSensitivity", "ReverseDiffAdjoint"):
        theirs = julia.vjp(field, weights, y0, (0.0, 1.0), solver, cotangent, gradient=gradient)
        assert distance(theirs[1], discrete[1]) < 1e-10
        assert all(distance(theirs[0][key], value) < 1e-10 for key, value in discrete[0].items())


@needs_julia
@pytest.mark.zoo
@pytest.mark.parametrize("name", ["conv1d, one matrix", "dense"])
def test_diffeqflux_agrees(julia: Any, name: str) -> None:
    needs_packages("node")
    if name == "dense":
        field, random = MLP(3, width=8), np.random.default_rng(2)
        weights = {k: random.normal(0, 0.4, s) for k, s in field.weight_shapes().items()}
        y0 = random.normal(size=(5, 3))
    else:
        field, weights, y0 = problem(name)
    cotangent = np.cos(y0)
    exact = julia.vjp(field, weights, y0, (0.0, 1.0), TIGHT, cotangent)
    theirs = julia.vjp(field, weights, y0, (0.0, 1.0), TIGHT, cotangent, gradient="NeuralODE")
    assert distance(theirs[1], exact[1]) < 1e-6
    assert all(distance(theirs[0][key], value) < 1e-6 for key, value in exact[0].items())


@needs_julia
@pytest.mark.zoo
@pytest.mark.parametrize("gradient", ["InterpolatingAdjoint", "GaussAdjoint", "NeuralODE"])
def test_an_adjoint_trains(julia: Any, gradient: str) -> None:
    needs_packages("node" if gradient == "NeuralODE" else "adjoint")
    model, random = Model(ConvField1d(2, channels=4, activation="tanh"), classes=2), np.random
    x = random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)
    batches = random.default_rng(1).integers(0, 64, (60, 32)).astype(np.int32)
    start = TrainState.start(model.init(0))
    solver = Solver("Tsit5", rtol=1e-4, atol=1e-4)
    arguments = (model, start, x, labels, batches, solver, Adam(1e-2))
    ours, theirs = (julia.train(*arguments, gradient=each) for each in ("discrete", gradient))
    assert theirs.state.iteration == 60
    assert theirs.loss[-10:].mean() < 0.85 * theirs.loss[:10].mean()
    assert distance(ours.loss, theirs.loss) < 1e-2


# Names, without Julia


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        ("adjoint", UnknownNameError, "GaussAdjoint"),
        ("GaussAdjoint:Zygote", UnknownNameError, "ZygoteVJP"),
        ("discrete:ZygoteVJP", InvalidValueError, "GaussKronrodAdjoint only"),
        *((name, InvalidValueError, name) for name in REFUSED),
    ],
)
def test_wrong_names_are_refused(gradient: str, error: type[Exception], message: str) -> None:
    from pynode_jl.backends import checked_gradient

    with pytest.raises(error, match=message):
        checked_gradient(gradient)


def test_the_jax_backend_says_who_has_an_adjoint(backend: Any) -> None:
    field, weights, y0 = problem("mlp")
    with pytest.raises(InvalidValueError, match='backend="julia"'):
        backend.vjp(
            field, weights, y0, (0, 1), Solver("Euler", dt=0.5), y0, gradient="GaussAdjoint"
        )
