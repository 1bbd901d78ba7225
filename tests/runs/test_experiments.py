"""Configurations and run folders: TOML and Python agree, kills and damage are survived or named."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner

from pynode_jl._io import read_json
from pynode_jl.backends import SGD, RetCode
from pynode_jl.cli._app import app
from pynode_jl.diagnostics import Verdict, certify
from pynode_jl.errors import (
    ConfigError,
    DataChangedError,
    DataError,
    InvalidValueError,
    OutputError,
    PyNODEError,
    RunFolderError,
    UnknownNameError,
    UnknownSolverError,
)
from pynode_jl.paper import ReproductionContext
from pynode_jl.reporting.pages import write_run_report
from pynode_jl.runs import (
    Config,
    DataConfig,
    FieldConfig,
    ModelConfig,
    Run,
    SwapConfig,
    TrainConfig,
    find_runs,
    runs_matrix,
)
from pynode_jl.runs._checkpoint import recorded_fingerprint
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained
from pynode_jl.training._trainer import Trainer

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


def test_other_swap_settings_leave_the_run_as_it_is(tmp_path: Path) -> None:
    run = Run.create(CONFIG, tmp_path / "run")
    other = run.with_swap(SwapConfig(("RK4",), (1.0,), margin=0.1))
    assert (other.folder, other.config.swap.margin) == (run.folder, 0.1)
    assert run.config == CONFIG
    assert Run.open(run.folder).config == CONFIG


def test_folder_in_use(run: Run) -> None:
    with (
        FileLock(run.folder / ".lock"),
        pytest.raises(RunFolderError, match="no other process is training"),
    ):
        Run.open(run.folder).train()


def test_a_folder_that_vanishes_is_named(tmp_path: Path) -> None:
    doomed = Run.create(CONFIG, tmp_path / "run")
    with pytest.raises(OutputError, match=r"run/.*No such file"):
        doomed.train(lambda trained: shutil.rmtree(doomed.folder, ignore_errors=True))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a folder that can be made"):
        Run.create(CONFIG, tmp_path / "file" / "run")


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


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of `CONFIG` that Ctrl-C has ended after iteration 60, each chunk saved."""
    monkeypatch.setattr("pynode_jl.runs._run._SECONDS_BETWEEN_SAVES", 0.0)
    begun = Run.create(CONFIG, tmp_path / "run")

    def stop(trained: Trained) -> None:
        if trained.state.iteration == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begun.train(stop)
    return begun


def test_interrupted_between_chunks_resumes_bit_for_bit(run: Run, interrupted: Run) -> None:
    assert interrupted.trained.state.iteration == 60
    interrupted.train()
    assert same_weights(run, interrupted)


def test_interrupted_amid_a_chunk_keeps_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a notebook's kernel is interrupted: wherever it is, long before a save is due."""
    begun = Run.create(CONFIG, tmp_path / "run")
    step, steps = Trainer.step, itertools.count()

    def interrupted_step(self: Trainer, trained: Trained) -> Trained:
        if next(steps) == 2:
            raise KeyboardInterrupt
        return step(self, trained)

    monkeypatch.setattr(Trainer, "step", interrupted_step)
    with pytest.raises(KeyboardInterrupt):
        begun.train()
    monkeypatch.undo()
    assert begun.trained.state.iteration == 2 * CONFIG.train.chunk


# It kills itself, wherever it then is: whoever watched it might be kept waiting past its end.
_KILLED = """
import os, signal, sys, threading
import pynode_jl.runs._run as home
from pynode_jl.runs import Run
home._SECONDS_BETWEEN_SAVES = 0.0
goal = int(sys.argv[2])
strike = threading.Timer(0.013, os.kill, (os.getpid(), signal.SIGKILL))

def on_chunk(trained):
    if trained.state.iteration >= goal and not strike.is_alive():
        strike.start()

Run.open(sys.argv[1]).train(on_chunk)
"""


def test_killed_anywhere_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = CONFIG.changed({"train.iterations": 4000, "train.chunk": 10})
    whole = Run.create(config, tmp_path / "whole")
    whole.train()
    killed = Run.create(config, tmp_path / "killed")
    for goal in (500, 1000):
        ended = subprocess.run([sys.executable, "-c", _KILLED, str(killed.folder), str(goal)])
        assert ended.returncode == -signal.SIGKILL
    assert 1000 <= killed.trained.state.iteration < 4000
    killed.train()
    assert same_weights(whole, killed)


def test_diverging_run_keeps_its_last_good_state(tmp_path: Path) -> None:
    wild = Run.create(CONFIG.changed({"train.learning_rate": 1e30}), tmp_path / "run")
    trained = wild.train()
    assert trained.retcode == RetCode.Unstable
    assert not trained.finished
    assert all(np.isfinite(value).all() for value in wild.trained.weights.values())
    with pytest.raises(RunFolderError, match=r"failed at iteration .* in a new folder"):
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
        ({"train.optimizer": "adma"}, UnknownNameError, "adam"),
        ({"train.optimizer": 3}, InvalidValueError, "optimizer = 3"),
        ({"train.optimizer": {"name": "sgd", "betas": 3}}, InvalidValueError, "optimizer.betas"),
        ({"train.optimizer": "sgd:learning_rate=0.1"}, ConfigError, r"learning_rate = 0\.01.*0\.1"),
        ({"train.optimizer": "sgd:schedule=linear,warmup=120"}, InvalidValueError, "warmup = 120"),
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
        ({"swap.margin": 1.5}, InvalidValueError, "margin"),
        ({"swap.confidence": 0.1}, InvalidValueError, "confidence"),
        ({"swap.criterion": "points"}, InvalidValueError, "ten-points"),
        ({"swap.criterion": 3}, ConfigError, "criterion"),
    ],
)
def test_bad_settings(settings: dict[str, object], error: type[PyNODEError], text: str) -> None:
    with pytest.raises(error, match=text):
        CONFIG.changed(settings)


def test_ways_to_write_an_optimizer(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    table = '[train.optimizer]\nname = "sgd"\nmomentum = 0.5\n\n[swap]'
    file.write_text(TOML.replace("[swap]", table))
    found = Config.from_toml(file)
    assert found == CONFIG.changed({"train.optimizer": "sgd:momentum=1/2"})
    own = replace(CONFIG.train, optimizer=SGD(0.01, 0.5), learning_rate=1e-4)
    assert found == replace(CONFIG, train=own)
    assert found.recipe().optimizer == SGD(0.01, 0.5)
    assert list(found.differences(CONFIG)) == ["train.optimizer"]
    assert list(found.changed({"train.learning_rate": 1.0}).differences(found)) == [
        "train.learning_rate"
    ]
    file.write_text(found.to_toml())
    assert Config.from_toml(file) == found


def test_a_run_of_another_optimizer_in_float64(tmp_path: Path) -> None:
    """Its checkpoint holds float64; a rate that decays is held to the iterations."""
    config = CONFIG.changed(
        {
            "train.optimizer": {"name": "sgd", "momentum": 0.9, "schedule": "cosine"},
            "train.precision": "float64",
            "train.iterations": 40,
        }
    )
    run = Run.create(config, tmp_path / "run")
    trained = run.train()
    stored = Run.open(tmp_path / "run").trained
    for part in ("weights", "mu", "nu"):
        for name, value in getattr(trained.state, part).items():
            assert value.dtype == np.float64
            np.testing.assert_array_equal(getattr(stored.state, part)[name], value)
    assert stored.history.loss.dtype == np.float64
    assert run.swap().rounding is None
    with pytest.raises(RunFolderError, match=r"train\.iterations is 40 there, 80 here"):
        Run.create(config.changed({"train.iterations": 80}), tmp_path / "run")


def test_options_of_makers_are_checked_when_read() -> None:
    with pytest.raises(ConfigError, match=r"data\.dmi = 3: .*Did you mean dim\?"):
        CONFIG.changed({"data.dmi": 3})
    with pytest.raises(ConfigError, match=r"data\.nam = 3: .*Did you mean name\?"):
        CONFIG.changed({"data.nam": 3})
    with pytest.raises(ConfigError, match=r"data\.path = None: .* needs it\. Set path\."):
        Config(data={"name": "csv"}).dataset()
    with pytest.raises(ConfigError, match=r"data\.noise = -1: expected a number of at least 0"):
        CONFIG.changed({"data": {"name": "moons", "noise": -1}}).dataset()
    with pytest.raises(ConfigError, match=r"field\.channels = 0: expected"):
        CONFIG.changed({"field.channels": 0}).make_model(CONFIG.dataset())
    with pytest.raises(ConfigError, match=r"field\.widht = 3: .*Did you mean width\?"):
        CONFIG.changed({"field.widht": 3})


def test_a_table_may_be_a_dict() -> None:
    solver = Solver("RK4", dt=0.25)
    given = Config(data={"name": "moons", "noise": 0.2}, train={"solver": solver})
    assert given.data == DataConfig("moons", {"noise": 0.2})
    assert given == Config.from_dict({"data": {"name": "moons", "noise": 0.2}}).changed(
        {"train.solver": "RK4:dt=1/4"}
    )
    assert Config.from_dict(tomllib.loads(given.to_toml())) == given


def test_unreadable_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable TOML"):
        Config.from_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("seed = = 3")
    with pytest.raises(ConfigError, match="readable TOML"):
        Config.from_toml(tmp_path / "bad.toml")


# Data that have changed

_SHIFTED = {
    "scaled": {"x_train": 1.5, "x_test": 1.5},
    "test part": {"x_test": 1.5},
    "labels": {"y_test": -1},
}


def write_arrays(file: Path, changed: dict[str, float] | None = None) -> None:
    """Two blobs; `changed` names arrays and factors, -1 exchanges two labels."""
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for part, count in (("train", 60), ("test", 30)):
        labels = np.arange(count) % 2
        arrays[f"x_{part}"] = (random.normal(size=(count, 2)) + 4 * labels[:, None]).astype("f4")
        arrays[f"y_{part}"] = labels
    for name, factor in (changed or {}).items():
        if factor < 0:
            arrays[name] = np.where(
                np.arange(len(arrays[name])) < 2, 1 - arrays[name], arrays[name]
            )
        else:
            arrays[name] = arrays[name] * np.float32(factor)
    np.savez(file, **arrays)


def arrays_run(folder: Path) -> Run:
    """A trained run of a file that lies beside its folder."""
    write_arrays(folder / "data.npz")
    config = Config(
        backend="jax",
        data=DataConfig("arrays", {"path": str(folder / "data.npz")}),
        field=FieldConfig("mlp", {"width": 4}),
        train=TrainConfig("Euler:dt=1/2", 20, 20, 0.01),
        swap=SwapConfig(("Euler", "RK4"), (1.0,)),
    )
    run = Run.create(config, folder / "run")
    run.train()
    return run


def strip_fact(checkpoint: Path) -> None:
    """Write a checkpoint as version 0.1 did: without checksums and the data's fingerprint."""
    with safe_open(checkpoint, framework="np") as file:
        facts = json.loads(file.metadata()["facts"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    facts["format"] = "pynode_jl checkpoint 2"
    for name in ("data", "arrays", "trained by"):
        del facts[name]
    save_file(arrays, checkpoint, {"facts": json.dumps(facts)})


_USES = {
    "train": lambda run, out: run.train(),
    "swap": lambda run, out: run.swap(),
    "stored swap": lambda run, out: run.stored_swap(),
    "certify": lambda run, out: certify(run.trained, run.dataset, samples=8),
    "matrix": lambda run, out: runs_matrix([run], ["RK4"]),
    "find": lambda run, out: find_runs([run.folder]),
    "report": lambda run, out: write_run_report({"run": run}, out, "A run"),
}
_COMMANDS = {
    "train": lambda folder, out: ["train", folder / "config.toml", "--out", folder],
    "swap": lambda folder, out: ["swap", folder],
    "certify": lambda folder, out: ["certify", folder, "--samples", 8],
    "matrix": lambda folder, out: ["matrix", folder, "--out", out, "--solver", "RK4"],
}


def invoke(arguments: list[object]) -> None:
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("old", [False, True], ids=["recorded", "environment only"])
@pytest.mark.parametrize("changed", _SHIFTED)
def test_changed_data_are_refused_by_every_use(tmp_path: Path, changed: str, old: bool) -> None:
    run = arrays_run(tmp_path)
    run.swap()
    recorded = run.recorded_fingerprint
    assert recorded == run.dataset.fingerprint
    if old:
        strip_fact(run.folder / "checkpoint.safetensors")
    assert Run.open(run.folder).trained.fingerprint == recorded
    kept = {file: file.read_bytes() for file in run.folder.glob("**/*.*") if file.is_file()}
    write_arrays(tmp_path / "data.npz", _SHIFTED[changed])
    found = run.config.dataset().fingerprint
    for name, use in _USES.items():
        with pytest.raises(DataError) as caught:
            use(Run.open(run.folder), tmp_path / "out")
        assert found in str(caught.value), name
        assert recorded in str(caught.value), name
    for name, command in _COMMANDS.items():
        with pytest.raises(DataError) as caught:
            invoke(command(run.folder, tmp_path / "out"))
        assert found in str(caught.value), name
        assert recorded in str(caught.value), name
    # Nothing was written: least of all the record.
    assert kept == {file: file.read_bytes() for file in run.folder.glob("**/*.*") if file.is_file()}
    # The file restored, all is as before.
    write_arrays(tmp_path / "data.npz")
    assert Run.open(run.folder).trained.finished


@pytest.mark.slow
def test_unchanged_data_pass(tmp_path: Path) -> None:
    run = arrays_run(tmp_path)
    for name in ("train", "swap"):  # what the others do is among the uses
        invoke(_COMMANDS[name](run.folder, tmp_path / "out"))
    for use in _USES.values():
        use(Run.open(run.folder), tmp_path / "out")
    write_arrays(tmp_path / "data.npz")  # a new file with the same arrays
    assert Run.open(run.folder).swap().verdict.samples == 30


def test_searches_and_reproductions_refuse_changed_data(tmp_path: Path) -> None:
    run = arrays_run(tmp_path)
    file = run.folder / "config.toml"
    search = ["critical", file, "--out", tmp_path / "search"]
    search += ["--coarse", "dt=1", "--fine", "dt=1/2"]
    adapt = ["adapt", file, "--out", tmp_path / "adapt", "--set", "adapt.every=10"]
    adapt += ["--set", "adapt.margin=0.5"]
    context = ReproductionContext(tmp_path / "context")
    for command in (search, adapt):
        invoke(command)
    made = context.train_run("blobs", run.config)
    recorded = made.recorded_fingerprint
    write_arrays(tmp_path / "data.npz", _SHIFTED["scaled"])
    for command in (search, adapt):
        with pytest.raises(DataError, match=recorded):
            invoke(command)
    with pytest.raises(DataError, match=recorded):
        context.train_run("blobs", run.config)


def test_old_checkpoints_resume_bit_for_bit(run: Run, interrupted: Run) -> None:
    checkpoint = interrupted.folder / "checkpoint.safetensors"
    strip_fact(checkpoint)
    resumed = Run.open(interrupted.folder)
    assert resumed.trained.fingerprint == resumed.dataset.fingerprint
    resumed.train()
    assert same_weights(run, resumed)
    assert recorded_fingerprint(checkpoint) == run.dataset.fingerprint


def test_a_run_before_its_first_checkpoint_is_held_to_its_environment(tmp_path: Path) -> None:
    run = arrays_run(tmp_path)
    (run.folder / "checkpoint.safetensors").unlink()
    write_arrays(tmp_path / "data.npz", _SHIFTED["scaled"])
    with pytest.raises(DataChangedError):
        Run.open(run.folder).train()
    (run.folder / "environment.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"environment\.json"):
        Run.open(run.folder).train()


def test_a_run_that_was_never_trained_has_no_record(tmp_path: Path) -> None:
    fresh = Run.create(CONFIG, tmp_path / "run")
    assert fresh.recorded_fingerprint == ""
    assert fresh.trained.fingerprint == ""


# The [swap] table


def test_swap_table_without_the_newer_keys(tmp_path: Path) -> None:
    """A folder of version 0.1 is the run of the same configuration."""
    file = tmp_path / "config.toml"
    lines = CONFIG.to_toml().splitlines()
    kept = [line for line in lines if not line.startswith(("confidence", "criterion"))]
    assert len(kept) == len(lines) - 2
    file.write_text("\n".join(kept))
    assert Config.from_toml(file) == CONFIG
    assert Run.create(CONFIG, tmp_path).config == CONFIG


def test_the_swap_table_decides_the_verdict(run: Run, tmp_path: Path) -> None:
    settings = {"swap.margin": 0.2, "swap.confidence": 0.9, "swap.criterion": "three-points"}
    other = Run.create(CONFIG.changed(settings), tmp_path / "run")
    assert Config.from_toml(other.folder / "config.toml") == other.config
    checkpoint = (run.folder / "checkpoint.safetensors").read_bytes()
    (other.folder / "checkpoint.safetensors").write_bytes(checkpoint)
    verdict = other.swap().verdict
    assert (verdict.criterion, verdict.confidence) == ("three-points", 0.9)
    assert run.stored_swap().verdict.criterion == "flips"


def test_verdict_file_is_the_report_and_the_data(run: Run) -> None:
    report = run.swap()
    found = read_json(run.folder / "verdict.json")
    expected = {**report.to_dict(), "data": run.dataset.fingerprint}
    assert json.dumps({name: found[name] for name in expected}) == json.dumps(expected)
    values = found["verdict"]
    assert Verdict.from_dict(values).text == values["text"] == report.verdict.text


def test_report_of_runs(run: Run, tmp_path: Path) -> None:
    page = write_run_report({"one": run, "two": run}, tmp_path, "Two <runs>")
    text = page.read_text()
    assert "Two &lt;runs&gt;" in text
    assert run.stored_swap().verdict.text in text.replace("&#39;", "'")
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "swap.png",
        "flips.png",
        "steps.png",
        "training.png",
    }
