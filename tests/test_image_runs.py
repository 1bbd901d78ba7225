"""Images from file to verdict: commands on files in the true formats, and digits that collapse.

CPU-sized: few channels, few iterations.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import image_files
import numpy as np
import pytest
from typer.testing import CliRunner

from pynode_jl.analysis import swap
from pynode_jl.backends import Adam, get_backend
from pynode_jl.cli._app import app
from pynode_jl.datasets import digits
from pynode_jl.errors import DataError
from pynode_jl.experiments import Config, Run
from pynode_jl.fields import ConvField2d
from pynode_jl.models import Model
from pynode_jl.reproduce._images import CIFAR10_CONFIGS
from pynode_jl.solvers import Solver
from pynode_jl.training import Recipe, Trained, train

EXAMPLES = Path(__file__).parents[1] / "examples"
# From the paper's recipe to one for a test.
SMALL = (
    "field.channels=2",
    "train.iterations=4",
    "train.batch_size=8",
    'train.solver="Euler:dt=1/2"',
    'swap.solvers=["RK4"]',
    "swap.factors=[1.0]",
)


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def own_files(folder: Path) -> tuple[str, ...]:
    return (f"data.folder={folder}", "data.verify=false", "data.download=false")


@pytest.mark.parametrize(
    "kind", ["mnist", "cifar10", pytest.param("cifar10-python", marks=pytest.mark.slow)]
)
def test_the_recipes_run_on_files_in_the_true_format(kind: str, tmp_path: Path) -> None:
    name, _, archive = kind.partition("-")
    if name == "mnist":
        image_files.write_mnist(tmp_path / "files")
    else:
        image_files.write_cifar10(tmp_path / "files", archive or "binary")
    settings = [f"--set={each}" for each in (*SMALL, *own_files(tmp_path / "files"))]
    out = tmp_path / "run"
    assert "4/4" in invoke("train", EXAMPLES / f"{name}.toml", "--out", out, *settings)
    assert "RK4" in invoke("swap", out)
    for file in ("metrics.csv", "swap.csv", "verdict.json", "report.html"):
        assert (out / file).stat().st_size > 0
    again = Run.open(out)
    assert again.dataset.name == name
    assert again.trained.finished
    # The data are no longer where they were: said by name, not found out in the middle.
    for file in (tmp_path / "files").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="nothing may be downloaded"):
        Run.open(out).train()


@pytest.mark.parametrize("name", ["mnist", "cifar10", "digits"])
def test_the_recipes_are_configurations(name: str) -> None:
    config = Config.from_toml(EXAMPLES / f"{name}.toml")
    assert config.data.name == name
    assert Config.from_dict(config.to_dict()) == config


def test_table_1_and_the_recipe_agree() -> None:
    recipe = Config.from_toml(EXAMPLES / "cifar10.toml")
    full = CIFAR10_CONFIGS[True]
    assert (recipe.data, recipe.field) == (full.data, full.field)
    assert recipe.train == replace(full.train, solver=recipe.train.solver)


@pytest.fixture(scope="module")
def tied() -> Trained:
    """Digits trained with Euler in two steps."""
    return _trained(Solver("Euler", dt=1 / 2), seed=0)


def _trained(solver: Solver, seed: int, iterations: int = 300) -> Trained:
    recipe = Recipe(solver, iterations, optimizer=Adam(3e-3), seed=seed, chunk=100)
    model = Model(ConvField2d((1, 8, 8), channels=8), classes=10)
    return train(model, digits(seed=seed), recipe, backend=get_backend("jax"))


def test_coarse_digits_collapse_under_finer_solvers(tied: Trained) -> None:
    data = digits(seed=0)
    report = swap(tied, data, ["RK4"], factors=[0.25, 1.0], backend=get_backend("jax"))
    assert report.trained > 0.93
    assert report.verdict.kind == "tied"
    assert report.verdict.drop > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_fine_digits_hold(seed: int) -> None:
    trained = _trained(Solver("Euler", dt=1 / 64), seed)
    data, backend = digits(seed=seed), get_backend("jax")
    as_trained = backend.evaluate(trained.model, trained.weights, data.x_test, trained.solver)
    assert as_trained.accuracy(data.y_test) > 0.93
    for finer in (Solver("Euler", dt=1 / 256), Solver("RK4", dt=1 / 128)):
        found = backend.evaluate(trained.model, trained.weights, data.x_test, finer)
        assert found.accuracy(data.y_test) > as_trained.accuracy(data.y_test) - 0.03
        assert np.mean(found.predictions == as_trained.predictions) > 0.95
