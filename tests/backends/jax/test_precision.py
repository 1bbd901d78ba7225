"""Mixed precision: near the full gradient, kept out of verdicts, refused where it misleads."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pynode_jl.backends import Adam, TrainState, checked_precision, get_backend
from pynode_jl.backends.jax import JaxBackend
from pynode_jl.datasets import concentric_spheres
from pynode_jl.diagnostics import Rounding
from pynode_jl.diagnostics._reference import REFERENCE, reference_solve, state_error
from pynode_jl.errors import ConfigError, InvalidValueError, UnknownNameError, WrongSolverError
from pynode_jl.fields import ConvField1d, ConvField2d, FunctionField, VectorField
from pynode_jl.models import Model
from pynode_jl.runs import Config, DataConfig, Run, TrainConfig
from pynode_jl.solvers import Solver
from pynode_jl.training import Recipe

EULER = Solver("Euler", dt=1 / 64)


@cache
def updated(field: VectorField, precision: str) -> TrainState:
    """After one iteration from the initial weights: Adam's first moment is a tenth of the slope."""
    model = Model(field, classes=3)
    random = np.random.default_rng(0)
    x = random.random((40, *field.state_shape)).astype(np.float32)
    chunk = get_backend("jax").train(
        model,
        TrainState.start(model.init(0)),
        x,
        random.integers(0, 3, 40),
        np.arange(40)[None],
        EULER,
        Adam(1e-5),
        precision=precision,
    )
    return chunk.state


@pytest.mark.slow
@pytest.mark.parametrize("field", [ConvField2d((1, 4, 4), channels=8), ConvField1d(2, channels=8)])
def test_gradients_are_near_the_full_ones(field: VectorField) -> None:
    """Summed in full over 64 steps: summed in bfloat16 a bias's was 40 % off."""
    full, mixed = (updated(field, precision).mu for precision in ("full", "bfloat16"))
    for name, slope in full.items():
        off = np.linalg.norm(mixed[name] - slope) / np.linalg.norm(slope)
        assert off < 0.08, name
        assert mixed[name].dtype == np.float32
    # Nor is it the full gradient under another name.
    assert any(np.linalg.norm(mixed[name] - full[name]) > 1e-4 for name in full)


def test_small_updates_are_kept() -> None:
    """Weights stay in float32: bfloat16 would round an update of 1e-5 away."""
    field = ConvField1d(2, channels=8)
    before = Model(field, classes=3).init(0)
    after = updated(field, "bfloat16").weights
    for name, weight in before.items():
        assert np.abs(after[name] - weight).max() == pytest.approx(1e-5, rel=0.05), name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Sphere 2D, trained in bfloat16 by a configuration."""
    config = Config(
        backend="jax",
        data=DataConfig("spheres", {"dim": 2, "n_test": 4000}),
        train=TrainConfig("Euler:dt=1/16", 400, learning_rate=3e-3, precision="bfloat16"),
    ).changed({"swap.solvers": ["RK4"], "swap.factors": [1 / 16]})
    made = Run.create(config, tmp_path_factory.mktemp("precision") / "run")
    made.train()
    return made


def test_rounding_does_not_pass_for_solver_error(run: Run) -> None:
    trained, x = run.trained, run.dataset.x_test
    report = run.swap()
    rk4 = report.table.set_index("test_solver").loc["RK4"]

    def solve(solver: Solver, x: Any = x, precision: str = "full") -> Any:
        return run.backend.evaluate(trained.model, trained.weights, x, solver, precision=precision)

    own = solve(trained.solver)
    exact = reference_solve(lambda solver: solve(solver, x.astype(np.float64)), own).evaluation
    assert exact is not None
    # A fine solver's error is measured as what it is; in bfloat16 rounding would stand for it.
    tight = solve(REFERENCE, x.astype(np.float64))
    measured, mistaken = (
        state_error(solve(Solver("RK4", dt=1 / 256), precision=precision), tight)
        for precision in ("full", "bfloat16")
    )
    assert mistaken > 30 * measured
    # What it does to the answers is said, by its own evaluation.
    rounded = solve(trained.solver, precision="bfloat16")
    assert not np.array_equal(rounded.logits, own.logits)
    assert report.rounding is not None
    assert 0 < report.rounding.changed < 0.03
    assert report.rounding.changed == np.mean(rounded.predictions != own.predictions)
    assert report.rounding.accuracy == rounded.accuracy(run.dataset.y_test)
    changes = [np.mean(own.predictions != exact.predictions), 1 - rk4["agreement"]]
    assert report.rounding.swapped == pytest.approx(max(changes))
    assert report.verdict.text.endswith(report.rounding.text)
    # And kept.
    stored = run.stored_swap()
    assert (stored.rounding, stored.verdict) == (report.rounding, report.verdict)


def test_float32_is_not_tf32_on_a_gpu() -> None:
    """JAX's default would have its products, and convolutions, rounded to 10 bits there."""
    matrix = jnp.ones((2, 2))
    with JaxBackend()._precision(np.dtype(np.float32)):
        assert "HIGHEST" in jax.jit(jnp.matmul).lower(matrix, matrix).as_text()
    assert "HIGHEST" not in jax.jit(jnp.matmul).lower(matrix, matrix).as_text()


def test_more_rounding_than_the_margin_is_a_warning() -> None:
    assert "train in full" in Rounding("bfloat16", 0.9, 0.031, 0.5, 0.03).text
    assert "train in full" not in Rounding("bfloat16", 0.9, 0.029, 0.5, 0.03).text
    assert "finer" not in Rounding("bfloat16", 0.9, 0.029, None, 0.03).text


@pytest.mark.parametrize(
    ("solver", "gradient", "error", "match"),
    [
        (Solver("Tsit5", rtol=1e-3, atol=1e-3), "discrete", WrongSolverError, "error estimate"),
        (Solver("KenCarp4", dt=0.1), "discrete", WrongSolverError, "Newton"),
        (EULER, "BacksolveAdjoint", InvalidValueError, '"discrete"'),
    ],
)
def test_what_it_does_not_go_with(
    solver: Solver, gradient: str, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Recipe(solver, gradient=gradient, precision="bfloat16")
    Recipe(solver, gradient=gradient)


def test_names_backends_and_fields_without_it() -> None:
    with pytest.raises(UnknownNameError, match="bfloat16"):
        Recipe(EULER, precision="float16")
    with pytest.raises((ConfigError, UnknownNameError), match="precision"):
        Config().changed({"train.precision": "half"})
    with pytest.raises(InvalidValueError, match='backend="jax"'):
        checked_precision("bfloat16", EULER, backend="julia")
    model = Model(FunctionField(lambda weights, t, y: -y, (2,)), classes=2)
    x = concentric_spheres(dim=2, n_train=8, n_test=8).x_test
    with pytest.raises(InvalidValueError, match="FunctionField"):
        get_backend("jax").evaluate(model, model.init(0), x, EULER, precision="bfloat16")
