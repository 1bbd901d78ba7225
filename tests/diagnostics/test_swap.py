"""Swaps: the plan, the measured error, the verdict, and the table against torchdiffeq."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchdiffeq

from pynode_jl.backends import Adam, Evaluation, get_backend
from pynode_jl.datasets import Dataset, concentric_spheres
from pynode_jl.diagnostics import COLUMNS, REFERENCE, swap
from pynode_jl.diagnostics._reference import reference_solve, state_error
from pynode_jl.errors import (
    DataError,
    InvalidValueError,
    SolveError,
    UnknownSolverError,
    WrongSolverError,
)
from pynode_jl.fields import MLP, ConvField1d, LinearField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.training import Recipe, Trained, TrainedModel, train


@pytest.fixture(scope="module")
def data() -> Dataset:
    return concentric_spheres(2, seed=0)


@pytest.fixture(scope="module")
def coarse(data: Dataset) -> Trained:
    recipe = Recipe(Solver("Euler", dt=1 / 2), iterations=1500, optimizer=Adam(1e-3), chunk=500)
    return train(Model(ConvField1d(2), classes=2), data, recipe)


def rotation(turns: float) -> TrainedModel:
    """An exact ODE: a rotation, then a head that tells left from right."""
    model = Model(LinearField(2), classes=2)
    weights = model.init(0)
    angle = 2 * np.pi * turns
    weights["field.layers.0.weight"] = np.array([[0, -angle], [angle, 0]], np.float32)
    weights["head.weight"] = np.array([[1, 0], [-1, 0]], np.float32)
    return TrainedModel(model, weights, Solver("Euler", dt=1 / 512))


@pytest.fixture(scope="module")
def halves() -> Dataset:
    x = np.random.default_rng(0).uniform(-1, 1, (1600, 2)).astype(np.float32)
    x = x[np.abs(x[:, 0]) > 0.05]
    return Dataset.from_arrays(x, (x[:, 0] < 0).astype(int), test_fraction=0.5)


def test_coarse_model_is_tied_to_its_solver(coarse: Trained, data: Dataset) -> None:
    report = swap(coarse, data)
    assert report.trained > 0.95
    assert report.chance == 0.5
    assert report.verdict.kind == "tied"
    assert report.verdict.drop > 0.25
    assert "tied to its solver" in report.verdict.text
    assert "Euler h=1/2" in report.verdict.text
    assert tuple(report.table.columns) == COLUMNS
    # The paper's protocol: the training solver and those of higher order, at its five factors.
    assert list(report.table["test_solver"].unique()) == ["Euler", "Midpoint", "RK4"]
    assert sorted(report.table["factor"].unique()) == [0.5, 0.75, 1.0, 1.5, 2.0]
    own = report.table[report.table["label"] == "Euler h=1/2"].iloc[0]
    assert own["accuracy"] == report.trained
    assert own["agreement"] == 1.0
    assert own["logit_distance"] == 0.0
    assert (report.table["retcode"] == "Success").all()


def test_the_reference_is_as_tight_as_there_is_need(halves: Dataset) -> None:
    backend = get_backend("jax")
    turning, x = rotation(1.0), halves.x_test
    x64 = x.astype(np.float64)

    def solve(solver: Solver, x: np.ndarray) -> Evaluation:
        return backend.evaluate(turning.model, turning.weights, x, solver)

    tightest = {}
    for own_solver in (Solver("Euler", dt=1 / 8), Solver("RK4", dt=1 / 64)):
        own, asked = solve(own_solver, x), []

        def counted(solver: Solver, asked: list[float] = asked) -> Evaluation:
            asked.append(solver.rtol or 0.0)
            return solve(solver, x64)

        reference = reference_solve(counted, own)
        exact = reference.evaluation
        assert exact is not None
        truth = solve(REFERENCE.with_tolerance(1e-10, 1e-10), x64)
        allowed = max(0.01 * state_error(own, truth), 1e-5)
        assert state_error(exact, truth) <= reference.error <= allowed * 1.01
        assert state_error(exact, truth) <= allowed
        assert asked == sorted(asked, reverse=True)
        tightest[own_solver.name] = asked[-1]
    # Where the training solver is wrong by the size of the states, no more is spent than that asks.
    assert tightest["Euler"] > tightest["RK4"] >= 1e-7


def test_an_ode_is_found_valid(halves: Dataset) -> None:
    report = swap(rotation(1.0), halves, ["Euler", "RK4", "Tsit5:tol=1e-6", "KenCarp4"])
    assert report.verdict.kind == "valid", report.verdict.text
    assert report.ode == pytest.approx(1.0, abs=0.01)
    # Whatever their order and step, solves compare by their measured errors.
    fixed = report.table[report.table["fixed"]]
    own = report.table[report.table["label"] == report.verdict.solver].iloc[0]
    assert (report.table["finer"] == (report.table["state_error"] <= own["state_error"])).all()
    coarser = fixed[(fixed["test_solver"] == "Euler") & (fixed["factor"] > 1)]
    assert not coarser["finer"].any()
    assert fixed[fixed["test_solver"] == "RK4"]["finer"].all()
    assert report.table[~report.table["fixed"]]["finer"].all()
    assert report.verdict.finer == int(report.table["finer"].sum()) - 1
    euler = fixed[fixed["test_solver"] == "Euler"]
    order = np.log2(euler["state_error"].iloc[-1] / euler["state_error"].iloc[0]) / 2
    assert order == pytest.approx(1.0, abs=0.15)


def test_a_model_that_leans_on_its_steps_is_tied(halves: Dataset) -> None:
    # y' = -3 y never changes a sign, one Euler step of h = 1 does: it maps y to -2 y, a fold.
    base = rotation(1.0)
    weights = dict(base.weights)
    weights["field.layers.0.weight"] = np.diag([-3.0, -3.0]).astype(np.float32)
    weights["head.weight"] = -weights["head.weight"]
    lean = TrainedModel(base.model, weights, Solver("Euler", dt=1.0))
    report = swap(lean, halves, ["Euler", "Tsit5"], factors=[1.0, 0.01])
    assert report.trained == 1.0
    assert report.ode == 0.0
    assert report.verdict.kind == "tied"
    assert report.verdict.drop == 1.0
    assert report.verdict.ode is not None
    assert report.verdict.ode.flips == report.verdict.ode.lost == report.verdict.samples


def test_what_answers_all_wrong_is_untrained(halves: Dataset) -> None:
    assert swap(rotation(0.5), halves, ["RK4"]).verdict.kind == "untrained"


def test_without_a_finer_solve_the_ode_decides(halves: Dataset) -> None:
    only_coarser = swap(rotation(1.0), halves, ["Euler"], factors=[2.0])
    assert only_coarser.verdict.finer == 0
    assert only_coarser.verdict.kind == "valid"
    assert list(only_coarser.comparisons["label"]) == ["its ODE"]


def test_failed_solves_are_rows_not_crashes(halves: Dataset) -> None:
    trained = rotation(1.0)
    weights = dict(trained.weights)
    weights["field.layers.0.weight"] = np.diag([300.0, -300.0]).astype(np.float32)
    explosive = TrainedModel(trained.model, weights, Solver("Euler", dt=1 / 512))
    report = swap(explosive, halves, ["RK4", "Tsit5:tol=1e-3"])
    assert set(report.table["retcode"]) - {"Success"}
    failed = report.table[report.table["retcode"] != "Success"]
    assert not failed["finer"].any()
    assert report.verdict.kind in ("failed", "undecided", "untrained")


def test_a_backend_that_refuses_one_solver_makes_a_failed_row(
    halves: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = get_backend("jax")
    evaluate = backend.evaluate

    def refusing(model: Model, weights: object, x: np.ndarray, solver: Solver) -> Evaluation:
        if solver.name == "RK4":
            raise SolveError("Failure", "an error of the library's own")
        return evaluate(model, weights, x, solver)

    monkeypatch.setattr(backend, "evaluate", refusing)
    report = swap(rotation(1.0), halves, ["RK4", "Midpoint"], factors=[1.0], backend=backend)
    assert list(report.table["retcode"]) == ["Unstable", "Success"]
    assert list(report.table["finer"]) == [False, True]
    assert report.verdict.kind == "valid"


def test_adaptive_training_solver_swaps_by_tolerance(halves: Dataset) -> None:
    base = rotation(1.0)
    adaptive = TrainedModel(base.model, base.weights, Solver("Fehlberg21", rtol=1e-4, atol=1e-4))
    report = swap(adaptive, halves)
    assert list(report.table["test_solver"].unique()) == ["Fehlberg21", "DP5"]
    assert sorted(report.table["factor"].unique()) == [0.1, 1.0, 10.0]
    assert not report.table["fixed"].any()
    assert report.verdict.kind == "valid"


def test_steps_longer_than_the_interval_are_left_out(halves: Dataset) -> None:
    base = rotation(1.0)
    long = TrainedModel(base.model, base.weights, Solver("Euler", dt=0.75))
    table = swap(long, halves, ["Euler"], factors=[1.0, 4 / 3, 2.0]).table
    assert list(table["step"]) == pytest.approx([0.75, 1.0])


def test_progress_names_every_solve(halves: Dataset) -> None:
    seen: list[tuple[int, int, str]] = []
    swap(
        rotation(1.0),
        halves,
        ["RK4"],
        factors=[0.5, 2.0],
        on_solve=lambda number, total, label: seen.append((number, total, label)),
    )
    assert sorted({number for number, _, _ in seen}) == [1, 2, 3, 4]
    assert {total for _, total, _ in seen} == {4}
    assert [label for number, _, label in seen if number == 3] == ["RK4 h=1/1024"]


def test_bad_settings(coarse: Trained, data: Dataset) -> None:
    with pytest.raises(InvalidValueError, match="factors = 0"):
        swap(coarse, data, factors=[0])
    with pytest.raises(InvalidValueError, match="margin = 3"):
        swap(coarse, data, margin=3)
    with pytest.raises(UnknownSolverError, match="did you mean Tsit5"):
        swap(coarse, data, ["Tsitt5"])
    adaptive = TrainedModel(coarse.model, coarse.weights, Solver("Tsit5"))
    with pytest.raises(WrongSolverError, match=r"tests = 'Euler'.*tolerances.*Euler:dt=1/16"):
        swap(adaptive, data, ["Euler"])
    with pytest.raises(DataError, match="state_shape"):
        swap(TrainedModel(Model(MLP(3), 2), {}, Solver("Tsit5")), data)


class TorchField(torch.nn.Module):
    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        convs = {"0": (1, 32, 1), "2": (32, 32, 3), "4": (32, 1, 1)}
        for key, (inputs, outputs, kernel) in convs.items():
            conv = torch.nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
            with torch.no_grad():
                conv.weight.copy_(torch.tensor(weights[f"field.layers.{key}.weight"]))
                conv.bias.copy_(torch.tensor(weights[f"field.layers.{key}.bias"]))
            self.add_module(f"conv{key}", conv)

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        h = y[:, None, :]
        h = torch.relu(self.conv0(h))
        h = torch.relu(self.conv2(h))
        return self.conv4(h)[:, 0, :]


def test_swap_table_equals_torchdiffeq(coarse: Trained, data: Dataset) -> None:
    """Equal tableaus on shared weights: accuracies equal to one test point."""
    methods = {"Euler": "euler", "Midpoint": "midpoint", "Heun": "heun2", "RK38": "rk4"}
    table = swap(coarse, data, list(methods), factors=[0.25, 0.5, 1.0]).table
    field = TorchField(coarse.weights)
    head = torch.tensor(coarse.weights["head.weight"]), torch.tensor(coarse.weights["head.bias"])
    x, times = torch.tensor(data.x_test), torch.tensor([0.0, 1.0])
    assert len(table) == 12
    for row in table.itertuples():
        with torch.no_grad():
            final = torchdiffeq.odeint(
                field,
                x,
                times,
                method=methods[row.test_solver],
                options={"step_size": row.step},
            )[-1]
            answers = (final @ head[0].T + head[1]).argmax(dim=1).numpy()
        accuracy = float(np.mean(answers == data.y_test))
        assert row.accuracy == pytest.approx(accuracy, abs=1.01 / data.y_test.size), row.label


def test_evaluation_is_on_the_whole_test_set(coarse: Trained, data: Dataset) -> None:
    evaluation = get_backend().evaluate(coarse.model, coarse.weights, data.x_test, coarse.solver)
    assert evaluation.logits.shape == (1000, 2)
    assert evaluation.accuracy(evaluation.predictions) == 1.0
