"""Sentences made from verdicts, references and certificates. Nothing reads them back.

A diagnostic's own sentences stand in its module: it is one file and one row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pynode_jl.diagnostics._shifts import ODE, Shift
from pynode_jl.tasks import bits_per_dimension

if TYPE_CHECKING:
    from pynode_jl.diagnostics._reference import ReferenceCost
    from pynode_jl.diagnostics._skill import Skill
    from pynode_jl.diagnostics._verdict import Flips, Rounding, Verdict

#: Units of shifts: a share of the model's own error; a score of the user's own.
OF_ERROR, SCORE, NATS = "of their error", "score", "nats per dimension"
# What is shifted, by the unit.
_SHIFTED = {
    OF_ERROR: "the answers by {} of their error",
    NATS: "log-densities by {} nats per dimension",
    "": "its score by {} in the mean over samples",
}


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict in one or two sentences, with its figures."""
    said = _KINDS[verdict.kind](verdict)
    return said if verdict.rounding is None else f"{said} {rounding_text(verdict.rounding)}"


def rounding_text(rounding: Rounding) -> str:
    """Return what the arithmetic of training does to the answers, and a warning if too much."""
    swapped = rounding.swapped
    beside = "" if swapped is None else f", finer solvers up to {swapped:.1%}"
    figures = (
        f"Trained in {rounding.precision}: full precision, in which all this is measured, changes"
        f" {rounding.changed:.1%} of its answers (accuracy in {rounding.precision}"
        f" {rounding.accuracy:.1%}){beside}."
    )
    if rounding.changed <= rounding.margin:
        return figures
    return f"{figures} Rounding changes more than the margin: train in full precision to know."


def reference_text(cost: ReferenceCost) -> str:
    """Return what a reference is worth and what it cost, in a sentence."""
    if not cost.attempts:
        return "Nothing depended on a reference: none was solved."
    spent = f"{cost.nf} evaluations, {cost.seconds:.1f} s in {len(cost.attempts)} solves"
    if cost.error is None:
        last = cost.attempts[-1]
        return f"The reference failed: {last.label} ended with {last.retcode} ({spent})."
    found = f"Reference: {cost.solver}, state error below {cost.error:.1e}"
    if cost.unsure is not None:
        found += f", {cost.unsure} answers open" if cost.unsure else ", no answer open"
    return f"{found} ({spent})."


def weakness_text(clauses: Mapping[str, str]) -> str:
    """Return what weakens a valid verdict, from the clauses of the diagnostics that contradict it.

    Args:
        clauses: by the diagnostic's name; "" from one that gives none.
    """
    if not clauses:
        return ""
    said = "; ".join(clause or f"{name} contradict it" for name, clause in clauses.items())
    return f"valid by its answers; {said}."


def points(value: float) -> str:
    """Return a share as percentage points, without a sign of its own: 0.031 is "3.1"."""
    return f"{100 * value:.1f}"


def share_text(share: float) -> str:
    """Return a share in percent, with a digit only where it has one: 0.03 is "3%"."""
    return f"{100 * share:,.0f}%" if share >= 10 else f"{100 * share:.3g}%"


def score_text(value: float, metric: str) -> str:
    """Return a score with its name: "99.9%" of accuracies, "RMSE 0.123" of others, nats with bits.

    `value` is the score, `metric` a task's `metric`.

    Example:
        >>> from pynode_jl.diagnostics import score_text
        >>> score_text(0.5, "accuracy"), score_text(0.5, "RMSE")
        ('50.0%', 'RMSE 0.5000')
        >>> score_text(0.6933, "nats per dimension")
        '0.6933 nats (1.000 bits) per dimension'
    """
    if metric == "accuracy":
        return f"{value:.1%}"
    if metric == NATS:
        return f"{_digits(value)} nats ({_digits(bits_per_dimension(value))} bits) per dimension"
    return f"{_digits(value)} {metric}" if " " in metric else f"{metric} {_digits(value)}"


def _digits(value: float) -> str:
    """Four significant digits, zeros too: one bit is "1.000 bits"."""
    return f"{value:#.4g}".removesuffix(".")


def amount_text(value: float, unit: str) -> str:
    """Return a change of answers with its unit: "12.3%" of shares, "0.12 nats per dimension".

    `value` is the change, a share where the unit is of shares.

    Example:
        >>> from pynode_jl.diagnostics import amount_text
        >>> amount_text(0.123, "of their error"), amount_text(0.123, "nats per dimension")
        ('12.3%', '0.123 nats per dimension')
    """
    suffix = unit if unit not in ("", OF_ERROR, SCORE) else ""
    return f"{_bare(value, unit)} {suffix}".rstrip()


def interval_text(low: float, high: float, unit: str) -> str:
    """Return an interval of changes, the unit once: "10 to 14%", "0.1 to 0.2 nats".

    `low` and `high` are its ends.

    Example:
        >>> from pynode_jl.diagnostics import interval_text
        >>> interval_text(0.1, 0.14, "of their error")
        '10 to 14%'
    """
    ends = _bare(low, unit).removesuffix("%"), amount_text(high, unit)
    return " to ".join(ends)


def _bare(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "infinitely much"
    return share_text(value) if unit in ("", OF_ERROR) else f"{value:.3g}"


def _as_trained(verdict: Verdict) -> str:
    return f"{score_text(verdict.trained, verdict.metric)} with {verdict.solver} as trained"


def _counted(flips: Flips | Shift, verdict: Verdict) -> str:
    """Flips, or a shift, and their interval: "changes 12 of 1000 answers (0.5 to 2.1%, ...)"."""
    sure = share_text(verdict.confidence)
    if isinstance(flips, Shift):
        what, ends = _SHIFTED.get(verdict.unit, _SHIFTED[""]), (flips.low, flips.high)
        bits = ""
        if verdict.unit == NATS and math.isfinite(flips.share):
            bits = f"{bits_per_dimension(flips.share):.3g} bits; "
        return (
            f"shifts {what.format(_bare(flips.share, verdict.unit))}"
            f" ({bits}{interval_text(*ends, verdict.unit)}, with {sure} confidence)"
        )
    return (
        f"changes {flips.flips} of {flips.samples} answers"
        f" ({points(flips.low)} to {points(flips.high)}%, with {sure} confidence)"
    )


def _scores(verdict: Verdict) -> str:
    """Return what the ODE scores, and whether it answers better: "scores 50.0%"."""
    ode = verdict.ode
    if ode is None:
        return "has no reference"
    if isinstance(ode, Shift):
        end = ode.difference_low if verdict.higher_is_better else -ode.difference_high
        better = "answers better: " if end > 0 else "scores "
        metric = "" if verdict.metric == SCORE else verdict.metric
        return f"{better}{score_text(ode.score, metric).strip()}"
    if ode.p_value < 1 - verdict.confidence and ode.won > ode.lost:
        return f"answers better: {ode.accuracy:.1%}, {ode.won} answers won and {ode.lost} lost"
    return f"scores {ode.accuracy:.1%}"


def _by_accuracy(verdict: Verdict) -> str:
    rules = {
        "three-points": "three points of accuracy under solvers of its order or higher",
        "ten-points": "ten points of accuracy against the next-order solver",
    }
    return (
        f" Judged by the paper's rule, {rules[verdict.criterion]}: {_drop(verdict.drop)} under"
        f" {verdict.worst}."
    )


def _drop(drop: float) -> str:
    return f"{points(drop)} points lost" if drop >= 0 else f"{points(-drop)} points won"


def _valid(verdict: Verdict) -> str:
    text = f"valid ODE: {_as_trained(verdict)}."
    ode, worst = verdict.ode, verdict.decisive
    if verdict.criterion != "flips":
        return text + _by_accuracy(verdict)
    if ode is None or worst is None:
        return text
    text += f" Its ODE {_counted(ode, verdict)}"
    if verdict.finer:
        several = verdict.finer > 1
        nearer = f"the {verdict.finer} solves nearer to it" if several else "the solve nearer to it"
        if worst.share > ode.share:
            text += f", {nearer} up to {_most(worst, verdict)}"
        else:
            text += f", none of {nearer} more" if several else f", {nearer} no more"
    margin = amount_text(verdict.margin, verdict.unit)
    return f"{text}; the margin is {margin}. Its ODE {_scores(verdict)}."


def _most(worst: Flips | Shift, verdict: Verdict) -> str:
    high = amount_text(worst.high, verdict.unit)
    if isinstance(worst, Shift):
        return f"{amount_text(worst.share, verdict.unit)} ({worst.label}, at most {high})"
    return f"{worst.flips} ({worst.label}, at most {points(worst.high)}%)"


def _tied(verdict: Verdict) -> str:
    text = f"tied to its solver: {_as_trained(verdict)}."
    found, group = verdict.decisive, verdict.decisive_class
    if verdict.criterion != "flips" or found is None:
        return text + _by_accuracy(verdict)
    if group is not None:
        return (
            f"{text} {_solve(found)} changes {group.flips} of the {group.samples} answers in class"
            f" {group.class_} (at least {points(group.low)}%), the margin is"
            f" {share_text(verdict.margin)}. Its ODE {_scores(verdict)}."
        )
    if found.label == ODE:
        return f"{text} Its ODE {_counted(found, verdict)} and {_scores(verdict)}."
    return (
        f"{text} {found.label}, which is nearer to its ODE, {_counted(found, verdict)}; the margin"
        f" is {amount_text(verdict.margin, verdict.unit)}. Its ODE {_scores(verdict)}."
    )


def _solve(flips: Flips | Shift) -> str:
    return "Its ODE" if flips.label == ODE else flips.label


def _undecided(verdict: Verdict) -> str:
    text = f"undecided: {_as_trained(verdict)}"
    found = verdict.decisive
    if found is None:
        return f"{text}; its ODE could not be solved ({verdict.reason})."
    margin = amount_text(verdict.margin, verdict.unit)
    text += f". {_solve(found)} {_counted(found, verdict)}; the margin is {margin}."
    if verdict.reason == "reference" and isinstance(found, Shift):
        return f"{text} The reference's own error may change that."
    if verdict.reason == "reference" and not isinstance(found, Shift):
        return f"{text} {found.unsure} answers are open: the reference's own error may change them."
    if verdict.needed is None:
        return f"{text} At this rate no number of test samples would decide."
    return f"{text} About {verdict.needed} test samples would decide at this rate."


def _skilled(skill: Skill | None, metric: str) -> str:
    """Return what a model is measured against: "above 50.3%, the most frequent label's share"."""
    if skill is None:
        return "above the most frequent label's share"
    if metric != "accuracy":
        what = {"RMSE": "the mean of the data"}.get(metric, "the answer that looks at no input")
        return f"better than {score_text(skill.frequent, metric)}, {what} ({skill.samples} samples)"
    return (
        "above "
        f"{skill.frequent:.1%}, the most frequent label's share"
        f" ({100 * (skill.accuracy - skill.frequent):+.1f} points, {100 * skill.low:+.1f} to"
        f" {100 * skill.high:+.1f}, {skill.samples} samples)"
    )


def _untrained(verdict: Verdict) -> str:
    return (
        f"untrained: {_as_trained(verdict)} is not surely"
        f" {_skilled(verdict.skill, verdict.metric)}. Train it further, or take more test samples,"
        " then ask."
    )


def _overfitted(verdict: Verdict) -> str:
    learned = verdict.train_skill
    better = "better" if learned is None else score_text(learned.accuracy, verdict.metric)
    return (
        f"overfitted: {_as_trained(verdict)} is not surely"
        f" {_skilled(verdict.skill, verdict.metric)}, but {better} on its training data. More"
        " training data or a smaller model may help; more training will not."
    )


def _non_finite(verdict: Verdict) -> str:
    return (
        f"non-finite weights: {verdict.reason}. Training has diverged: take its last good"
        " checkpoint, or train again with a smaller learning rate or step."
    )


def _failed(verdict: Verdict) -> str:
    return (
        f"failed: the training solve, {verdict.solver}, did not reach its end on the test samples:"
        f" {verdict.reason}"
    )


_KINDS = {
    "valid": _valid,
    "tied": _tied,
    "undecided": _undecided,
    "untrained": _untrained,
    "overfitted": _overfitted,
    "non-finite": _non_finite,
    "failed": _failed,
}
