"""``pynode-jl reproduce``: the paper's figures and tables, one command each."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pynode_jl.reproduce import REPRODUCTIONS

app = typer.Typer(
    help="The paper's figures and tables, from runs of our own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_console = Console()


def _command(name: str) -> Callable[..., None]:
    def command(
        out: Annotated[
            Path, typer.Option(help="Where figures go; their trained runs in its folder runs.")
        ] = Path("runs/reproduce"),
        seeds: Annotated[int, typer.Option(help="Seeds behind each mean.")] = 2,
        full: Annotated[
            bool, typer.Option("--full", help="The paper's protocol: hours instead of minutes.")
        ] = False,
        backend: Annotated[str, typer.Option(help="auto, jax or julia.")] = "auto",
    ) -> None:
        from pynode_jl.cli._progress import training_bar
        from pynode_jl.reproduce import make
        from pynode_jl.reproduce._desk import Desk

        begun = time.monotonic()
        desk = Desk(out, seeds, full, backend, partial(training_bar, _console))
        plate = make(name, desk)
        paths = desk.publish(name, plate)
        _console.print(plate.caption, highlight=False)
        for path in paths:
            _console.print(str(path), soft_wrap=True, highlight=False)
        _console.print(f"{time.monotonic() - begun:.0f} s")

    return command


for _name, _help in REPRODUCTIONS.items():
    app.command(_name, help=_help)(_command(_name))
