"""`pynode_jl.torch`'s calls: torchdiffeq's numbers for the same tableau, gradcheck, refusals.

torchdiffeq's own test suite is run beside the project, not kept in it.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchdiffeq
from torch import Tensor, nn

from pynode_jl.backends.torch import _adaptive, _fixed
from pynode_jl.errors import (
    BackendLacksSolverError,
    InvalidValueError,
    SolveError,
    UnknownNameError,
    WrongProblemError,
)
from pynode_jl.solvers import Solver, info, tableau_names
from pynode_jl.torch import odeint, odeint_adjoint, odeint_event

F64 = torch.float64


class Field(nn.Module):
    """Nonlinear, non-autonomous, and no chain of layers: it runs in torch."""

    def __init__(self, dtype: torch.dtype = F64) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.randn(4, 2, generator=random, dtype=dtype))
        self.b = nn.Parameter(torch.randn(2, 4, generator=random, dtype=dtype) / 2)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(y @ self.a.T + torch.sin(t)) @ self.b.T - 0.3 * y


def start(dtype: torch.dtype = F64) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn(3, 2, generator=random, dtype=dtype).requires_grad_()


def times(*values: float, dtype: torch.dtype = F64) -> Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def states_and_gradients(solve: Any, field: Field, t: Tensor, **keywords: Any) -> list[Tensor]:
    y0 = start(t.dtype)
    y = solve(field, y0, t, **keywords)
    weight = torch.cos(torch.arange(y.numel(), dtype=t.dtype)).reshape(y.shape)
    inputs = [y0, t, *field.parameters()] if t.requires_grad else [y0, *field.parameters()]
    return [y, *torch.autograd.grad((weight * y).sum(), inputs)]


def assert_close(got: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# torchdiffeq ------------------------------------------------------------------------------------

FIXED = ["euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams"]
TIMES = {"forwards": (0.1, 0.5, 1.3, 2.0), "backwards": (2.0, 1.3, 0.5, 0.1)}


@pytest.mark.parametrize("direction", TIMES)
@pytest.mark.parametrize("options", [{}, {"step_size": 0.15}, {"step_size": 0.15, "perturb": True}])
@pytest.mark.parametrize("method", FIXED)
@pytest.mark.filterwarnings("ignore:Functional iteration")
def test_fixed_grids_are_torchdiffeqs(method: str, options: dict[str, Any], direction: str) -> None:
    """States and all gradients, to y0, t and the parameters, to rounding."""
    t = times(*TIMES[direction])
    results = [
        states_and_gradients(solve, Field(), t, method=method, options=options)
        for solve in (odeint, torchdiffeq.odeint)
    ]
    assert_close(*results, tolerance=1e-11)


def test_cubic_interpolation_is_torchdiffeqs() -> None:
    options = {"step_size": 0.4, "interp": "cubic"}
    t = times(0.0, 0.5, 0.7, 2.0)
    results = [
        states_and_gradients(solve, Field(), t, method="rk4", options=options)
        for solve in (odeint, torchdiffeq.odeint)
    ]
    assert_close(*results, tolerance=1e-12)


ADAPTIVE = {"dopri5": 1e-11, "bosh3": 1e-11, "dopri8": 1e-8}


@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_steps_are_torchdiffeqs(method: str) -> None:
    """The same steps, so nearly the same states (the rounding of an error estimate moves a step a
    little). Gradients differ by the initial step's own, through which torchdiffeq differentiates:
    it is of the tolerance's size, and no part of the discrete model."""
    t = times(*TIMES["forwards"])
    got, expected = (
        states_and_gradients(solve, Field(), t, method=method, rtol=1e-8, atol=1e-10)
        for solve in (odeint, torchdiffeq.odeint)
    )
    torch.testing.assert_close(got[0], expected[0], rtol=ADAPTIVE[method], atol=ADAPTIVE[method])
    assert_close(got[1:], expected[1:], tolerance=1e-6)


def test_interpolants_are_torchdiffeqs_however_bad() -> None:
    """docs/how_to/from_torchdiffeq.md: between steps a `bosh3` state is off by 1,000 tolerances."""
    y0, t = torch.ones(1, dtype=F64), torch.linspace(0, 2, 41, dtype=F64)
    exact = torch.exp(torch.sin(t))[:, None]

    def error(solve: Any, method: str) -> float:
        y = solve(lambda t, y: torch.cos(t) * y, y0, t, method=method, rtol=1e-6, atol=1e-8)
        return float((y - exact).abs().max())

    assert error(odeint, "bosh3") == pytest.approx(error(torchdiffeq.odeint, "bosh3"), rel=1e-3)
    assert error(odeint, "bosh3") > 1e-3
    assert error(odeint, "BS3") < 1e-6


@pytest.mark.parametrize("name", ["nfe", "jump_t", "step_t", "first_step", "max_step"])
def test_the_same_evaluations(name: str) -> None:
    options: dict[str, Any] = {
        "nfe": {},
        "jump_t": {"jump_t": torch.tensor([0.4, 0.9], dtype=F64)},
        "step_t": {"step_t": torch.tensor([0.4, 0.9], dtype=F64)},
        "first_step": {"first_step": 1e-3},
        "max_step": {"max_step": 0.05},
    }[name]
    seen = []
    for solve in (odeint, torchdiffeq.odeint):
        field, moments = Field(), []
        solve(
            lambda t, y, field=field, moments=moments: (
                moments.append(float(t.detach())),
                field(t, y),
            )[1],
            start().detach(),
            times(0.0, 0.3, 1.0).detach(),
            method="dopri5",
            options=options,
        )
        seen.append(moments)
    # An error estimate is a small difference of large numbers: its rounding moves the steps.
    assert seen[0] == pytest.approx(seen[1], abs=1e-8)


def test_float32_solves_in_float32() -> None:
    t = times(0.0, 0.7, 1.0, dtype=torch.float32)
    for method, tolerance in (("rk4", 1e-6), ("dopri5", 2e-6)):
        got, expected = (
            solve(Field(torch.float32), start(torch.float32), t, method=method)
            for solve in (odeint, torchdiffeq.odeint)
        )
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def test_tuples_of_tensors() -> None:
    def pair(t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return -y[1] * t * y[0], torch.ones_like(y[1]) * y[0].sum()

    y0 = (torch.ones(3, dtype=F64), torch.tensor(0.5, dtype=F64))
    t = times(0.0, 0.5, 1.0)
    keywords: dict[str, Any] = {"rtol": (1e-5, 1e-8), "atol": (1e-7, 1e-9)}
    got, expected = (solve(pair, y0, t, **keywords) for solve in (odeint, torchdiffeq.odeint))
    assert isinstance(got, tuple)
    assert [each.shape for each in got] == [(3, 3), (3,)]
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_complex_states() -> None:
    y0 = torch.tensor([1.0 + 0.5j], dtype=torch.complex128)
    t = times(0.0, 1.0).detach()
    y1 = odeint(lambda t, y: 2j * y, y0, t, method="dopri5")[-1]
    torch.testing.assert_close(y1, y0 * complex(math.cos(2), math.sin(2)), rtol=1e-7, atol=1e-7)


def test_callbacks_are_called_as_torchdiffeq_does() -> None:
    told = []
    for solve in (odeint, torchdiffeq.odeint):
        field, heard = Field(), []
        for name in ("callback_step", "callback_accept_step", "callback_reject_step"):
            setattr(
                field,
                name,
                lambda t, y, dt, name=name, heard=heard: heard.append(
                    (name, *(float(each.detach().sum()) for each in (t, y, dt)))
                ),
            )
        solve(field, start().detach(), times(1.0, 0.0).detach(), rtol=1e-4, atol=1e-6)
        told.append(heard)
    assert [each[0] for each in told[0]] == [each[0] for each in told[1]]
    for a, b in zip(*told, strict=True):
        assert a[1:] == pytest.approx(b[1:], abs=1e-8)


# Names of the catalogue -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Tsit5", "Vern7", "BS5", "DP8", "KenCarp4", "RDPK3Sp35"])
def test_julia_names_meet_their_tolerance_at_each_time(name: str) -> None:
    y0, t = start().detach(), times(0.0, 0.31, 1.0).detach()
    expected = odeint(Field(), y0, t, rtol=1e-11, atol=1e-12)
    got = odeint(Field(), y0, t, method=name, rtol=1e-7, atol=1e-9)
    assert 0 < float((got - expected).detach().abs().max()) < 2e-6


def test_julia_names_step_as_the_backend_does() -> None:
    """The same field in torch, step by step, and whole in the backend: the same steps."""
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).to(F64)

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return self.net(y)

    y0, t = start().detach(), times(0.0, 0.31, 1.5).detach()
    for name in ("Tsit5", "DP5", "BS3", "Vern7"):
        whole, here = (
            odeint(Chain(), y0, t, method=name, rtol=1e-5, atol=1e-7, backend=backend)
            for backend in ("jax", "torch")
        )
        torch.testing.assert_close(here, whole, rtol=1e-11, atol=1e-12)


def test_a_step_size_fixes_the_steps_and_meets_every_time() -> None:
    y0, t = start().detach(), times(0.0, 0.25, 1.0).detach()
    got = odeint(Field(), y0, t, method="RK38", options={"step_size": 0.1})
    expected = [y0]
    for a, b in ((0.0, 0.25), (0.25, 1.0)):
        grid = times(a, b).detach()
        expected.append(
            torchdiffeq.odeint(
                Field(), expected[-1], grid, method="rk4", options={"step_size": 0.1}
            )[-1]
        )
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-13, atol=1e-13)


def test_a_solver_brings_its_own_settings() -> None:
    y0, t = start().detach(), times(0.0, 1.0).detach()
    for solver, keywords in (
        (Solver("RK4", dt=0.1), {"method": "RK4", "options": {"step_size": 0.1}}),
        (Solver("Vern7", rtol=1e-4), {"method": "Vern7", "rtol": 1e-4, "atol": 1e-6}),
    ):
        torch.testing.assert_close(
            odeint(Field(), y0, t, method=solver), odeint(Field(), y0, t, **keywords)
        )


@pytest.mark.long
def test_every_tableau_runs() -> None:
    """Small steps on a smooth problem: all agree, each to its order."""
    y0, t = start()[:1].detach(), times(0.0, 0.5).detach()
    expected = odeint(Field(), y0, t, method="Vern9", rtol=1e-12, atol=1e-13)[-1].detach()
    wrong = {}
    for name in tableau_names():
        y1 = odeint(Field(), y0, t, method=name, options={"step_size": 0.05})[-1].detach()
        order = info(name).measured_order or info(name).order or 1
        error = float((y1 - expected).abs().max())
        if not error < 2 * 0.05**order + 1e-9:
            wrong[name] = (order, error)
    assert wrong == {}


# Gradients ----------------------------------------------------------------------------------------

TIGHT = {"rtol": 1e-9, "atol": 1e-11}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "torchdiffeq, adaptive": ("dopri5", TIGHT),
    "torchdiffeq, fixed": ("rk4", {"options": {"step_size": 0.4}}),
    "Julia, adaptive": ("Tsit5", TIGHT),
    "Julia, fixed": ("SSPRK33", {"options": {"step_size": 0.4}}),
    "high order": ("Vern7", TIGHT),
    "two error estimates": ("DP8", TIGHT),
    "diagonally implicit": ("KenCarp4", {"options": {"step_size": 0.4}}),
    "diagonally implicit, adaptive": ("Kvaerno5", {"rtol": 1e-7, "atol": 1e-8}),
    "fully implicit": ("radauIIA5", {"options": {"step_size": 0.4}}),
    "Gauss": ("gl4", {"options": {"step_size": 0.4}}),
    "multistep": ("implicit_adams", {"options": {"step_size": 0.13}}),
}


LONG = ("diagonally implicit, adaptive", "two error estimates", "Gauss", "fully implicit")


@pytest.mark.parametrize(
    "family",
    [pytest.param(each, marks=[pytest.mark.long] * (each in LONG)) for each in FAMILIES],
)
@pytest.mark.filterwarnings("ignore:Functional iteration")
def test_gradcheck(family: str) -> None:
    """To y0, t and parameters. Adaptive steps are constants of the gradient; at these tolerances
    that shows in no digit that gradcheck looks at."""
    method, keywords = FAMILIES[family]
    field = Field()

    def solve(y0: Tensor, t: Tensor, a: Tensor) -> Tensor:
        def rhs(t: Tensor, y: Tensor) -> Tensor:
            return torch.tanh(y @ a.T + torch.sin(t)) @ field.b.T - 0.3 * y

        return odeint(rhs, y0, t, method=method, **keywords)

    inputs = (start()[:1].detach().requires_grad_(), times(0.1, 0.6, 1.2), field.a)
    assert torch.autograd.gradcheck(solve, inputs, eps=1e-5, rtol=1e-3, atol=1e-5)


def test_gradcheck_backwards_in_time() -> None:
    field = Field()
    assert torch.autograd.gradcheck(
        lambda y0, t: odeint(field, y0, t, method="Tsit5", **TIGHT),
        (start()[:1].detach().requires_grad_(), times(1.2, 0.6, 0.1)),
        rtol=1e-3,
    )


def test_second_derivatives_of_explicit_methods() -> None:
    field = Field()
    assert torch.autograd.gradgradcheck(
        lambda y0: odeint(field, y0, times(0.0, 0.5).detach(), method="RK4"),
        (start()[:1].detach().requires_grad_(),),
    )


@pytest.mark.parametrize("method", ["dopri5", "Tsit5"])
def test_adjoint_gradients_are_odeints_in_the_limit(method: str) -> None:
    t = times(0.0, 0.4, 1.0)
    results = [
        states_and_gradients(solve, Field(), t, method=method, rtol=1e-10, atol=1e-11)
        for solve in (odeint, odeint_adjoint)
    ]
    assert_close(*results, tolerance=1e-7)


def test_adjoint_is_torchdiffeqs() -> None:
    t = times(1.0, 0.4, 0.0)
    for keywords in (
        {"rtol": 1e-6, "atol": 1e-8},
        {"rtol": 1e-6, "atol": 1e-8, "adjoint_options": {"norm": "seminorm"}},
        {"method": "rk4", "options": {"step_size": 0.1}},
        {"adjoint_method": "bosh3", "adjoint_rtol": 1e-5, "adjoint_atol": 1e-6},
    ):
        results = [
            states_and_gradients(solve, Field(), t, **keywords)
            for solve in (odeint_adjoint, torchdiffeq.odeint_adjoint)
        ]
        assert_close(*results, tolerance=1e-9)


def test_training_is_torchdiffeqs() -> None:
    """Twenty steps of Adam: the same losses and weights to 1e-6, for each shared tableau."""
    data, target = start().detach(), torch.ones(3, 2, dtype=F64)
    t = times(0.0, 1.0).detach()
    for method, options in (
        ("rk4", {"step_size": 0.25}),
        ("euler", {"step_size": 0.1}),
        ("dopri5", {}),
    ):
        trained = []
        for solve in (odeint, torchdiffeq.odeint):
            field, losses = Field(), []
            optimizer = torch.optim.Adam(field.parameters(), lr=1e-2)
            for _ in range(20):
                y1 = solve(field, data, t, method=method, options=options)[-1]
                loss = (y1 - target).pow(2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            trained.append([torch.stack(losses), *(p.detach() for p in field.parameters())])
        assert float(trained[0][0][-1]) < 0.9 * float(trained[0][0][0])
        assert_close(*trained, tolerance=1e-6)


# Events -------------------------------------------------------------------------------------------


def falling(t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return y[1], torch.full_like(y[1], -9.81)


@pytest.mark.parametrize(
    ("method", "options"),
    [("dopri5", None), ("Vern7", None), ("rk4", {"step_size": 0.01, "interp": "cubic"})],
)
def test_a_ball_falls(method: str, options: Any) -> None:
    """Height h: the ground after sqrt(2h/g), with derivative 1/sqrt(2gh)."""
    height = torch.tensor([2.0], dtype=F64, requires_grad=True)
    y0 = (height, torch.zeros(1, dtype=F64))
    time, (h, v) = odeint_event(
        falling,
        y0,
        torch.tensor(0.0, dtype=F64),
        event_fn=lambda t, y: y[0],
        method=method,
        options=options,
    )
    assert float(time.detach()) == pytest.approx(math.sqrt(4 / 9.81), abs=1e-7)
    assert float(h[-1].detach()) == pytest.approx(0.0, abs=1e-6)
    assert float(v[-1].detach()) == pytest.approx(-math.sqrt(4 * 9.81), abs=1e-6)
    (slope,) = torch.autograd.grad(time, height)
    assert float(slope) == pytest.approx(1 / math.sqrt(2 * 9.81 * 2.0), rel=1e-5)


ENDLESS = torch.tensor([0.0, math.inf], dtype=F64)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"options": {"max_num_steps": 30}}, "no event up to t = .* in 30 steps.*Raise it"),
        ({"method": "Tsit5", "options": {"max_num_steps": 30}}, "no event up to t = .* in 30"),
        ({"method": "euler", "options": {"step_size": 1.0}}, "no event up to t = 40, in 40"),
    ],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_event_that_never_comes_ends(
    keywords: Any, said: str, sign: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_adaptive, _fixed):
        monkeypatch.setattr(module, "MAX_EVENT_STEPS", 40)
    with pytest.raises(SolveError, match=said if sign > 0 else "no event up to t = -"):
        odeint(
            lambda t, y: torch.cos(t) * torch.ones_like(y),
            torch.ones(1, dtype=F64),
            sign * ENDLESS,
            event_fn=lambda t, y: y.sum() + 5.0,
            **keywords,
        )


def test_an_endless_solve_needs_an_event_that_can_come(monkeypatch: pytest.MonkeyPatch) -> None:
    y0 = torch.ones(1, dtype=F64)
    for solve in (odeint, lambda *given: odeint_adjoint(*given, adjoint_params=())):
        with pytest.raises(InvalidValueError, match=r"t = .*finite times"):
            solve(lambda t, y: -y, y0, ENDLESS)

    def find(event: Any, slope: float) -> Any:
        return odeint(lambda t, y: slope * y, y0, ENDLESS, event_fn=event)

    # Steps of a state at rest grow without bound.
    with pytest.raises(SolveError, match="no event up to t = "):
        find(lambda t, y: y.sum() + 5.0, 0.0)
    # NaN is no sign: of such an event neither the time nor the absence is known.
    for event in (lambda t, y: torch.log(y.sum() - 0.5) + 9.0, lambda t, y: y.sum() * math.nan):
        with pytest.raises(InvalidValueError, match=r"event_fn = 'NaN at t = "):
            find(event, -1.0)
    monkeypatch.setattr(_adaptive, "MAX_EVENT_STEPS", 40)
    with pytest.raises(SolveError, match=r"no event .* in 40 steps"):
        find(lambda t, y: y.sum() + 5.0, -1.0)


def test_event_backwards_in_time_is_torchdiffeqs() -> None:
    def solve(library: Any) -> tuple[Tensor, Tensor]:
        return library(
            Field(),
            start().detach(),
            torch.tensor(1.0, dtype=F64),
            event_fn=lambda t, y: y.sum() - 2.0 * t,
            reverse_time=True,
        )

    (t, y), (expected_t, expected_y) = solve(odeint_event), solve(torchdiffeq.odeint_event)
    torch.testing.assert_close(t, expected_t, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(y, expected_y, rtol=1e-7, atol=1e-7)


# Refusals -----------------------------------------------------------------------------------------


def test_refusals() -> None:
    y0, t = start().detach(), times(0.0, 1.0).detach()
    with pytest.raises(UnknownNameError, match="dopri5"):
        odeint(Field(), y0, t, method="dopri")
    with pytest.raises(UnknownNameError, match="Vern7"):
        odeint(Field(), y0, t, method="vern7")
    with pytest.raises(BackendLacksSolverError, match="tableau"):
        odeint(Field(), y0, t, method="Rodas5P")
    with pytest.raises(WrongProblemError, match="ODEProblem"):
        odeint(Field(), y0, t, method="McAte3")
    for bad in (times(0.0, 1.0, 1.0), times(0.0, 1.0, 0.5), torch.tensor([0, 1]), 1.0):
        with pytest.raises(InvalidValueError, match=r"^t = "):
            odeint(Field(), y0, bad)
    with pytest.raises(InvalidValueError, match="shape"):
        odeint(lambda t, y: y[0], y0, t)
    options = {"step_size": 0.1, "grid_constructor": lambda f, y0, t: t}
    with pytest.raises(InvalidValueError, match="grid_constructor"):
        odeint(Field(), y0, t, method="euler", options=options)
    with pytest.raises(InvalidValueError, match="adjoint_params"):
        odeint_adjoint(lambda t, y: y, y0, t)
    with pytest.warns(UserWarning, match="Unexpected arguments"):
        odeint(Field(), y0, t, options={"stepsize": 0.1})


def test_failures_say_why() -> None:
    y0, t = torch.ones(1, dtype=F64), times(0.0, 2.0).detach()
    with pytest.raises(SolveError, match="underflow in dt"):
        odeint(lambda t, y: y**2, y0, t)
    with pytest.raises(SolveError, match="max_num_steps"):
        odeint(Field(), start(), t, options={"max_num_steps": 2})
    stiff = {"method": "ImplicitEuler", "options": {"step_size": 1.0}}
    with pytest.raises(SolveError, match="Newton"):
        odeint(lambda t, y: torch.where(t > 0, math.nan, 1.0) * y, y0, t, **stiff)
    with pytest.raises(SolveError, match="NaN or infinite numbers just beyond t = 0"):
        odeint(lambda t, y: torch.where(t > 0, math.nan, 1.0) * y, y0, t)


@pytest.mark.parametrize("method", ["dopri5", "KenCarp4", "Tsit5", "scipy_solver"])
def test_what_is_not_finite_at_the_start_is_named(method: str) -> None:
    bad = torch.tensor([1.0, math.nan], requires_grad=True)
    with pytest.raises(SolveError, match="y0 holds 1 NaN of 2 numbers"):
        odeint(lambda t, y: -y, bad, times(0.0, 1.0).detach(), method=method)
    if method == "scipy_solver":
        return  # it goes on with what the field gives, and ends as SciPy says
    with pytest.raises(SolveError, match=r"f\(t0, y0\).*holds 1 infinite of 2 numbers"):
        odeint(
            lambda t, y: y / torch.tensor([0.0, 1.0]), torch.ones(2), times(0.0, 1.0).detach(),
            method=method,
        )  # fmt: skip


@pytest.mark.parametrize("method", ["dopri5", "rk4", "KenCarp4", "scipy_solver"])
def test_no_samples_have_states_at_all_times(method: str) -> None:
    y0 = torch.zeros(0, 2, requires_grad=True)
    y = odeint(lambda t, y: -y, y0, times(0.0, 0.5, 1.0).detach(), method=method)
    assert y.shape == (3, 0, 2)
    y.sum().backward()
    assert y0.grad is not None
    parts = odeint(lambda t, y: y, (y0, torch.ones(1)), times(0.0, 1.0).detach())
    assert parts[0].shape == (2, 0, 2)
    assert parts[1][-1].item() == pytest.approx(math.e, rel=1e-5)


def test_one_time_is_the_state_itself() -> None:
    y0 = start().detach()
    for method in ("dopri5", "rk4", "Tsit5", "implicit_adams"):
        y = odeint(Field(), y0, times(0.3).detach(), method=method)
        torch.testing.assert_close(y, y0[None], rtol=0, atol=0)
