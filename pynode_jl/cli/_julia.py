"""``pynode-jl julia``: set up Julia."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from pynode_jl.cli._commands import ExitCode, add_command, new_app
from pynode_jl.cli._console import note, show, stderr

app = new_app("Set up Julia, for the whole zoo of solvers.")


def install(
    gpu: Annotated[bool, typer.Option("--gpu", help="LuxCUDA too, for device gpu.")] = False,
) -> None:
    """Download Julia, if no installed one fits, and its packages (1-2 GB)."""
    from pynode_jl.backends.julia import install as install_julia

    project = install_julia(gpu=gpu)
    show(lambda: {"project": str(project)}, f"installed into {project}")
    note("next: pynode-jl doctor")


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
    from pynode_jl.cli._progress import counting_bar
    from pynode_jl.reporting.formats import counted

    libraries = solvers_by_library(wanted or ())
    images = []
    with counting_bar(stderr, "compile", len(libraries)) as done:
        for image in build_images(libraries, jobs=jobs):
            done(image.library)
            images.append(image)
            made = f"{counted(len(image.solvers), 'solver')}, {image.seconds:.0f} s"
            made += f", {image.megabytes:.0f} MB"
            note(f"{image.library}: {image.problem or made}")
    whole = [image for image in images if not image.problem]
    compiled = sum(len(image.solvers) for image in whole)
    seconds, megabytes = (
        sum(image.seconds for image in whole),
        sum(image.megabytes for image in whole),
    )
    show(
        lambda: [image._asdict() for image in images],
        f"{counted(compiled, 'solver')} compiled in {seconds:.0f} s, {megabytes:.0f} MB",
    )
    if len(whole) < len(images):
        raise typer.Exit(int(ExitCode.FAILED))


add_command(app, install, "pynode-jl julia install")
add_command(app, precompile, "pynode-jl julia precompile LowOrderRK Vern7")
