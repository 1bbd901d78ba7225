"""``pynode-jl reproduce``: the paper's figures and tables, one command each."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from pynode_jl.paper import REPRODUCTIONS

app = typer.Typer(
    help="The paper's figures and tables, from runs of our own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_console = Console()


_Out = Annotated[
    Path, typer.Option(help="Where figures go; their trained runs in its folder runs.")
]
_Seeds = Annotated[int, typer.Option(help="Seeds behind each mean.")]
_Full = Annotated[
    bool, typer.Option("--full", help="The paper's protocol: hours instead of minutes.")
]
_Backend = Annotated[str, typer.Option(help="auto, jax or julia.")]
_Criterion = Annotated[
    str, typer.Option(help="flips, three-points, or ten-points: the paper's for its Table 1.")
]


def _command(name: str) -> Callable[..., None]:
    def figure(
        out: _Out = Path("runs/reproduce"),
        seeds: _Seeds = 2,
        full: _Full = False,
        backend: _Backend = "auto",
    ) -> None:
        _made(name, out, seeds, full, backend)

    def table(
        out: _Out = Path("runs/reproduce"),
        seeds: _Seeds = 2,
        full: _Full = False,
        backend: _Backend = "auto",
        criterion: _Criterion = "flips",
    ) -> None:
        _made(name, out, seeds, full, backend, criterion)

    return table if name.startswith("table1") else figure


def _made(
    name: str, out: Path, seeds: int, full: bool, backend: str, criterion: str = "flips"
) -> None:
    from pynode_jl.cli._progress import training_bar
    from pynode_jl.paper import make
    from pynode_jl.paper._context import Desk

    begun = time.monotonic()
    bar = partial(training_bar, _console)
    desk = Desk(out, seeds, full, backend, bar, cast(Any, criterion))  # checked there
    plate = make(name, desk)
    paths = desk.publish(name, plate)
    _console.print(plate.caption, highlight=False)
    for path in paths:
        _console.print(str(path), soft_wrap=True, highlight=False)
    _console.print(f"{time.monotonic() - begun:.0f} s")


for _name, _help in REPRODUCTIONS.items():
    app.command(_name, help=_help)(_command(_name))
