"""Sweeps that train: their runs are ordinary runs, and what fails or is damaged is made good."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fakes import BASE, sweep
from typer.testing import CliRunner

from pynode_jl.cli._app import app
from pynode_jl.errors import MissingDependencyError, SweepError
from pynode_jl.paper import ReproductionContext
from pynode_jl.runs import Run, find_runs
from pynode_jl.sweeps import (
    DaskExecutor,
    Progress,
    Sweep,
    SweepStore,
    _dask,
    export,
    plan,
    run_sweep,
    write_report,
)
from pynode_jl.training import train

ITERATIONS: list[object] = [20, 10]
#: Columns in which two executions of a run agree.
EQUAL = ["key", "state", "verdict", "score", "ode", "change", "drop", "loss", "nf", "iterations"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SweepStore:
    folder = tmp_path_factory.mktemp("sweeps") / "s"
    return run_sweep(sweep(2, **{"train.iterations": ITERATIONS}), folder)


@pytest.fixture
def store(made: SweepStore, tmp_path: Path) -> SweepStore:
    """A copy, which a test may damage."""
    return SweepStore.open(shutil.copytree(made.folder, tmp_path / "s"))


def resumed(store: SweepStore) -> list[str]:
    seen = list[str]()
    run_sweep(store.sweep, store.folder, on_progress=lambda p: seen.append(p.text))
    return [text for text in seen if text]


def test_a_longer_run_that_went_on_is_that_from_the_start(made: SweepStore) -> None:
    run = next(r for r in made.runs if r.settings == {"seed": 1, "train.iterations": 20})
    opened = Run.open(made.run_folder(run))
    alone = train(opened.model, opened.dataset, opened.config.recipe(), backend="jax")
    assert np.array_equal(opened.trained.history.loss, alone.history.loss)
    for name, value in alone.weights.items():
        assert np.array_equal(opened.trained.weights[name], value), name
    assert len(find_runs([made.folder])) == 4
    table = made.matrix().table  # tested as [swap] says
    assert set(table["test"]) == {"RK4"}
    assert table["seeds"].sum() == 4


def test_a_reproduction_takes_the_runs_of_the_sweep_in_its_folder(made: SweepStore) -> None:
    run = made.runs[0]
    context = ReproductionContext(made.folder, show_progress=pytest.fail)
    assert context.train_run("another-name", run.config).folder == made.run_folder(run)
    assert not (made.folder / "runs" / "another-name").exists()


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "config.toml", "result"])
def test_a_damaged_file_of_a_run_is_named_and_the_run_made_again(
    made: SweepStore, store: SweepStore, name: str
) -> None:
    run = store.runs[0]
    path = store.result_path(run) if name == "result" else store.run_folder(run) / name
    path.write_bytes(path.read_bytes()[:-30])
    if name == "config.toml":  # of a whole run it is not asked
        store.result_path(run).unlink()
    assert any(path.name in text for text in resumed(store))
    pairs = [s.table()[EQUAL].sort_values("key", ignore_index=True) for s in (made, store)]
    pd.testing.assert_frame_equal(*pairs)


def test_a_run_that_diverges_stops_no_other_and_is_not_tried_again(tmp_path: Path) -> None:
    rates = Sweep(BASE, grid={"train.learning_rate": [1e30, 1e-3]})
    store = run_sweep(rates, tmp_path / "s")
    assert store.counts() == {"done": 1, "failed": 1, "missing": 0}
    failure = store.failure(store.runs[0])
    assert failure is not None
    assert (failure.kind, failure.final) == ("diverged", True)
    assert "Traceback" in failure.traceback
    before = store.failure_path(store.runs[0]).read_text()
    resumed(store)
    assert store.failure_path(store.runs[0]).read_text() == before
    page = write_report(store).read_text()
    assert "What failed" in page
    assert "1e+30" in page


def test_a_run_beyond_its_limit_of_time_ends_and_goes_on_with_a_longer_one(
    made: SweepStore, tmp_path: Path
) -> None:
    store = run_sweep(sweep(1), tmp_path / "s", seconds=1e-9)
    failure = store.failure(store.runs[0])
    assert failure is not None
    assert failure.kind == "time"
    assert run_sweep(sweep(1), tmp_path / "s").counts()["done"] == 1


def test_a_full_disk_is_said_and_the_sweep_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from pynode_jl.errors import OutputError

    def full(*_: object) -> None:
        raise OutputError("path", "x", "a file", "full") from OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr("pynode_jl.runs._run.save_checkpoint", full)
        with pytest.raises(OutputError, match=r"the disk is full.*0 of 1 runs"):
            run_sweep(sweep(1), tmp_path / "s")
    assert run_sweep(sweep(1), tmp_path / "s").counts() == {"done": 1, "failed": 0, "missing": 0}


def test_the_command_lists_exports_and_reports(
    store: SweepStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def said(*words: str, code: int = 0) -> str:
        found = CliRunner().invoke(app, ["sweep", *words])
        assert found.exit_code == code, found.output
        return found.stdout

    folder = str(store.folder)
    listed = json.loads(said("status", folder, "--where", "seed=1", "--json"))
    assert listed["counts"] == {"done": 4, "failed": 0, "missing": 0}
    assert {row["seed"] for row in listed["runs"]} == {1}
    said("resume", folder)
    said("export", folder, "--out", str(tmp_path / "swaps.csv"), "--what", "swaps")
    assert len(pd.read_csv(tmp_path / "swaps.csv")) == 4
    assert "4 runs" in said("report", folder, "--matrix") or (store.folder / "matrix.html").exists()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"pynode-jl\[parquet\]"):
        export(store, tmp_path / "t.parquet")
    with pytest.raises(SweepError, match="ends in"):
        export(store, tmp_path / "t.xls")


def test_a_plan_measures_each_kind_and_knows_what_is_done(made: SweepStore) -> None:
    found = plan(made.sweep, made)
    assert (found.runs, found.missing, found.seconds(2)) == (4, 0, 0.0)
    wider = Sweep(BASE, grid={"train.solver": ["Euler:dt=1/2", "Euler:dt=1/8"], "seed": [0, 1, 9]})
    table = plan(wider, made, seconds=60).table
    assert table["missing"].tolist() == [1, 3]
    assert set(table["how"]) == {"measured"}
    assert table["evaluations"].tolist() == [2, 8]
    assert (table["seconds"] > 0).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # distributed's own: ports, sockets that its loop closes
def test_processes_and_dask_give_the_table_of_this_process(
    made: SweepStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights too, bit for bit: their checksums are those of the checkpoints' arrays."""
    distributed = pytest.importorskip("distributed")
    tables = [made]
    seen = list[Progress]()
    tables.append(run_sweep(made.sweep, tmp_path / "p", workers=2, on_progress=seen.append))
    assert max(progress.running for progress in seen) == 2
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=":0",
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        DaskExecutor(cluster.scheduler_address) as executor,
    ):
        assert executor.slots == 2
        tables.append(run_sweep(made.sweep, tmp_path / "d", executor=executor))
    first, *others = (s.table()[EQUAL].sort_values("key", ignore_index=True) for s in tables)
    for other in others:
        pd.testing.assert_frame_equal(first, other)
    for run in made.runs:
        weights = [Run.open(s.run_folder(run)).trained.weights for s in tables]
        for name, value in weights[0].items():
            assert all(np.array_equal(value, each[name]) for each in weights[1:]), name


def test_a_worker_of_another_version_that_joins_later_leaves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = list[str]()
    worker = SimpleNamespace(close="close", loop=SimpleNamespace())
    worker.loop.add_callback = lambda what, reason: left.append(f"{what}: {reason}")
    _dask._begin("0.0.0", worker)
    assert "0.0.0 where the sweep is" in left[0]
    assert "this worker leaves" in capsys.readouterr().err


@pytest.mark.slow
def test_a_worker_beyond_its_memory_is_ended_and_said(tmp_path: Path) -> None:
    store = run_sweep(sweep(2), tmp_path / "s", memory=1)
    assert store.table()["failure"].tolist() == ["memory", "memory"]
    assert "bytes of 1" in store.table()["error"][0]


@pytest.mark.long
def test_struck_sweeps_end_as_others_do(tmp_path: Path) -> None:
    from kills import struck

    lines = struck(tmp_path, runs=40, kills=8, seed=1)
    assert not [line for line in lines if "NOT" in line or "LEFT" in line], lines
