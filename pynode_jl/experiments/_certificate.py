"""A certificate as a page: the verdict, each witness, pictures and numbers, in one HTML file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pynode_jl import figures
from pynode_jl.analysis import Certificate
from pynode_jl.backends import Backend, get_backend
from pynode_jl.datasets import Dataset
from pynode_jl.experiments._panels import FLOW, decision_panel, in_the_plane, trajectory_panel
from pynode_jl.figures import MarginPanel, OrderPanel
from pynode_jl.report import Facts, Picture, Section, Table, Text, VerdictCard, write_report
from pynode_jl.training import Trained

_SWAPS = ["label", "accuracy", "agreement", "logit_distance", "state_error", "finer", "nf"]
_SHARES = {"accuracy": ".1%", "agreement": ".1%"}
_FORMATS = _SHARES | {"logit_distance": ".2g", "state_error": ".1e"}
_HEADLINES = {
    "valid": "An ODE, as far as this certificate sees",
    "tied": "Tied to its solver: a ResNet, not an ODE",
    "untrained": "Not trained far enough to say",
    "undecided": "Undecided",
}
_SPEAKS = {"for": "for an ODE", "against": "against", "neither": "neither", "silent": "not asked"}


def write_certificate(
    certificate: Certificate,
    folder: str | Path,
    *,
    trained: Trained | None = None,
    dataset: Dataset | None = None,
    backend: Backend | None = None,
) -> Path:
    """Write ``certificate.html`` and ``certificate.json``, figures as PNG and PDF, to `folder`.

    Args:
        certificate: what `certify` gave.
        folder: where to write.
        trained, dataset: the model and its data: given both, a model whose states lie in the plane
            gets its trajectories and decision regions.
        backend: what solves for these; default `get_backend()`.

    Returns:
        The page's path.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "certificate.json").write_text(certificate.to_json(), encoding="utf-8")
    verdict, swapped = certificate.verdict, certificate.swap
    witnesses = pd.DataFrame(
        {"witness": e.name, "speaks": _SPEAKS[e.speaks], "finding": e.text, "limits": e.limits}
        for e in certificate.evidence
    )
    said = [
        Text(f"{row['witness'].capitalize()} ({row['speaks']}): {row['finding']}")
        for row in witnesses.to_dict("records")
    ]
    limits = Facts(dict(zip(witnesses["witness"], witnesses["limits"], strict=True)))
    return write_report(
        folder / "certificate.html",
        title="Is this trained Neural ODE an ODE?",
        subtitle=f"Trained with {certificate.solver.label}: {certificate.model}",
        sections=[
            Section("Verdict", [VerdictCard(verdict.kind, _HEADLINES[verdict.kind], verdict.text)]),
            Section("Evidence", [Table(witnesses[["witness", "speaks"]]), *said]),
            Section("Pictures", _pictures(certificate, folder, trained, dataset, backend)),
            Section(
                "Numbers",
                [
                    Table(
                        certificate.by_step.drop(columns="setting"),
                        _SHARES,
                        caption="Answers by step",
                    ),
                    Table(swapped.table[_SWAPS], _FORMATS, caption="Swaps"),
                ],
            ),
            Section("Limits", [Text("What each witness does not show:"), limits]),
            Section(
                "What was asked",
                [
                    Facts(
                        {
                            "model": certificate.model,
                            "trained with": certificate.solver.label,
                            "data": certificate.data,
                            "samples of folds, order, error share": certificate.samples,
                            "backend": certificate.backend,
                        }
                    )
                ],
            ),
        ],
    )


def _pictures(
    certificate: Certificate,
    folder: Path,
    trained: Trained | None,
    dataset: Dataset | None,
    backend: Backend | None,
) -> list[Picture]:
    scan, order, fanned = certificate.scan, certificate.order, certificate.fan
    drawn = {
        "evidence": (
            figures.evidence(
                certificate.by_step,
                fixed=certificate.solver.fixed,
                ode=certificate.swap.ode,
                critical=certificate.critical,
                folds=(scan.steps, scan.share)
                if scan is not None and certificate.solver.fixed
                else None,
                order=None
                if order is None
                else OrderPanel(order.steps, order.errors, order.solver.info.order or 1),
                margins=None if fanned is None else MarginPanel(fanned.margin, fanned.margin_error),
            ),
            "Left: accuracy, agreement with the ODE's answers and the share of folded trajectories"
            " against the step or tolerance; an ODE's accuracy is level from its training step on"
            " down. Then: how fast final states approach the extrapolated ODE. Right: each sample's"
            " margin and the numerical error in it; above the 100 % line the answer is made by"
            " error.",
        ),
        "swaps": (
            figures.swap_heatmap(
                {certificate.solver.label: certificate.swap.table}, chance=certificate.swap.chance
            ),
            "Test accuracy under each test solver at each multiple of the training step or"
            " tolerance. Outlined: the solver trained with; in italics: coarser than it.",
        ),
    }
    if trained is not None and dataset is not None and in_the_plane(trained):
        backend = get_backend() if backend is None else backend
        label = trained.solver.label
        drawn["trajectories"] = (
            figures.trajectories([trajectory_panel(label, trained, dataset, backend)]),
            "Test samples under the steps of the training solver and under the flow of the ODE.",
        )
        drawn["regions"] = (
            figures.decision_regions(
                [
                    decision_panel(f"{how}: {{}}", trained, dataset, backend, solver)
                    for how, solver in ((label, trained.solver), ("as an ODE", FLOW))
                ]
            ),
            "What the model answers over the plane, under its training solver and as an ODE.",
        )
    for name, (figure, _) in drawn.items():
        figures.save(figure, folder / f"certificate-{name}")
    return [Picture(figure, caption, caption) for figure, caption in drawn.values()]
