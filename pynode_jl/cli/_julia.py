"""``pynode-jl julia``: setting Julia up."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Set up Julia, for the whole zoo of solvers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_console = Console()


@app.callback()
def julia() -> None:
    """Set up Julia, for the whole zoo of solvers."""


@app.command()
def install(
    gpu: Annotated[bool, typer.Option("--gpu", help="LuxCUDA too, for device gpu.")] = False,
) -> None:
    """Download Julia, where none fits, and its packages (1-2 GB). Nothing else ever downloads."""
    from pynode_jl.backends.julia._install import install

    project = install(gpu=gpu)
    _console.print(f"installed into {project}; `pynode-jl doctor` starts it", soft_wrap=True)
