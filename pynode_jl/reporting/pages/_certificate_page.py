"""The page of a certificate: verdict, diagnostics, pictures and numbers, in one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from pynode_jl._io import make_folder, write_text
from pynode_jl.backends import BackendLike, as_backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import (
    Certificate,
    Finding,
    Reference,
    Share,
    Shift,
    amount_text,
    interval_text,
)
from pynode_jl.reporting import figures
from pynode_jl.reporting.figures import MarginPanel, Measure, OrderPanel
from pynode_jl.reporting.html import Block, Facts, Section, Table, Text, VerdictCard
from pynode_jl.reporting.pages._layout import Drawing, table, write_page
from pynode_jl.reporting.pages._panels import FLOW
from pynode_jl.reporting.pages._task_drawings import Shown, task_drawings
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedLike

_HEADLINES = {
    "valid": "An ODE, as far as these solves and samples tell",
    "tied": "Tied to its solver: a ResNet, not an ODE",
    "undecided": "Undecided",
    "untrained": "Not trained far enough to say",
    "overfitted": "Overfitted: nothing to say of its test answers",
    "non-finite": "Weights that are not finite",
    "failed": "The training solve fails",
}
_WEAKENED = "An ODE by its answers, with reservations"
_SWAPS = {
    "label": "solve",
    "finer": "finer",
    "accuracy": "accuracy",
    "score": "score",
    "flips": "flips",
    "shift": "shift",
    "lost": "lost",
    "won": "won",
    "state_error": "state error",
    "nf": "evaluations",
}
_BY_STEP = {
    "label": "solve",
    "own": "as trained",
    "accuracy": "accuracy",
    "score": "score",
    "flips": "flips against the ODE",
    "shift": "shift from the ODE",
    "state_error": "state error",
    "nf": "evaluations",
    "retcode": "return code",
}


def write_certificate(
    certificate: Certificate,
    folder: str | Path,
    *,
    trained: TrainedLike | None = None,
    dataset: Dataset | None = None,
    backend: BackendLike = None,
) -> Path:
    """Write ``certificate.html`` and ``certificate.json``, figures as PNG and PDF, to `folder`.

    Args:
        certificate: what `certify` gave.
        folder: where to write.
        trained, dataset: the model and its data: given both, the page has pictures of the model's
            answers: trajectories and regions or maps in the plane, fits to observed trajectories.
        backend: what solves for these, or its name; default `get_backend()`.

    Returns:
        The page's path.

    Example:
        >>> certificate = pn.certify(trained, data, diagnostics=[], backend="jax")
        >>> pn.write_certificate(certificate, "report").name
        'certificate.html'
    """
    folder = Path(folder)
    make_folder(folder)
    write_text(folder / "certificate.json", certificate.to_json())
    verdict = certificate.verdict
    headline = _WEAKENED if certificate.weakened_by else _HEADLINES[verdict.kind]
    *_, page = write_page(
        folder / "certificate.html",
        title="Is this trained Neural ODE an ODE?",
        subtitle=f"Trained with {certificate.solver.label}: {certificate.model}",
        found=[
            Section("Verdict", [VerdictCard(verdict.kind, headline, certificate.text)]),
            Section("Diagnostics", _diagnostics(certificate)),
        ],
        drawings=_drawings(certificate, trained, dataset, backend),
        numbers=[Section("Numbers", _numbers(certificate))],
        facts=[
            Facts(
                {
                    "model": certificate.model,
                    "trained with": certificate.solver.label,
                    "data": certificate.data,
                    "samples with Jacobians, at the most": certificate.samples,
                    "margin": Measure.of(certificate.swap).change_text(verdict.margin),
                    "confidence of intervals": f"{100 * verdict.confidence:.3g} %",
                    "backend": certificate.backend,
                }
            )
        ],
    )
    return page


def _diagnostics(certificate: Certificate) -> list[Block]:
    found = certificate.findings
    outcomes = pd.DataFrame({"diagnostic": each.name, "outcome": each.outcome} for each in found)
    return [
        Text(
            "The verdict rests on the answers under the ODE and under all solves nearer to it. Each"
            " diagnostic looks at the model in another way. It supports that the model is an ODE,"
            " contradicts it, or is inconclusive; one that contradicts a valid verdict weakens it."
        ),
        *([Table(outcomes)] if found else []),
        Facts({each.name: each.text for each in found}, "Findings", prose=True),
        Facts(
            {each.name: each.limits for each in found if each.outcome != "not run"},
            "What each diagnostic does not show",
            prose=True,
        ),
    ]


def _numbers(certificate: Certificate) -> list[Block]:
    swaps = certificate.swap.table
    blocks: list[Block] = []
    reference = certificate.swap.reference
    if reference is not None and reference.solved:
        blocks.append(Facts(_reference_facts(certificate, reference), "The reference: its ODE"))
    measure, n = Measure.of(certificate.swap), certificate.verdict.samples
    if len(swaps):
        failed = swaps["retcode"] != "Success"
        label = swaps["label"].where(~failed, swaps["label"] + " (" + swaps["retcode"] + ")")
        shown = _with_intervals(swaps.assign(label=label), measure, n)
        blocks += [
            Text(_READING_SHIFTS if measure.shifts else _READING),
            table(shown, _SWAPS, "Swaps", measure=measure),
        ]
    by_step = _report(certificate, "answers by step")
    if by_step is not None:
        # Here flips are shares.
        counts = by_step if measure.shifts else by_step.assign(flips=(by_step["flips"] * n).round())
        shown = _with_intervals(counts, measure, n)
        blocks.append(table(shown, _BY_STEP, "Answers by step", measure=measure))
    return blocks or [Text("Nothing was measured.")]


_FINER = (
    "finer: as near to the ODE as the training solve, or nearer; the verdict rests on these rows"
    " and on the ODE."
)
_READING = (
    f"{_FINER} flips: answers that differ from those under the training solver, with an interval"
    " whose lower end allows for the number of these solves. lost, won: answers that only the"
    " training solver, and only this solve, gives right."
)
_READING_SHIFTS = (
    f"{_FINER} shift: how far answers are from those under the training solver, with an interval"
    " bootstrapped over test samples, whose lower end allows for the number of these solves."
)


def _with_intervals(frame: pd.DataFrame, measure: Measure, samples: int) -> pd.DataFrame:
    """Return a table whose changes are texts, with their intervals; none for what is missing."""
    column = measure.change_column

    def text(value: float, low: float, high: float) -> str | None:
        if value != value:
            return None
        if measure.shifts:
            text = f"{amount_text(value, measure.unit)} ({interval_text(low, high, measure.unit)})"
            # Else the heading has the unit.
            return text if measure.changes_in_percent else text.replace(f" {measure.unit}", "")
        return str(Share(round(value), samples, low, high))

    cells = frame[[column, f"{column}_low", f"{column}_high"]].astype(float).to_numpy()
    texts = pd.Series([text(*row) for row in cells], index=frame.index, dtype=object)
    return frame.assign(**{column: texts})


def _reference_facts(certificate: Certificate, reference: Reference) -> dict[str, object]:
    ode, unsure = certificate.verdict.ode, reference.cost.unsure
    open_answers = {} if unsure is None else {"answers that this error leaves open": unsure}
    flips = {}
    if isinstance(ode, Shift):
        unit = certificate.verdict.unit
        ends = interval_text(ode.low, ode.high, unit)
        flips = {"shift from the answers as trained": f"{amount_text(ode.shift, unit)} ({ends})"}
    elif ode is not None:
        share = Share(ode.flips, ode.samples, ode.low, ode.high)
        flips = {
            "answers that differ from those as trained": f"{share}; lost {ode.lost}, won {ode.won},"
            f" McNemar's p {ode.p_value:.2g}"
        }
    return {
        "solver": f"{reference.cost.solver}, float64",
        "own error": f"below {reference.error:.2g}, the mean"
        " over samples of |y - y exact| / (1 + |y exact|)",
        **open_answers,
        **flips,
        "cost": f"{reference.cost.nf} evaluations of the right-hand side,"
        f" {reference.cost.seconds:.1f} s",
        "solves": "\n".join(
            f"{each.label}: {each.retcode}, {each.nf} evaluations" for each in reference.attempts
        ),
    }


def _report(certificate: Certificate, name: str) -> Any:
    """Return what a diagnostic measured; None where it was not run."""
    found: Finding | None = certificate.finding(name)
    return None if found is None else found.report


def _drawings(
    certificate: Certificate,
    trained: TrainedLike | None,
    dataset: Dataset | None,
    backend: BackendLike,
) -> dict[str, Drawing]:
    drawn, measure = {}, Measure.of(certificate.swap)
    if _report(certificate, "answers by step") is not None:
        drawn["certificate-evidence"] = evidence_drawing(certificate)
    if len(certificate.swap.table):
        drawn["certificate-swaps"] = Drawing(
            figures.swap_heatmap(
                {certificate.solver.label: certificate.swap.table},
                chance=certificate.swap.chance,
                measure=measure,
            ),
            f"Test {measure.metric} under each test solver at each multiple of the training step or"
            " tolerance. Outlined: the solver trained with; in italics: solves that are farther"
            " from the ODE than it.",
        )
    fit = certificate.verdict.kind not in ("non-finite", "failed")
    if trained is not None and dataset is not None and fit:
        backend = as_backend(backend, trained.model)
        reference = certificate.swap.reference
        flow = FLOW
        if reference is not None and reference.solver is not None:
            # The method that could solve this field, at a tolerance for the eye.
            flow = Solver(reference.solver.name, FLOW.stepping)
        found = task_drawings({"": Shown(trained, dataset, backend, flow)})
        drawn |= {f"certificate-{name}": drawing for name, drawing in found.items()}
    return drawn


_BY_LABELS = (
    "Accuracy, flips against the ODE's answers with their interval, and folded trajectories,"
    " against the step or tolerance: an ODE's answers are settled from its training step on down."
    " The star is the training step; lines across are the ODE's accuracy and the margin."
)
_BY_NUMBERS = (
    "{} against the data by the step or tolerance of the test solver (the convergence test of"
    " Krishnapriyan et al. 2022): an ODE's is level from its training step, the star, on down; that"
    " of a model tied to its solver is {} there. The line across is the ODE's. Beside it, how far"
    " answers are from the ODE's, with its interval; the line across is the margin."
)


def evidence_drawing(certificate: Certificate) -> Drawing:
    """Return the figure of a certificate's diagnostics, with its caption.

    Example:
        >>> from pynode_jl.reporting.pages import evidence_drawing
        >>> evidence_drawing(pn.certify(trained, data, backend="jax")).caption[:8]
        'Accuracy'
    """
    folded, order = _report(certificate, "folds"), _report(certificate, "order")
    share = _report(certificate, "error share")
    scan = None if folded is None else folded[1]
    measure = Measure.of(certificate.swap)
    best = "highest" if measure.higher_is_better else "least"
    caption = [_BY_NUMBERS.format(measure.title, best) if measure.shifts else _BY_LABELS]
    if order is not None:
        caption.append(
            "Then: how final states approach the ODE's as steps shrink, beside a line of the"
            " method's order; the reference's own error is the line across, or the grey band."
        )
    if share is not None:
        caption.append(
            "Last: the margin of each test sample and the numerical error in it. An error for the"
            " answer above the line of 100 % makes that answer."
        )
    figure = figures.evidence(
        _report(certificate, "answers by step"),
        fixed=certificate.solver.fixed,
        ode=certificate.swap.ode,
        margin=certificate.verdict.margin,
        settled=certificate.settled,
        folds=(scan.steps, scan.share) if scan is not None and certificate.solver.fixed else None,
        order=None
        if order is None
        else OrderPanel(order.steps, order.errors, order.solver.order, order.floor),
        margins=None if share is None else MarginPanel(share.margin, share.error),
        measure=measure,
        chance=certificate.swap.chance,
    )
    return Drawing(figure, " ".join(caption))
