"""The commands of ``pynode-jl``."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from pynode_jl._io import write_text
from pynode_jl.cli._adapt import adapt, critical
from pynode_jl.cli._certify import certify
from pynode_jl.cli._console import console
from pynode_jl.cli._julia import app as julia_app
from pynode_jl.cli._matrix import matrix
from pynode_jl.cli._reproduce import app as reproduce_app
from pynode_jl.cli._running import expanded, settings, train_with_bar
from pynode_jl.cli._sweep import app as sweep_app

app = typer.Typer(
    help="Is a trained Neural ODE an ODE, or a ResNet tied to its solver?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(reproduce_app, name="reproduce")
app.add_typer(julia_app, name="julia")
app.add_typer(sweep_app, name="sweep")
app.command()(adapt)
app.command()(critical)
app.command()(matrix)
app.command()(certify)

_Folder = Annotated[
    Path, typer.Argument(callback=expanded, help="The run's folder.", show_default=False)
]


@app.command()
def quickstart(
    out: Annotated[
        Path, typer.Option(callback=expanded, help="Folder for the runs and the report.")
    ] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(help="Decides data, weights and batches.")] = 0,
) -> None:
    """Train Sphere 2D with a coarse and a fine Euler step, swap solvers, report. Takes minutes."""
    from pynode_jl.runs import Run, quickstart_configs

    begun = time.monotonic()
    runs = {
        name: Run.create(config, out / name) for name, config in quickstart_configs(seed).items()
    }
    for name, run in runs.items():
        train_with_bar(console, run, name)
    _report(runs, out, "Quickstart: one model, a coarse and a fine training solver")
    console.print(f"{time.monotonic() - begun:.0f} s in all")


@app.command()
def train(
    config: Annotated[
        Path, typer.Argument(callback=expanded, help="A TOML file.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(callback=expanded, help="The run's folder: new, or a run to resume.")
    ],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help='Change a key: "train.iterations=100". Repeatable.'),
    ] = None,
) -> None:
    """Train the run of a configuration; run again, it resumes from its checkpoint."""
    from pynode_jl.runs import Config, Run

    run = Run.create(Config.from_toml(config).changed(settings(setting or [])), out)
    train_with_bar(console, run, out.name)


@app.command()
def swap(
    folder: _Folder,
    solver: Annotated[
        list[str] | None,
        typer.Option(
            help="A test solver: a name, or with settings of its own, Tsit5:rtol=1e-6. Repeatable."
        ),
    ] = None,
    factor: Annotated[
        list[float] | None,
        typer.Option(help="A multiple of the training step or tolerance. Repeatable."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="The change of answers that is allowed.", show_default=False),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Of the verdict's intervals.", show_default=False)
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(
            help="flips, or a rule of the paper: three-points, ten-points.", show_default=False
        ),
    ] = None,
) -> None:
    """Evaluate a trained run under other solvers; without options, as its configuration says."""
    from pynode_jl.runs import Run

    run = Run.open(folder)
    rule: dict[str, Any] = {"margin": margin, "confidence": confidence, "criterion": criterion}
    chosen = replace(
        run.config.swap,
        solvers=tuple(solver or run.config.swap.solvers),
        factors=tuple(factor or run.config.swap.factors),
        **{name: value for name, value in rule.items() if value is not None},
    )
    _report({folder.name: run.with_swap(chosen)}, folder, f"Run {folder.name}")


@app.command()
def solvers(
    family: Annotated[str | None, typer.Option(help="A part of the family's name.")] = None,
    backend: Annotated[str | None, typer.Option(help="jax or julia.")] = None,
    order: Annotated[int | None, typer.Option(help="The order of convergence.")] = None,
    adaptive: Annotated[bool | None, typer.Option(help="With an error estimate.")] = None,
    implicit: Annotated[bool | None, typer.Option(help="Implicit ones.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all traits.")] = False,
) -> None:
    """List the solvers of the catalogue."""
    from pynode_jl.solvers import catalogue

    rows = catalogue(
        family=family, backend=cast(Any, backend), adaptive=adaptive, implicit=implicit, order=order
    )
    if as_json:
        typer.echo(json.dumps([row.to_dict() for row in rows], indent=1))
        return
    table = Table("name", "order", "family", "backends", "steps", "note")
    for row in rows:
        steps = [*["fixed"] * row.fixed_step, *["adaptive"] * row.adaptive]
        table.add_row(
            row.name,
            "" if row.order is None else str(row.order),
            row.family,
            ", ".join(row.backends),
            ", ".join(steps),
            row.note,
        )
    console.print(table)
    console.print(f"{len(rows)} solvers")


@app.command()
def zoo(
    backend: Annotated[str, typer.Option(help="jax or julia.")] = "jax",
    family: Annotated[str | None, typer.Option(help="A part of the family's name.")] = None,
    out: Annotated[
        Path | None, typer.Option(callback=expanded, help="A CSV file to write, row by row.")
    ] = None,
) -> None:
    """Measure the order of convergence of every solver; name suspects. Julia's take an hour."""
    import pandas as pd

    from pynode_jl.backends import get_backend
    from pynode_jl.diagnostics import OrderRow, measure_orders
    from pynode_jl.solvers import catalogue

    integrator = get_backend(backend)
    known = set(integrator.solvers())
    rows = [each for each in catalogue(family=family) if each.name in known]
    found: list[OrderRow] = []
    for row in measure_orders(integrator, rows):
        found.append(row)
        seen = f"not measured: {row.problem}" if row.problem else f"measured {row.measured:.2f}"
        console.print(f"{len(found):>3}/{len(rows)} ", end="")
        if row.suspect:
            console.print("suspect ", style="bold red", end="")
        console.print(f"{row.name}: ", end="")
        console.print(
            f"claimed {row.claimed}, {seen}", markup=False, highlight=False, soft_wrap=True
        )
        if out is not None:
            write_text(out, pd.DataFrame(map(asdict, found)).to_csv(index=False))
    suspects = [row.name for row in found if row.suspect]
    unmeasured = [row.name for row in found if row.problem]
    console.print(f"{len(found)} solvers, {len(suspects)} suspects: {', '.join(suspects)}")
    console.print(f"{len(unmeasured)} not measured: {', '.join(unmeasured)}")


@app.command()
def doctor() -> None:
    """Report what is found, what is missing, and how to fix it."""
    from pynode_jl.cli._doctor import findings

    failures = 0
    for finding in findings():
        sign, style = ("ok", "green") if finding.well else ("!!", "bold red")
        console.print(sign, style=style, end=" ")
        console.print(f"{finding.subject:<12}", end=" ")
        console.print(finding.text, markup=False, highlight=False, soft_wrap=True)
        failures += not finding.well
    raise typer.Exit(1 if failures else 0)


def _report(runs: dict[str, Any], folder: Path, title: str) -> None:
    from pynode_jl.cli._progress import swap_bar
    from pynode_jl.cli._tables import swap_table
    from pynode_jl.reporting.pages import write_run_report

    reports = {}
    for name, run in runs.items():
        with swap_bar(console, name) as show:
            reports[name] = run.swap(show)
    for name, report in reports.items():
        console.print(swap_table(name, report))
        console.print(f"{name}: ", style="bold", end="", highlight=False)
        console.print(report.verdict.text, highlight=False)
        console.print(report.cost.text, highlight=False)
    page = write_run_report(runs, folder, title)
    console.print(f"report: {page}", soft_wrap=True, highlight=False)
