"""The page and the figures of one or more runs, made from what their folders hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pynode_jl.diagnostics import SwapReport
from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting import figures
from pynode_jl.reporting.figures import Measure
from pynode_jl.reporting.html import Facts, Section, Table, Text, VerdictCard
from pynode_jl.reporting.pages._layout import Drawing, table, write_page
from pynode_jl.reporting.pages._task_drawings import Shown, task_drawings
from pynode_jl.runs import Run, history_table

_COLUMNS = {
    "label": "test solver",
    "factor": "factor",
    "accuracy": "accuracy",
    "score": "score",
    "difference": "difference",
    "state_error": "state error",
    "finer": "finer",
    "shift": "shift",
    "shift_low": "low",
    "shift_high": "high",
    "flips": "flips",
    "flips_low": "low",
    "flips_high": "high",
    "lost": "lost",
    "won": "won",
    "p_value": "p",
    "worst_class": "class",
    "class_flips": "its flips",
    "class_samples": "of",
    "class_low": "low in it",
    "logit_distance": "logit distance",
    "output_distance": "output distance",
    "nf": "evaluations",
    "seconds": "seconds",
    "retcode": "return code",
    "reason": "reason",
}


def write_run_report(runs: Mapping[str, Run], folder: Path, title: str) -> Path:
    """Write ``report.html`` and its figures, as PNG and PDF, to `folder`.

    Args:
        runs: trained and swapped runs by the name they are shown under.
        folder: where to write.
        title: the page's heading.

    Returns:
        The page's path.

    Raises:
        RunFolderError: a run that has no swap table yet.

    Example:
        >>> from pathlib import Path
        >>> from pynode_jl.reporting.pages import write_run_report
        >>> run = pn.Run.create(pn.Config(), "runs/new")
        >>> write_run_report({"new": run}, Path("runs/new"), "A run without a swap")
        Traceback (most recent call last):
        pynode_jl.errors.RunFolderError: ...
    """
    reports = {name: run.stored_swap() for name, run in runs.items()}
    cards = [
        VerdictCard(report.verdict.kind, name, report.verdict.text)
        for name, report in reports.items()
    ]
    measure = _measure(reports)
    drawings = _swap_drawings(reports, measure)
    drawings |= task_drawings(
        {name: Shown(run.trained, run.dataset, run.backend) for name, run in runs.items()}
    )
    histories = {name: history_table(run.trained) for name, run in runs.items()}
    drawings["training"] = Drawing(
        figures.training_history(histories, measure=measure),
        f"While training: the loss, and the {measure.metric} of batches where that is another.",
    )
    swaps = [
        table(report.table, _COLUMNS, f"{name}: every test solve", folded=True, measure=measure)
        for name, report in reports.items()
    ]
    references = [
        Text(f"{name}: {report.cost.text}") for name, report in reports.items() if report.cost
    ]
    reading = _READING_SHIFTS if measure.shifts else _READING
    *_, page = write_page(
        folder / "report.html",
        title=title,
        subtitle="Is the trained Neural ODE an ODE, or a ResNet tied to its solver?",
        found=[Section("Verdict", [*cards, _summary_table(reports, measure)])],
        drawings=drawings,
        numbers=[Section("Every solve", [Text(reading), *references, *swaps])],
        facts=[_facts(name, run) for name, run in runs.items()],
    )
    return page


def _measure(reports: Mapping[str, SwapReport]) -> Measure:
    """Return the measure of the runs' task.

    Raises:
        InvalidValueError: they are of several.
    """
    measures = {name: Measure.of(report) for name, report in reports.items()}
    first = next(iter(measures.values()))
    if any(each != first for each in measures.values()):
        kinds = ", ".join(f"{name}: {each.metric}" for name, each in measures.items())
        raise InvalidValueError("runs", kinds, "runs of one task", "Write a page for each task.")
    return first


def _swap_drawings(reports: Mapping[str, SwapReport], measure: Measure) -> dict[str, Drawing]:
    tables = {name: report.table for name, report in reports.items()}
    worst = min if measure.higher_is_better else max
    chance = worst(report.chance for report in reports.values())
    return {
        "flips": Drawing(
            figures.flip_intervals(
                {name: report.comparisons for name, report in reports.items()},
                margin=min(report.verdict.margin for report in reports.values()),
                measure=measure,
            ),
            "How far answers shift under the ODE and under the test solves nearer to it, with"
            " intervals that hold together. An ODE's stay to the left of the margin, the dashed"
            " line."
            if measure.shifts
            else "Answers that change under the ODE and under the test solves nearer to it, with"
            " exact intervals that hold together. An ODE's stay to the left of the margin, the"
            " dashed line.",
        ),
        "swap": Drawing(
            figures.swap_heatmap(tables, chance=chance, measure=measure),
            f"Test {measure.metric} under each test solver (rows) at each multiple of the training"
            " step or tolerance (columns). The outlined cell is the solver trained with; numbers in"
            " italics are solves farther from the ODE than it, on which the verdict does not rest."
            + (_DARKEST if measure.shifts and math.isfinite(chance) else ""),
        ),
        "steps": Drawing(
            figures.accuracy_against_step(tables, chance=chance, measure=measure),
            f"Test {measure.metric} against the step, in units of the training step: an ODE's"
            " curves are flat to the left of 1. The star is the solver trained with"
            + (_ACROSS if math.isfinite(chance) else "."),
        ),
    }


_DARKEST = " Solves that score no better than one answer to all inputs have the darkest colour."
_ACROSS = ", the line across what one answer to all inputs scores."
_READING = (
    "flips: test answers that differ from those under the training solver; low and high: exact"
    " interval of their share, simultaneous over all solves that count. lost, won: answers that"
    " only the training solver, and only this solve, gives right; p: of McNemar's exact test that"
    " both are equally accurate. class: the one whose answers change most surely. state error: mean"
    " distance of final states from the ODE's, relative where states are large. finer: of a state"
    " error no larger than the training solver's; the verdict rests on these solves and on the ODE."
    " logit distance: mean norm of the difference to the training solver's logits, in units of"
    " their own mean norm."
)


_READING_SHIFTS = (
    "shift: how far answers are from those under the training solver, in the task's measure; low"
    " and high: its interval, bootstrapped over test samples, simultaneous over all solves that"
    " count."
    " difference: what the mean score of a sample gains on that as trained. state error: mean"
    " distance of final states from the ODE's, relative where states are large. finer: of a state"
    " error no larger than the training solver's; the verdict rests on these solves and on the ODE."
    " output distance: mean norm of the difference to the training solver's outputs, in units of"
    " their own mean norm."
)


def _summary_table(reports: Mapping[str, SwapReport], measure: Measure) -> Table:
    summary = _summary(reports)
    ends = {end: f"{measure.metric} {end}" for end in ("as trained", "as an ODE")}
    headings = {str(name): ends.get(str(name), str(name)) for name in summary}
    return table(summary, headings, measure=measure)


def _summary(reports: Mapping[str, SwapReport]) -> pd.DataFrame:
    def row(name: str, report: SwapReport) -> dict[str, object]:
        verdict, ode = report.verdict, report.verdict.ode
        changes = "shift" if "shift" in report.table else "flips"
        return {
            "run": name,
            "verdict": verdict.kind,
            "as trained": report.trained,
            "as an ODE": report.ode,
            f"{changes} of the ODE": None if ode is None else ode.share,
            "low": None if ode is None else ode.low,
            "high": None if ode is None else ode.high,
            "margin": verdict.margin,
            "finer solves": verdict.finer,
            "samples": verdict.samples,
        }

    return pd.DataFrame([row(name, report) for name, report in reports.items()])


def _facts(name: str, run: Run) -> Facts:
    trained = run.trained
    environment = run.environment
    packages = environment.pop("packages", {})
    return Facts(
        {
            "configuration": run.config.to_toml(),
            "iterations": trained.state.iteration,
            "evaluations of the right-hand side": int(trained.history.nf.sum()),
            "seconds of training": f"{trained.seconds:.1f}",
            **environment,
            "packages": ", ".join(f"{key} {value}" for key, value in packages.items()),
        },
        name,
    )
