"""Swap the solver of a trained model and see what breaks (Ott et al. 2021, Fig. 4).

A model is measured under many solvers and against its own ODE (`exact_flow`). The
verdict rests on the finer ones among them: of at least the training solver's order, at steps (or
tolerances) no larger. A fixed and an adaptive solver cannot be compared so; between them the finer
one is that whose final states, measured, are as near to the ODE's or nearer. An ODE keeps its
answers under finer solvers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from pynode_jl.analysis._reference import REFERENCE as REFERENCE
from pynode_jl.analysis._reference import ROUNDING, exact_flow, state_error
from pynode_jl.backends import Backend, Evaluation, RetCode, get_backend
from pynode_jl.datasets import Dataset
from pynode_jl.errors import InvalidValueError, WrongSolverError
from pynode_jl.solvers import Solver, info
from pynode_jl.training import Trained, check_fit

#: The paper's factors on the training step or tolerance.
STEP_FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)
TOLERANCE_FACTORS = (0.1, 1.0, 10.0)
#: The paper's test solvers for a fixed-step and for an adaptive training solver, from the training
#: solver's order upwards.
FIXED_TEST_SOLVERS = ("Euler", "Midpoint", "RK4")
ADAPTIVE_TEST_SOLVERS = ("Fehlberg21", "DP5")

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


@dataclass(frozen=True)
class Verdict:
    """What a swap table says, in one word and in a sentence.

    Attributes:
        kind: "valid": an ODE, as far as these solvers can tell; "tied": accuracy is lost under
            a finer solver; "untrained": accuracy as trained is not far enough
            above chance to say; "undecided": no finer solver was tried, or the reference failed.
        text: the sentence, with its figures.
        drop: accuracy lost, as trained minus the worst of the finer solves (nan if undecided).
        worst: the label of the solver that loses it ("" if undecided).
    """

    kind: Literal["valid", "tied", "untrained", "undecided"]
    text: str
    drop: float
    worst: str


@dataclass(frozen=True)
class Rounding:
    """What the arithmetic of training does to the answers, beside what finer solvers do.

    A table is made in full precision, whatever a model was trained in: its answers could else
    change by rounding and be put down to the solver.

    Attributes:
        precision: the field's, in training.
        accuracy: under the training solver in that precision.
        changed: share of answers that full precision changes, the solver being the same.
        swapped: the largest share that a finer solver, or the reference, changes (nan if there was
            none).
        margin: the loss of accuracy that a verdict asks for.
    """

    precision: str
    accuracy: float
    changed: float
    swapped: float
    margin: float

    @property
    def text(self) -> str:
        """One sentence with its figures, and a warning where they are too large."""
        beside = f", finer solvers up to {self.swapped:.1%}" if np.isfinite(self.swapped) else ""
        figures = (
            f"Trained in {self.precision}: full precision, in which all this is measured, changes"
            f" {self.changed:.1%} of its answers (accuracy in {self.precision}"
            f" {self.accuracy:.1%}){beside}."
        )
        if self.changed <= self.margin:
            return figures
        return f"{figures} Rounding changes more than the margin: train in full precision to know."


@dataclass(frozen=True)
class SwapReport:
    """A trained model under many solvers.

    Attributes:
        table: one row per test solve (`COLUMNS`); rows of failed solves hold what the last state
            gives, and their return code.
        trained: accuracy under the training solver.
        ode: accuracy under the reference solve, of the ODE itself (nan where that failed).
        chance: the share of the most frequent label.
        verdict: what it means.
        rounding: of a model trained in another precision than full, what that does to the answers;
            None for all others.
    """

    table: pd.DataFrame
    trained: float
    ode: float
    chance: float
    verdict: Verdict
    rounding: Rounding | None = None


def swap(
    trained: Trained,
    dataset: Dataset,
    tests: Sequence[str | Solver] | None = None,
    *,
    factors: Sequence[float] | None = None,
    margin: float = 0.03,
    backend: Backend | None = None,
    on_solve: Callable[[int, int, str], None] | None = None,
) -> SwapReport:
    """Evaluate a trained model under other solvers, on the whole test set.

    Args:
        trained: the model, its weights and the solver it was trained with (`train`, `Trained.of`).
        dataset: whose test part is used.
        tests: what to swap in. A name takes the training solver's step or tolerances times each of
            `factors`; a `Solver` (or text such as ``"Tsit5:rtol=1e-6"``) is taken as it is.
            Default: the paper's.
        factors: default the paper's, 0.5 to 2 for steps, 0.1 to 10 for tolerances.
        margin: the loss of accuracy up to which a model still holds.
        backend: what integrates; default `get_backend()`.
        on_solve: called before each solve with its number, their number and its label; all solves
            of the reference have one number.

    Returns:
        `SwapReport`. A step longer than the interval is left out.

    Raises:
        InvalidValueError: a factor or margin out of range.
        WrongSolverError: a test solver by name that cannot step as the training solver does.
    """
    model, weights, train_solver = trained.model, trained.weights, trained.solver
    check_fit(model, dataset)
    backend = get_backend() if backend is None else backend
    if not 0 < margin < 1:
        raise InvalidValueError(
            "margin", margin, "a number between 0 and 1", "0.03 is three points."
        )
    plan = list(_planned(train_solver, tests, factors, abs(model.t1 - model.t0)))
    x, labels = dataset.x_test, dataset.y_test
    steps = len(plan) + 2

    def solve(number: int, solver: Solver, x: np.ndarray) -> Evaluation:
        if on_solve is not None:
            on_solve(number, steps, solver.label)
        return backend.evaluate(model, weights, x, solver)

    base = solve(1, train_solver, x)
    x64 = x.astype(np.float64)
    exact = exact_flow(lambda solver: solve(2, solver, x64), base)
    rows = []
    for number, (solver, factor) in enumerate(plan, start=3):
        # The training solver's own row is the evaluation that all others are compared with.
        evaluation = base if solver == train_solver else solve(number, solver, x)
        rows.append(_row(train_solver, solver, factor, evaluation, base, exact, labels))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    solved = exact.stats.retcode == RetCode.Success
    table["finer"] = _finer(table, train_solver, state_error(base, exact) if solved else np.nan)
    as_trained = base.accuracy(labels)
    chance = float(np.bincount(labels, minlength=model.classes).max() / labels.size)
    ode = exact.accuracy(labels) if solved else float("nan")
    verdict = _verdict(table, train_solver, as_trained, ode, chance, margin)
    precision = trained.recipe.precision
    if precision == "full":
        return SwapReport(table, as_trained, ode, chance, verdict)
    rounded = backend.evaluate(model, weights, x, train_solver, precision=precision)
    shares = 1.0 - table.loc[table["finer"], "agreement"]
    if solved:
        shares[len(table)] = float(np.mean(exact.predictions != base.predictions))
    rounding = Rounding(
        precision,
        rounded.accuracy(labels),
        float(np.mean(rounded.predictions != base.predictions)),
        float(shares.max()),
        margin,
    )
    verdict = replace(verdict, text=f"{verdict.text} {rounding.text}")
    return SwapReport(table, as_trained, ode, chance, verdict, rounding)


def _planned(
    train_solver: Solver,
    tests: Sequence[str | Solver] | None,
    factors: Sequence[float] | None,
    span: float,
) -> Iterator[tuple[Solver, float]]:
    fixed = train_solver.fixed
    if tests is None:
        names = FIXED_TEST_SOLVERS if fixed else ADAPTIVE_TEST_SOLVERS
        order = train_solver.info.order or 0
        tests = [name for name in names if (info(name).order or 0) > order]
        tests = [train_solver.name, *tests]
    if factors is None:
        factors = STEP_FACTORS if fixed else TOLERANCE_FACTORS
    for factor in factors:
        if not (np.isfinite(factor) and factor > 0):
            raise InvalidValueError("factors", factor, "numbers above 0", "0.5 halves the step.")
    for test in tests:
        if isinstance(test, str) and ":" in test:
            test = Solver.parse(test)
        if isinstance(test, Solver):
            yield test, float("nan")
            continue
        for factor in factors:
            solver = _like(train_solver, test).scaled(factor)
            if solver.dt is None or solver.dt <= span * (1 + 1e-6):
                yield solver, float(factor)


def _like(train_solver: Solver, name: str) -> Solver:
    """The method `name` with the training solver's step or tolerances."""
    try:
        return Solver(name, dt=train_solver.dt, rtol=train_solver.rtol, atol=train_solver.atol)
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
    exact: Evaluation,
    labels: np.ndarray,
) -> dict[str, object]:
    stats = evaluation.stats
    return {
        "train_solver": train_solver.label,
        "test_solver": solver.name,
        "order": solver.info.order,
        "factor": factor,
        "label": solver.label,
        "step": solver.dt if solver.dt is not None else solver.rtol,
        "fixed": solver.fixed,
        "accuracy": evaluation.accuracy(labels),
        "agreement": float(np.mean(evaluation.predictions == base.predictions)),
        "logit_distance": _mean_norm(evaluation.logits - base.logits) / _mean_norm(base.logits),
        "state_error": state_error(evaluation, exact),
        "finer": False,
        "nf": stats.nf,
        "njac": stats.njac,
        "naccept": stats.naccept,
        "nreject": stats.nreject,
        "seconds": stats.seconds,
        "retcode": str(stats.retcode),
    }


def _finer(table: pd.DataFrame, train_solver: Solver, own_error: float) -> pd.Series[bool]:
    """Which solves are finer than the training solver's, itself included."""
    step = float(train_solver.dt or train_solver.rtol or np.inf)
    comparable = table["fixed"] == train_solver.fixed
    by_order = (table["order"] >= (train_solver.info.order or 0)) & (
        table["step"] <= step * (1 + 1e-9)
    )
    by_error = table["state_error"] <= max(own_error, ROUNDING)
    succeeded = table["retcode"] == RetCode.Success
    return succeeded & by_order.where(comparable, by_error)


def _mean_norm(logits: np.ndarray) -> float:
    # A diverged solve's logits may overflow float32 when squared.
    return float(np.linalg.norm(logits.astype(np.float64), axis=1).mean())


def _verdict(
    table: pd.DataFrame,
    train_solver: Solver,
    trained: float,
    ode: float,
    chance: float,
    margin: float,
) -> Verdict:
    label = train_solver.label
    as_trained = f"{trained:.1%} with {label} as trained"
    if trained < chance + (1 - chance) / 2:
        text = f"untrained: {as_trained}, chance is {chance:.1%}; train it further, then ask."
        return Verdict("untrained", text, float("nan"), "")
    if not np.isfinite(ode):
        text = f"undecided: {as_trained}; its ODE could not be solved to {REFERENCE.label}."
        return Verdict("undecided", text, float("nan"), "")
    finer = table[table["finer"] & (table["label"] != label)]
    if finer.empty:
        text = f"undecided: {as_trained}; no finer solver was tried."
        return Verdict("undecided", text, float("nan"), "")
    worst = finer.sort_values("accuracy").iloc[0]
    # The reference is the finest swap of all.
    accuracy, name = min(
        (float(worst["accuracy"]), str(worst["label"])), (ode, "its exact ODE flow")
    )
    drop = trained - accuracy
    if drop > margin:
        text = (
            f"tied to its solver: {as_trained}, {accuracy:.1%} with {name}, which is finer;"
            f" its ODE scores {ode:.1%}."
        )
        return Verdict("tied", text, drop, name)
    finest = finer.sort_values("state_error").iloc[0]
    text = (
        f"valid ODE: {as_trained} holds within {max(drop, 0.0) * 100:.1f} points under all"
        f" {len(finer)} finer solves, down to {finest['label']}"
        f" (error {finest['state_error']:.0e}); its ODE scores {ode:.1%}."
    )
    return Verdict("valid", text, drop, name)
