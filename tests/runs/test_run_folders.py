"""Run folders: one configuration however it is written, what may change in a folder, and failures
of the disk."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import multiprocessing
import os
import subprocess
import sys
import tomllib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import damage
import numpy as np
import pytest
from typer.testing import CliRunner

import pynode_jl as pn
from pynode_jl._io import read_json
from pynode_jl.cli._app import app
from pynode_jl.errors import (
    BackendLacksSolverError,
    ConfigError,
    DataError,
    InvalidValueError,
    OutputError,
    PyNODEError,
    RunFolderError,
    WrongSolverError,
)
from pynode_jl.runs import (
    AdaptConfig,
    Config,
    DataConfig,
    FieldConfig,
    ModelConfig,
    Run,
    SwapConfig,
    TrainConfig,
    _run,
    find_runs,
    runs_matrix,
)
from pynode_jl.runs._many_runs import _labels

SETTINGS = {table: values for table, values in damage.CONFIG.items() if table != "adapt"}
CONFIG = Config.from_dict(SETTINGS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(CONFIG, tmp_path_factory.mktemp("runs") / "run")
    run.train()
    return run


def copied(run: Run, folder: Path, config: Config = CONFIG) -> Run:
    """A run in `folder` with the files of another."""
    made = Run.create(config, folder)
    for name in ("checkpoint.safetensors", "environment.json", "config.toml"):
        (folder / name).write_bytes((run.folder / name).read_bytes())
    return made


def test_a_source_tree_on_the_path_needs_no_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = importlib.metadata.version

    def version(name: str) -> str:
        if name in {"pynode-jl", "pynode_jl"}:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    _run._versions.cache_clear()
    run = Run.create(CONFIG, tmp_path / "run")
    run.train()
    assert run.environment["packages"]["pynode-jl"] == pn.__version__
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, pn.__version__ in shown.output) == (0, True)


# One configuration


@pytest.mark.parametrize(
    "other",
    [
        {"train.solver": "Euler:dt=0.25"},
        {"train.solver": " Euler : dt = 1 / 4".replace(" ", "")},
        {"train.solver": {"name": "Euler", "dt": 0.25}},
        {"train.learning_rate": 1e-2},
        {"train.iterations": np.int64(20)},
        {"seed": np.int32(3)},
        {"data.dim": 2},
        {"data.seed": 3},
        {"field.depth": 2},
        {"field.activation": "tanh"},
        {"model.t1": 1},
        {"swap.factors": [1]},
        {"swap.factors": np.array([1.0])},
        {"swap.solvers": ("RK4",)},
    ],
    ids=str,
)
def test_one_configuration_however_it_is_written(other: dict[str, Any]) -> None:
    assert CONFIG.changed(other) == CONFIG
    assert CONFIG.changed(other).differences(CONFIG) == {}
    assert Config.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"train.solver": "Euler:dt=0.26"}, "train.solver"),
        ({"data.seed": 4}, "data.seed"),
        ({"field.depth": 3}, "field.depth"),
        ({"swap.factors": [1.0, 2.0]}, "swap.factors"),
        ({"backend": "auto"}, "backend"),
    ],
)
def test_what_differs_is_named(other: dict[str, Any], difference: str) -> None:
    assert list(CONFIG.differences(CONFIG.changed(other))) == [difference]


def test_a_table_of_solvers_is_compared_by_what_they_are() -> None:
    a, b = (replace(CONFIG, swap=SwapConfig((text,))) for text in ("RK4:dt=1/8", "RK4:dt=0.125"))
    assert a == b


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SwapConfig("RK4"), "swap.solvers = 'RK4': expected a list"),
        (lambda: SwapConfig((3,)), "swap.solvers = 3"),
        (lambda: SwapConfig(factors=(0.0,)), "swap.factors = 0"),
        (lambda: SwapConfig(factors=("x",)), "swap.factors = 'x'"),
        (lambda: SwapConfig(factors=2.0), "swap.factors = 2.0: expected a list"),
        (lambda: Config(data="spheres"), "data = 'spheres': expected a table"),
        (lambda: Config(train=None), "train = None"),
        (lambda: Config(data=DataConfig(3)), "data.name = 3: expected a text"),
        (lambda: Config(data=DataConfig("spheres", 3)), "options = 3"),
        (lambda: Config(field=FieldConfig("mlp", {"width": object()})), "width = <object"),
        (lambda: Config(device=3), "device = 3"),
        (lambda: Config(train=TrainConfig(3)), "solver = 3"),
        (lambda: Config(model=ModelConfig(t1="x")), "model.t1 = 'x'"),
        (lambda: Config(model=ModelConfig(t1=0.0)), "model.t1 = 0.0"),
        (lambda: Config(model=ModelConfig(augment=-1)), "model.augment = -1"),
        (lambda: Config(adapt=AdaptConfig("steady", {"every": 0})), "every = 0"),
    ],
)
def test_odd_values_are_refused_by_name(make: Any, text: str) -> None:
    with pytest.raises(PyNODEError, match=text):
        make()


_ODD: tuple[Any, ...] = (
    *(None, float("nan"), float("inf"), -1, 0, "", "x", [], {}, object(), b"x", True, 10**30),
    *(np.int64(3), np.float32(0.5), np.array([1, 2]), (1,), ["a"], {"a": 1}, {1: 2}, [[1]], [None]),
    *({"name": 3}, {"name": "Euler", "dt": "x"}, "Euler:dt=1/0", "a\0b", Path("x"), 1j, range(3)),
)


def test_settings_of_any_value_are_taken_or_refused() -> None:
    """Whatever is taken can be written, compared, and made data and models of."""
    plain, taken = Config().to_dict(), 0
    own = {"data": ["dim", "n_train", "options"], "field": ["channels", "activation"]}
    keys = [*plain, *(f"adapt.{name}" for name in ("controller", "every")), "x", "x.y", "train.x"]
    for table in ("data", "field", "model", "train", "swap"):
        keys += [f"{table}.{name}" for name in (*plain[table], *own.get(table, ()))]
    data = pn.concentric_spheres(n_train=4, n_test=4)
    for key in keys:
        for value in _ODD:
            with suppress(PyNODEError):
                config = Config().changed({key: value})
                assert Config.from_dict(tomllib.loads(config.to_toml())) == config
                if key.startswith("data"):
                    config.dataset()
                config.make_model(data)
                taken += 1
    assert taken > 40


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"swap.factors": [-1.0]}, InvalidValueError),
        ({"swap.solvers": ["Tsit5:rtl=3"]}, InvalidValueError),
        ({"train.solver": "Tsit5", "swap.solvers": ["Euler"]}, WrongSolverError),
        ({"train.solver": "Euler:dt=2"}, InvalidValueError),
    ],
)
def test_a_swap_that_would_be_refused_is_found_before_training(
    settings: dict[str, Any], error: type[PyNODEError]
) -> None:
    with pytest.raises(error):
        CONFIG.changed(settings)


# What may change


def test_a_refused_start_leaves_a_folder_that_takes_the_mended_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    wrong = {"train.solver": "Rodas5P:dt=1/4"}  # Julia's
    with pytest.raises(BackendLacksSolverError):
        Run.create(CONFIG.changed(wrong), folder).train()
    with pytest.raises(ConfigError, match="widht"):
        Run.create(CONFIG.changed({"field.widht": 3}), folder).train()
    with pytest.raises(DataError):
        Run.create(CONFIG.changed({"train.batch_size": 65}), folder).train()
    assert not (folder / "environment.json").exists()
    assert Run.create(CONFIG, folder).config == Run.open(folder).config == CONFIG


@pytest.mark.parametrize("left", ["draft", "lock", "half", "empty"])
def test_a_start_that_was_killed_is_made_good(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    name = {"draft": ".config.toml.4711.part", "lock": ".lock"}.get(left, "config.toml")
    content = CONFIG.to_toml()[:50] if left == "half" else ""
    (folder / name).write_text(content)
    assert Run.create(CONFIG, folder).config == CONFIG
    assert Run.open(folder).config == CONFIG
    assert not list(folder.glob("*.part"))


def test_the_keys_that_differ_are_named(run: Run) -> None:
    other = CONFIG.changed({"seed": 4, "train.learning_rate": 0.5})
    with pytest.raises(RunFolderError) as caught:
        Run.create(other, run.folder)
    assert "seed is 3 there, 4 here" in str(caught.value)
    assert "train.learning_rate is 0.01 there, 0.5 here" in str(caught.value)
    assert Run.open(run.folder).config == CONFIG


def test_a_run_takes_other_questions_and_another_pace(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "run"
    copied(run, folder)
    other = CONFIG.changed({"swap.margin": 0.1, "swap.solvers": [], "train.chunk": 3})
    assert Run.create(other, folder).trained.finished
    assert Run.open(folder).config == other


def test_a_finished_run_is_trained_on(tmp_path: Path, run: Run) -> None:
    """More iterations end where an uninterrupted run of so many does, bit for bit."""
    folder, longer = tmp_path / "run", CONFIG.changed({"train.iterations": 33})
    copied(run, folder).swap()
    further, whole = Run.create(longer, folder), Run.create(longer, tmp_path / "whole")
    for each in (further, whole):
        each.train()
    a, b = further.trained, whole.trained
    assert a.state.iteration == len(a.history) == 33
    assert all(np.array_equal(a.weights[name], b.weights[name]) for name in a.weights)
    assert all(np.array_equal(a.state.nu[name], b.state.nu[name]) for name in a.weights)
    with pytest.raises(RunFolderError, match="of other weights"):
        further.stored_swap()
    with pytest.raises(RunFolderError, match=r"train\.iterations = 20: expected 33 or more"):
        Run.create(CONFIG, folder)
    adapted = longer.changed({"adapt.controller": "paper"})
    with pytest.raises(RunFolderError, match=r"adapt\.controller is 'none' there"):
        Run.create(adapted, folder)


def test_one_swap_does_not_write_over_another(tmp_path: Path, run: Run) -> None:
    first = copied(run, tmp_path / "run")
    wide = first.with_swap(SwapConfig(("Heun",), (0.5,), margin=0.2))
    a, b = first.swap(), wide.swap()
    assert (list(a.table["test_solver"]), list(b.table["test_solver"])) == (["RK4"], ["Heun"])
    for each, report in ((first, a), (wide, b), (Run.open(first.folder), a)):
        stored = each.stored_swap()
        assert stored.verdict == report.verdict
        assert list(stored.table["test_solver"]) == list(report.table["test_solver"])
    # In the folder itself is the last one, and what it was asked.
    assert read_json(first.folder / "verdict.json")["swap"]["solvers"] == ["Heun"]


def test_a_solver_that_the_backend_lacks_is_a_row_of_the_swap(tmp_path: Path, run: Run) -> None:
    config = CONFIG.changed({"swap.solvers": ["Rodas5P", "RK4", "Heun"]})
    each = copied(run, tmp_path / "run")
    report = Run.create(config, each.folder).swap()
    lacking, *others = report.table.to_dict("records")
    assert (lacking["retcode"], lacking["test_solver"]) == ("NotRun", "Rodas5P")
    assert "backend" in lacking["reason"]
    assert np.isnan([lacking["accuracy"], lacking["flips"]]).all()
    assert [row["retcode"] for row in others] == ["Success", "Success"]
    alone = each.with_swap(SwapConfig(("RK4", "Heun"), (1.0,))).swap()
    assert alone.verdict == report.verdict
    assert (alone.table["reason"] == "").all()


def test_the_seconds_of_a_solve_are_not_those_of_its_compilation(run: Run) -> None:
    """The first solve of a new batch size compiles for longer than any solve takes here."""
    data = pn.concentric_spheres(n_train=64, n_test=23 * 4, seed=0)
    solver = pn.Solver("RK4", dt=1 / 4)
    found = pn.get_backend("jax").evaluate(run.model, run.trained.weights, data.x_test, solver)
    assert found.stats.compiled
    assert 0 < found.stats.compile_seconds < found.stats.seconds
    assert found.stats.seconds - found.stats.compile_seconds < found.stats.compile_seconds


def test_who_trains_first_decides(tmp_path: Path) -> None:
    """Two make a run in one folder, of two configurations, before either trains."""
    folder, longer = tmp_path / "run", CONFIG.changed({"seed": 4})
    first = Run.create(CONFIG, folder)
    second = Run.create(longer, folder)
    first.train()
    assert Run.open(folder).config == CONFIG
    assert Run.open(folder).trained.finished
    with pytest.raises(RunFolderError, match="seed is 3 there, 4 here"):
        second.train()


# Configuration files


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_configurations_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = "# Größe\n" + CONFIG.to_toml().replace("\n", "\r\n")
    (tmp_path / "config.toml").write_bytes(text.encode(encoding))
    if encoding in ("utf-16-le", "latin-1"):  # without a mark there is no telling
        with pytest.raises(ConfigError, match="readable TOML"):
            Config.from_toml(tmp_path / "config.toml")
    else:
        assert Config.from_toml(tmp_path / "config.toml") == CONFIG


def test_a_path_of_data_is_from_the_file_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    x = np.random.default_rng(0).normal(size=(60, 2))
    np.savez(home / "own.npz", x=x, y=(x[:, 0] > 0).astype(int))
    text = CONFIG.changed({"data": {"name": "arrays", "path": "own.npz"}}).to_toml()
    (home / "config.toml").write_text(text)
    monkeypatch.chdir(elsewhere)
    config = Config.from_toml("../project/config.toml")
    made = Run.create(config, "run")
    expected = config.dataset().fingerprint
    monkeypatch.chdir(tmp_path)
    assert Run.open(elsewhere / "run").dataset.fingerprint == expected
    # In a configuration made in Python it is from the working folder, when the run is made.
    monkeypatch.chdir(home)
    own = replace(config, data=DataConfig("arrays", {"path": Path("own.npz")}))
    assert Run.create(own, elsewhere / "own").dataset.fingerprint == expected
    # And ~ is the home folder.
    monkeypatch.setenv("HOME", str(home))
    assert own.changed({"data.path": "~/own.npz"}).dataset().fingerprint == expected
    assert Run.create(CONFIG, "~/run").folder == home / "run"
    assert not (home / "~").exists()
    assert made.config.data.options["path"] == str(home / "own.npz")


def test_data_may_move_and_not_change(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    np.savez(tmp_path / "own.npz", x=x, y=(x[:, 0] > 0).astype(int))
    config = CONFIG.changed({"data": {"name": "arrays", "path": str(tmp_path / "own.npz")}})
    Run.create(config, tmp_path / "run").train()
    (tmp_path / "own.npz").rename(tmp_path / "moved.npz")
    moved = config.changed({"data.path": str(tmp_path / "moved.npz")})
    assert Run.create(moved, tmp_path / "run").trained.finished
    assert Run.open(tmp_path / "run").config == moved


# Matrices


def test_rows_name_the_settings_that_tell_runs_apart_and_no_others() -> None:
    """Of a controller its options say nothing beside runs that have none."""
    runs: list[Any] = [
        SimpleNamespace(
            config=CONFIG.changed(change),
            trained=SimpleNamespace(solver=pn.Solver("Euler", dt=1 / 4)),
        )
        for change in (
            {},
            {"train.iterations": 7},
            {"adapt": {"controller": "steady", "every": 20}},
            {"adapt": {"controller": "steady", "every": 25}},
        )
    ]
    none, steady = ({f"adapt.controller={name}"} for name in ("none", "steady"))
    assert [{*label.split(", ")[1:]} for label in _labels(runs)] == [
        {"train.iterations=20"} | none,
        {"train.iterations=7"} | none,
        {"train.iterations=20", "adapt.every=20"} | steady,
        {"train.iterations=20", "adapt.every=25"} | steady,
    ]


def test_other_configurations_are_no_seeds(tmp_path: Path, run: Run) -> None:
    others = [
        Run.create(CONFIG.changed(change), tmp_path / f"{i}")
        for i, change in enumerate(
            [{"seed": 4}, {"train.learning_rate": 0.02}, {"data.n_train": 128}]
        )
    ]
    for each in others:
        each.train()
    table = runs_matrix([run, *others], ["RK4"], factors=[1.0]).trained
    label = "Euler h=1/4, train.learning_rate=0.01, data.n_train=64"
    seeds = dict(zip(table["train_solver"], table["seeds"], strict=True))
    assert sorted(seeds.values()) == [1, 1, 2]
    assert {name for name in seeds if seeds[name] == 2} <= {
        label,
        "Euler h=1/4, data.n_train=64, train.learning_rate=0.01",
    }
    models = [(each.trained, each.dataset) for each in (run, *others)]
    plain = pn.diagnostics.swap_matrix(models, ["RK4"], factors=[1.0], backend="jax").trained
    assert plain["train_solver"].tolist() == ["Euler h=1/4", "Euler h=1/4 (2)", "Euler h=1/4 (3)"]
    assert plain["seeds"].tolist() == [2, 1, 1]
    # The same run twice is no second seed, by whatever path, and no copy of it is.
    copy = copied(run, tmp_path / "copy")
    skipped: dict[str, str] = {}
    found = find_runs(
        [run.folder, run.folder.parent, copy.folder, others[0].folder],
        lambda folder, reason: skipped.update({folder.name: reason}),
    )
    assert [each.folder for each in found] == [run.folder, others[0].folder]
    assert "the same configuration and seed" in skipped["copy"]


def test_one_bad_folder_does_not_stop_a_search(tmp_path: Path, run: Run) -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    np.savez(tmp_path / "own.npz", x=x, y=(x[:, 0] > 0).astype(int))
    config = CONFIG.changed({"data": {"name": "arrays", "path": str(tmp_path / "own.npz")}})
    Run.create(config, tmp_path / "changed").train()
    np.savez(tmp_path / "own.npz", x=x + 1, y=(x[:, 0] > 0).astype(int))
    skipped: dict[str, str] = {}
    found = find_runs(
        [tmp_path, run.folder, tmp_path / "none"],
        lambda folder, reason: skipped.update({folder.name: reason}),
    )
    assert [each.folder for each in found] == [run.folder]
    assert "fingerprint" in skipped["changed"]
    assert skipped["none"] == "no run in it"


# Disks


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
def test_a_disk_that_fails_is_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fresh = Run.create(CONFIG, tmp_path / "run")
    real = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if "w" in mode:
            raise OSError(code, os.strerror(code), str(self))
        return real(self, mode, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr("pynode_jl.runs._run.train", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(OutputError, match=os.strerror(code)):
        fresh.train()


_LIMITED = """
import os, sys, resource
from pynode_jl.errors import PyNODEError
from pynode_jl.runs import Config, Run
folder = sys.argv[1]
config = Config.from_dict(%r)
run = Run.create(config, folder + "/limited")
limit = resource.getrlimit(resource.RLIMIT_FSIZE)

def limited():
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limit[1]))
    run.train()

def first_as_nobody():
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    os.setuid(65534)
    assert Run.create(config, folder + "/read").trained.finished
    Run.open(folder + "/closed")

for use in (
    limited,
    first_as_nobody,
    lambda: Run.create(config, folder + "/closed"),
    lambda: Run.create(config, folder + "/read/new"),
    lambda: Run.create(config.changed({"swap.margin": 0.1}), folder + "/read"),
    lambda: Run.open(folder + "/read").train(),
    lambda: Run.open(folder + "/read").swap(),
):
    try:
        use()
    except PyNODEError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs Linux and root")
def test_rights_and_limits_are_errors_of_ours(tmp_path: Path, run: Run) -> None:
    for name, mode in (("closed", 0o700), ("read", 0o755)):
        copied(run, tmp_path / name)
        (tmp_path / name).chmod(mode)
    for parent in (tmp_path, *list(tmp_path.parents)[:3]):
        if str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    found = subprocess.run(
        [sys.executable, "-c", _LIMITED % SETTINGS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    said = [line.split()[0] for line in found.stdout.splitlines()]
    assert said == ["OutputError", *["RunFolderError"] * 2, *["OutputError"] * 4]


def test_a_folder_that_vanishes_while_a_swap_runs(tmp_path: Path, run: Run) -> None:
    doomed = copied(run, tmp_path / "run")

    def remove(*_: Any) -> None:
        doomed.folder.rename(tmp_path / "gone")
        doomed.folder.write_text("a file now")

    with pytest.raises(OutputError, match=r"run"):
        doomed.swap(lambda number, *_: remove() if number == 1 else None)


@pytest.mark.parametrize("name", ["", "a\0b", 3, None, "x" * 300])
def test_folders_that_cannot_be(name: Any) -> None:
    for use in (Run.open, lambda name: Run.create(CONFIG, name)):
        with pytest.raises(PyNODEError):
            use(name)


def _create(folder: str, seed: int, queue: Any) -> None:
    try:
        queue.put(Run.create(CONFIG.changed({"seed": seed}), folder).config.seed)
    except PyNODEError as error:
        queue.put(str(error))


def test_two_creators_at_once_make_one_run(tmp_path: Path) -> None:
    """Each waits for the other; who comes second finds an untrained folder, or the same run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pynode_jl.runs"])
    queue = context.Queue()
    makers = [
        context.Process(target=_create, args=(str(tmp_path / "run"), 3, queue)) for _ in range(4)
    ]
    for each in makers:
        each.start()
    assert [queue.get(timeout=60) for _ in makers] == [3] * 4
    for each in makers:
        each.join()
    assert Run.open(tmp_path / "run").config == CONFIG
