"""Configurations and run folders: TOML and Python agree, kills and damage are survived or named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from pynode_jl.backends import RetCode
from pynode_jl.errors import (
    ConfigError,
    InvalidValueError,
    PyNODEError,
    RunFolderError,
    UnknownNameError,
    UnknownSolverError,
)
from pynode_jl.experiments import (
    Config,
    DataConfig,
    FieldConfig,
    ModelConfig,
    Run,
    SwapConfig,
    TrainConfig,
    write_run_report,
)

TOML = """
seed = 3
backend = "jax"

[data]
name = "spheres"
dim = 3
n_train = 200
n_test = 40

[field]
kind = "mlp"
width = 8

[model]
augment = 1

[train]
solver = "Euler:dt=1/4"
iterations = 120
batch_size = 50
learning_rate = 0.01
chunk = 20

[swap]
solvers = ["Euler", "RK4", "Tsit5:tol=1e-3"]
factors = [0.5, 1.0]
"""
CONFIG = Config(
    seed=3,
    backend="jax",
    data=DataConfig("spheres", {"dim": 3, "n_train": 200, "n_test": 40}),
    field=FieldConfig("mlp", {"width": 8}),
    model=ModelConfig(augment=1),
    train=TrainConfig("Euler:dt=1/4", 120, 50, 0.01, chunk=20),
    swap=SwapConfig(("Euler", "RK4", "Tsit5:tol=1e-3"), (0.5, 1.0)),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(CONFIG, tmp_path_factory.mktemp("runs") / "run")
    run.train()
    run.swap()
    return run


def test_toml_and_python_are_the_same_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(TOML)
    assert Config.from_toml(file) == CONFIG
    file.write_text(CONFIG.to_toml())
    assert Config.from_toml(file) == CONFIG


def test_toml_and_python_give_the_same_run(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(TOML)
    other = Run.create(Config.from_toml(file), tmp_path / "run")
    other.train()
    assert same_weights(run, other)


def same_weights(a: Run, b: Run) -> bool:
    first, second = a.trained, b.trained
    return (
        first.state.iteration == second.state.iteration
        and all(np.array_equal(first.weights[k], second.weights[k]) for k in first.weights)
        and all(np.array_equal(first.state.nu[k], second.state.nu[k]) for k in first.weights)
        and np.array_equal(first.history.loss, second.history.loss)
    )


def test_folder_holds_all_that_came_of_it(run: Run) -> None:
    metrics = pd.read_csv(run.folder / "metrics.csv")
    assert list(metrics.columns) == ["iteration", "loss", "accuracy", "nf", "step"]
    assert len(metrics) == 120
    assert metrics["nf"].eq(4).all()
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["backend"] == "jax"
    assert environment["data"] == run.dataset.fingerprint
    stored = run.stored_swap()
    assert len(stored.table) == 5
    again = run.swap()
    assert stored.verdict.text == again.verdict.text
    pd.testing.assert_series_equal(stored.table["accuracy"], again.table["accuracy"])


def test_model_of_the_configuration(run: Run) -> None:
    assert run.model.input_shape == (3,)
    assert run.model.field.state_shape == (4,)
    assert run.trained.retcode == RetCode.Success


def test_opening_and_creating_again(run: Run, tmp_path: Path) -> None:
    assert Run.open(run.folder).config == CONFIG
    assert Run.create(CONFIG, run.folder).trained.finished
    with pytest.raises(RunFolderError, match="another configuration"):
        Run.create(CONFIG.changed({"seed": 4}), run.folder)
    with pytest.raises(RunFolderError, match=r"config\.toml"):
        Run.open(tmp_path)
    (tmp_path / "mine.txt").write_text("not a run")
    with pytest.raises(RunFolderError, match="an empty or new folder"):
        Run.create(CONFIG, tmp_path)
    with pytest.raises(RunFolderError, match="a folder"):
        Run.create(CONFIG, tmp_path / "mine.txt")


def test_folder_in_use(run: Run) -> None:
    with (
        FileLock(run.folder / ".lock"),
        pytest.raises(RunFolderError, match="no other process is training"),
    ):
        Run.open(run.folder).train()


def test_swap_before_training_ends(tmp_path: Path) -> None:
    fresh = Run.create(CONFIG, tmp_path / "run")
    with pytest.raises(RunFolderError, match="iteration 0 of 120"):
        fresh.swap()
    with pytest.raises(RunFolderError, match="pynode-jl swap"):
        fresh.stored_swap()


@pytest.mark.parametrize("keep", [0, 7, 200, -8])
def test_damaged_checkpoint_is_named(tmp_path: Path, run: Run, keep: int) -> None:
    copy = Run.create(CONFIG, tmp_path / "run")
    whole = (run.folder / "checkpoint.safetensors").read_bytes()
    (copy.folder / "checkpoint.safetensors").write_bytes(whole[:keep])
    with pytest.raises(RunFolderError, match=r"checkpoint.*Delete it to train anew"):
        copy.train()


def test_checkpoint_of_another_model_is_refused(tmp_path: Path, run: Run) -> None:
    other = Run.create(CONFIG.changed({"field.width": 9}), tmp_path / "run")
    whole = (run.folder / "checkpoint.safetensors").read_bytes()
    (other.folder / "checkpoint.safetensors").write_bytes(whole)
    with pytest.raises(RunFolderError, match="this configuration's model"):
        other.train()


def test_interrupted_between_chunks_resumes_bit_for_bit(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pynode_jl.experiments._run._SECONDS_BETWEEN_SAVES", 0.0)
    other = Run.create(CONFIG, tmp_path / "run")

    def stop(trained: object) -> None:
        if trained.state.iteration == 60:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        other.train(stop)
    assert other.trained.state.iteration == 60
    other.train()
    assert same_weights(run, other)


_KILLED = """
import sys
import pynode_jl.experiments._run as home
from pynode_jl.experiments import Run
home._SECONDS_BETWEEN_SAVES = 0.0
Run.open(sys.argv[1]).train(lambda trained: print(trained.state.iteration, flush=True))
"""


def test_killed_anywhere_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = CONFIG.changed({"train.iterations": 4000, "train.chunk": 10})
    whole = Run.create(config, tmp_path / "whole")
    whole.train()
    killed = Run.create(config, tmp_path / "killed")
    reached = [0]
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(killed.folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        goal = reached[-1] + 500
        for line in process.stdout:
            reached.append(int(line))
            if reached[-1] >= goal:
                break
        time.sleep(0.013)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert 1000 <= killed.trained.state.iteration < 4000
    killed.train()
    assert same_weights(whole, killed)


def test_diverging_run_keeps_its_last_good_state(tmp_path: Path) -> None:
    wild = Run.create(CONFIG.changed({"train.learning_rate": 1e30}), tmp_path / "run")
    trained = wild.train()
    assert trained.retcode == RetCode.Unstable
    assert not trained.finished
    assert all(np.isfinite(value).all() for value in wild.trained.weights.values())
    with pytest.raises(RunFolderError, match="Unstable"):
        wild.swap()


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"train.itrations": 3}, ConfigError, "Did you mean iterations"),
        ({"sed": 3}, ConfigError, "Did you mean seed"),
        ({"train.iterations": "many"}, ConfigError, "train.iterations = 'many'"),
        ({"train.iterations": True}, ConfigError, "train.iterations"),
        ({"train.iterations": 0}, InvalidValueError, "iterations = 0"),
        ({"train.learning_rate": -1}, InvalidValueError, "learning_rate"),
        ({"train.solver": "Eulr:dt=1/2"}, UnknownSolverError, "Euler"),
        ({"train.solver": "Euler:dt=0"}, InvalidValueError, "dt = 0"),
        ({"train.gradient": "magic"}, UnknownNameError, "gradient"),
        ({"field.kind": "conv9d"}, UnknownNameError, "conv1d"),
        ({"data.name": "shperes"}, UnknownNameError, "spheres"),
        ({"backend": "julai"}, UnknownNameError, "julia"),
        ({"seed": -1}, InvalidValueError, "seed"),
        ({"nothing.here": 1}, ConfigError, "nothing.here"),
        ({"swap.solvers": ["Eulr"]}, UnknownSolverError, "Euler"),
        ({"swap": 3}, ConfigError, r"\[swap\]"),
    ],
)
def test_bad_settings(settings: dict[str, object], error: type[PyNODEError], text: str) -> None:
    with pytest.raises(error, match=text):
        CONFIG.changed(settings)


def test_options_of_makers_are_checked_when_made() -> None:
    with pytest.raises(InvalidValueError, match="dmi"):
        CONFIG.changed({"data.dmi": 3}).dataset()
    odd = CONFIG.changed({"field.widht": 3})
    with pytest.raises(ConfigError, match="widht"):
        odd.make_model(odd.dataset())


def test_unreadable_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable TOML"):
        Config.from_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("seed = = 3")
    with pytest.raises(ConfigError, match="readable TOML"):
        Config.from_toml(tmp_path / "bad.toml")


def test_report_of_runs(run: Run, tmp_path: Path) -> None:
    page = write_run_report({"one": run, "two": run}, tmp_path, "Two <runs>")
    text = page.read_text()
    assert "Two &lt;runs&gt;" in text
    assert run.stored_swap().verdict.text in text.replace("&#39;", "'")
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "swap.png",
        "steps.png",
        "training.png",
    }
