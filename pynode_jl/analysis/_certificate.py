"""The certificate: all that the analysis knows of one model, as one verdict with its evidence.

Five witnesses are heard: swaps, the answers by step, folds and crossings, the order, and the fan.
Swaps decide what kind a model is, as in the paper; the others say why, and may stop a model that
only passed its swaps from being called an ODE. What no witness can see is listed too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd

from pynode_jl.analysis._crossing import CrossingReport, order_violations
from pynode_jl.analysis._fan import Fan, fan
from pynode_jl.analysis._folds import BLIND_SPOTS, FoldReport, FoldScan, fold_scan, folds
from pynode_jl.analysis._order import OrderReport, order_test
from pynode_jl.analysis._reference import reference_solve
from pynode_jl.analysis._swap import SwapReport, swap
from pynode_jl.analysis._verdict import Verdict
from pynode_jl.backends import Backend, RetCode, get_backend
from pynode_jl.datasets import Dataset
from pynode_jl.errors import InvalidValueError, PyNODEError
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained, check_fit

# A Jacobian has size^2 numbers: so many are made in one call (inside a field, with its channels,
# they take tens of times the memory) and in all.
_NUMBERS_AT_ONCE = 2e6
_NUMBERS = 2e8
# Step counts, and tolerances, by which answers are followed towards the ODE's.
_MOST_STEPS = 512
_ADAPTIVE_STEPS = 64
_TOLERANCES = tuple(10.0**-k for k in range(1, 8))
# Above this share of the margin numerical error speaks against a model; and of crossings.
_ERROR_SHARE = 0.25
_CROSSING_SHARE = 0.05
_CROSSING_SAMPLES = 500

_T = TypeVar("_T")


@dataclass(frozen=True)
class Evidence:
    """What one witness says.

    Attributes:
        name: "swaps", "answers by step", "folds", "crossings", "order" or "error share".
        speaks: "for" an ODE, "against" it, or "neither"; "silent" where it could not be asked.
        text: what was found, in a sentence or two.
        limits: what it does not show.
    """

    name: str
    speaks: Literal["for", "against", "neither", "silent"]
    text: str
    limits: str


@dataclass(frozen=True)
class Certificate:
    """One model's verdict, the evidence for it, and what was measured.

    Attributes:
        solver: the solver that the model was trained with.
        data: the data set's name, size and fingerprint.
        model: the field, interval, classes and state size, in words.
        backend: what integrated.
        samples: how many test samples the witnesses other than swaps looked at.
        verdict: the answer: valid, tied, untrained or undecided.
        evidence: one entry for each witness.
        swap: the swap table and its own verdict.
        by_step: accuracy, agreement with the ODE's answers and state error, by step or tolerance.
        critical: the largest step (or tolerance) of `by_step` from which on, down to the finest,
            accuracy is the ODE's within the margin; None if it is not even at the finest.
        folds, scan, crossing, order, fan: the other witnesses' measurements; None where silent.
    """

    solver: Solver
    data: str
    model: str
    backend: str
    samples: int
    verdict: Verdict
    evidence: tuple[Evidence, ...]
    swap: SwapReport
    by_step: pd.DataFrame
    critical: float | None
    folds: FoldReport | None
    scan: FoldScan | None
    crossing: CrossingReport | None
    order: OrderReport | None
    fan: Fan | None

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values: verdict, evidence, numbers. What is not finite is None."""
        fold, scan, order = self.folds, self.scan, self.order
        values: dict[str, Any] = {
            "format": "pynode_jl certificate 1",
            "verdict": {
                "kind": self.verdict.kind,
                "text": self.verdict.text,
                "drop": self.verdict.drop,
                "worst": self.verdict.worst,
            },
            "solver": self.solver.to_dict(),
            "model": self.model,
            "data": self.data,
            "backend": self.backend,
            "samples": self.samples,
            "evidence": [
                {"name": e.name, "speaks": e.speaks, "text": e.text, "limits": e.limits}
                for e in self.evidence
            ],
            "accuracy": {
                "as trained": self.swap.trained,
                "as an ODE": self.swap.ode,
                "chance": self.swap.chance,
            },
            "swaps": self.swap.table.to_dict("records"),
            "by step": self.by_step.to_dict("records"),
            "critical": self.critical,
            "folds": None if fold is None else {"share": fold.share, "steps": len(fold.t)},
            "fold scan": None
            if scan is None
            else {
                "steps": scan.steps.tolist(),
                "share": scan.share.tolist(),
                "smallest": scan.smallest,
                "reappears": scan.reappears,
            },
            "crossing": None if self.crossing is None else {"share": self.crossing.share},
            "order": None
            if order is None
            else {
                "solver": order.solver.label,
                "steps": order.steps.tolist(),
                "observed": order.observed.tolist(),
                "errors": order.errors.tolist(),
                "holds from": order.holds_from(),
                "distance": order.distance,
            },
            "fan": None
            if self.fan is None
            else {"share": self.fan.share, "decided": self.fan.decided, "gap": self.fan.gap},
        }
        plain: dict[str, Any] = _plain(values)
        return plain

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def certify(
    trained: Trained,
    dataset: Dataset,
    *,
    samples: int = 64,
    margin: float = 0.03,
    backend: Backend | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Certificate:
    """Ask every witness whether a trained model is an ODE.

    Args:
        trained: the model, its weights and training solver: of `train`, or `Trained.of` for one
            that was trained elsewhere (a `FunctionField` around a JAX function, a translated torch
            module).
        dataset: whose test part is asked.
        samples: test samples for folds, order and fan, which cost a Jacobian each at every step;
            fewer are taken where states are large.
        margin: the loss of accuracy up to which a model still holds.
        backend: what integrates; default `get_backend()`.
        on_stage: called before each witness, with its name.

    Raises:
        InvalidValueError: no samples, or a margin out of range.
        DataError: data that the model cannot take.
    """
    if samples < 1:
        raise InvalidValueError("samples", samples, "1 or more", "64 is the default.")
    check_fit(trained.model, dataset)
    backend = get_backend() if backend is None else backend

    def stage(name: str) -> None:
        if on_stage is not None:
            on_stage(name)

    stage("swaps")
    swapped = swap(trained, dataset, margin=margin, backend=backend)
    stage("answers by step")
    by_step = _by_step(trained, dataset, backend)
    critical = _critical(by_step, swapped.ode, margin)
    evidence = [_swap_evidence(swapped), _step_evidence(trained, by_step, critical, margin)]

    x = dataset.x_test[:samples]
    few = x[: _affordable(trained, samples)]
    stage("folds")
    scan, folded, said = _fold_evidence(trained, few, backend)
    evidence.append(said)
    crossing = None
    if trained.model.field.size <= 2:
        stage("crossings")
        crossing, why = _tried(
            lambda: order_violations(trained, dataset.x_test[:_CROSSING_SAMPLES], backend=backend)
        )
        evidence.append(_crossing_evidence(crossing, why))
    stage("order")
    order, why = _tried(
        lambda: order_test(trained, x, solver=_stepped(trained, folded), backend=backend)
    )
    evidence.append(_order_evidence(order, why))
    stage("error share")
    fanned: Fan | None = None
    why = _TOO_LARGE.format(size=trained.model.field.size)
    if len(few):
        fanned, why = _tried(lambda: fan(trained, few, backend=backend))
    evidence.append(_fan_evidence(fanned, why))

    return Certificate(
        trained.solver,
        f"{dataset.name}, {len(dataset.x_test)} test samples, {dataset.fingerprint}",
        _described(trained),
        backend.name,
        len(x),
        _combined(swapped.verdict, evidence),
        tuple(evidence),
        swapped,
        by_step,
        critical,
        folded,
        scan,
        crossing,
        order,
        fanned,
    )


_TOO_LARGE = "a state of {size} numbers makes Jacobians too large, or too many, to be looked at."


def _tried(ask: Callable[[], _T]) -> tuple[_T | None, str]:
    """What a witness measured, or None and why it could not."""
    try:
        return ask(), ""
    except PyNODEError as error:
        return None, str(error)


def _affordable(trained: Trained, samples: int) -> int:
    """How many samples' Jacobians can be made, at each of the training solver's steps."""
    square = trained.model.field.size**2
    return int(min(samples, _NUMBERS_AT_ONCE / square, _NUMBERS / (square * _own_steps(trained))))


def _own_steps(trained: Trained) -> int:
    """The training solver's steps; a guess for one that adapts them."""
    if not trained.solver.fixed:
        return _ADAPTIVE_STEPS
    return trained.solver.grid(trained.model.t0, trained.model.t1).n


def _finest_scan(trained: Trained, samples: int) -> int:
    """How many steps a fold scan can go to: it makes 1 + 2 + 4 + ... of them."""
    affordable = _NUMBERS / (2 * trained.model.field.size**2 * samples)
    return int(min(_MOST_STEPS, max(affordable, 1)))


def _stepped(trained: Trained, folded: FoldReport | None) -> Solver:
    """The training solver; for one that adapts, its method at as many equal steps as it took."""
    if trained.solver.fixed or folded is None:
        return trained.solver
    return trained.solver.with_step(abs(trained.model.t1 - trained.model.t0) / len(folded.t))


def _by_step(trained: Trained, dataset: Dataset, backend: Backend) -> pd.DataFrame:
    """Test answers under the training method, at steps (or tolerances) down to far finer ones."""
    model, solver, x = trained.model, trained.solver, dataset.x_test
    if solver.dt is not None:
        span = abs(model.t1 - model.t0)
        own = solver.grid(model.t0, model.t1).n
        most = max(_MOST_STEPS, 2 * own)
        counts = sorted({2**k for k in range(most.bit_length()) if 2**k <= most} | {own})
        # As it was trained: with its own shortened last step.
        tests = [solver if n == own else solver.with_step(span / n) for n in counts]
    else:
        own_tolerance = solver.rtol or 0.0
        others = [
            solver.with_tolerance(t, t) for t in _TOLERANCES if not math.isclose(t, own_tolerance)
        ]
        tests = sorted([solver, *others], key=lambda s: -(s.rtol or 0.0))
    found_by = {test: backend.evaluate(model, trained.weights, x, test) for test in tests}
    x64 = x.astype(np.float64)
    exact = reference_solve(
        lambda tight: backend.evaluate(model, trained.weights, x64, tight), found_by[solver]
    )
    rows = []
    for test, found in found_by.items():
        succeeded = found.stats.retcode == RetCode.Success
        rows.append(
            {
                "setting": test.dt if test.dt is not None else test.rtol,
                "label": test.label,
                "own": test == solver,
                "nf": found.stats.nf,
                "accuracy": found.accuracy(dataset.y_test) if succeeded else np.nan,
                "agreement": float(np.mean(found.predictions == exact.predictions))
                if succeeded
                else np.nan,
            }
        )
    return pd.DataFrame(rows)


def _critical(by_step: pd.DataFrame, ode: float, margin: float) -> float | None:
    held = (by_step["accuracy"] - ode).abs() <= margin
    if not held.iloc[-1]:
        return None
    last_failure = np.flatnonzero(~held.to_numpy())
    first = int(last_failure[-1]) + 1 if last_failure.size else 0
    return float(by_step["setting"].iloc[first])


def _swap_evidence(report: SwapReport) -> Evidence:
    speaks: Mapping[str, Literal["for", "against", "neither"]] = {"valid": "for", "tied": "against"}
    return Evidence(
        "swaps",
        speaks.get(report.verdict.kind, "neither"),
        report.verdict.text,
        "It speaks of the solvers that were tried, and of these test samples.",
    )


def _step_evidence(
    trained: Trained, by_step: pd.DataFrame, critical: float | None, margin: float
) -> Evidence:
    own = by_step.loc[by_step["own"]].iloc[0]
    what = "step" if trained.solver.fixed else "tolerance"
    finest = by_step["label"].iloc[-1]
    limits = "A later departure, finer than the finest setting tried, would not be seen."
    if critical is None:
        text = f"the accuracy has not settled at the ODE's even at {finest}."
        return Evidence("answers by step", "against", text, limits)
    within = float(own["setting"]) <= critical * (1 + 1e-9)
    label = by_step.loc[by_step["setting"] == critical, "label"].iloc[0]
    text = (
        f"from {label} on down to {finest} the accuracy is the ODE's within {margin:.0%}:"
        f" the critical {what}. Training was {'below or at' if within else 'above'} it, at"
        f" {own['label']}, whose answers agree with the ODE's on {own['agreement']:.1%} of the"
        " test samples."
    )
    return Evidence("answers by step", "for" if within else "against", text, limits)


def _fold_evidence(
    trained: Trained, few: np.ndarray, backend: Backend
) -> tuple[FoldScan | None, FoldReport | None, Evidence]:
    limits = " ".join(BLIND_SPOTS)
    if not len(few):
        text = _TOO_LARGE.format(size=trained.model.field.size)
        return None, None, Evidence("folds", "silent", text, limits)
    folded, why = _tried(lambda: folds(trained, few, backend=backend))
    if folded is None:
        return None, None, Evidence("folds", "silent", why, limits)
    scan, _ = _tried(
        lambda: fold_scan(trained, few, finest=_finest_scan(trained, len(few)), backend=backend)
    )
    text = folded.text
    if scan is not None and scan.smallest is not None:
        smallest = trained.solver.with_step(scan.smallest).label
        again = ", though not at all larger ones" if scan.reappears else ""
        text += f" The smallest step with folds is {smallest}{again}."
    elif scan is not None:
        finest = trained.solver.with_step(float(scan.steps[-1])).label
        text += f" None at any step down to {finest} either."
    speaks: Literal["against", "neither"] = "against" if folded.folded.any() else "neither"
    return scan, folded, Evidence("folds", speaks, text, limits)


def _crossing_evidence(report: CrossingReport | None, why: str) -> Evidence:
    limits = "Samples are neighbours only as far as they are dense; crossings between them hide."
    if report is None:
        return Evidence("crossings", "silent", why, limits)
    against = report.share > _CROSSING_SHARE
    return Evidence("crossings", "against" if against else "for", report.text, limits)


def _order_evidence(report: OrderReport | None, why: str) -> Evidence:
    limits = "Convergence of final states, not of answers; it is judged where the steps are halved."
    if report is None:
        return Evidence("order", "silent", why, limits)
    first = report.holds_from()
    holds = first is not None and first >= float(report.steps[0]) * (1 - 1e-9)
    return Evidence("order", "for" if holds else "neither", report.text, limits)


def _fan_evidence(report: Fan | None, why: str) -> Evidence:
    limits = (
        "To first order in the head's margin; where the sum of the transported errors misses the"
        " global one, errors are too large to be carried linearly."
    )
    if report is None:
        return Evidence("error share", "silent", why, limits)
    against = report.share > _ERROR_SHARE
    return Evidence("error share", "against" if against else "for", report.text, limits)


def _combined(swapped: Verdict, evidence: list[Evidence]) -> Verdict:
    against = [each.name for each in evidence if each.speaks == "against"]
    if swapped.kind != "valid" or not against:
        return swapped
    text = (
        f"undecided: it passes its swaps ({swapped.text.removeprefix('valid ODE: ')}), but"
        f" {' and '.join(against)} speak{'s' if len(against) == 1 else ''} against it."
    )
    return replace(swapped, kind="undecided", text=text)


def _described(trained: Trained) -> str:
    model = trained.model
    shape = "x".join(map(str, model.field.state_shape))
    weights = sum(math.prod(shape) for shape in model.weight_shapes().values())
    return (
        f"{type(model.field).__name__}, state {shape}, {weights} weights, {model.classes} classes,"
        f" t from {model.t0:g} to {model.t1:g}"
    )


def _plain(value: Any) -> Any:
    """Nested plain values, JSON's: NumPy numbers unwrapped, what is not finite None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
