"""Swap the solver of a trained model and see what breaks (Ott et al. 2021, Fig. 4).

A model is measured under many solvers and against its own ODE (`reference_solve`). A test solve is
*finer* if its states are measured to be as near to the ODE's as the training solve's, or nearer:
order and step decide nothing. The verdict compares the answers of the finer solves, and the ODE's,
with those of the training solver (`diagnostics._verdict`). An ODE keeps its answers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pynode_jl._display import Advance, progress_bar
from pynode_jl._validation import optional_callable
from pynode_jl.backends import (
    Array,
    Backend,
    BackendLike,
    Evaluation,
    RetCode,
    Stats,
    as_backend,
    is_mixed,
)
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics._paper_rules import ten_points, three_points
from pynode_jl.diagnostics._reference import (
    Reference,
    not_asked,
    reference_solve,
)
from pynode_jl.diagnostics._shifts import compare_shifts
from pynode_jl.diagnostics._skill import Samples, Skill, skill
from pynode_jl.diagnostics._swap_report import SwapReport
from pynode_jl.diagnostics._swap_table import (
    NOT_RUN,
    columns_of,
    finer,
    measured,
    row,
    with_comparisons,
)
from pynode_jl.diagnostics._test_solvers import planned
from pynode_jl.diagnostics._verdict import (
    AnyComparisons,
    Criterion,
    Rounding,
    Verdict,
    check_rule,
    checked_margin,
    compare,
    judge,
)
from pynode_jl.errors import SolveError, WrongSolverError
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Task
from pynode_jl.training import TrainedLike, TrainedModel, as_trained_model, check_fit

_LOG = logging.getLogger(__name__)
# Training samples that tell an overfitted model from an untrained one.
_TRAINING_SAMPLES = 2_000


def swap(
    trained: TrainedLike,
    dataset: Dataset,
    tests: Sequence[str | Solver] | None = None,
    *,
    factors: Sequence[float] | None = None,
    margin: float | None = None,
    confidence: float = 0.95,
    criterion: Criterion = "flips",
    backend: BackendLike = None,
    on_solve: Callable[[int, int, str], None] | None = None,
    progress: bool | None = None,
) -> SwapReport:
    """Evaluate a trained model under other solvers, on the whole test set.

    Args:
        trained: what `train` returned, or a `TrainedModel` that was trained elsewhere.
        dataset: whose test part is used.
        tests: what to swap in. A name takes the training solver's step or tolerances times each of
            `factors`; a `Solver` (or text such as ``"Tsit5:rtol=1e-6"``) is taken as it is.
            Default: the paper's.
        factors: default the paper's, 0.5 to 2 for steps, 0.1 to 10 for tolerances.
        margin: the change of answers up to which a model still holds, in the task's measure;
            default the task's: a share of 0.03 of a classification, 0.1 of the error of numbers.
        confidence: of the intervals that the verdict rests on.
        criterion: "flips", or a rule of the paper: "three-points" of accuracy under all solvers of
            the training solver's order or higher at steps no longer, or "ten-points" against the
            next-order solver, as its step adaptation checks. Margin and confidence are not theirs.
        backend: what integrates, or its name; default `get_backend()`.
        on_solve: called before each solve with its number, their number and its label; all solves
            of the reference have one number.
        progress: whether to show a progress bar; default: in a notebook.

    Returns:
        `SwapReport`. A step longer than the interval is left out. Of a method's steps that
        read-outs cut to the same solve all but one, unless each is given as a `Solver`.

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
    backend = as_backend(backend, trained.model)
    task = trained.model.task
    margin = checked_margin(margin, task)
    check_rule(margin, confidence, criterion, task)
    optional_callable("on_solve", on_solve)
    if criterion == "three-points":
        _ = trained.solver.order  # the rule is about orders
    span = abs(trained.model.t1 - trained.model.t0)
    longest = max(abs(b - a) for a, b in pairwise(trained.model.times))
    plan = list(planned(trained.solver, tests, factors, span, longest=longest))
    with progress_bar("swap", progress) as advance:
        solve = _Solves(trained, backend, len(plan) + 2, _telling(advance, on_solve))
        own = solve(1, trained.solver, dataset.x_test)
        learned = skill(task, own, Samples(dataset.x_test, dataset.y_test), confidence)
        undecided = Verdict(
            "undecided",
            "",
            criterion,
            trained.solver.label,
            dataset.n_test,
            confidence,
            margin,
            own.score(task, dataset.y_test),
            skill=learned,
            task=task.kind,
            metric=task.metric,
            unit=task.unit,
            higher_is_better=task.higher_is_better,
        )
        found = _report(undecided, learned, own, plan, solve, dataset)
        if advance is not None:
            advance(solve.count, solve.count, found.verdict.kind)
    _LOG.info("swap of %s: %s", trained.solver.label, found.verdict.text)
    return found


def _telling(
    advance: Advance | None, on_solve: Callable[[int, int, str], None] | None
) -> Callable[[int, int, str], None]:
    """Return what is called before each solve: logs it, moves a bar, calls the user's function."""

    def tell(number: int, count: int, label: str) -> None:
        _LOG.debug("solve %d of %d: %s", number, count, label)
        if advance is not None:
            advance(number - 1, count, label)
        if on_solve is not None:
            on_solve(number, count, label)

    return tell


def _report(
    undecided: Verdict,
    learned: Skill | None,
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
        task = trained.model.task
        reference = reference_solve(lambda solver: solve(2, solver, x64), own, task, labels)
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
            verdict = three_points(verdict, table, trained.solver, reference.accuracy(labels))
    if is_mixed(trained.precision):
        rounding = _rounding(trained, dataset, own, found, counted, undecided.margin, backend)
        verdict = replace(verdict, rounding=rounding)
    return SwapReport(
        table,
        undecided.trained,
        reference.score(trained.model.task, labels),
        math.nan if learned is None else learned.frequent,
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
    on_solve: Callable[[int, int, str], None]

    def __call__(self, number: int, solver: Solver, x: Array) -> Evaluation:
        self.on_solve(number, self.count, solver.label)
        model = self.trained.model
        try:
            return self.backend.evaluate(
                model, self.trained.weights, self.trained.inputs(x), solver
            )
        except SolveError as error:
            # A solve that the library refuses in its own words is a failed row like any other.
            known = {str(code) for code in RetCode}
            code = RetCode(error.retcode) if error.retcode in known else RetCode.Unstable
            return _no_answers(model, len(x), code)


def _compared(
    plan: Sequence[tuple[Solver, float]],
    solve: _Solves,
    own: Evaluation,
    reference: Reference,
    dataset: Dataset,
    confidence: float,
) -> tuple[pd.DataFrame, AnyComparisons, Array]:
    """Return the table of all test solves, their comparisons, and which count: the finer ones."""
    train_solver, labels = solve.trained.solver, dataset.y_test
    task = solve.trained.model.task
    rows: list[dict[str, object]] = []
    answers: list[Evaluation] = []
    for number, (solver, factor) in enumerate(plan, start=3):
        refusal = ""
        try:
            # The training solver's own row is the evaluation that all others are compared with.
            found = own if solver == train_solver else solve(number, solver, dataset.x_test)
        except WrongSolverError as error:
            # One that this backend cannot run is no reason to lose all others.
            refusal = str(error)
            found = _no_answers(solve.trained.model, len(labels))
        made = row(task, train_solver, solver, factor, found, own, reference, labels)
        rows.append(made | ({"retcode": NOT_RUN, "reason": refusal} if refusal else {}))
        answers.append(found)
    table = pd.DataFrame(rows, columns=list(columns_of(task.comparison)))
    table["finer"] = finer(table, reference.distance(own), reference.error)
    counted = (table["finer"] & (table["label"] != train_solver.label)).to_numpy(bool)
    comparisons = _comparisons(
        task, list(table["label"]), answers, own, reference, labels, counted, confidence
    )
    table = with_comparisons(table, comparisons)
    if (table["retcode"] == NOT_RUN).any():
        numbers = measured(task.comparison)
        table[numbers] = table[numbers].where(table["retcode"] != NOT_RUN)
    return table, comparisons, counted


def _comparisons(
    task: Task,
    names: list[str],
    answers: list[Evaluation],
    own: Evaluation,
    reference: Reference,
    targets: Array,
    counted: Array,
    confidence: float,
) -> AnyComparisons:
    """Compare all answers as the task does."""
    rule: dict[str, Any] = {"counted": counted, "confidence": confidence}
    exact = reference.evaluation
    if task.comparison == "shift":
        return compare_shifts(
            task,
            names,
            [each.outputs for each in answers],
            own.outputs,
            None if exact is None else exact.outputs,
            reference.doubt,
            targets,
            **rule,
        )
    return compare(
        names,
        # Few classes: small integers make the comparison of many solves cheap.
        np.array([each.predictions for each in answers], np.int32),
        own.predictions.astype(np.int32),
        reference.predictions.astype(np.int32) if reference.solved else None,
        reference.unsure,
        targets,
        **rule,
    )


def _unfit(
    verdict: Verdict,
    learned: Skill | None,
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
    if learned is None or learned.sure:
        return None
    few = Samples(dataset.x_train[:_TRAINING_SAMPLES], dataset.y_train[:_TRAINING_SAMPLES])
    answers = backend.evaluate(
        trained.model, trained.weights, trained.inputs(few.x), trained.solver
    )
    train_skill = skill(trained.model.task, answers, few, verdict.confidence)
    # Of a handful of test samples nothing is known, overfitting neither.
    sure = math.isfinite(learned.high) and train_skill is not None and train_skill.sure
    return replace(
        verdict,
        kind="overfitted" if sure else "untrained",
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
    found: AnyComparisons,
    counted: Array,
    margin: float,
    backend: Backend,
) -> Rounding:
    rounded = backend.evaluate(
        trained.model, trained.weights, dataset.x_test, trained.solver, precision=trained.precision
    )
    rows, task = np.append(counted, found.solved), trained.model.task
    shares = found.changed[rows]
    changes = task.changes(base.outputs, rounded.outputs, dataset.y_test)
    scale = task.scale(base.outputs, dataset.y_test)
    return Rounding(
        trained.precision,
        rounded.score(task, dataset.y_test),
        task.shift(changes, scale),
        float(shares.max()) if shares.size else None,
        margin,
    )


def _no_answers(model: Model, samples: int, code: RetCode = RetCode.Unstable) -> Evaluation:
    states = np.full((len(model.times) - 1, samples, *model.field.state_shape), np.nan)
    outputs = np.full((samples, *model.answer_shape), np.nan)
    return Evaluation.of(outputs, states, Stats(0, 0, 0, 0, code))
