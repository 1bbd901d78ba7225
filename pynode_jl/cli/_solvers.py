"""``pynode-jl solvers`` and ``pynode-jl zoo``: the catalogue, and the orders that were measured."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pynode_jl._io import write_text
from pynode_jl.cli._commands import add_command, examples_text, new_app, with_output
from pynode_jl.cli._console import console, note, plain_table, show, stream
from pynode_jl.cli._running import expanded, keep_earlier, solver_names_from, writable

if TYPE_CHECKING:
    from rich.table import Table

    from pynode_jl.solvers import SolverInfo

app = new_app("List the solvers of the catalogue, or show one.")
_EXAMPLES = (
    "pynode-jl solvers --family verner --backend jax",
    "pynode-jl solvers --order 5 --no-implicit --json",
    "pynode-jl solvers show Tsit5",
    "pynode-jl solvers show dopri5",
)


def solvers(
    ctx: typer.Context,
    family: Annotated[str | None, typer.Option(help="A part of the family's name.")] = None,
    backend: Annotated[str | None, typer.Option(help="jax or julia.")] = None,
    order: Annotated[int | None, typer.Option(help="The order of convergence.")] = None,
    adaptive: Annotated[bool | None, typer.Option(help="With an error estimate.")] = None,
    implicit: Annotated[bool | None, typer.Option(help="Implicit ones.")] = None,
) -> None:
    """List the solvers of the catalogue, or show one.

    `pynode-jl solvers show NAME` has a solver's traits, notes and peers in other libraries.
    """
    if ctx.invoked_subcommand is not None:
        return
    from pynode_jl.solvers import catalogue

    found = catalogue(
        family=family, backend=cast(Any, backend), adaptive=adaptive, implicit=implicit, order=order
    )
    # What needs no Julia comes first.
    rows = sorted(found, key=lambda row: "jax" not in row.backends)
    show(lambda: [row.to_dict() for row in rows], *_listed(rows))
    noted = sum(bool(row.note) for row in rows)
    note(f"{len(rows)} solvers, {noted} with a note: pynode-jl solvers show NAME")


def _listed(rows: Sequence[SolverInfo]) -> list[Table | str]:
    """Return one table for a pipe; for a terminal, where columns are few, one for each family."""
    columns = ("name", "order", "steps", "backends")
    by_family: dict[str, Table] = {}
    whole = plain_table("", (*columns, "family"))
    for row in rows:
        steps = [*["fixed"] * row.fixed_step, *["adaptive"] * row.adaptive]
        order = "-" if row.order is None else str(row.order)
        cells = (row.name, order, ",".join(steps), ",".join(row.backends))
        by_family.setdefault(row.family, plain_table(row.family, columns)).add_row(*cells)
        whole.add_row(*cells, row.family)
    if not console.is_terminal:
        return [whole]
    return [block for table in by_family.values() for block in (table, "")]


def show_one(
    name: Annotated[
        str,
        typer.Argument(
            autocompletion=solver_names_from,
            help="A name of the catalogue, or of another library.",
            show_default=False,
        ),
    ],
) -> None:
    """Show a solver: its traits, notes, and peers in other libraries.

    A name that another library uses is answered with those of ours that are the same, and those
    that only look alike.
    """
    from pynode_jl.solvers import info, peers, solver_names

    found = [each for each in peers(name) if each.ours]
    ours = dict.fromkeys([name] if name in solver_names() else [each.ours for each in found])
    rows = [info(each) for each in ours or [name]]
    elsewhere = [each._asdict() | {"same": each.same} for each in found]
    blocks: list[Any] = []
    if name not in solver_names():
        table = plain_table("", ("name here", f"is, of {name}", "what differs"))
        for each in found:
            same = "the same as" if each.same else "like"
            table.add_row(each.ours, f"{same} {each.library}'s {each.name}", each.differs or "-")
        blocks += [table, ""]
    for row in rows:
        blocks += [_shown(row), ""]
    show(lambda: {"solvers": [row.to_dict() for row in rows], "elsewhere": elsewhere}, *blocks[:-1])


def _shown(row: SolverInfo) -> str:
    order = "varies, or an option" if row.order is None else str(row.order)
    if row.measured_order is not None:
        order += f" as published, {row.measured_order} by its coefficients"
    if row.embedded_order is not None:
        order += f"; {row.embedded_order} of its error estimate's companion"
    steps = " and ".join([*["fixed"] * row.fixed_step, *["adaptive"] * row.adaptive])
    tableau = row.tableau
    stages = {} if tableau is None else {"stages": str(tableau.stages), "source": tableau.source}
    lines = {
        "order": order,
        "family": row.family,
        "kind": row.kind + (", implicit" if row.implicit else ""),
        "steps": steps,
        "backends": ", ".join(row.backends),
        "problem": row.problem,
        **stages,
        "same as": ", ".join(f"{peer} of {library}" for library, peer in row.same_as.items()),
        "looks like": ", ".join(f"{peer} of {library}" for library, peer in row.near.items()),
        "note": row.note,
    }
    text = "\n".join(f"  {key + ':':<12}{value}" for key, value in lines.items() if value)
    return f"{row.name}\n{text}"


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
    if out is not None:
        writable(out.parent)
        keep_earlier(out, "", glob.escape(out.name))
    found: list[OrderRow] = []
    for row in measure_orders(integrator, rows):
        found.append(row)
        seen = f"not measured: {row.problem}" if row.problem else f"measured {row.measured:.2f}"
        stream(
            f"{len(found):>3}/{len(rows)} {'suspect ' if row.suspect else ''}"
            f"{row.name}: claimed {row.claimed}, {seen}"
        )
        if out is not None:
            write_text(out, pd.DataFrame(map(asdict, found)).to_csv(index=False))
    suspects = [row.name for row in found if row.suspect]
    unmeasured = [row.name for row in found if row.problem]
    show(
        lambda: [asdict(row) | {"suspect": row.suspect} for row in found],
        f"{len(found)} solvers, {len(suspects)} suspects: {', '.join(suspects)}",
        f"{len(unmeasured)} not measured: {', '.join(unmeasured)}",
    )


app.callback(invoke_without_command=True, no_args_is_help=False, epilog=examples_text(_EXAMPLES))(
    with_output(solvers)
)
add_command(
    app, show_one, "pynode-jl solvers show Tsit5", "pynode-jl solvers show RK45", name="show"
)
