"""Folds, the fan, the order test: against closed forms and finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from pynode_jl.analysis import (
    fan,
    flipped_triangles,
    fold_scan,
    fold_step,
    folds,
    order_test,
    order_violations,
)
from pynode_jl.backends import get_backend
from pynode_jl.errors import InvalidValueError, WrongSolverError
from pynode_jl.fields import MLP, ConvField1d, LinearField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained

RANDOM = np.random.default_rng(0)


def decay(rates: list[float], solver: Solver, t1: float = 1.0) -> Trained:
    """y_i' = -rates[i] y_i."""
    model = Model(LinearField(len(rates)), classes=2, t1=t1)
    weights = model.init(0)
    weights["field.layers.0.weight"] = -np.diag(rates).astype(np.float32)
    return Trained.of(model, weights, solver)


def network(solver: Solver, dim: int = 2, scale: float = 1.0) -> Trained:
    model = Model(MLP(dim, width=16), classes=3)
    weights = {name: scale * value for name, value in model.init(4).items()}
    return Trained.of(model, weights, solver)


def test_euler_folds_where_theory_says() -> None:
    """1 - h lambda is the determinant of an Euler step for y' = -lambda y."""
    x = RANDOM.normal(size=(5, 1)).astype(np.float32)
    rate = 10.0
    trained = decay([rate], Solver("Euler", dt=1 / 4))
    report = folds(trained, x)
    assert report.sign.shape == (4, 5)
    np.testing.assert_allclose(np.exp(report.log_abs), abs(1 - rate / 4), rtol=1e-6)
    assert report.folded.all()
    assert "folded: 100.0%" in report.text
    good, bad = fold_step(trained, x, finest=64)
    assert good is not None
    assert bad is not None
    # At n = 10 the determinant is zero (not positive): the threshold itself folds.
    assert (good, bad) == pytest.approx((1 / 11, 1 / 10))
    fine = folds(trained, x, solver=Solver("Euler", dt=1 / 16))
    assert not fine.folded.any()
    assert "proves no validity" in fine.text


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
    """PAPER.md's warning, in closed form: (1 - 3 h)(1 - 2 h) is negative for 1/3 < h < 1/2 only."""
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
    assert "reverses 100.0%" in report.text
    plane = RANDOM.normal(size=(40, 2))
    turned = order_violations(decay([6.0, 0.5], Solver("Euler", dt=1 / 4)), plane)
    assert turned.share == 1.0
    fine = order_violations(decay([6.0, 0.5], Solver("Euler", dt=1 / 16)), plane)
    assert fine.share == 0.0
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
    trained = Trained.of(model, model.init(0), Solver("Euler", dt=1.0))
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


def test_fan_of_a_linear_field_is_exact() -> None:
    x = RANDOM.normal(size=(4, 1))
    n, rate = 8, 1.5
    found = fan(decay([rate], Solver("Euler", dt=1 / n)), x)
    step, flow = 1 - rate / n, np.exp(-rate / n)
    for i in range(n):
        expected = x * step**i * (step - flow) * flow ** (n - 1 - i)
        np.testing.assert_allclose(found.transported[i], expected, rtol=2e-5)
    assert found.gap < 1e-5


def test_share_of_the_margin() -> None:
    x = RANDOM.uniform(0.5, 1, size=(6, 1))
    trained = decay([1.0], Solver("Euler", dt=1.0))
    weights = dict(trained.weights)
    weights["head.weight"] = np.array([[1.0], [0.0]], np.float32)
    weights["head.bias"] = np.array([0.1, 0.0], np.float32)
    # One Euler step of h = 1 ends at 0, the flow at x / e: of the margin 0.1, -x / e is error.
    found = fan(Trained.of(trained.model, weights, trained.solver), x)
    np.testing.assert_allclose(found.margin, 0.1, rtol=1e-6)
    np.testing.assert_allclose(found.margin_error, -x[:, 0] / np.e, rtol=1e-5)
    assert found.share == pytest.approx(np.median(x) / np.e / 0.1, rel=1e-5)
    assert found.decided == 0.0
    # The error of -x / e against a margin of -0.1 the other way: here it alone decides.
    weights["head.bias"] = np.array([-0.1, 0.0], np.float32)
    turned = fan(Trained.of(trained.model, weights, trained.solver), x)
    np.testing.assert_allclose(turned.margin_error, x[:, 0] / np.e, rtol=1e-5)
    assert turned.decided == 1.0
    assert "all of it for 100.0%" in turned.text


@pytest.mark.parametrize("name", ["Euler", "Heun", "BS3", "RK4"])
def test_order_is_observed_and_extrapolated(name: str) -> None:
    x = RANDOM.normal(size=(5, 2))
    solver = Solver(name, dt=1 / 4)
    trained = network(solver)
    report = order_test(trained, x, halvings=4)
    assert report.observed[-1] == pytest.approx(solver.info.order, abs=0.3)
    assert report.holds_from() is not None
    assert f"order {solver.info.order} holds from h=" in report.text
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
    finest = report.differences[-1]
    assert np.abs(report.extrapolated - exact).max() < finest
    assert report.distance == pytest.approx(report.differences.sum(), rel=0.5)
    np.testing.assert_allclose(np.diff(np.log2(report.errors))[-2:], -solver.info.order, atol=0.4)


def test_rounding_is_no_order() -> None:
    """RK4 on y' = -y reaches rounding within eight halvings; its order holds nevertheless."""
    x = np.random.default_rng(3).normal(size=(5, 1))
    report = order_test(decay([1.0], Solver("RK4", dt=1 / 8)), x, halvings=9)
    assert np.isnan(report.observed[-1])
    assert report.observed[0] == pytest.approx(4, abs=0.1)
    assert report.holds_from() == 1 / 8
    assert "nan" not in report.text


def test_order_is_not_seen_above_the_fields_scale() -> None:
    x = np.random.default_rng(0).normal(size=(5, 2))
    report = order_test(network(Solver("RK4", dt=1.0), scale=2.5), x, halvings=7)
    first = report.holds_from()
    assert first is not None
    assert first < 1.0
    with pytest.raises(WrongSolverError, match="with_step"):
        order_test(network(Solver("Tsit5")), x)
    with pytest.raises(InvalidValueError, match="halvings"):
        order_test(network(Solver("Euler", dt=0.5)), x, halvings=1)
