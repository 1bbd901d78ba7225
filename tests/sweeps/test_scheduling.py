"""What comes next, and what a failure means: without numerics, on an executor that is told."""

from __future__ import annotations

import sqlite3
from concurrent.futures import BrokenExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes import BASE, FakeExecutor, fake_result, sweep

from pynode_jl.errors import ExecutorLostError, OutputError, SweepError
from pynode_jl.sweeps import Job, Outcome, Progress, Sweep, SweepStore, run_sweep


def test_an_enlarged_sweep_computes_what_is_missing(tmp_path: Path) -> None:
    first, second = FakeExecutor(), FakeExecutor()
    run_sweep(sweep(3), tmp_path / "s", executor=first)
    store = run_sweep(sweep(5), tmp_path / "s", executor=second)
    assert (len(first.jobs), len(second.jobs)) == (3, 2)
    assert store.counts() == {"done": 5, "failed": 0, "missing": 0}
    assert store.table()["score"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    third = FakeExecutor()
    spelt = Sweep(BASE.changed({"train.solver": "Euler:dt=0.5"}), grid={"seed": [4, 0]})
    run_sweep(spelt, tmp_path / "s", executor=third)
    assert not third.jobs


def test_a_lost_worker_is_made_good_so_often(tmp_path: Path) -> None:
    def script(job: Job) -> Outcome:
        if job.config["seed"] == 1 or (job.config["seed"] == 2 and job.attempt < 3):
            raise BrokenExecutor("killed")
        return fake_result(job)

    executor, seen = FakeExecutor(script), list[Progress]()
    store = run_sweep(
        sweep(), tmp_path / "s", executor=executor, attempts=3, on_progress=seen.append
    )
    tries = [job.config["seed"] for job in executor.jobs]
    assert [tries.count(seed) for seed in range(4)] == [1, 3, 3, 1]
    failed = store.table(["state=failed"]).iloc[0]
    assert (failed["seed"], failed["failure"], failed["attempts"]) == (1, "lost", 3)
    assert seen[-1].done == 3
    assert seen[-1].failed == 1
    # A lost worker is no reason of the run's own: the next call tries again.
    again = FakeExecutor()
    assert run_sweep(sweep(), tmp_path / "s", executor=again).counts()["done"] == 4
    assert len(again.jobs) == 1


def test_a_full_disk_stops_the_rest_and_keeps_what_is_done(tmp_path: Path) -> None:
    def script(job: Job) -> Outcome:
        if job.config["seed"] == 2:
            return Outcome(job.key, "stopped", "the disk is full.")
        return fake_result(job)

    executor = FakeExecutor(script, slots=1)
    with pytest.raises(OutputError, match=r"the disk is full\. 2 of 6 runs are done"):
        run_sweep(sweep(6), tmp_path / "s", executor=executor)
    assert len(executor.jobs) == 3
    assert SweepStore.open(tmp_path / "s").counts() == {"done": 2, "failed": 0, "missing": 4}


def test_with_its_executor_lost_a_sweep_ends_and_blames_no_run(tmp_path: Path) -> None:
    class Lost(FakeExecutor):
        def submit(self, job: Job) -> Any:
            if len(self.jobs) == 2:
                raise ExecutorLostError("the scheduler has gone.")
            return super().submit(job)

    with pytest.raises(ExecutorLostError, match="2 of 4 runs are done"):
        run_sweep(sweep(), tmp_path / "s", executor=Lost(slots=1))
    assert SweepStore.open(tmp_path / "s").counts()["failed"] == 0


def test_a_run_that_another_process_has_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pynode_jl.sweeps._schedule._BUSY_AGAIN", 0.0)
    busy = [True]

    def script(job: Job) -> Outcome:
        if job.config["seed"] == 0 and busy:
            busy.clear()
            return Outcome(job.key, "busy")
        return fake_result(job)

    executor = FakeExecutor(script)
    assert run_sweep(sweep(2), tmp_path / "s", executor=executor).counts()["done"] == 2
    assert len(executor.jobs) == 3


def test_the_shorter_of_two_trainings_comes_first(tmp_path: Path) -> None:
    executor = FakeExecutor(slots=4)
    longer_first: list[object] = [40, 20]
    run_sweep(sweep(2, **{"train.iterations": longer_first}), tmp_path / "s", executor=executor)
    assert [job.config["train"]["iterations"] for job in executor.jobs] == [20, 20, 40, 40]
    assert executor.jobs[2].shorter == (executor.jobs[0].folder,)


@pytest.mark.parametrize("damage", ["cut", "foreign", "old", "gone"])
def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "s"
    before = run_sweep(sweep(), folder, executor=FakeExecutor()).table()
    index = folder / "index.sqlite"
    if damage == "cut":
        index.write_bytes(index.read_bytes()[:5000])
    elif damage == "foreign":
        index.write_bytes(b"no database at all" * 1000)
    elif damage == "old":
        with closing(sqlite3.connect(index)) as connection:
            connection.execute("PRAGMA user_version=99")
    else:
        index.unlink()
    after = SweepStore.open(folder).table()
    columns = ["key", "state", "seed", "score", "verdict"]
    pairs = (frame[columns].sort_values("key").values.tolist() for frame in (before, after))
    assert next(pairs) == next(pairs)


def test_results_that_the_index_has_not_heard_of_are_found(tmp_path: Path) -> None:
    """A process killed between the two writes leaves them so."""
    folder = tmp_path / "s"
    store = run_sweep(sweep(), folder, executor=FakeExecutor())
    with closing(sqlite3.connect(folder / "index.sqlite")) as connection:
        connection.execute("DELETE FROM results WHERE score > 0.15")
        connection.commit()
    assert store.counts()["done"] == 4


def test_a_damaged_result_is_named_and_made_again(tmp_path: Path) -> None:
    folder, seen = tmp_path / "s", list[str]()
    store = run_sweep(sweep(), folder, executor=FakeExecutor())
    path = store.result_path(store.runs[1])
    path.write_bytes(path.read_bytes()[:-20])
    again = FakeExecutor()
    run_sweep(sweep(), folder, executor=again, on_progress=lambda p: seen.append(p.text))
    assert [job.key for job in again.jobs] == [store.runs[1].key]
    assert any(path.name in text for text in seen)


def test_conditions_select_rows(tmp_path: Path) -> None:
    solvers: list[object] = ["Euler:dt=1/2", "RK4:dt=1/2"]
    store = run_sweep(
        sweep(3, **{"train.solver": solvers}), tmp_path / "s", executor=FakeExecutor()
    )
    assert len(store.table(["seed<2"])) == 4
    assert len(store.table(["seed>=1", "train.solver=RK4:dt=0.5"])) == 2
    assert len(store.table(["score=0.2", "state!=failed"])) == 2
    assert len(store.table(["train.iterations=20"])) == 6  # one for all, and not the default
    assert len(store.table(["model.t1=1"])) == 6  # the default
    assert list(store.table(keys=["train.chunk"]))[:3] == ["key", "state", "train.chunk"]
    assert len(store.swaps(["seed=1"])) == 2
    for bad, said in (("sed<2", "Did you mean seed"), ("seed", "a key, one of")):
        with pytest.raises(SweepError, match=said):
            store.table([bad])


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SweepError, match=r"It has mine\.txt"):
        SweepStore.create(sweep(), tmp_path)
    with pytest.raises(SweepError, match="a sweep's folder"):
        SweepStore.open(tmp_path)


def test_settings_that_fit_no_data_are_refused_before_the_work(tmp_path: Path) -> None:
    executor = FakeExecutor()
    for grid in ({"data.dimm": [2]}, {"field.widht": [2]}, {"train.batch_size": [65]}):
        with pytest.raises(SweepError, match=r"n_test|width|batch"):
            run_sweep(Sweep(BASE, grid=grid), tmp_path / "s", executor=executor)
    assert not executor.jobs
