"""Folds, the fan, the order test: against closed forms and finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from pynode_jl.backends import get_backend
from pynode_jl.diagnostics import (
    OrderReport,
    error_share,
    fan,
    flipped_triangles,
    fold_scan,
    fold_step,
    folds,
    order_test,
    order_violations,
)
from pynode_jl.diagnostics._step_maps import flow_over_steps, step_jacobians
from pynode_jl.errors import InvalidValueError, WrongSolverError
from pynode_jl.fields import MLP, ConvField1d, LinearField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedModel

RANDOM = np.random.default_rng(0)


def decay(rates: list[float], solver: Solver, t1: float = 1.0) -> TrainedModel:
    """y_i' = -rates[i] y_i."""
    model = Model(LinearField(len(rates)), classes=2, t1=t1)
    weights = model.init(0)
    weights["field.layers.0.weight"] = -np.diag(rates).astype(np.float32)
    return TrainedModel(model, weights, solver)


def network(solver: Solver, dim: int = 2, scale: float = 1.0) -> TrainedModel:
    model = Model(MLP(dim, width=16), classes=3)
    weights = {name: scale * value for name, value in model.init(4).items()}
    return TrainedModel(model, weights, solver)


def test_euler_folds_where_theory_says() -> None:
    """1 - h lambda is the determinant of an Euler step for y' = -lambda y."""
    x = RANDOM.normal(size=(5, 1)).astype(np.float32)
    rate = 10.0
    trained = decay([rate], Solver("Euler", dt=1 / 4))
    report = folds(trained, x)
    assert report.sign.shape == (4, 5)
    np.testing.assert_allclose(np.exp(report.log_abs), abs(1 - rate / 4), rtol=1e-6)
    assert report.folded.all()
    good, bad = fold_step(trained, x, finest=64)
    assert good is not None
    assert bad is not None
    # At n = 10 the determinant is zero (not positive): the threshold itself folds.
    assert (good, bad) == pytest.approx((1 / 11, 1 / 10))
    fine = folds(trained, x, solver=Solver("Euler", dt=1 / 16))
    assert not fine.folded.any()


def test_two_reversed_directions_are_not_seen() -> None:
    """The blind spot that the module names: (1 - h lambda)^2 is positive."""
    x = RANDOM.normal(size=(5, 2)).astype(np.float32)
    crossing = Solver("Euler", dt=1 / 2)
    assert not folds(decay([4.0, 4.0], crossing), x).folded.any()
    assert folds(decay([4.0, 0.5], crossing), x).folded.all()


def test_fold_step_without_a_bracket() -> None:
    x = RANDOM.normal(size=(3, 1)).astype(np.float32)
    assert fold_step(decay([0.5], Solver("Euler", dt=1.0)), x, finest=4) == (1.0, None)
    assert fold_step(decay([100.0], Solver("Euler", dt=1.0)), x, finest=4) == (None, 0.25)
    with pytest.raises(InvalidValueError, match="finest"):
        fold_step(decay([1.0], Solver("Euler", dt=1.0)), x, finest=0)


def test_no_folds_at_one_step_do_not_exclude_them_below() -> None:
    """In closed form: (1 - 3 h)(1 - 2 h) is negative for 1/3 < h < 1/2 only."""
    x = RANDOM.normal(size=(5, 2)).astype(np.float32)
    trained = decay([3.0, 2.0], Solver("Euler", dt=1.0), t1=2.0)
    seen = {
        dt: bool(folds(trained, x, solver=Solver("Euler", dt=dt)).folded.any())
        for dt in (1.0, 0.4, 0.25)
    }
    assert seen == {1.0: False, 0.4: True, 0.25: False}


def test_fold_scan_does_not_take_folding_for_monotone() -> None:
    x = RANDOM.normal(size=(4, 2)).astype(np.float32)
    # (1 - 12 h)(1 - 6 h): positive at h = 1 to 1/4, negative at 1/8, positive from 1/16 on.
    scan = fold_scan(decay([12.0, 6.0], Solver("Euler", dt=1.0)), x, finest=64)
    np.testing.assert_array_equal(scan.steps, 2.0 ** -np.arange(7))
    np.testing.assert_array_equal(scan.share, [0, 0, 0, 1, 0, 0, 0])
    assert scan.smallest == 1 / 8
    assert scan.reappears
    quiet = fold_scan(decay([0.5, 0.1], Solver("RK4", dt=1.0)), x, finest=5)
    assert quiet.smallest is None
    assert len(quiet.steps) == 3
    with pytest.raises(InvalidValueError, match="finest"):
        fold_scan(decay([1.0], Solver("Euler", dt=1.0)), x[:, :1], finest=0)


def test_neighbours_are_watched_at_every_step() -> None:
    x = np.linspace(-1, 1, 9)[:, None]
    # h lambda = 2 mirrors the line at each step: after two all are in order again.
    report = order_violations(decay([4.0], Solver("Euler", dt=1 / 2)), x)
    np.testing.assert_array_equal(report.reversed, [8, 0])
    np.testing.assert_array_equal(report.kept, [8, 8])
    assert report.share == 1.0
    low, high = report.interval(0.95)
    assert low == pytest.approx((0.025 / 2) ** (1 / 8))  # Clopper-Pearson of 8 of 8, two steps
    assert high == 1.0
    plane = RANDOM.normal(size=(40, 2))
    turned = order_violations(decay([6.0, 0.5], Solver("Euler", dt=1 / 4)), plane)
    assert turned.share == 1.0
    fine = order_violations(decay([6.0, 0.5], Solver("Euler", dt=1 / 16)), plane)
    assert fine.share == 0.0
    # Triangles share samples: an interval of 40 samples, not of so many triangles.
    assert fine.neighbours > 40
    assert fine.interval(0.95)[1] == pytest.approx(1 - 0.025 ** (1 / 40))
    flat = np.stack([np.arange(9.0), np.zeros(9)], axis=1)
    with pytest.raises(InvalidValueError, match="one line"):
        order_violations(decay([1.0, 1.0], Solver("Euler", dt=1 / 4)), flat)
    with pytest.raises(InvalidValueError, match="Project"):
        order_violations(decay([1.0] * 3, Solver("Euler", dt=1 / 4)), RANDOM.normal(size=(9, 3)))


@pytest.mark.parametrize(("dim", "samples"), [(2, 6), (3, 4), (10, 2)])
@pytest.mark.parametrize("name", ["Euler", "RK4"])
def test_determinants_against_finite_differences(dim: int, samples: int, name: str) -> None:
    x = RANDOM.normal(size=(samples, dim))
    trained = network(Solver(name, dt=1.0), dim)
    report = folds(trained, x)
    backend, eps = get_backend(), 1e-6
    field, weights = trained.model.field, trained.field_weights

    def step(y: np.ndarray) -> np.ndarray:
        return backend.solve(field, weights, y, (0.0, 1.0), trained.solver).y1

    jacobian = np.stack(
        [(step(x + eps * e) - step(x - eps * e)) / (2 * eps) for e in np.eye(dim)], axis=2
    )
    sign, log_abs = np.linalg.slogdet(jacobian)
    np.testing.assert_array_equal(report.sign[0], sign)
    np.testing.assert_allclose(report.log_abs[0], log_abs, atol=1e-7)


@pytest.mark.slow
def test_determinants_in_dimension_900() -> None:
    model = Model(ConvField1d(900, channels=4, activation="tanh"), classes=2)
    trained = TrainedModel(model, model.init(0), Solver("Euler", dt=1.0))
    x = RANDOM.normal(size=(1, 900))
    report = folds(trained, x)
    backend, eps = get_backend(), 1e-6
    moves = eps * np.eye(900)
    states = backend.solve(
        model.field,
        trained.field_weights,
        np.concatenate([x + moves, x - moves]),
        (0.0, 1.0),
        trained.solver,
    ).y1
    jacobian = ((states[:900] - states[900:]) / (2 * eps)).T
    sign, log_abs = np.linalg.slogdet(jacobian)
    assert report.sign[0, 0] == sign
    assert report.log_abs[0, 0] == pytest.approx(log_abs, abs=1e-4)


def test_flipped_triangles() -> None:
    points = RANDOM.normal(size=(40, 2))
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    assert flipped_triangles(points, points @ turn.T)[0] == 0
    flipped, total = flipped_triangles(points, points * [1, -1])
    assert flipped == total > 40
    line = np.linspace(0, 1, 9)[:, None]
    assert flipped_triangles(line, line**3) == (0, 8)
    assert flipped_triangles(line, np.abs(line - 0.5)) == (4, 8)
    with pytest.raises(InvalidValueError, match="Project"):
        flipped_triangles(np.zeros((9, 3)), np.zeros((9, 3)))


@pytest.mark.parametrize(("name", "n"), [("Euler", 64), ("Midpoint", 16), ("RK4", 8)])
def test_transported_errors_sum_to_the_global_error(name: str, n: int) -> None:
    x = RANDOM.normal(size=(8, 2))
    found = fan(network(Solver(name, dt=1 / n)), x)
    assert found.local.shape == found.transported.shape == (n, 8, 2)
    assert found.gap < 0.1
    np.testing.assert_array_equal(found.transported[-1], found.local[-1])
    coarse = fan(network(Solver(name, dt=2 / n)), x)
    order = np.log2(np.linalg.norm(coarse.global_error) / np.linalg.norm(found.global_error))
    assert order == pytest.approx(Solver(name, dt=1 / n).info.order, abs=0.35)


TIGHT = Solver("Tsit5", rtol=1e-10, atol=1e-10)
TIGHT_IMPLICIT = Solver("KenCarp5", rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "rate", "flow", "method"),
    [
        ("Euler", 1.5, TIGHT, "Vern7"),
        ("Euler", 12.0, TIGHT, "Vern7"),  # h lambda = 1.5: the largest error that still decays
        ("ImplicitEuler", 1.5, TIGHT, "Vern7"),
        ("ImplicitEuler", 60.0, TIGHT, "KenCarp5"),
        ("ImplicitEuler", 1e4, TIGHT_IMPLICIT, "KenCarp5"),
    ],
)
def test_fan_of_a_linear_field_is_exact(name: str, rate: float, flow: Solver, method: str) -> None:
    x, n = RANDOM.normal(size=(4, 1)), 8
    found = fan(decay([rate], Solver(name, dt=1 / n)), x, flow=flow)
    z = rate / n
    step, over = (1 - z if name == "Euler" else 1 / (1 + z)), np.exp(-z)
    local = np.array([x * step**i * (step - over) for i in range(n)])
    carried = local * over ** np.arange(n - 1, -1, -1)[:, None, None]
    assert found.method.startswith(method)
    assert found.measured
    np.testing.assert_allclose(found.local, local, atol=1e-7)
    scale = np.abs(local).max()
    np.testing.assert_allclose(found.transported / scale, carried / scale, atol=1e-4)
    if method == "Vern7":
        np.testing.assert_allclose(found.transported, carried, rtol=2e-5, atol=1e-9)
        assert found.gap < 1e-5


def test_transport_next_to_a_growing_direction_is_exact() -> None:
    """Stiff and growing at once: what counts is carried by the growing direction alone."""
    x, n = RANDOM.normal(size=(5, 2)), 8
    trained = decay([1e4, -1.0], Solver("ImplicitEuler", dt=1 / n))
    found = fan(trained, x, flow=TIGHT_IMPLICIT)
    step, over = 1 / (1 - 1 / n), np.exp(1 / n)
    expected = [x[:, 1] * step**i * (step - over) * over ** (n - 1 - i) for i in range(n)]
    np.testing.assert_allclose(found.transported[..., 1], expected, rtol=1e-4)
    assert found.gap < 1e-4
    assert found.size < 0.2


def test_transport_of_large_states_needs_no_jacobians(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of sixteen numbers: difference quotients along two errors cost less."""
    monkeypatch.setattr("pynode_jl.diagnostics._fan.step_jacobians", None)
    x, n = np.random.default_rng(3).normal(size=(4, 16)), 3
    rates = np.linspace(-1.0, 2.0, 16)
    found = fan(decay(list(rates), Solver("Euler", dt=1 / n)), x, flow=TIGHT)
    step, over = 1 - rates / n, np.exp(-rates / n)
    expected = [x * step**i * (step - over) * over ** (n - 1 - i) for i in range(n)]
    np.testing.assert_allclose(found.transported, expected, atol=1e-6)
    assert found.method == "Vern7, 2 sub-steps"
    assert found.gap < 1e-4


@pytest.mark.slow
def test_transport_that_cannot_be_measured_says_so() -> None:
    """A field of steep kinks, errors as large as states: no two resolutions agree."""
    model = Model(MLP(2, width=16, activation="relu"), classes=2)
    weights = {name: 2 * value for name, value in model.init(4).items()}
    trained = TrainedModel(model, weights, Solver("Euler", dt=1 / 2))
    x = np.random.default_rng(5).normal(size=(6, 2))
    found = fan(trained, x, flow=Solver("Tsit5", rtol=1e-4, atol=1e-4))
    assert not found.measured
    assert "two resolutions" in found.problem
    assert np.isnan(found.transported).all()
    assert np.isnan(found.gap)
    assert np.isfinite(found.local).all()


@pytest.mark.parametrize("steps", [3, 40, 70])
def test_steps_in_one_batch_give_what_they_give_alone(steps: int) -> None:
    backend, trained = get_backend(), network(Solver("Heun", dt=1.0))
    field, weights = trained.model.field, trained.field_weights
    y = RANDOM.normal(size=(steps, 2, 2))
    t, dt = np.linspace(0, 1, steps), np.where(np.arange(steps) < steps - 1, 0.1, 0.05)
    found = step_jacobians(backend, field, weights, y, t, dt, trained.solver)
    states = flow_over_steps(backend, field, weights, y, t, dt, TIGHT, 2)
    assert states.shape == (steps, 2, 2, 2)
    for i in (0, steps // 2, steps - 2, steps - 1):
        alone = backend.step_jacobian(field, weights, y[i], t[i], dt[i], trained.solver)
        np.testing.assert_allclose(found[i], alone, rtol=1e-12)
        half = backend.solve(field, weights, y[i], (0.0, dt[i] / 2), TIGHT).y1
        np.testing.assert_allclose(states[i, 0], half, rtol=1e-8)


def test_share_of_the_margin() -> None:
    x = RANDOM.uniform(0.5, 1, size=(6, 1))
    trained = decay([1.0], Solver("Euler", dt=1.0))
    weights = dict(trained.weights)
    weights["head.weight"] = np.array([[1.0], [0.0]], np.float32)
    weights["head.bias"] = np.array([0.1, 0.0], np.float32)
    # One Euler step of h = 1 ends at 0, the flow at x / e: of the margin 0.1, -x / e is error.
    found = fan(TrainedModel(trained.model, weights, trained.solver), x)
    np.testing.assert_allclose(found.margin, 0.1, rtol=1e-6)
    np.testing.assert_allclose(found.margin_error, -x[:, 0] / np.e, rtol=1e-5)
    # The error of -x / e against a margin of -0.1 the other way: here it alone decides.
    weights["head.bias"] = np.array([-0.1, 0.0], np.float32)
    turned = fan(TrainedModel(trained.model, weights, trained.solver), x)
    np.testing.assert_allclose(turned.margin_error, x[:, 0] / np.e, rtol=1e-5)


def test_error_share_has_a_sign() -> None:
    own = np.array([[2.0, 0.0, -9.0], [1.0, 0.0, 0.0], [0.0, 4.0, 2.0], [1.0, 1.0, 0.0]])
    ode = np.array([[1.0, 0.0, -9.0], [147.0, 0.0, 0.0], [0.0, 1.0, 2.0], [1.0, 1.0, 0.0]])
    # Half of the first margin is error; the second is shrunk by it; the third is made by it.
    np.testing.assert_allclose(error_share(own, ode).share, [0.5, -146.0, 1.5, 0.0])
    assert error_share(np.array([[1.0, 1.0]]), np.array([[0.0, 3.0]])).share[0] in (-np.inf, np.inf)
    assert error_share(np.array([[np.inf, np.inf]]), np.zeros((1, 2))).share[0] == np.inf


@pytest.mark.parametrize("name", ["Euler", "Heun", "BS3", "RK4"])
def test_order_is_observed_and_extrapolated(name: str) -> None:
    x = RANDOM.normal(size=(5, 2))
    solver = Solver(name, dt=1 / 4)
    trained = network(solver)
    report = order_test(trained, x, halvings=4)
    assert report.observed[-1] == pytest.approx(solver.info.order, abs=0.3)
    assert report.holds_from() is not None
    exact = (
        get_backend()
        .solve(
            trained.model.field,
            trained.field_weights,
            x,
            (0.0, 1.0),
            Solver("Vern9", rtol=1e-12, atol=1e-12),
        )
        .y1
    )
    assert np.abs(report.extrapolated - exact).max() < report.differences[-1]
    against = order_test(trained, x, halvings=4, exact=exact, floor=1e-12)
    assert against.distance == pytest.approx(against.differences.sum(), rel=0.5)
    assert against.floor == 1e-12
    np.testing.assert_allclose(np.diff(np.log2(against.errors))[-2:], -solver.info.order, atol=0.4)


def observed(*orders: float, name: str = "Euler") -> OrderReport:
    steps = 2.0 ** -np.arange(1, len(orders) + 3)
    nothing = np.ones(len(steps))
    return OrderReport(
        Solver(name, dt=0.5), steps, nothing[1:], np.array(orders), nothing, nothing, 0.0
    )


@pytest.mark.parametrize(
    ("orders", "first"),
    [
        ((1.0, 1.0, 1.0), 1 / 2),
        ((0.2, 0.9, 1.0), 1 / 4),
        ((3.05, 3.05, 3.05), None),  # not Euler's order, though above it
        ((1.0, 1.0, 3.05), None),
        ((1.0, 1.25, 0.8), None),  # the last two do not agree
        ((1.0, 1.0, np.nan), 1 / 2),  # converged to rounding after two
        ((1.0, np.nan, np.nan), None),  # one is none
        ((np.nan, np.nan, np.nan), None),
    ],
)
def test_an_order_is_judged_two_sided_in_its_asymptotic_range(
    orders: tuple[float, ...], first: float | None
) -> None:
    assert observed(*orders).holds_from() == first


def test_rounding_is_no_order() -> None:
    """RK4 on y' = -y reaches rounding within eight halvings; its order holds nevertheless."""
    x = np.random.default_rng(3).normal(size=(5, 1))
    report = order_test(decay([1.0], Solver("RK4", dt=1 / 8)), x, halvings=9)
    assert np.isnan(report.observed[-1])
    assert report.observed[0] == pytest.approx(4, abs=0.1)
    assert report.holds_from() == 1 / 8


def test_order_is_not_seen_above_the_fields_scale() -> None:
    x = np.random.default_rng(0).normal(size=(5, 2))
    report = order_test(network(Solver("RK4", dt=1.0), scale=2.5), x, halvings=9)
    first = report.holds_from()
    assert first is not None
    assert first < 1.0
    with pytest.raises(WrongSolverError, match="with_step"):
        order_test(network(Solver("Tsit5")), x)
    with pytest.raises(InvalidValueError, match="halvings"):
        order_test(network(Solver("Euler", dt=0.5)), x, halvings=1)
