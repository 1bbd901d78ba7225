"""Verdicts on models whose truth is known in closed form, for answers that are numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.linalg import expm

import pynode_jl as pn
from pynode_jl.diagnostics import DIAGNOSTICS, Context, Verdict, by_step, planned
from pynode_jl.training.step_adaptation import SteadyController

RANDOM = np.random.default_rng(0)


def linear(matrix: np.ndarray, solver: pn.Solver, task: pn.Task, head: np.ndarray | None = None):
    """A linear field, and a head without a bias."""
    weights = {"layers.0.weight": matrix, "layers.0.bias": np.zeros(len(matrix))}
    parts = pn.ModelWeights(weights, head, None if head is None else np.zeros(len(head)))
    return pn.TrainedModel(
        pn.Model(pn.LinearField(len(matrix)), task=task), parts.to_dict(), solver
    )


def regression(noise: float) -> tuple[pn.TrainedModel, pn.Dataset]:
    """y' = -3 y by one step of Euler answers -2 x, and as an ODE exp(-3) x."""
    x = RANDOM.normal(size=(500, 1)).astype("f")
    y = -2 * x + noise * RANDOM.normal(size=x.shape)
    task = pn.Regression()
    data = pn.Dataset.from_arrays(x, y, task=task, x_test=x, y_test=y)
    return linear(np.array([[-3.0]]), pn.Solver("Euler", dt=1.0), task, np.eye(1)), data


def test_a_regression_that_its_ode_does_not_answer_is_tied() -> None:
    trained, data = regression(noise=0.1)
    report = pn.swap(trained, data, ["RK4", "Midpoint"], backend="jax")
    verdict = report.verdict
    error = np.sqrt(np.mean((-2 * data.x_test - data.y_test) ** 2))
    shift = (2 + math.exp(-3)) * np.sqrt(np.mean(data.x_test**2)) / error
    assert (verdict.kind, verdict.reason) == ("tied", "ode")
    assert verdict.ode is not None
    assert verdict.ode.share == pytest.approx(shift, rel=1e-4)
    assert report.trained == pytest.approx(error, rel=1e-4)
    assert verdict.text.startswith(f"tied to its solver: RMSE {report.trained:.4g} with Euler h=1")
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict


def test_the_same_field_is_valid_where_its_solver_resolves_it_or_the_noise_hides_it() -> None:
    trained, data = regression(noise=0.1)
    y = math.exp(-3) * data.x_test + 0.1 * RANDOM.normal(size=data.x_test.shape)
    resolved = pn.Dataset.from_arrays(data.x_test, y, task=data.task, x_test=data.x_test, y_test=y)
    fine = pn.TrainedModel(trained.model, trained.weights, pn.Solver("RK4", dt=1 / 16))
    assert pn.swap(fine, resolved, ["Tsit5"], backend="jax").verdict.kind == "valid"
    wide = pn.swap(trained, data, ["RK4"], margin=1000.0, backend="jax").verdict
    assert wide.kind == "valid"


def trajectory(h: float, noise: float, coarse: bool) -> tuple[pn.TrainedModel, pn.Dataset]:
    """A field whose Euler steps of h are the true flow exactly, or the true field under RK4."""
    true = np.array([[-0.3, 2.0], [-2.0, -0.3]])
    task = pn.Trajectory(tuple(h * k for k in range(1, 7)))
    matrix = (expm(true * h) - np.eye(2)) / h if coarse else true
    solver = pn.Solver("Euler", dt=h) if coarse else pn.Solver("RK4", dt=h / 4)
    x = RANDOM.normal(size=(60, 2))
    y = np.stack([x @ expm(true * t).T for t in task.times], axis=1)
    y = y + noise * RANDOM.normal(size=y.shape)
    y[RANDOM.random(y.shape) < 0.2] = np.nan
    return linear(matrix, solver, task), pn.Dataset.from_arrays(x, y, task=task, x_test=x, y_test=y)


def test_a_trajectory_fit_to_coarse_steps_has_its_least_error_there() -> None:
    """Krishnapriyan et al. 2022: the error by test step, with its least at the training step."""
    trained, data = trajectory(h=0.25, noise=0.02, coarse=True)
    report = pn.swap(trained, data, ["RK4", "Midpoint"], backend="jax")
    assert report.verdict.kind == "tied"
    assert report.trained == pytest.approx(0.02, rel=0.1)
    # Read-outs cut steps of 3/8 and 1/2 to 1/4: they would be one solve three times.
    assert report.table["factor"].tolist() == [0.5, 0.75, 1.0] * 2
    assert report.cost is not None
    assert "open" not in report.cost.text
    context = Context(trained, data, pn.get_backend("jax"), report, samples=8)
    table = by_step(context)
    own = float(table.loc[table["own"], "score"].iloc[0])
    finer = table["setting"] < 0.24
    assert (table.loc[finer, "score"] > 1.5 * own).all()
    assert own <= table["score"].min() * 1.0001


def test_steps_that_read_outs_cut_are_swapped_in_once() -> None:
    euler, one = pn.Solver("Euler", dt=0.5), [0.5, 1, 2]

    def steps(solver: pn.Solver, factors: list[float]) -> list[tuple[str, float]]:
        found = planned(solver, ["Euler", "RK4"], factors, 2.0, longest=0.5)
        return [(each.name, each.stepping.size) for each, _ in found]

    assert steps(euler, one) == [(name, dt) for name in ("Euler", "RK4") for dt in (0.25, 0.5)]
    # 0.6 is one solve with 0.5, and 0.4 takes two steps where they take one.
    assert steps(pn.Solver("Euler", dt=0.3), one) == [
        (name, dt) for name in ("Euler", "RK4") for dt in (0.15, 0.3, 0.6)
    ]
    # The training solver's own step stays, whatever comes first.
    assert steps(pn.Solver("Euler", dt=0.6), [2, 1]) == [("Euler", 0.6), ("RK4", 1.2)]


def test_a_trajectory_fit_by_a_solver_that_resolves_it_stays_on_a_plateau() -> None:
    trained, data = trajectory(h=0.25, noise=0.02, coarse=False)
    certificate = pn.certify(trained, data, samples=8, backend="jax")
    assert certificate.verdict.kind == "valid"
    assert not certificate.weakened_by
    finding = certificate.finding("answers by step")
    assert finding is not None
    assert finding.outcome == "supports"
    table = finding.report
    finer = table["setting"] <= table.loc[table["own"], "setting"].iloc[0]
    assert table.loc[finer, "score"].max() < 1.02 * table.loc[finer, "score"].min()
    assert {each.outcome for each in certificate.findings if each.name == "error share"} == {
        "not run"
    }
    assert len(certificate.findings) == len(DIAGNOSTICS)
    json.loads(certificate.to_json())


def test_a_density_made_by_coarse_steps_is_tied_and_a_resolved_one_valid() -> None:
    task, x = pn.Density(), RANDOM.normal(size=(400, 2)).astype("f") * [0.5, 1.5]
    data = pn.Dataset.from_arrays(x, None, task=task, x_test=x)
    # exp(A) = diag(2, 2/3) makes x standard normal.
    exact = np.diag(np.log([2.0, 2 / 3]))
    fine = linear(exact, pn.Solver("RK4", dt=1 / 8), task)
    report = pn.swap(fine, data, ["Tsit5"], backend="jax")
    assert report.verdict.kind == "valid"
    entropy = np.mean(np.log([0.5, 1.5])) + 0.5 * (1 + math.log(2 * math.pi))
    assert report.trained == pytest.approx(entropy, abs=0.05)
    # One Euler step of A = diag(1, -1/3) maps alike, and claims 1 - 1/3 of log-density for log 4/3.
    coarse = linear(np.diag([1.0, -1 / 3]), pn.Solver("Euler", dt=1.0), task)
    verdict = pn.swap(coarse, data, ["RK4"], backend="jax").verdict
    assert verdict.kind == "tied"
    assert "nats per dimension" in verdict.text


def test_models_that_have_learned_nothing_are_untrained() -> None:
    x = RANDOM.normal(size=(200, 2)).astype("f")
    task = pn.Regression()
    data = pn.Dataset.from_arrays(x, RANDOM.normal(size=200), task=task)
    model = pn.Model(pn.MLP(2, width=4), task=task)
    trained = pn.TrainedModel(model, model.init(0), pn.Solver("Euler", dt=1 / 2))
    verdict = pn.swap(trained, data, ["RK4"], backend="jax").verdict
    assert verdict.kind == "untrained"
    assert "the mean of the data" in verdict.text


def test_few_samples_leave_a_verdict_undecided() -> None:
    trained, data = trajectory(h=0.25, noise=0.02, coarse=True)
    few = pn.Dataset.from_arrays(
        data.x_train, data.y_train, task=data.task, x_test=data.x_test[:4], y_test=data.y_test[:4]
    )
    verdict = pn.swap(trained, few, ["RK4"], backend="jax").verdict
    assert verdict.kind in ("undecided", "untrained")


def test_a_score_of_ones_own_is_judged_in_its_own_unit() -> None:
    trained, data = regression(noise=0.1)

    def absolute(outputs, targets):
        return abs(outputs - targets).mean(axis=1)

    for accepted, kind in ((0.01, "tied"), (100.0, "valid")):
        task = pn.CustomTask(absolute, absolute, (1,), (1,), accepted=accepted)
        own = pn.Dataset.from_arrays(
            data.x_test, data.y_test, task=task, x_test=data.x_test, y_test=data.y_test
        )
        weights = trained.weights
        model = pn.TrainedModel(pn.Model(pn.LinearField(1), task=task), weights, trained.solver)
        assert pn.swap(model, own, ["RK4"], backend="jax").verdict.kind == kind


@pytest.mark.slow
def test_the_steady_controller_ends_with_a_regression_that_is_an_ode() -> None:
    x = RANDOM.uniform(-1, 1, size=(1000, 2)).astype("f")
    task = pn.Regression()
    data = pn.Dataset.from_arrays(x, x[:, 0] ** 2 - x[:, 1], task=task)
    model = pn.Model(pn.MLP(2, width=8), task=task)
    recipe = pn.Recipe(
        pn.Solver("Euler", dt=1 / 2),
        iterations=300,
        batch_size=64,
        optimizer=pn.Adam(1e-2),
        controller=SteadyController(every=20),
    )
    trained = pn.train(model, data, recipe, backend="jax")
    assert trained.validation is not None
    assert trained.validation.passed
    assert trained.solver.dt < 1 / 2
    assert "shifts" in trained.validation.text
    assert pn.swap(trained, data, ["RK4"], backend="jax").verdict.kind in ("valid", "undecided")
