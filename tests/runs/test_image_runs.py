"""Images from file to verdict: commands on files in the true formats, and digits that collapse.

CPU-sized: few channels, few iterations.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import image_files
import numpy as np
import pytest
from typer.testing import CliRunner

from pynode_jl.backends import Adam, get_backend
from pynode_jl.cli._app import app
from pynode_jl.datasets import digits
from pynode_jl.diagnostics import swap
from pynode_jl.errors import DataError
from pynode_jl.fields import ConvField2d
from pynode_jl.models import Model
from pynode_jl.paper import ReproductionContext, _figure4, _figure5
from pynode_jl.paper._experiments import ExperimentSpec
from pynode_jl.paper._image_experiments import CIFAR10_CONFIGS, DIGITS_CONFIG
from pynode_jl.runs import Config, Run
from pynode_jl.solvers import Solver
from pynode_jl.training import Recipe, Trained, train

EXAMPLES = Path(__file__).parents[2] / "examples"
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


def settings(folder: Path) -> list[str]:
    """A small recipe on the files in `folder`, which have not the published checksums."""
    own = (f"data.folder={folder}", "data.verify=false", "data.download=false")
    return [f"--set={each}" for each in (*SMALL, *own)]


@pytest.mark.parametrize("name", [pytest.param("mnist", marks=pytest.mark.slow), "cifar10"])
def test_the_recipes_run_on_files_in_the_true_format(name: str, tmp_path: Path) -> None:
    """MNIST's through what else is asked of a run, too."""
    files, out = tmp_path / "files", tmp_path / "run"
    if name == "mnist":
        image_files.write_mnist(files)
    else:
        image_files.write_cifar10(files, "binary")
    assert "4/4" in invoke("train", EXAMPLES / f"{name}.toml", "--out", out, *settings(files))
    assert "RK4" in invoke("swap", out)
    left = ["metrics.csv", "swap.csv", "verdict.json", "report.html"]
    if name == "mnist":
        assert "folds" in invoke("certify", out, "--samples", 2)
        invoke("matrix", out, "--out", out, "--solver", "Heun", "--factor", 1)
        left += ["certificate.html", "certificate.json", "matrix.csv", "matrix.html"]
    for file in left:
        assert (out / file).stat().st_size > 0, file
    again = Run.open(out)
    assert again.dataset.name == name
    assert again.trained.finished
    # The data are no longer where they were: said by name, not found out in the middle.
    for file in files.iterdir():
        file.unlink()
    with pytest.raises(DataError, match="nothing may be downloaded"):
        Run.open(out).train()


@pytest.mark.slow
def test_controllers_and_the_search_take_an_archive(tmp_path: Path) -> None:
    files = tmp_path / "files"
    image_files.write_cifar10(files, "python")
    recipe, small = EXAMPLES / "cifar10.toml", settings(files)
    adapt = ('controller="steady"', "every=2", "samples=8", "margin=0.5")
    often = [f"--set=adapt.{each}" for each in adapt]
    found = invoke("adapt", recipe, "--out", tmp_path / "adapt", *small, *often)
    assert "seed 0, validation" in found
    ends = ("--coarse", "dt=1", "--fine", "dt=1/2")
    assert "Euler h=1/2" in invoke("critical", recipe, "--out", tmp_path / "search", *ends, *small)
    for file in ("adapt/steady.csv", "adapt/steady-trace.png", "search/critical.csv"):
        assert (tmp_path / file).stat().st_size > 0, file


@pytest.mark.parametrize("name", ["mnist", "cifar10", "digits"])
def test_the_recipes_are_configurations(name: str) -> None:
    config = Config.from_toml(EXAMPLES / f"{name}.toml")
    assert config.data.name == name
    assert Config.from_dict(config.to_dict()) == config


def test_figures_are_of_the_recipes() -> None:
    digit, figures = Config.from_toml(EXAMPLES / "digits.toml"), DIGITS_CONFIG
    assert (digit.data, digit.field, digit.model) == (figures.data, figures.field, figures.model)
    shorter = replace(digit.train, solver=figures.train.solver, iterations=600)
    assert figures.train == shorter
    recipe = Config.from_toml(EXAMPLES / "cifar10.toml")
    full = CIFAR10_CONFIGS[True]
    assert (recipe.data, recipe.field) == (full.data, full.field)
    assert recipe.train == replace(full.train, solver=recipe.train.solver)


@pytest.mark.long
def test_figures_4_and_5_of_an_image_set(tmp_path: Path) -> None:
    """All but the length of training."""
    short = replace(DIGITS_CONFIG, train=replace(DIGITS_CONFIG.train, iterations=8))
    spec = ExperimentSpec(
        name="Small digits",
        stem="digits",
        configs={False: short},
        words={False: "8 iterations"},
        short_controls={"every": 4},
    )
    begun: list[str] = []

    def show_progress(name: str) -> AbstractContextManager[None]:
        begun.append(name)
        return nullcontext()

    context = ReproductionContext(tmp_path, seeds=1, backend="jax", show_progress=show_progress)
    panels = {"a": _figure4.PanelSpec("RK4", ("dt=1", "dt=1/2"), ("dt=1/4",))}
    drawn = _figure4.make_figure(context, spec, panels)
    assert list(drawn.more) == ["a"]
    assert drawn.caption.startswith("Small digits.")
    numbers = drawn.numbers
    assert set(numbers["train_solver"]) == {"RK4 h=1", "RK4 h=1/2"}
    # Each training step's own row, and those of half and three quarters of it at least.
    assert {"RK4 h=1", "RK4 h=1/2", "RK4 h=0.75", "RK4 h=1/4"} <= set(numbers["label"])
    trace = _figure5.make_figure(context, spec).numbers
    looks = trace[trace["iteration"] > 0].groupby("controller")["iteration"].apply(list)
    assert looks.to_dict() == {"paper controller": [4], "steady controller": [4]}
    assert begun == [
        "digits-rk4-h1-short-s0",
        "digits-rk4-h2-short-s0",
        "digits-paper-short-s0",
        "digits-steady-short-s0",
    ]


def _trained(solver: Solver, iterations: int = 400) -> Trained:
    recipe = Recipe(solver, iterations, batch_size=32, optimizer=Adam(3e-3), chunk=100)
    model = Model(ConvField2d((2, 8, 8), channels=8), classes=10, augment=1)
    return train(model, digits(seed=0), recipe, backend=get_backend("jax"))


@pytest.mark.slow
def test_coarse_digits_collapse_under_finer_solvers() -> None:
    tied = _trained(Solver("Euler", dt=1 / 2))
    whole = digits(seed=0)
    data = replace(whole, x_test=whole.x_test[:120], y_test=whole.y_test[:120])
    report = swap(tied, data, ["RK4"], factors=[0.25, 1.0], backend=get_backend("jax"))
    assert report.trained > 0.93
    assert report.verdict.kind == "tied"
    assert report.verdict.drop > 0.3


@pytest.mark.long
def test_fine_digits_hold() -> None:
    trained = _trained(Solver("Euler", dt=1 / 64))
    data, backend = digits(seed=0), get_backend("jax")
    as_trained = backend.evaluate(trained.model, trained.weights, data.x_test, trained.solver)
    assert as_trained.accuracy(data.y_test) > 0.93
    for finer in (Solver("Euler", dt=1 / 256), Solver("RK4", dt=1 / 128)):
        found = backend.evaluate(trained.model, trained.weights, data.x_test, finer)
        assert found.accuracy(data.y_test) > as_trained.accuracy(data.y_test) - 0.03
        assert np.mean(found.predictions == as_trained.predictions) > 0.95
