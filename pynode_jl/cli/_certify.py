"""``pynode-jl certify``: one verdict on a run, and the diagnostics that explain it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pynode_jl.cli._console import console
from pynode_jl.cli._running import expanded, writable


def certify(
    folder: Annotated[
        Path, typer.Argument(callback=expanded, help="The run's folder.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(callback=expanded, help="Folder for the certificate; default: the run's."),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Test samples for diagnostics that need Jacobians.")
    ] = 64,
) -> None:
    """Decide whether a trained run is an ODE: the verdict, and what each diagnostic finds."""
    from pynode_jl.diagnostics import certify as ask
    from pynode_jl.errors import RunFolderError
    from pynode_jl.reporting.pages import write_certificate
    from pynode_jl.runs import Run

    run = Run.open(folder)
    trained = run.trained
    if not trained.finished:
        raise RunFolderError(
            "folder",
            str(folder),
            "a run that is trained to its end",
            "`pynode-jl train` resumes it.",
        )
    place = writable(folder if out is None else out)
    with console.status("running") as status:
        certificate = ask(
            trained,
            run.dataset,
            samples=samples,
            margin=run.config.swap.margin,
            confidence=run.config.swap.confidence,
            criterion=run.config.swap.criterion,
            backend=run.backend,
            on_stage=lambda name: status.update(f"running: {name}"),
        )
        page = write_certificate(
            certificate,
            place,
            trained=trained,
            dataset=run.dataset,
            backend=run.backend,
        )
    console.print(certificate.text, style="bold", highlight=False, markup=False)
    for each in certificate.findings:
        console.print(f"{each.name} ({each.outcome}): ", style="bold", end="", highlight=False)
        console.print(each.text, highlight=False, markup=False)
    console.print(f"certificate: {page}", soft_wrap=True, highlight=False)
