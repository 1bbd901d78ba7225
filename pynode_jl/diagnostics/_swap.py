"""Swap the solver of a trained model and see what breaks (Ott et al. 2021, Fig. 4).

A model is measured under many solvers and against its own ODE (`reference_solve`). A test solve is
*finer* if its states are measured to be as near to the ODE's as the training solve's, or nearer:
order and step decide nothing. The verdict compares the answers of the finer solves, and the ODE's,
with those of the training solver (`diagnostics._verdict`). An ODE keeps its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pynode_jl._validation import real_number
from pynode_jl.backends import Array, Backend, BackendLike, Evaluation, RetCode, Stats, as_backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics._reference import REFERENCE as REFERENCE
from pynode_jl.diagnostics._reference import (
    ROUNDING,
    Reference,
    ReferenceCost,
    not_asked,
    reference_solve,
)
from pynode_jl.diagnostics._verdict import (
    ODE,
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
from pynode_jl.training.step_adaptation import next_order_solver

#: The paper's factors on the training step or tolerance.
STEP_FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)
TOLERANCE_FACTORS = (0.1, 1.0, 10.0)
#: The paper's test solvers for a fixed-step and for an adaptive training solver, from the training
#: solver's order upwards.
FIXED_TEST_SOLVERS = ("Euler", "Midpoint", "RK4")
ADAPTIVE_TEST_SOLVERS = ("Fehlberg21", "DP5")
#: The accuracies that the paper's own rules allow to be lost.
THREE_POINTS, TEN_POINTS = 0.03, 0.1

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
)

# Training samples that tell an overfitted model from an untrained one.
_TRAINING_SAMPLES = 2_000


@dataclass(frozen=True)
class SwapReport:
    """A trained model under many solvers.

    Attributes:
        table: one row per test solve (`COLUMNS`); rows of failed solves hold what the last state
            gives, and their return code.
        trained: accuracy under the training solver.
        ode: accuracy under the reference solve, of the ODE itself (nan where there is none).
        chance: the share of the most frequent label.
        verdict: what it means.
        reference: the reference solve, with its states; not part of a report that was read from a
            file, where it is None.
        cost: the reference's error and cost.
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
        >>> report = swap(trained, data, ["RK4", "Tsit5:tol=1e-6"])  # doctest: +SKIP
        >>> report.verdict.kind  # doctest: +SKIP
        'valid'
    """
    trained = as_trained_model(trained)
    model, weights, train_solver = trained.model, trained.weights, trained.solver
    check_fit(model, dataset)
    backend = as_backend(backend, model.field)
    check_rule(margin, confidence, criterion)
    if criterion == "three-points":
        _ = train_solver.order  # the rule is about orders
    plan = list(_planned(train_solver, tests, factors, abs(model.t1 - model.t0)))
    x, labels = dataset.x_test, dataset.y_test
    steps = len(plan) + 2

    def solve(number: int, solver: Solver, x: Array) -> Evaluation:
        if on_solve is not None:
            on_solve(number, steps, solver.label)
        try:
            return backend.evaluate(model, weights, x, solver)
        except SolveError as error:
            # A solve that the library refuses in its own words is a failed row like any other.
            return _failed_evaluation(len(x), model.classes, model.field.state_shape, error)

    base = solve(1, train_solver, x)
    learned = skill(base.predictions, labels, confidence)
    context = Verdict(
        "undecided",
        "",
        criterion,
        train_solver.label,
        len(labels),
        confidence,
        margin,
        base.accuracy(labels),
        skill=learned,
    )
    unfit = _unfit(context, learned, trained, dataset, base, backend)
    # Of a model that has learned nothing, or of no answers at all, a reference tells no more.
    asked = unfit is None and (len(plan) > 0 or criterion != "ten-points")
    reference = not_asked(len(labels))
    if asked:
        x64 = x.astype(np.float64)
        reference = reference_solve(lambda solver: solve(2, solver, x64), base)
    rows, answers = [], []
    for number, (solver, factor) in enumerate(plan, start=3):
        # The training solver's own row is the evaluation that all others are compared with.
        evaluation = base if solver == train_solver else solve(number, solver, x)
        rows.append(_row(train_solver, solver, factor, evaluation, base, reference, labels))
        answers.append(evaluation.predictions)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["finer"] = _finer(table, reference.distance(base), reference.error)
    counted = (table["finer"] & (table["label"] != train_solver.label)).to_numpy(bool)
    found = compare(
        list(table["label"]),
        # Few classes: small integers make the comparison of many solves cheap.
        np.array(answers, np.int32),
        base.predictions.astype(np.int32),
        reference.predictions.astype(np.int32) if reference.solved else None,
        reference.unsure,
        labels,
        counted=counted,
        confidence=confidence,
    )
    table = _with_flips(table, found)
    if unfit is not None:
        verdict = unfit
    elif criterion == "ten-points":
        verdict = _ten_points(context, train_solver, abs(model.t1 - model.t0), labels, solve, x)
    elif not reference.solved:
        verdict = replace(context, reason=_last_code(reference))
    else:
        verdict = judge(context, found, counted)
        if criterion == "three-points":
            verdict = _three_points(verdict, table, train_solver, float(found.accuracy[-1]))
    if trained.precision != "full":
        rounding = _rounding(trained, dataset, base, found, counted, margin, backend)
        verdict = replace(verdict, rounding=rounding)
    return SwapReport(
        table,
        context.trained,
        reference.accuracy(labels),
        learned.frequent,
        verdict,
        reference,
        reference.cost,
    )


def _unfit(
    verdict: Verdict,
    learned: Skill,
    trained: TrainedModel,
    dataset: Dataset,
    base: Evaluation,
    backend: Backend,
) -> Verdict | None:
    """The verdict on a model whose answers there is no point in comparing; None for all others."""
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


def _three_points(
    verdict: Verdict, table: pd.DataFrame, train_solver: Solver, accuracy: float
) -> Verdict:
    """The paper's swap: accuracy under all solvers that claim to be finer, and under the ODE."""
    comparable = table["fixed"] == train_solver.fixed
    claims = (table["order"] >= train_solver.order) & (
        table["step"] <= train_solver.stepping.size * (1 + 1e-9)
    )
    claims = claims.where(comparable, table["finer"]) & (table["retcode"] == RetCode.Success)
    worst = ODE
    finer = table[claims & (table["label"] != train_solver.label)]
    if len(finer) and finer["accuracy"].min() < accuracy:
        lowest = finer.sort_values("accuracy").iloc[0]
        accuracy, worst = float(lowest["accuracy"]), str(lowest["label"])
    return _by_drop(replace(verdict, finer=len(finer)), accuracy, worst, THREE_POINTS)


def _ten_points(
    verdict: Verdict,
    train_solver: Solver,
    span: float,
    labels: Array,
    solve: Callable[[int, Solver, Array], Evaluation],
    x: Array,
) -> Verdict:
    """The check of the paper's step adaptation, on the whole test set."""
    test = next_order_solver(train_solver)
    if test.fixed:
        test = test.with_step(min(test.stepping.size, span))
    # With tolerances float32 may not reach the finer one.
    evaluation = solve(2, test, x if test.fixed else x.astype(np.float64))
    return _by_drop(verdict, evaluation.accuracy(labels), test.label, TEN_POINTS, both_ways=True)


def _by_drop(
    verdict: Verdict, accuracy: float, worst: str, allowed: float, *, both_ways: bool = False
) -> Verdict:
    drop = verdict.trained - accuracy
    return replace(
        verdict,
        kind="tied" if (abs(drop) if both_ways else drop) > allowed else "valid",
        reason="accuracy",
        decisive=None,
        decisive_class=None,
        needed=None,
        drop=drop,
        worst=worst,
        margin=allowed,
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


def _failed_evaluation(
    samples: int, classes: int, state: tuple[int, ...], error: SolveError
) -> Evaluation:
    known = {str(code) for code in RetCode}
    code = RetCode(error.retcode) if error.retcode in known else RetCode.Unstable
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


def _planned(
    train_solver: Solver,
    tests: Sequence[str | Solver] | None,
    factors: Sequence[float] | None,
    span: float,
) -> Iterator[tuple[Solver, float]]:
    fixed = train_solver.fixed
    if tests is None:
        names = FIXED_TEST_SOLVERS if fixed else ADAPTIVE_TEST_SOLVERS
        # Of a method that varies its order each of them may be the finer one.
        order = train_solver.info.order
        above = (name for name in names if order is None or _like(train_solver, name).order > order)
        tests = [train_solver.name, *above]
    if factors is None:
        factors = STEP_FACTORS if fixed else TOLERANCE_FACTORS
    for factor in factors:
        real_number("factors", factor, "0.5 halves the step.", above=0)
    for test in tests:
        if isinstance(test, str) and ":" in test:
            test = Solver.parse(test)
        if isinstance(test, Solver):
            yield test, float("nan")
            continue
        for factor in factors:
            solver = _like(train_solver, test).scaled(factor)
            if not solver.fixed or solver.stepping.size <= span * (1 + 1e-6):
                yield solver, float(factor)


def _like(train_solver: Solver, name: str) -> Solver:
    """The method `name` with the training solver's step or tolerances."""
    try:
        own = train_solver.own_tableau
        method = own if own is not None and name == own.name else name
        return Solver(method, train_solver.stepping)
    except WrongSolverError as error:
        how = "steps" if train_solver.fixed else "tolerances"
        raise WrongSolverError(
            "tests",
            name,
            f"names of solvers that take {how}, as the training solver {train_solver.label} does",
            f'Give it settings of its own: "{name}:dt=1/16" or "{name}:rtol=1e-3".',
        ) from error


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
        "seconds": stats.seconds,
        "retcode": str(stats.retcode),
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
