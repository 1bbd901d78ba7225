"""``pynode-jl julia``: set up Julia."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from pynode_jl.cli._console import console
from pynode_jl.cli._progress import counting_bar

app = typer.Typer(
    help="Set up Julia, for the whole zoo of solvers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def julia() -> None:
    """Set up Julia, for the whole zoo of solvers."""


@app.command()
def install(
    gpu: Annotated[bool, typer.Option("--gpu", help="LuxCUDA too, for device gpu.")] = False,
) -> None:
    """Download Julia, if no installed one fits, and its packages (1-2 GB)."""
    from pynode_jl.backends.julia import install as install_julia

    project = install_julia(gpu=gpu)
    console.print(f"installed into {project}; `pynode-jl doctor` starts it", soft_wrap=True)


@app.command()
def precompile(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(
            help="Solvers, sub-libraries, parts of families: Vern7, LowOrderRK. Default: all."
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Processes at a time; each takes 2 GB of memory.")
    ] = max(1, (os.cpu_count() or 2) // 2),
) -> None:
    """Compile solvers ahead of time: seconds for a solver, a minute for an implicit one."""
    from pynode_jl.backends.julia import build_images, solvers_by_library

    libraries = solvers_by_library(wanted or ())
    seconds = megabytes = 0.0
    compiled, failed = 0, []
    with counting_bar(console, "compile", len(libraries)) as done:
        for image in build_images(libraries, jobs=jobs):
            done(image.library)
            if image.problem:
                failed.append(image.library)
                console.print(f"{image.library}: ", end="")
                console.print(image.problem, style="red", soft_wrap=True)
                continue
            compiled += len(image.solvers)
            seconds += image.seconds
            megabytes += image.megabytes
            console.print(
                f"{image.library}: {len(image.solvers)} solvers, {image.seconds:.0f} s,"
                f" {image.megabytes:.0f} MB",
                soft_wrap=True,
            )
    console.print(f"{compiled} solvers compiled in {seconds:.0f} s, {megabytes:.0f} MB")
    if failed:
        raise typer.Exit(1)
