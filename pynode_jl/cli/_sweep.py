"""``pynode-jl sweep``: many runs, planned, executed here or on a cluster, resumed, exported."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, TextColumn

from pynode_jl.cli._commands import ExitCode, add_command, new_app
from pynode_jl.cli._console import frame_table, note, show, stderr
from pynode_jl.cli._interrupts import keeps_checkpoints
from pynode_jl.cli._running import Settings, expanded, settings
from pynode_jl.errors import SweepError
from pynode_jl.reporting.formats import duration

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from pynode_jl.sweeps import Executor, Sweep, SweepStore
    from pynode_jl.sweeps import Progress as Standing

app = new_app("Run many trainings and their swaps, on one machine or a cluster; none is lost.")

_REPORT_EVERY = 15.0  # seconds
_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SHOWN = 40
# Columns of a plan that are shown where kinds differ in them, and shorter headings.
_ALIKE = ("adapted", "data", "field")
_HEADINGS = {"seconds_an_iteration": "s/iteration", "swap_seconds": "s/swap", "seconds": "s"}
_COLUMNS = ("state", "verdict", "score", "ode", "change", "train_seconds", "error")

_File = Annotated[
    Path, typer.Argument(callback=expanded, help="The sweep's TOML file.", show_default=False)
]
_Folder = Annotated[
    Path, typer.Argument(callback=expanded, help="The sweep's folder.", show_default=False)
]
_Out = Annotated[
    Path, typer.Option(callback=expanded, help="The sweep's folder: new, or one to go on in.")
]
_Workers = Annotated[int, typer.Option(min=1, help="Processes of this machine.")]
_Dask = Annotated[
    str | None,
    typer.Option(help="A Dask scheduler's address, tcp://host:8786, in place of --workers."),
]
_TimeLimit = Annotated[
    float | None, typer.Option(help="Seconds that one run may take.", show_default=False)
]
_Memory = Annotated[
    str | None, typer.Option(help="What one run may have: 4G, say.", show_default=False)
]
_Attempts = Annotated[int, typer.Option(min=1, help="Tries of a run whose worker is lost.")]
_Retry = Annotated[
    bool, typer.Option("--retry", help="Try runs again that have failed, whatever the reason.")
]
_Where = Annotated[
    list[str] | None,
    typer.Option(help='Only rows with this: "seed<3", "state=failed". Repeatable.'),
]


def plan(
    file: _File,
    out: Annotated[
        Path | None,
        typer.Option(callback=expanded, help="Where it will run: what is done there is free."),
    ] = None,
    workers: _Workers = 1,
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure.")] = 60.0,
    setting: Settings = None,
) -> None:
    """List the kinds of runs and what they cost, from a few measured iterations of each."""
    from pynode_jl.sweeps import SweepStore
    from pynode_jl.sweeps import plan as make_plan

    sweep = _loaded(file, setting)
    store = None if out is None or not out.exists() else SweepStore(sweep, out)
    found = make_plan(
        sweep, store, seconds=seconds, on_measure=lambda text: note(f"measuring {text}")
    )
    alike = [name for name in _ALIKE if found.table[name].nunique() == 1]
    shown = found.table.drop(columns=alike).rename(columns=_HEADINGS)
    total = found.seconds(workers)
    text = "not known: raise --seconds" if math.isnan(total) else f"about {duration(total)}"
    show(
        lambda: {
            "runs": found.runs,
            "missing": found.missing,
            "workers": workers,
            "seconds": total,
            "compile_seconds": found.compile_seconds,
            "kinds": found.table,
        },
        _filled(f"{found.runs} runs, {found.missing} to do", shown),
        f"with {workers} worker{'s' * (workers > 1)}: {text}, compilation"
        f" ({duration(found.compile_seconds)}) included",
    )


def run(
    file: _File,
    out: _Out,
    workers: _Workers = 1,
    dask: _Dask = None,
    time_limit: _TimeLimit = None,
    memory: _Memory = None,
    attempts: _Attempts = 3,
    retry: _Retry = False,
    setting: Settings = None,
) -> None:
    """Run what is missing of a sweep; run again, it goes on."""
    how = _How(workers, dask, time_limit, _bytes(memory), attempts, retry)
    _run(_loaded(file, setting), out, how)


def resume(
    folder: _Folder,
    workers: _Workers = 1,
    dask: _Dask = None,
    time_limit: _TimeLimit = None,
    memory: _Memory = None,
    attempts: _Attempts = 3,
    retry: _Retry = False,
) -> None:
    """Run what is missing of the sweep in a folder, without its file."""
    from pynode_jl.sweeps import SweepStore

    how = _How(workers, dask, time_limit, _bytes(memory), attempts, retry)
    _run(SweepStore.open(folder).sweep, folder, how)


def status(folder: _Folder, where: _Where = None) -> None:
    """List the runs of a sweep: settings, state, figures; failed and missing ones by name."""
    from pynode_jl.sweeps import SweepStore

    store = SweepStore.open(folder)
    counts, first = store.counts(), store.table(where or (), limit=_SHOWN + 1)
    keys = [key for key in store.sweep.keys if key in first]
    shown = first[[*keys, *_COLUMNS]].dropna(axis="columns", how="all")
    more = [f"The first {_SHOWN}. All: --json, or `pynode-jl sweep export`."]
    show(
        lambda: {"counts": counts, "runs": store.table(where or ())},
        _filled(_counted(counts), shown.head(_SHOWN)),
        *(more if len(first) > _SHOWN else []),
    )


def export(
    folder: _Folder,
    out: Annotated[Path, typer.Option(callback=expanded, help="A file: .csv, .json or .parquet.")],
    what: Annotated[
        str, typer.Option(help="runs: a row a run. swaps: a row a run and test solver.")
    ] = "runs",
    where: _Where = None,
) -> None:
    """Write a sweep's results to a file."""
    from pynode_jl.sweeps import SweepStore
    from pynode_jl.sweeps import export as write

    path = write(SweepStore.open(folder), out, what=what, where=where or ())
    show(lambda: {"file": str(path)}, str(path))


def report(
    folder: _Folder,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="The swap matrix of the finished runs, too.")
    ] = False,
) -> None:
    """Write a sweep's page, and with --matrix the page of its swap matrix."""
    from pynode_jl.cli._progress import swap_bar
    from pynode_jl.reporting.pages import write_matrix_report
    from pynode_jl.sweeps import SweepStore, write_report

    store = SweepStore.open(folder)
    pages = [write_report(store)]
    if matrix:
        runs, left_out = store.finished(), dict[Path, str]()
        with swap_bar(stderr, f"{len(runs)} runs") as on_solve:
            found = store.matrix(on_solve=on_solve, on_skip=left_out.__setitem__)
        for row in store.table(["state!=done"]).to_dict("records"):
            left_out[Path(row["key"])] = f"{row['state']}: {row['error'] or 'no result yet'}"
        for path, reason in left_out.items():
            note(f"left out: {path}: {reason}")
        pages.append(write_matrix_report(runs, found, folder, skipped=left_out))
    show(lambda: {"pages": [str(page) for page in pages]}, *map(str, pages))


@dataclasses.dataclass(frozen=True)
class _How:
    """How a sweep is run, as its options say."""

    workers: int
    dask: str | None
    seconds: float | None
    memory: int | None
    attempts: int
    retry: bool


def _loaded(file: Path, setting: list[str] | None) -> Sweep:
    from pynode_jl.sweeps import Sweep

    sweep = Sweep.load(file)
    return dataclasses.replace(sweep, base=sweep.base.changed(settings(setting or [])))


def _run(sweep: Sweep, out: Path, how: _How) -> None:
    from pynode_jl.sweeps import SweepStore, run_sweep, write_report

    begun = time.monotonic()
    store = SweepStore.create(sweep, out)
    keeps_checkpoints()
    with _executor(how) as executor, _bar(store) as on_progress:
        run_sweep(
            sweep,
            out,
            workers=how.workers,
            executor=executor,
            seconds=how.seconds,
            memory=how.memory,
            attempts=how.attempts,
            retry=how.retry,
            on_progress=on_progress,
        )
    counts, failed = store.counts(), store.table(["state=failed"])
    for row in failed.head(_SHOWN).to_dict("records"):
        said = ", ".join(f"{key}={row[key]}" for key in store.sweep.keys if key in row)
        note(f"failed: {said}: {row['error']}")
    page = write_report(store)
    show(
        lambda: {"counts": counts, "failed": failed, "page": str(page)},
        _counted(counts),
        str(page),
    )
    note(duration(time.monotonic() - begun))
    if counts["failed"]:
        raise typer.Exit(int(ExitCode.FAILED))


@contextmanager
def _executor(how: _How) -> Iterator[Executor | None]:
    if how.dask is None:
        yield None
        return
    from pynode_jl.sweeps import DaskExecutor

    with DaskExecutor(how.dask, memory=how.memory) as executor:
        note(f"Dask at {how.dask}: {executor.slots} threads")
        yield executor


@contextmanager
def _bar(store: SweepStore) -> Iterator[Callable[[Standing], None]]:
    """Show a bar of the sweep's runs, and write its page from time to time."""
    from pynode_jl.cli._progress import LateProgress
    from pynode_jl.sweeps import write_report

    written = time.monotonic()
    columns = (
        TextColumn("{task.completed:.0f}/{task.total:.0f} runs"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[seen]}", markup=False),
    )
    with LateProgress(*columns, console=stderr) as bar:
        task = bar.add_task("sweep", total=len(store.runs), seen="")

        def on_progress(standing: Standing) -> None:
            nonlocal written
            rate = f"{60 * standing.rate:.3g} a minute"
            rest = f"{rate}, {duration(standing.remaining)} left" if standing.rate else "starting"
            seen = f"{standing.running} running, {standing.failed} failed, {rest}"
            bar.update(task, completed=standing.done + standing.failed, seen=seen)
            if standing.text:
                note(standing.text)
            if time.monotonic() - written > _REPORT_EVERY:
                write_report(store, standing)
                written = time.monotonic()

        yield on_progress


def _bytes(text: str | None) -> int | None:
    """Return a number of bytes: "4G", "500M" or "2000000000"."""
    if text is None:
        return None
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    unit = _UNITS.get(number[-1:], 1)
    try:
        return int(float(number.rstrip("kmgt")) * unit)
    except ValueError as error:
        raise SweepError("--memory", text, "bytes, as 4G or 500M", "Correct it.") from error


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in counts.items())


def _filled(title: str, frame: pd.DataFrame) -> Table:
    """Return a table of a frame; what is missing is left empty."""
    return frame_table(title, frame.astype(object).where(frame.notna(), ""))


def schema() -> None:
    """Print the JSON schema of a sweep's file, for editors that check TOML."""
    from pynode_jl.sweeps import sweep_schema

    found = sweep_schema()
    show(lambda: found, json.dumps(found, indent=1))


add_command(
    app,
    plan,
    "pynode-jl sweep plan examples/sweeps/figure4.toml --workers 8",
    "pynode-jl sweep plan sweep.toml --out sweeps/mine --json",
)
add_command(
    app,
    run,
    "pynode-jl sweep run sweep.toml --out sweeps/mine --workers 4",
    "pynode-jl sweep run sweep.toml --out /shared/mine --dask tcp://host:8786 --time-limit 3600",
)
add_command(app, resume, "pynode-jl sweep resume sweeps/mine --workers 4")
add_command(
    app,
    status,
    "pynode-jl sweep status sweeps/mine --where state=failed",
    'pynode-jl sweep status sweeps/mine --where "train.solver=Euler:dt=1/4" --where "seed<3"',
)
add_command(
    app,
    export,
    "pynode-jl sweep export sweeps/mine --out runs.parquet",
    "pynode-jl sweep export sweeps/mine --out swaps.csv --what swaps",
)
add_command(app, report, "pynode-jl sweep report sweeps/mine --matrix")
add_command(app, schema, "pynode-jl sweep schema > sweep.schema.json")
