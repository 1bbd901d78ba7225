"""The critical step where it is known; commands, configuration and figures of adaptation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pynode_jl import figures
from pynode_jl.adaptation import PaperController, SteadyController
from pynode_jl.analysis import critical
from pynode_jl.backends.jax import JaxBackend
from pynode_jl.cli._app import app
from pynode_jl.datasets import Dataset
from pynode_jl.errors import ConfigError, InvalidValueError, UnknownNameError, WrongSolverError
from pynode_jl.experiments import AdaptConfig, Config, Run, checks_table, spread
from pynode_jl.fields import LinearField
from pynode_jl.models import Model
from pynode_jl.reproduce._table1 import SPHERE2, _adapted_row
from pynode_jl.solvers import Solver
from pynode_jl.training import History, Trained

X = np.linspace(-1.0, 1.0, 40, dtype=np.float32)[:, None]
DATA = Dataset.from_arrays(X, X[:, 0] > 0, x_test=X, y_test=X[:, 0] > 0)


def sign_model(solver: Solver, seed: int) -> tuple[Trained, Dataset]:
    """y' = -(6 + seed) y by an odd number of steps: Euler turns signs where h (6 + seed) > 1.

    The head is turned along, as training would: right as trained, and wrong as an ODE.
    """
    rate, h = 6.0 + seed, solver.dt or 0.0
    turned = -1.0 if rate * h > 1 else 1.0
    weights = {
        "field.layers.0.weight": np.array([[-rate]], np.float32),
        "field.layers.0.bias": np.zeros(1, np.float32),
        "head.weight": 1e6 * turned * np.array([[-1.0], [1.0]], np.float32),
        "head.bias": np.zeros(2, np.float32),
    }
    return Trained.of(Model(LinearField(1), classes=2), weights, solver), DATA


@pytest.mark.parametrize(("method", "trainings"), [("grid", 5), ("bisection", 4)])
def test_both_searches_find_the_step(backend: JaxBackend, method: str, trainings: int) -> None:
    coarse, fine = Solver("Euler", dt=1.0), Solver("Euler", dt=1 / 81)
    report = critical(
        sign_model, coarse, fine, method=method, ratio=3, seeds=(0, 8), backend=backend
    )  # type: ignore[arg-type]
    brackets = report.brackets.set_index("seed")
    # Steps 1, 1/3, 1/9, 1/27, 1/81 against 1/6 and 1/14.
    assert brackets.loc[0, ["fails", "holds"]].tolist() == pytest.approx([1 / 3, 1 / 9])
    assert brackets.loc[8, ["fails", "holds"]].tolist() == pytest.approx([1 / 9, 1 / 27])
    assert (brackets["accuracy"] == 1.0).all()
    assert brackets.loc[0, "trainings"] == trainings
    assert set(report.table["verdict"]) == {"tied", "valid"}


def test_nothing_to_bracket(backend: JaxBackend) -> None:
    fine, finer = Solver("Euler", dt=1 / 9), Solver("Euler", dt=1 / 27)
    all_hold = critical(sign_model, fine, finer, ratio=3, backend=backend).bracket(0)
    assert all_hold[0] is None
    assert all_hold[1] is not None
    assert all_hold[1].solver == fine
    coarse, middle = Solver("Euler", dt=1.0), Solver("Euler", dt=1 / 3)
    none_holds = critical(sign_model, coarse, middle, ratio=3, backend=backend).bracket(0)
    assert none_holds[1] is None


@pytest.mark.parametrize(
    ("coarse", "fine", "options", "error", "message"),
    [
        ("Euler:dt=1/2", "RK4:dt=1/4", {}, WrongSolverError, "Euler again"),
        ("DP5:dt=1/2", "DP5:tol=1e-3", {}, WrongSolverError, "DP5 again"),
        ("Euler:dt=1/4", "Euler:dt=1/2", {}, InvalidValueError, "finer than"),
        ("Euler:dt=1/2", "Euler:dt=1/4", {"ratio": 1.0}, InvalidValueError, "ratio"),
        ("Euler:dt=1/2", "Euler:dt=1/4", {"method": "guess"}, InvalidValueError, "bisection"),
        ("Euler:dt=1/2", "Euler:dt=1/4", {"seeds": ()}, InvalidValueError, "seeds"),
    ],
)
def test_searches_that_cannot_be_are_refused(
    coarse: str, fine: str, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        critical(sign_model, Solver.parse(coarse), Solver.parse(fine), **options)  # type: ignore[arg-type]


# Configuration


def test_controllers_of_a_configuration() -> None:
    config = Config(adapt=AdaptConfig("paper", {"rule": "text", "every": 25}))
    assert config.recipe().controller == PaperController(rule="text", every=25)
    assert Config.from_dict(config.to_dict()) == config
    assert Config().recipe().controller is None
    assert Config(adapt=AdaptConfig("steady")).recipe().controller == SteadyController()


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (AdaptConfig("papre"), UnknownNameError, "did you mean paper"),
        (AdaptConfig("paper", {"treshold": 0.2}), ConfigError, "Did you mean threshold"),
        (AdaptConfig("none", {"every": 5}), ConfigError, "no options without a controller"),
        (AdaptConfig("paper", {"test": "Euler"}), WrongSolverError, "order"),
        (AdaptConfig("paper", {"every": 0}), InvalidValueError, "every"),
    ],
)
def test_bad_tables_are_refused_before_training(
    table: AdaptConfig, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Config(adapt=table)


# Commands

SMALL = """
[data]
name = "spheres"
n_train = 100
n_test = 40
[field]
kind = "conv1d"
channels = 4
[train]
solver = "Euler:dt=1/4"
iterations = 40
batch_size = 16
learning_rate = 0.01
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    return file


def test_adapt_command_and_its_folder(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapt"
    arguments = ["adapt", str(small), "--out", str(out), "--seeds", "2", "--set", "adapt.every=10"]
    arguments += ["--controller", "paper"]
    small.write_text(SMALL + '[adapt]\ncontroller = "paper"\n')
    first = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert first.exit_code == 0
    rows = pd.read_csv(out / "paper.csv")
    assert rows["seed"].tolist() == [0, 1]
    run = Run.open(out / "paper-s0")
    history = run.trained.history
    assert rows["nf_training"][0] == pytest.approx(history.training_nf / 40)
    assert rows["nf_checks"][0] == pytest.approx(history.check_nf / 40)
    assert rows["solver"][0] == run.trained.solver.label
    checks = pd.read_csv(run.folder / "checks.csv")
    assert checks["iteration"].tolist() == [0, 10, 20, 30]
    assert (out / "paper-trace.png").stat().st_size > 10_000
    # Again: nothing is trained, and the figures are the same.
    before = (run.folder / "checkpoint.safetensors").stat().st_mtime_ns
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    pd.testing.assert_frame_equal(pd.read_csv(out / "paper.csv"), rows)
    assert Run.open(out / "paper-s0").trained.history.step.tolist() == history.step.tolist()
    assert (run.folder / "checkpoint.safetensors").stat().st_mtime_ns >= before


def test_critical_command(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "critical"
    arguments = [
        "critical",
        str(small),
        "--out",
        str(out),
        "--coarse",
        "dt=1/2",
        "--fine",
        "dt=1/4",
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    trials = pd.read_csv(out / "trials.csv")
    assert trials["step"].tolist()[0] == 0.5
    assert (out / "critical.csv").exists()
    assert (out / "Euler-h=1_2-s0" / "config.toml").exists()


# Figures and tables


def trace() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "iteration": [0, 50, 100],
            "step": [0.5, 0.5, 0.25],
            "accuracy": [np.nan, 0.9, 0.9],
            "test_accuracy": [np.nan, 0.5, 0.9],
            "statistic": [np.nan, 0.4, 0.0],
            "action": ["start", "shrink", "hold"],
        }
    )


def test_trace_figure() -> None:
    figure = figures.adaptation_trace({"a": trace(), "b": trace()}, thresholds={"a": 0.1})
    assert len(figure.axes) == 6
    failed = figure.axes[4].get_lines()[1]
    assert np.asarray(failed.get_xdata()).tolist() == [50]
    marked = figures.adaptation_trace({"a": trace().assign(best=[False, True, True])})
    ring = marked.axes[0].get_lines()[-1]
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([100], [0.9])
    with pytest.raises(InvalidValueError, match="statistic"):
        figures.adaptation_trace({"a": trace().drop(columns="statistic")})


def test_spread_is_of_the_last_half() -> None:
    flat = History(step=np.array([1.0, 0.5, 0.25, 0.25]), loss=np.zeros(4))
    assert spread(flat) == 0.0
    swinging = History(step=np.array([1.0, 1.0, 1.0, 0.5]), loss=np.zeros(4))
    assert spread(swinging) == pytest.approx(np.log(2) / 2)
    assert checks_table(flat).empty


def test_table_rows_are_means_over_seeds() -> None:
    part = pd.DataFrame(
        {
            "accuracy": [0.98, 1.0],
            "drop": [0.01, 0.03],
            "spread": [0.2, 0.4],
            "nf_training": [90.0, 100.0],
            "nf_checks": [10.0, 20.0],
        }
    )
    row = _adapted_row("adaptation, the paper's", part, SPHERE2.paper["adaptation, the paper's"])
    assert row["evaluations"] == "110.0 +- 10.0"
    assert row["of them checks"] == "15.0"
    assert row["accuracy"] == "99.0 +- 1.0 %"
    assert row["largest drop"] == 0.03
    assert row["evaluations (paper)"] == "100.5"
