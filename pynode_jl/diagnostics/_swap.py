"""Swap the solver of a trained model and see what breaks (Ott et al. 2021, Fig. 4).

A model is measured under many solvers and against its own ODE (`reference_solve`). A test solve is
*finer* if its states are measured to be as near to the ODE's as the training solve's, or nearer:
order and step decide nothing. The verdict compares the answers of the finer solves, and the ODE's,
with those of the training solver (`diagnostics._verdict`). An ODE keeps its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pynode_jl._validation import optional_callable
from pynode_jl.backends import Array, Backend, BackendLike, Evaluation, RetCode, Stats, as_backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics._paper_rules import ten_points, three_points
from pynode_jl.diagnostics._reference import (
    ROUNDING,
    Reference,
    ReferenceCost,
    not_asked,
    reference_solve,
)
from pynode_jl.diagnostics._test_solvers import planned
from pynode_jl.diagnostics._verdict import (
    Comparisons,
    Criterion,
    Rounding,
    Skill,
    Verdict,
    check_rule,
    compare,
    judge,
    skill,
)
from pynode_jl.errors import SolveError, WrongSolverError
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedLike, TrainedModel, as_trained_model, check_fit

COLUMNS = (
    "train_solver",
    "test_solver",
    "order",
    "factor",
    "label",
    "step",
    "fixed",
    "accuracy",
    "agreement",
    "flips",
    "flips_low",
    "flips_high",
    "lost",
    "won",
    "p_value",
    "worst_class",
    "class_samples",
    "class_flips",
    "class_low",
    "logit_distance",
    "state_error",
    "finer",
    "nf",
    "njac",
    "naccept",
    "nreject",
    "seconds",
    "retcode",
    "reason",
)
#: The return code of a row whose solver was not run: the backend does not have it.
NOT_RUN = "NotRun"
# What such a row has no number for.
_MEASURED = (
    *("accuracy", "agreement", "flips", "flips_low", "flips_high", "lost", "won", "p_value"),
    *("worst_class", "class_samples", "class_flips", "class_low"),
)

# Training samples that tell an overfitted model from an untrained one.
_TRAINING_SAMPLES = 2_000


@dataclass(frozen=True)
class SwapReport:
    """A trained model under many solvers.

    Attributes:
        table: one row per test solve (`COLUMNS`); rows of failed solves hold what the last state
            gives, and their return code. A solver that the backend cannot run has a row of its
            own, with the return code "NotRun" and the reason. Seconds are those of the solve,
            without compilation where the backend can tell.
        trained: accuracy under the training solver.
        ode: accuracy under the reference solve, of the ODE itself (nan where there is none).
        chance: the share of the most frequent label.
        verdict: what it means.
        reference: the reference solve, with its states; not part of a report that was read from a
            file, where it is None.
        cost: the reference's error and cost.

    Example:
        >>> report = pn.swap(trained, data, ["RK4"], backend="jax")
        >>> report.table[["label", "accuracy", "flips"]].head(1).to_dict("records")
        [{'label': 'RK4 h=1/2', 'accuracy': 0.0, 'flips': 200}]
    """

    table: pd.DataFrame
    trained: float
    ode: float
    chance: float
    verdict: Verdict
    reference: Reference | None = None
    cost: ReferenceCost | None = None

    @property
    def rounding(self) -> Rounding | None:
        """Of a model trained in another precision than full, what that does to the answers."""
        return self.verdict.rounding

    @property
    def comparisons(self) -> pd.DataFrame:
        """One row for each solve that the verdict rests on, the ODE first: label, flips, share,
        low, high, lost, won, p_value, accuracy. Empty where nothing was compared."""
        finer = self.table[self.table["finer"] & (self.table["label"] != self.verdict.solver)]
        renamed = finer.rename(columns={"flips_low": "low", "flips_high": "high"})
        renamed = renamed.assign(share=renamed["flips"] / self.verdict.samples)
        columns = ["label", "flips", "share", "low", "high", "lost", "won", "p_value", "accuracy"]
        ode = self.verdict.ode
        first = [] if ode is None else [{**vars(ode), "share": ode.share}]
        return pd.concat(
            [pd.DataFrame(first, columns=columns), renamed[columns]], ignore_index=True
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values for JSON: verdict, accuracies, reference; the table is apart.

        The ODE's accuracy is None where there is no reference.
        """
        return {
            "verdict": self.verdict.to_dict(),
            "trained": self.trained,
            "ode": None if np.isnan(self.ode) else self.ode,
            "chance": self.chance,
            "reference": None if self.cost is None else self.cost.to_dict(),
        }


def swap(
    trained: TrainedLike,
    dataset: Dataset,
    tests: Sequence[str | Solver] | None = None,
    *,
    factors: Sequence[float] | None = None,
    margin: float = 0.03,
    confidence: float = 0.95,
    criterion: Criterion = "flips",
    backend: BackendLike = None,
    on_solve: Callable[[int, int, str], None] | None = None,
) -> SwapReport:
    """Evaluate a trained model under other solvers, on the whole test set.

    Args:
        trained: what `train` returned, or a `TrainedModel` that was trained elsewhere.
        dataset: whose test part is used.
        tests: what to swap in. A name takes the training solver's step or tolerances times each of
            `factors`; a `Solver` (or text such as ``"Tsit5:rtol=1e-6"``) is taken as it is.
            Default: the paper's.
        factors: default the paper's, 0.5 to 2 for steps, 0.1 to 10 for tolerances.
        margin: the share of answers that may change while a model still holds.
        confidence: of the intervals that the verdict rests on.
        criterion: "flips", or a rule of the paper: "three-points" of accuracy under all solvers of
            the training solver's order or higher at steps no longer, or "ten-points" against the
            next-order solver, as its step adaptation checks. Margin and confidence are not theirs.
        backend: what integrates, or its name; default `get_backend()`.
        on_solve: called before each solve with its number, their number and its label; all solves
            of the reference have one number.

    Returns:
        `SwapReport`. A step longer than the interval is left out.

    Raises:
        InvalidValueError: a factor, margin or confidence out of range, or an unknown criterion.
        WrongSolverError: a test solver by name that cannot step as the training solver does, or a
            training solver of no one order where the criterion is "three-points".

    Example:
        >>> pn.swap(trained, data, ["RK4", "Tsit5:tol=1e-6"], backend="jax").verdict.kind
        'tied'
    """
    trained = as_trained_model(trained)
    check_fit(trained.model, dataset)
    backend = as_backend(backend, trained.model.field)
    check_rule(margin, confidence, criterion)
    optional_callable("on_solve", on_solve)
    if criterion == "three-points":
        _ = trained.solver.order  # the rule is about orders
    span = abs(trained.model.t1 - trained.model.t0)
    plan = list(planned(trained.solver, tests, factors, span))
    solve = _Solves(trained, backend, len(plan) + 2, on_solve)
    own = solve(1, trained.solver, dataset.x_test)
    learned = skill(own.predictions, dataset.y_test, confidence)
    undecided = Verdict(
        "undecided",
        "",
        criterion,
        trained.solver.label,
        dataset.n_test,
        confidence,
        margin,
        own.accuracy(dataset.y_test),
        skill=learned,
    )
    return _report(undecided, learned, own, plan, solve, dataset)


def _report(
    undecided: Verdict,
    learned: Skill,
    own: Evaluation,
    plan: Sequence[tuple[Solver, float]],
    solve: _Solves,
    dataset: Dataset,
) -> SwapReport:
    """Solve the ODE and under all test solvers, compare, and decide."""
    trained, backend, x, labels = solve.trained, solve.backend, dataset.x_test, dataset.y_test
    criterion = undecided.criterion
    unfit = _unfit(undecided, learned, trained, dataset, own, backend)
    reference = not_asked(len(labels))
    # Of a model that has learned nothing, or of no answers at all, a reference tells no more.
    if unfit is None and (plan or criterion != "ten-points"):
        x64 = x.astype(np.float64)
        reference = reference_solve(lambda solver: solve(2, solver, x64), own)
    table, found, counted = _compared(plan, solve, own, reference, dataset, undecided.confidence)
    if unfit is not None:
        verdict = unfit
    elif criterion == "ten-points":
        verdict = ten_points(undecided, trained, partial(solve, 2), x, labels)
    elif not reference.solved:
        verdict = replace(undecided, reason=_last_code(reference))
    else:
        verdict = judge(undecided, found, counted)
        if criterion == "three-points":
            verdict = three_points(verdict, table, trained.solver, float(found.accuracy[-1]))
    if trained.precision != "full":
        rounding = _rounding(trained, dataset, own, found, counted, undecided.margin, backend)
        verdict = replace(verdict, rounding=rounding)
    return SwapReport(
        table,
        undecided.trained,
        reference.accuracy(labels),
        learned.frequent,
        verdict,
        reference,
        reference.cost,
    )


@dataclass(frozen=True)
class _Solves:
    """The model's answers under any solver, each solve told of before."""

    trained: TrainedModel
    backend: Backend
    count: int
    on_solve: Callable[[int, int, str], None] | None

    def __call__(self, number: int, solver: Solver, x: Array) -> Evaluation:
        if self.on_solve is not None:
            self.on_solve(number, self.count, solver.label)
        model = self.trained.model
        try:
            return self.backend.evaluate(model, self.trained.weights, x, solver)
        except SolveError as error:
            # A solve that the library refuses in its own words is a failed row like any other.
            known = {str(code) for code in RetCode}
            code = RetCode(error.retcode) if error.retcode in known else RetCode.Unstable
            return _no_answers(len(x), model.classes, model.field.state_shape, code)


def _compared(
    plan: Sequence[tuple[Solver, float]],
    solve: _Solves,
    own: Evaluation,
    reference: Reference,
    dataset: Dataset,
    confidence: float,
) -> tuple[pd.DataFrame, Comparisons, Array]:
    """Return the table of all test solves, their comparisons, and which count: the finer ones."""
    train_solver, labels = solve.trained.solver, dataset.y_test
    rows, answers = [], []
    for number, (solver, factor) in enumerate(plan, start=3):
        refusal = ""
        try:
            # The training solver's own row is the evaluation that all others are compared with.
            found = own if solver == train_solver else solve(number, solver, dataset.x_test)
        except WrongSolverError as error:
            # One that this backend cannot run is no reason to lose all others.
            model, refusal = solve.trained.model, str(error)
            found = _no_answers(len(labels), model.classes, model.field.state_shape)
        row = _row(train_solver, solver, factor, found, own, reference, labels)
        rows.append(row | ({"retcode": NOT_RUN, "reason": refusal} if refusal else {}))
        answers.append(found.predictions)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["finer"] = _finer(table, reference.distance(own), reference.error)
    counted = (table["finer"] & (table["label"] != train_solver.label)).to_numpy(bool)
    comparisons = compare(
        list(table["label"]),
        # Few classes: small integers make the comparison of many solves cheap.
        np.array(answers, np.int32),
        own.predictions.astype(np.int32),
        reference.predictions.astype(np.int32) if reference.solved else None,
        reference.unsure,
        labels,
        counted=counted,
        confidence=confidence,
    )
    table = _with_flips(table, comparisons)
    if (table["retcode"] == NOT_RUN).any():
        measured = list(_MEASURED)
        table[measured] = table[measured].where(table["retcode"] != NOT_RUN)
    return table, comparisons, counted


def _unfit(
    verdict: Verdict,
    learned: Skill,
    trained: TrainedModel,
    dataset: Dataset,
    base: Evaluation,
    backend: Backend,
) -> Verdict | None:
    """Return the verdict on a model whose answers need no comparison; None for all others."""
    broken = {
        name: int(np.sum(~np.isfinite(value)))
        for name, value in trained.weights.items()
        if not np.isfinite(value).all()
    }
    if broken:
        said = ", ".join(
            f"{count} of {trained.weights[name].size} numbers of {name}"
            for name, count in broken.items()
        )
        return replace(verdict, kind="non-finite", reason=f"{said} are NaN or infinite")
    if base.stats.retcode != RetCode.Success:
        return replace(verdict, kind="failed", reason=base.stats.retcode.meaning)
    if learned.sure:
        return None
    x, labels = dataset.x_train[:_TRAINING_SAMPLES], dataset.y_train[:_TRAINING_SAMPLES]
    answers = backend.evaluate(trained.model, trained.weights, x, trained.solver).predictions
    train_skill = skill(answers, labels, verdict.confidence)
    return replace(
        verdict,
        kind="overfitted" if train_skill.sure else "untrained",
        reason="skill",
        train_skill=train_skill,
    )


def _last_code(reference: Reference) -> str:
    if not reference.attempts:
        return "not asked"
    last = reference.attempts[-1]
    return f"{last.label} ended with {last.retcode}"


def _rounding(
    trained: TrainedModel,
    dataset: Dataset,
    base: Evaluation,
    found: Comparisons,
    counted: Array,
    margin: float,
    backend: Backend,
) -> Rounding:
    rounded = backend.evaluate(
        trained.model, trained.weights, dataset.x_test, trained.solver, precision=trained.precision
    )
    rows = np.append(counted, found.solved)
    shares = found.flips[rows] / found.samples
    return Rounding(
        trained.precision,
        rounded.accuracy(dataset.y_test),
        float(np.mean(rounded.predictions != base.predictions)),
        float(shares.max()) if shares.size else None,
        margin,
    )


def _no_answers(
    samples: int, classes: int, state: tuple[int, ...], code: RetCode = RetCode.Unstable
) -> Evaluation:
    return Evaluation(
        np.full((samples, classes), np.nan),
        np.full((samples, *state), np.nan),
        Stats(0, 0, 0, 0, code),
    )


def _with_flips(table: pd.DataFrame, found: Comparisons) -> pd.DataFrame:
    solves = len(table)
    # The class that changes most surely; the share breaks ties between zeros.
    surest = found.class_low + 1e-9 * found.class_flips / found.class_samples
    c = surest[:solves].argmax(axis=1) if solves else np.zeros(0, int)
    rows = np.arange(solves)
    return table.assign(
        flips=found.flips[:solves],
        flips_low=found.low[:solves],
        flips_high=found.high[:solves],
        lost=found.lost[:solves],
        won=found.won[:solves],
        p_value=found.p_value[:solves],
        worst_class=found.classes[c],
        class_samples=found.class_samples[c].astype(int),
        class_flips=found.class_flips[rows, c].astype(int),
        class_low=found.class_low[rows, c],
    )


def _row(
    train_solver: Solver,
    solver: Solver,
    factor: float,
    evaluation: Evaluation,
    base: Evaluation,
    reference: Reference,
    labels: Array,
) -> dict[str, object]:
    stats = evaluation.stats
    return {
        "train_solver": train_solver.label,
        "test_solver": solver.name,
        "order": solver.info.order,
        "factor": factor,
        "label": solver.label,
        "step": solver.stepping.size,
        "fixed": solver.fixed,
        "accuracy": evaluation.accuracy(labels),
        "agreement": float(np.mean(evaluation.predictions == base.predictions)),
        "logit_distance": _relative(evaluation.logits - base.logits, base.logits),
        "state_error": reference.distance(evaluation),
        "nf": stats.nf,
        "njac": stats.njac,
        "naccept": stats.naccept,
        "nreject": stats.nreject,
        "seconds": max(0.0, stats.seconds - stats.compile_seconds),
        "retcode": str(stats.retcode),
        "reason": "" if stats.retcode == RetCode.Success else stats.retcode.meaning,
    }


def _finer(table: pd.DataFrame, own_error: float, reference_error: float) -> pd.Series[bool]:
    """Which solves are as near to the ODE as the training solver's, or nearer; itself included.

    None where the reference's own error is larger: distances from it rank nothing.
    """
    allowed = max(own_error, ROUNDING)
    near = (table["state_error"] <= allowed) & (reference_error <= allowed)
    return near & (table["retcode"] == RetCode.Success)


def _relative(difference: Array, logits: Array) -> float:
    """Mean norm over mean norm; of logits that are all zero, 0 or infinite."""
    # A diverged solve's logits may overflow float32 when squared.
    distance, size = (
        float(np.linalg.norm(each.astype(np.float64), axis=1).mean())
        for each in (difference, logits)
    )
    if size == 0.0:
        return 0.0 if distance == 0.0 else float("inf")
    return distance / size
