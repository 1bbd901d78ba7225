"""``pynode-jl certify``: one verdict on a run, and the diagnostics that explain it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pynode_jl.cli._commands import Check, exit_by_verdict
from pynode_jl.cli._console import note, show, stderr
from pynode_jl.cli._running import Folder, expanded, keep_earlier, writable


def certify(
    folder: Folder,
    out: Annotated[
        Path | None,
        typer.Option(callback=expanded, help="Folder for the certificate; default: the run's."),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Test samples for diagnostics that need Jacobians.")
    ] = 64,
    check: Check = False,
) -> None:
    """Decide whether a trained run is an ODE: the verdict, and what each diagnostic finds."""
    from pynode_jl.diagnostics import certify as ask
    from pynode_jl.reporting.pages import write_certificate
    from pynode_jl.runs import Run

    run = Run.open(folder)
    trained = run.trained_to_its_end()
    place = writable(folder if out is None else out)
    with stderr.status("running") as status:
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
        keep_earlier(place / "certificate.json", certificate.to_json(), "certificate.*")
        page = write_certificate(
            certificate,
            place,
            trained=trained,
            dataset=run.dataset,
            backend=run.backend,
        )
    show(
        lambda: {**certificate.to_dict(), "text": certificate.text, "page": str(page)},
        Text(certificate.text, style="bold"),
        *(
            Text.assemble((f"{each.name} ({each.outcome}): ", "bold"), each.text)
            for each in certificate.findings
        ),
    )
    note(f"certificate: {page}")
    if check:
        exit_by_verdict([certificate.verdict.kind])
