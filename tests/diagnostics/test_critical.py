"""The critical step where it is known; commands, configuration and figures of adaptation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pynode_jl.backends import Evaluation, RetCode
from pynode_jl.backends.jax import JaxBackend
from pynode_jl.cli._app import app
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import CRITERIA, Criterion, CriticalReport, Trial, critical, swap
from pynode_jl.errors import ConfigError, InvalidValueError, UnknownNameError, WrongSolverError
from pynode_jl.fields import LinearField, Weights
from pynode_jl.models import Model
from pynode_jl.paper import ReproductionContext
from pynode_jl.paper._table1 import CIFAR10, SPHERE2, make_row, summarise
from pynode_jl.reporting import figures
from pynode_jl.runs import AdaptConfig, Config, Run, checks_table, over_seeds, spread
from pynode_jl.runs._adaptation_tables import FIXED_TESTS
from pynode_jl.solvers import Solver
from pynode_jl.training import History, Recipe, TrainedLike, TrainedModel, start
from pynode_jl.training.step_adaptation import PaperController, SteadyController

X = np.linspace(-1.0, 1.0, 400, dtype=np.float32)[:, None]
DATA = Dataset.from_arrays(X, X[:, 0] > 0, x_test=X, y_test=X[:, 0] > 0)


def sign_model(solver: Solver, seed: int) -> tuple[TrainedModel, Dataset]:
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
    return TrainedModel(Model(LinearField(1), classes=2), weights, solver), DATA


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


def in_the_middle(middle: str) -> CriticalReport:
    """Trials at steps 1 to 1/32, of the kinds that letters say."""
    kinds = {"V": "valid", "T": "tied", "u": "undecided", "x": "untrained", "f": "failed"}
    return CriticalReport(
        "grid",
        "flips",
        tuple(
            Trial(0, Solver("Euler", dt=2.0**-i), 0.9 + i / 100, 0.0, kinds[letter], 2.0**i, 7)
            for i, letter in enumerate(middle)
        ),
    )


@pytest.mark.parametrize(
    ("kinds", "fails", "holds", "open_", "reversed_"),
    [
        ("TTVV", 1, 2, 0, 0),
        ("TuVV", 0, 2, 1, 0),
        ("xTufVV", 1, 4, 2, 0),
        ("TVuVV", 0, 3, 1, 0),  # an open trial below: from there on, all that was tried holds
        ("TVTVV", 0, 3, 0, 1),  # fails below one that holds: the bracket spans both
        ("VVV", None, 0, 0, 0),
        ("xxVV", None, 2, 2, 0),
        ("TTu", 1, None, 1, 0),
        ("TTT", 2, None, 0, 0),
        ("xuf", None, None, 3, 0),
    ],
)
def test_brackets_of_known_trials(
    kinds: str, fails: int | None, holds: int | None, open_: int, reversed_: int
) -> None:
    report = in_the_middle(kinds)
    row = report.brackets.iloc[0]
    for column, i in (("fails", fails), ("holds", holds)):
        assert np.isnan(row[column]) if i is None else row[column] == 2.0**-i
    assert (row["open"], row["reversed"]) == (open_, reversed_)
    if fails is not None:
        assert (row["nf_fails"], row["accuracy_fails"]) == (2.0**fails, 0.9 + fails / 100)
    if holds is not None:
        assert (row["nf_holds"], row["accuracy"]) == (2.0**holds, 0.9 + holds / 100)
    assert (row["trainings"], row["cost"]) == (len(kinds), 7 * len(kinds))


def noisy(open_at: set[float]) -> Callable[[Solver, int], tuple[TrainedLike, Dataset]]:
    """`sign_model`, but untrained (one answer for all) at some steps."""

    def train(solver: Solver, seed: int) -> tuple[TrainedLike, Dataset]:
        trained, data = sign_model(solver, seed)
        if any(solver.dt == pytest.approx(dt) for dt in open_at):
            weights = trained.weights | {
                "head.weight": np.zeros((2, 1), np.float32),
                "head.bias": np.array([1.0, 0.0], np.float32),
            }
            trained = TrainedModel(trained.model, weights, solver)
        return trained, data

    return train


@pytest.mark.parametrize(
    ("open_at", "fails", "holds", "open_", "trainings"),
    [
        ({1.0}, 1 / 3, 1 / 9, 0, 5),  # the coarse end: still bracketed
        ({1 / 9}, 1 / 3, 1 / 27, 1, 6),
        ({1 / 3, 1 / 9}, 1.0, 1 / 27, 2, 5),
        ({1 / 243}, np.nan, np.nan, 1, 2),  # the fine end: nothing holds down to it
    ],
)
def test_bisection_is_not_misled_by_open_trials(
    backend: JaxBackend,
    open_at: set[float],
    fails: float,
    holds: float,
    open_: int,
    trainings: int,
) -> None:
    coarse, fine = Solver("Euler", dt=1.0), Solver("Euler", dt=1 / 243)
    found = critical(noisy(open_at), coarse, fine, ratio=3, backend=backend)
    row = found.brackets.iloc[0]
    if np.isnan(holds):
        assert np.isnan(row["holds"])
    else:
        assert row[["fails", "holds"]].tolist() == pytest.approx([fails, holds])
    assert row["open"] == open_
    assert row["trainings"] <= trainings
    untrained = found.table[found.table["verdict"] == "untrained"]
    assert all(min(abs(step - at) for at in open_at) < 1e-6 for step in untrained["step"])


@pytest.mark.parametrize("criterion", CRITERIA)
def test_criteria_by_name(backend: JaxBackend, criterion: Criterion) -> None:
    """The paper's own check needs no test solves; here all rules agree."""
    coarse, fine = Solver("Euler", dt=1.0), Solver("Euler", dt=1 / 81)
    report = critical(sign_model, coarse, fine, criterion=criterion, ratio=3, backend=backend)
    assert report.criterion == criterion
    assert report.brackets.loc[0, ["fails", "holds"]].tolist() == pytest.approx([1 / 3, 1 / 9])
    assert report.table["flips"].notna().all() == (criterion == "flips")


def test_the_papers_check_makes_two_solves(
    backend: JaxBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved: list[str] = []
    evaluate = backend.evaluate

    def counting(model: Model, weights: Weights, x: np.ndarray, solver: Solver) -> Evaluation:
        solved.append(solver.name)
        return evaluate(model, weights, x, solver)

    monkeypatch.setattr(backend, "evaluate", counting)
    coarse, fine = Solver("Euler", dt=1 / 9), Solver("Euler", dt=1 / 27)
    critical(sign_model, coarse, fine, criterion="ten-points", ratio=3, backend=backend)
    assert solved == ["Euler", "Midpoint"]


def test_confidence_decides(backend: JaxBackend) -> None:
    """400 samples of which none changes: enough at 95 %, too few at 1 - 1e-6."""
    coarse, fine = Solver("Euler", dt=1.0), Solver("Euler", dt=1 / 9)
    sure = critical(sign_model, coarse, fine, ratio=9, backend=backend)
    assert sure.table["verdict"].tolist() == ["tied", "valid"]
    surer = critical(sign_model, coarse, fine, confidence=1 - 1e-6, ratio=9, backend=backend)
    assert surer.table["verdict"].tolist() == ["tied", "undecided"]
    assert surer.brackets.loc[0, "open"] == 1


def test_failed_training_is_an_open_trial(backend: JaxBackend) -> None:
    def train(solver: Solver, seed: int) -> tuple[TrainedLike, Dataset]:
        trained, data = sign_model(solver, seed)
        if solver.dt == 1.0:
            begun = start(trained.model, Recipe(solver), trained.weights)
            return replace(begun, retcode=RetCode.Unstable), data
        return trained, data

    coarse, fine = Solver("Euler", dt=1.0), Solver("Euler", dt=1 / 27)
    report = critical(train, coarse, fine, ratio=3, backend=backend)
    assert report.table["verdict"].tolist()[0] == "failed"
    assert np.isnan(report.table["accuracy"][0])
    assert report.brackets.loc[0, ["fails", "holds"]].tolist() == pytest.approx([1 / 3, 1 / 9])


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
        ("Euler:dt=1/2", "Euler:dt=1/4", {"criterion": "x"}, InvalidValueError, "criterion"),
        ("Euler:dt=1/2", "Euler:dt=1/4", {"confidence": 2}, InvalidValueError, "confidence"),
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
        (("papre",), UnknownNameError, "did you mean paper"),
        (("paper", {"treshold": 0.2}), ConfigError, "Did you mean threshold"),
        (("none", {"every": 5}), ConfigError, "no options without a controller"),
        (("paper", {"test": "Euler"}), WrongSolverError, "order"),
        (("paper", {"every": 0}), InvalidValueError, "every"),
    ],
)
def test_bad_tables_are_refused_before_training(
    table: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Config(adapt=AdaptConfig(*table))


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
    assert rows["nf"][0] == run.trained.solver.grid(0.0, 1.0).n
    report = swap(run.trained, run.dataset, FIXED_TESTS, factors=(0.5, 1.0))
    assert rows["verdict"][0] == report.verdict.kind
    found = report.verdict.decisive
    assert np.isnan(rows["flips"][0]) == (found is None)
    if found is not None:
        assert rows["flips"][0] == pytest.approx(found.share)
        assert (rows["under"][0], rows["flips_high"][0]) == (found.label, pytest.approx(found.high))
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
    assert "by flips" in " ".join(result.output.split())
    trials = pd.read_csv(out / "trials.csv")
    assert trials["step"].tolist()[0] == 0.5
    assert "open" in pd.read_csv(out / "critical.csv")
    arguments += ["--criterion", "ten-points", "--confidence", "0.9"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "by ten-points" in " ".join(result.output.split())
    # A step at which training fails is a trial, not the search's end.
    wild = [*arguments[:3], str(tmp_path / "wild"), *arguments[4:]]
    wild += ["--set", "train.learning_rate=1e30"]
    result = CliRunner().invoke(app, wild, catch_exceptions=False)
    assert result.exit_code == 0
    assert set(pd.read_csv(tmp_path / "wild" / "trials.csv")["verdict"]) == {"failed"}
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


ADAPTED = pd.DataFrame(
    {
        "controller": ["paper"] * 4 + ["steady"] * 4,
        "seed": [0, 1, 2, 3] * 2,
        "accuracy": [0.98, 1.0, 0.5, np.nan, 0.97, 0.98, 0.99, 1.0],
        "drop": [0.01, 0.03, 0.4, np.nan] + [0.0] * 4,
        "spread": [0.2, 0.4, 0.9, np.nan] + [0.1] * 4,
        "nf_training": [90.0, 100.0, 500.0, np.nan] + [40.0] * 4,
        "nf_checks": [10.0, 20.0, 30.0, np.nan] + [1.0] * 4,
    }
)
FOUND = pd.DataFrame(
    {
        "seed": [0, 1, 2, 3],
        "nf_fails": [32.0, 64.0, 32.0, np.nan],
        "nf_holds": [64.0, 128.0, 64.0, np.nan],
        "accuracy_fails": [0.97, 0.99, 0.6, np.nan],
        "accuracy": [0.98, 1.0, 0.95, np.nan],
    }
)


def test_table_1_leaves_out_seeds_by_name_and_shows_all_beside() -> None:
    """Sample deviations (n - 1), Student's intervals, and a threshold that is stated."""
    table = summarise(FOUND, ADAPTED, SPHERE2.paper, 0.9).set_index("how")
    paper = table.loc["adaptation, the paper's"]
    assert paper["seeds"] == "2 of 4"
    assert paper["left out"] == "seed 2 (50.0%), seed 3 (no accuracy)"
    # Two values: t(0.975, 1) = 12.706 times 10 from the mean, cut off at what is possible.
    assert paper["evaluations"] == "110.0 +- 14.1 (0.0 to 237.1)"
    assert paper["of them checks"] == "15.0"
    assert paper["accuracy"] == "99.0 +- 1.4 % (86.3 to 100.0)"
    assert paper["largest drop"] == 0.03
    assert paper["evaluations (paper)"] == "100.5"
    everything = table.loc["adaptation, the paper's, all seeds"]
    assert everything["seeds"] == "4 of 4"
    assert everything["accuracy"].startswith("82.7 +- 28.3 %")
    assert everything["largest drop"] == 0.4
    # Nothing left out: one row.
    assert table.loc["adaptation, ours (steady)", ["seeds", "left out"]].tolist() == [
        "4 of 4",
        "none",
    ]
    assert "adaptation, ours (steady), all seeds" not in table.index
    grid = table.loc["critical step, by bisection"]
    assert grid["evaluations"] == "48-96"
    # The paper's accuracy is at the smallest step above the critical one.
    assert grid["accuracy"].startswith("98.0 +- 1.4 %")
    assert grid["accuracy where it holds"].startswith("99.0 +- 1.4 %")
    assert grid["left out"] == "seed 2 (60.0%), seed 3 (no accuracy)"
    assert table.loc["critical step, by bisection, all seeds", "evaluations"] == "43-85"


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    one = summarise(FOUND[:1], ADAPTED[:1], SPHERE2.paper, 0.9)
    assert one["accuracy"].tolist() == ["97.0 %", "98.0 %"]
    assert one["evaluations"].tolist() == ["32-64", "100.0"]
    none = summarise(FOUND[3:], ADAPTED[3:4], SPHERE2.paper, 0.9)
    assert none["seeds"].tolist() == ["0 of 1", "1 of 1"] * 2
    assert set(none["accuracy"]) == {"-"}
    assert "+-" not in " ".join([*one["accuracy"], *none["accuracy"], *one["evaluations"]])
    assert over_seeds([1.0, 3.0]) == "2.0 +- 1.4"
    assert over_seeds([1.0, np.nan]) == "1.0"


@pytest.mark.parametrize("full", [True, False])
def test_every_spec_states_its_threshold(full: bool) -> None:
    for spec in (SPHERE2, CIFAR10):
        dataset_chance = {"Sphere 2D": 0.5, "CIFAR-10": 0.1}[spec.name]
        assert dataset_chance < spec.success[full] < 1


def test_table_1_of_small_runs_names_its_criterion(tmp_path: Path) -> None:
    """From the runs to the page; a training that fails costs a seed, not the table."""
    # As many training samples as the steady controller's promise takes.
    base = Config.from_toml(_file(tmp_path)).changed({"data.n_train": 612})
    spec = replace(
        SPHERE2,
        configs=dict.fromkeys((True, False), base),
        coarse=1 / 2,
        fine=1 / 4,
        success={True: 0.0, False: 0.0},
        short_controls={"every": 10},
    )
    context = ReproductionContext(tmp_path / "context", seeds=1, criterion="ten-points")
    result = make_row(context, spec)
    assert "the paper's check" in result.caption
    assert "no interval" in result.caption
    assert result.facts["criterion"] == "ten-points"
    assert result.numbers["how"].tolist()[0] == "critical step, by bisection"
    assert (context.publish("table1", result)[-1]).exists()
    wild = replace(base, train=replace(base.train, learning_rate=1e30))
    broken = replace(spec, configs=dict.fromkeys((True, False), wild), stem="wild")
    failed = make_row(context, broken).numbers
    assert set(failed["accuracy"]) == {"-"}
    assert failed["seeds"].tolist() == ["0 of 1", "1 of 1"] * 3


def _file(folder: Path) -> Path:
    file = folder / "small.toml"
    file.write_text(SMALL)
    return file


def test_criterion_of_table_1_on_the_command_line(tmp_path: Path) -> None:
    arguments = ["reproduce", "table1", "--out", str(tmp_path), "--criterion", "points"]
    with pytest.raises(InvalidValueError, match="criterion"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    refused = CliRunner().invoke(app, ["reproduce", "fig3", "--criterion", "flips"])
    assert refused.exit_code == 2  # no figure depends on it
