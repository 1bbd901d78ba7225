"""``pynode-jl sweep``: many runs, planned, executed here or on a cluster, resumed, exported."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from pynode_jl.cli._console import console, stderr
from pynode_jl.cli._running import expanded, settings
from pynode_jl.errors import SweepError

if TYPE_CHECKING:
    import pandas as pd

    from pynode_jl.sweeps import Executor, Sweep, SweepStore
    from pynode_jl.sweeps import Progress as Standing

app = typer.Typer(
    help="Many runs: hundreds of trainings and their swaps, on one machine or a cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

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
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", help='Change the base: "train.iterations=100". Repeatable.'),
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
_Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command()
def plan(
    file: _File,
    out: Annotated[
        Path | None,
        typer.Option(callback=expanded, help="Where it will run: what is done there is free."),
    ] = None,
    workers: _Workers = 1,
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure.")] = 60.0,
    setting: _Set = None,
    as_json: _Json = False,
) -> None:
    """List the kinds of runs and what they cost, from a few measured iterations of each."""
    from pynode_jl.sweeps import SweepStore
    from pynode_jl.sweeps import plan as make_plan

    sweep = _loaded(file, setting)
    store = None if out is None or not out.exists() else SweepStore(sweep, out)
    found = make_plan(
        sweep, store, seconds=seconds, on_measure=lambda text: stderr.print(f"measuring {text}")
    )
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "runs": found.runs,
                    "missing": found.missing,
                    "workers": workers,
                    "seconds": _finite(found.seconds(workers)),
                    "compile_seconds": found.compile_seconds,
                    "kinds": _records(found.table),
                },
                indent=1,
            )
        )
        return
    shown = found.table.drop(
        columns=[name for name in _ALIKE if found.table[name].nunique() == 1]
    ).rename(columns=_HEADINGS)
    console.print(_frame(shown, f"{found.runs} runs, {found.missing} to do"))
    total = found.seconds(workers)
    text = "not known: raise --seconds" if math.isnan(total) else f"about {_duration(total)}"
    console.print(
        f"with {workers} worker{'s' * (workers > 1)}: {text}, compilation"
        f" ({_duration(found.compile_seconds)}) included",
        highlight=False,
    )


@app.command()
def run(
    file: _File,
    out: _Out,
    workers: _Workers = 1,
    dask: _Dask = None,
    time_limit: _TimeLimit = None,
    memory: _Memory = None,
    attempts: _Attempts = 3,
    retry: _Retry = False,
    setting: _Set = None,
) -> None:
    """Run what is missing of a sweep; run again, it goes on."""
    _run(_loaded(file, setting), out, workers, dask, time_limit, memory, attempts, retry)


@app.command()
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

    sweep = SweepStore.open(folder).sweep
    _run(sweep, folder, workers, dask, time_limit, memory, attempts, retry)


@app.command()
def status(folder: _Folder, where: _Where = None, as_json: _Json = False) -> None:
    """List the runs of a sweep: settings, state, figures; failed and missing ones by name."""
    from pynode_jl.sweeps import SweepStore

    store = SweepStore.open(folder)
    table, counts = store.table(where or ()), store.counts()
    if as_json:
        typer.echo(json.dumps({"counts": counts, "runs": _records(table)}, indent=1))
        return
    keys = [key for key in store.sweep.keys if key in table]
    shown = table[[*keys, *_COLUMNS]]
    console.print(_frame(shown.head(_SHOWN), _counted(counts)))
    if len(shown) > _SHOWN:
        console.print(f"and {len(shown) - _SHOWN} more: --where, or `pynode-jl sweep export`")


@app.command()
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
    console.print(str(path), soft_wrap=True, highlight=False)


@app.command()
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
    page = write_report(store)
    if matrix:
        runs = store.finished()
        with swap_bar(stderr, f"{len(runs)} runs") as show:
            found = store.matrix(on_solve=show, on_skip=_skipped)
        console.print(str(write_matrix_report(runs, found, folder)), soft_wrap=True)
    console.print(str(page), soft_wrap=True, highlight=False)


def _skipped(folder: Path, reason: str) -> None:
    stderr.print(f"skipped {folder}: {reason}", soft_wrap=True)


def _loaded(file: Path, setting: list[str] | None) -> Sweep:
    import dataclasses

    from pynode_jl.sweeps import Sweep

    sweep = Sweep.load(file)
    return dataclasses.replace(sweep, base=sweep.base.changed(settings(setting or [])))


def _run(
    sweep: Sweep,
    out: Path,
    workers: int,
    dask: str | None,
    time_limit: float | None,
    memory: str | None,
    attempts: int,
    retry: bool,
) -> None:
    from pynode_jl.sweeps import SweepStore, run_sweep, write_report

    begun = time.monotonic()
    store = SweepStore.create(sweep, out)
    with _executor(dask, memory) as executor, _bar(store) as show:
        run_sweep(
            sweep,
            out,
            workers=workers,
            executor=executor,
            seconds=time_limit,
            memory=_bytes(memory),
            attempts=attempts,
            retry=retry,
            on_progress=show,
        )
    counts = store.counts()
    console.print(f"{_counted(counts)}, {_duration(time.monotonic() - begun)}", highlight=False)
    failed = store.table(["state=failed"])
    for row in failed.head(_SHOWN).to_dict("records"):
        said = ", ".join(f"{key}={row[key]}" for key in store.sweep.keys if key in row)
        stderr.print(f"failed: {said}: {row['error']}", soft_wrap=True)
    console.print(f"report: {write_report(store)}", soft_wrap=True, highlight=False)
    raise typer.Exit(1 if counts["failed"] else 0)


@contextmanager
def _executor(dask: str | None, memory: str | None) -> Iterator[Executor | None]:
    if dask is None:
        yield None
        return
    from pynode_jl.sweeps import DaskExecutor

    with DaskExecutor(dask, memory=_bytes(memory)) as executor:
        stderr.print(f"Dask at {dask}: {executor.slots} workers", soft_wrap=True)
        yield executor


@contextmanager
def _bar(store: SweepStore) -> Iterator[Callable[[Standing], None]]:
    """Show a bar of the sweep's runs, and write its page from time to time."""
    from pynode_jl.sweeps import write_report

    written = time.monotonic()
    columns = (
        TextColumn("{task.completed:.0f}/{task.total:.0f} runs"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[seen]}", markup=False),
    )
    with Progress(*columns, console=stderr) as bar:
        task = bar.add_task("sweep", total=len(store.runs), seen="")

        def show(standing: Standing) -> None:
            nonlocal written
            rate = f"{60 * standing.rate:.3g} a minute"
            rest = f"{rate}, {_duration(standing.remaining)} left" if standing.rate else "starting"
            seen = f"{standing.running} running, {standing.failed} failed, {rest}"
            bar.update(task, completed=standing.done + standing.failed, seen=seen)
            if standing.text:
                bar.console.print(standing.text, soft_wrap=True)
            if time.monotonic() - written > _REPORT_EVERY:
                write_report(store, standing)
                written = time.monotonic()

        yield show


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


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "?"
    return f"{seconds:.1f} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return found


def _frame(frame: pd.DataFrame, title: str) -> Table:
    table = Table(title=title)
    for column in frame:
        table.add_column(str(column), overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*map(_cell, row))
    return table


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
