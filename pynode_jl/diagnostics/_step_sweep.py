"""Answers by step: from which step on down a field's answers are those of its ODE.

The same weights are evaluated at steps (or tolerances) from a single step down to far finer ones.
This is about one trained field. From which *training* step on training gives an ODE is another
question, which `critical` answers by training again.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pynode_jl.backends import Evaluation, RetCode
from pynode_jl.diagnostics._diagnostic import Context, Diagnostic, Finding, Outcome, Share
from pynode_jl.diagnostics._sentences import amount_text, interval_text
from pynode_jl.diagnostics._shifts import shift_interval
from pynode_jl.errors import SolveError
from pynode_jl.solvers import Solver

_MOST_STEPS = 512
_TOLERANCES = tuple(10.0**-k for k in range(1, 8))
# float32 may not reach tolerances below this one.
_FLOAT32_TOLERANCE = 1e-5


def by_step(context: Context) -> pd.DataFrame:
    """Evaluate the test set at steps, or tolerances, down to far finer than the training one.

    `context` has the model, its data and its swap.

    Returns:
        One row per setting, the coarsest first: ``setting`` (step or tolerance), ``label``, ``own``
        (the training solver's), ``nf``, ``accuracy``, ``flips`` (the share of answers that differ
        from the ODE's) with its exact interval ``flips_low``, ``flips_high``, ``state_error``,
        ``retcode``. Where answers are numbers, ``score``, ``shift`` (how far they are from the
        ODE's, in the task's measure), ``shift_low``, ``shift_high`` stand in their place. A failed
        solve has nan.

    Example:
        >>> from pynode_jl.diagnostics import Context, by_step
        >>> report = pn.swap(trained, data, ["RK4"], backend="jax")
        >>> table = by_step(Context(trained, data, pn.get_backend("jax"), report, samples=16))
        >>> table.loc[table["own"], ["label", "flips"]].to_dict("records")
        [{'label': 'Euler h=1', 'flips': 1.0}]
    """
    task, rows = context.trained.model.task, []
    change: str = task.comparison  # also the name of its column
    score_column = "accuracy" if change == "flips" else "score"
    for test in _settings(context):
        found = _evaluated(context, test)
        row = {
            "setting": test.stepping.size,
            "label": test.label,
            "own": test == context.trained.solver,
            "nf": 0 if found is None else found.stats.nf,
            score_column: math.nan,
            change: math.nan,
            f"{change}_low": math.nan,
            f"{change}_high": math.nan,
            "state_error": math.nan,
            "retcode": "failed" if found is None else str(found.stats.retcode),
        }
        if found is not None and found.stats.retcode == RetCode.Success:
            size, low, high = _departure(context, found)
            row |= {
                score_column: found.score(task, context.dataset.y_test),
                change: size,
                f"{change}_low": low,
                f"{change}_high": high,
                "state_error": context.reference.distance(found),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def settled_from(table: pd.DataFrame, margin: float) -> float | None:
    """Return the largest setting from which on down the answers are surely the ODE's.

    Args:
        table: of `by_step`. Solves that fail at its fine end, for want of precision, are left out.
        margin: the share of flips, or the shift, that each interval must not exceed.

    Returns:
        The setting; None where the answers at the finest one are not surely within the margin.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.diagnostics import settled_from
        >>> shares = {"flips": [0.5, 0.01, 0.0], "flips_high": [0.6, 0.02, 0.01]}
        >>> settled_from(pd.DataFrame({"setting": [1.0, 0.5, 0.25], **shares}), margin=0.03)
        0.5
    """
    change = "flips" if "flips" in table else "shift"
    ended = np.flatnonzero(table[change].notna())
    if not ended.size:
        return None
    within = (table[f"{change}_high"].to_numpy() <= margin)[: ended[-1] + 1]
    if not within[-1]:
        return None
    outside = np.flatnonzero(~within)
    return float(table["setting"].iloc[int(outside[-1]) + 1 if outside.size else 0])


def _settings(context: Context) -> list[Solver]:
    model, solver = context.trained.model, context.trained.solver
    if solver.fixed:
        span, steps = abs(model.t1 - model.t0), context.own_steps
        most = max(_MOST_STEPS, 2 * steps)
        # Between two read-outs a longer step is cut: all of them are one solve.
        longest = max(abs(b - a) for a, b in pairwise(model.times)) * (1 + 1e-9)
        powers = {2**k for k in range(most.bit_length()) if 2**k <= most}
        counts = sorted({n for n in powers if span / n <= longest} | {steps})
        # As it was trained: with its own shortened last step.
        return [solver if n == steps else solver.with_step(span / n) for n in counts]
    own = solver.stepping.size
    others = [solver.with_tolerance(t, t) for t in _TOLERANCES if not math.isclose(t, own)]
    return sorted([solver, *others], key=lambda s: -s.stepping.size)


def _evaluated(context: Context, test: Solver) -> Evaluation | None:
    trained, x = context.trained, context.trained.inputs(context.dataset.x_test)
    if test == trained.solver:
        return context.own
    if not test.fixed and test.stepping.size < _FLOAT32_TOLERANCE:
        x = x.astype(np.float64)
    try:
        return context.backend.evaluate(trained.model, trained.weights, x, test)
    except SolveError:
        # A solve that the library refuses in its own words is a failed row like any other.
        return None


def _flips(context: Context, found: Evaluation) -> Share:
    reference = context.reference
    changed = found.predictions != reference.predictions
    return context.share(
        np.sum(changed & ~reference.unsure),
        len(changed),
        unsure=int(np.sum(reference.unsure)),
    )


def _departure(context: Context, found: Evaluation) -> tuple[float, float, float]:
    """Return how far answers are from the ODE's, and the interval's ends: flips, or a shift."""
    task, targets = context.trained.model.task, context.dataset.y_test
    if task.comparison == "flips":
        share = _flips(context, found)
        return share.count / share.total, share.low, share.high
    exact, own, tail = context.exact.outputs, context.own.outputs, (1 - context.confidence) / 2
    # The unit is the error of the model as it was trained, at every setting.
    shift = shift_interval(
        task, found.outputs, exact, task.scale(own, targets), context.reference.doubt, targets, tail
    )
    return float(shift.value[0]), float(shift.low[0]), float(shift.high[0])


def _run(context: Context) -> Finding:
    table, verdict = by_step(context), context.swap.verdict
    margin, settled = verdict.margin, settled_from(table, verdict.margin)
    change = context.trained.model.task.comparison
    size, low, high = _departure(context, context.own)
    outcome: Outcome = "contradicts" if low > margin else "inconclusive"
    outcome = "supports" if high <= margin else outcome
    finest = table.loc[table[change].notna()].iloc[-1]
    allowed = amount_text(margin, verdict.unit)
    if settled is None:
        far = f"{finest[f'{change}_high']:.1%} of them flip there"
        if change == "shift":
            far = f"{amount_text(finest['shift_high'], verdict.unit)} from the ODE's there"
        text = (
            f"The answers are not surely settled at the ODE's within {allowed} even at"
            f" {finest['label']}: at most {far}."
        )
    else:
        label = table.loc[table["setting"] == settled, "label"].iloc[0]
        text = (
            f"From {label} on down to {finest['label']} the answers of this field are settled at"
            f" its ODE's: surely within {allowed}."
        )
    where = {
        "contradicts": "surely more than the margin",
        "supports": "surely within the margin",
        "inconclusive": "not surely on either side of the margin",
    }[outcome]
    if change == "flips":
        own = _flips(context, context.own)
        data: dict[str, Any] = own.to_dict()
        said, clause = f"{own.told('answers')} flip", f"{own.told('answers')} flip"
    else:
        data = {"shift": size, "low": low, "high": high}
        ends = interval_text(low, high, verdict.unit)
        said = f"they are {amount_text(size, verdict.unit)} from them ({ends})"
        clause = f"{amount_text(size, verdict.unit)} away, {ends}"
    text += f" At the training setting {said}, {where}."
    failed = table.loc[table[change].isna(), "label"]
    if len(failed):
        text += f" Solves failed at {', '.join(failed)}."
    return Finding(
        "",
        outcome,
        text,
        "",
        {
            "settled": settled,
            "margin": margin,
            "at training": data,
            "table": table.to_dict("records"),
        },
        f"its answers are not its ODE's ({clause})",
        table,
    )


ANSWERS_BY_STEP = Diagnostic(
    "answers by step",
    _run,
    "It is about this field's answers, not about the step from which on training gives an ODE. A"
    " later departure, finer than the finest setting tried, would not be seen.",
)
