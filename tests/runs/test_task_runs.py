"""Runs of tasks whose answers are numbers: from a TOML file to pages, by commands."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import pynode_jl as pn
from pynode_jl._io import floats_of_names, named_floats
from pynode_jl.cli._adapt import _show_adapted
from pynode_jl.cli._app import app
from pynode_jl.diagnostics import (
    DIAGNOSTICS,
    SHIFT_COLUMNS,
    SHIFT_MATRIX_COLUMNS,
    CriticalReport,
    Trial,
)
from pynode_jl.errors import ConfigError, InvalidValueError, PyNODEError, UnknownNameError
from pynode_jl.runs import SwapConfig, TaskConfig, find_runs, of_one_task, runs_matrix

DATA = {"name": "sine", "n_train": 64, "n_test": 48}
TRAIN = {
    "solver": "Euler:dt=1/2", "iterations": 200, "batch_size": 32, "learning_rate": 1e-2,
}  # fmt: skip
BASE: dict[str, Any] = {
    "backend": "jax",
    "data": DATA,
    "field": {"kind": "mlp", "width": 8, "depth": 1},
    "model": {"augment": 1},
    "train": TRAIN,
    "swap": {"solvers": ["RK4"], "factors": [1.0]},
}


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression, trained and swapped by commands."""
    place = tmp_path_factory.mktemp("runs")
    file = place / "sine.toml"
    file.write_text(pn.Config.from_dict(BASE).to_toml())
    said = invoke("train", file, "--out", place / "sine")
    assert "RMSE" in said
    assert "accuracy" not in said
    return place / "sine"


def test_a_run_is_swapped_in_its_own_measure_and_read_again(folder: Path) -> None:
    said = invoke("swap", folder)
    assert "test RMSE" in said
    assert "accuracy" not in said
    run = pn.Run.open(folder)
    report = run.stored_swap()
    assert tuple(report.table.columns) == SHIFT_COLUMNS
    # The margin that the configuration leaves out is the task's.
    assert (run.config.swap.margin, report.verdict.margin) == (None, pn.Regression().margin)
    assert run.with_swap(SwapConfig(("RK4",), (1.0,), margin=0.1)).stored_swap().verdict == (
        report.verdict
    )
    page = (folder / "report.html").read_text()
    assert "RMSE" in page
    seen = re.sub("<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "accuracy" not in seen.replace("`accuracy`", "")
    assert (folder / "metrics.csv").read_text().startswith("iteration,loss,score,nf,step")


def test_its_step_is_adapted_in_its_own_measure(folder: Path, tmp_path: Path) -> None:
    often = ("every=20", "samples=16", "margin=0.5")
    settings = [f"--set=adapt.{each}" for each in often]
    said = invoke("adapt", folder / "config.toml", "--out", tmp_path, *settings)
    assert "RMSE" in said
    assert "shift" in said
    assert "accuracy" not in said
    header = (tmp_path / "steady.csv").read_text().partition("\n")[0]
    assert header.startswith("seed,solver,score,ode,verdict,shift,shift_low,shift_high,")
    assert (tmp_path / "steady-trace.png").is_file()


def test_an_untrained_model_has_no_score_as_an_ode(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "seed": 0,
        "solver": "Euler h=1/2",
        "under": "",
        "verdict": "untrained",
        "validation": "",
    }
    numbers = {"score": 0.9, "ode": math.nan, "spread": 0.0, "nf_training": 2.0, "nf_checks": 2.5}
    numbers["nf"] = 2
    shift = dict.fromkeys(("shift", "shift_low", "shift_high"), math.nan)
    _show_adapted("steady", pd.DataFrame([row | numbers | shift]), pn.Regression())
    said = capsys.readouterr().out
    assert "untrained  -" in said
    assert "1 untrained: RMSE 0.9000, of the ODE -" in said
    assert "nan" not in said


def test_its_certificate_has_the_error_by_step(folder: Path, tmp_path: Path) -> None:
    run = pn.Run.open(folder)
    chosen = [each for each in DIAGNOSTICS if each.name == "answers by step"]
    certificate = pn.certify(run.trained, run.dataset, diagnostics=chosen, backend="jax")
    page = pn.write_certificate(
        certificate, tmp_path, trained=run.trained, dataset=run.dataset, backend="jax"
    ).read_text()
    assert "Krishnapriyan" in page
    assert "10 % of their error" in page
    names = {file.name for file in tmp_path.glob("*.png")}
    # States lie in the plane, and inputs on a line: answers are a curve over them.
    assert names == {f"certificate-{each}.png" for each in ("evidence", "swaps", "answers")}


def test_a_matrix_is_of_one_task(folder: Path, tmp_path: Path) -> None:
    other = pn.Run.create(
        pn.Config.from_dict({"data": {"n_train": 8, "n_test": 8}}), tmp_path / "spheres"
    )
    skipped: list[Path] = []
    run = pn.Run.open(folder)
    assert of_one_task([run, other], lambda place, _: skipped.append(place)) == [run]
    assert skipped == [other.folder]
    matrix = runs_matrix(find_runs([folder]), ["RK4"], factors=[1.0])
    assert tuple(matrix.table.columns) == SHIFT_MATRIX_COLUMNS
    row = matrix.table.iloc[0]
    assert row["damage"] == pytest.approx(row["score"] - matrix.trained["as trained"][0])
    models = [(run.trained, run.dataset), (other.trained, other.dataset)]
    with pytest.raises(InvalidValueError, match="models of one task"):
        pn.diagnostics.swap_matrix(models, backend="jax")


def test_the_page_of_a_matrix_has_no_interval_over_one_seed(folder: Path, tmp_path: Path) -> None:
    """Of errors there is none then: the page leaves its columns out, and is written."""
    invoke("matrix", folder, "--out", tmp_path / "matrix", "--solver", "RK4")
    page = (tmp_path / "matrix" / "matrix.html").read_text()
    seen = re.sub("<script.*?</script>", "", page, flags=re.DOTALL)
    assert ">damage, RMSE</th>" in seen
    assert ">low</th>" not in seen
    assert ">-0</td>" not in seen
    assert "accuracy" not in seen


def test_a_search_for_the_critical_step_has_scores_and_shifts() -> None:
    coarse, fine = pn.Solver("Euler", dt=0.5), pn.Solver("Euler", dt=0.25)
    said: Any = {"metric": "RMSE", "unit": "of their error"}
    tied = Trial(0, coarse, 0.1, 2.0, "tied", 2.0, 20, 9.0, 8.0, 10.0, **said)
    report = CriticalReport("grid", "flips", (tied, Trial(0, fine, 0.2, 0.0, "valid", 4.0, 40)))
    assert {"score", "shift"} < set(report.table)
    assert list(report.brackets[["fails", "holds", "score_fails", "score"]].iloc[0]) == [
        0.5, 0.25, 0.1, 0.2,
    ]  # fmt: skip


def test_what_a_diverged_swap_leaves_is_written_and_read() -> None:
    """JSON has no infinity; a shift may be infinite."""
    values = {"a": [math.inf, -math.inf, 1.5], "b": {"text": "information", "c": None}}
    assert floats_of_names(json.loads(json.dumps(named_floats(values), allow_nan=False))) == values
    assert math.isnan(floats_of_names(named_floats(math.nan)))


@pytest.mark.parametrize(
    ("table", "error", "said"),
    [
        ({"kind": "regresion"}, UnknownNameError, "regression"),
        ({"kind": "regression", "target": 2}, ConfigError, "targets"),
        ({"targets": 2}, ConfigError, "kind"),
        ({"kind": 3}, ConfigError, "task.kind = 3: expected a text"),
    ],
)
def test_a_wrong_task_table_is_refused(table: dict[str, Any], error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        pn.Config.from_dict({"task": table})


def test_a_task_fits_its_data() -> None:
    small = {"name": "moons", "n_train": 8, "n_test": 8}
    config = pn.Config.from_dict({"data": small, "task": {"kind": "density", "trace": "exact"}})
    data = config.dataset()
    assert (data.task, data.y_train.shape, data.label_names) == (pn.Density(), (8, 0), None)
    assert np.array_equal(data.x_train, config.changed({"task": {}}).dataset().x_train)
    weighted = TaskConfig("classification", {"class_weights": (1, 4)})
    with pytest.raises(ConfigError, match='"classification", the task of data set'):
        pn.Config.from_dict({"data": small, "task": {"kind": "regression"}}).dataset()
    assert weighted.applied(pn.Config.from_dict({"data": small}).dataset()).task == (
        pn.Classification(2, class_weights=(1, 4))
    )
    # An option that the data do not fit.
    three = {"kind": "classification", "classes": 3, "one_logit": True}
    with pytest.raises(PyNODEError, match="one_logit"):
        pn.Config.from_dict({"data": small, "task": three}).dataset()


def test_arrays_of_a_file_become_data_of_the_task(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=np.ones((20, 2)), y=np.linspace(0, 1, 40).reshape(20, 2))
    data = {"name": "arrays", "path": str(tmp_path / "own.npz")}
    config = pn.Config.from_dict(
        {"data": data, "task": {"kind": "regression"}, "field": {"kind": "mlp", "width": 4}}
    )
    found = config.dataset()
    assert found.task == pn.Regression(2)
    assert config.make_model(found).weight_shapes()["head.weight"] == (2, 2)


def test_a_model_is_as_its_tables_say() -> None:
    head = pn.Config.from_dict(BASE).changed({"model.head": "none", "model.augment": 0})
    model = head.make_model(head.dataset())
    assert (model.head, model.task) == ("none", pn.Regression())
    with pytest.raises(InvalidValueError, match=r"model\.head"):
        pn.Config.from_dict({"model": {"head": "quadratic"}})
    rule = pn.Config.from_dict(BASE).changed({"swap.criterion": "three-points"})
    with pytest.raises(InvalidValueError, match="criterion"):  # before training
        rule.make_model(rule.dataset())


def test_times_of_the_data_end_the_interval_of_a_trajectory() -> None:
    """The default interval, 0 to 1, is not theirs: a step longer than that is none too long."""
    data = {"name": "lotka_volterra", "n_train": 4, "n_test": 4, "n_times": 4, "t1": 8.0}
    config = pn.Config.from_dict(
        {"data": data, "field": {"kind": "mlp"}, "train": {"solver": "RK4:dt=2"}}
    )
    assert config.make_model(config.dataset()).t1 == 8.0
    long = config.changed({"train.solver": "RK4:dt=9"})
    with pytest.raises(InvalidValueError, match="dt"):
        long.make_model(long.dataset())


@pytest.mark.parametrize("file", ["regression", "lorenz63", "two_moons"])
def test_the_examples_make_models(file: str) -> None:
    config = pn.Config.from_toml(Path(__file__).parents[2] / "examples" / f"{file}.toml")
    small = config.changed({"data.n_train": 4, "data.n_test": 4})
    assert small.make_model(small.dataset()).task.comparison == "shift"


def test_configurations_of_before_are_what_they_were() -> None:
    """What version 0.1 wrote: no [task], no head, and a margin."""
    values = pn.Config().to_dict()
    del values["task"], values["model"]["head"]
    values["swap"]["margin"] = 0.03
    old = pn.Config.from_dict(values)
    assert old.differences(pn.Config()) == {"swap.margin": (0.03, None)}
    assert pn.Config.from_dict(old.to_dict()) == old
