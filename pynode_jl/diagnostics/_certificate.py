"""The certificate: the verdict on one model, and the diagnostics that explain it.

The swap decides what kind a model is. Each of `DIAGNOSTICS` looks at it in another way and says why
that is so. One that contradicts a valid verdict weakens it: the verdict stays, and the certificate
says what speaks against it.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pynode_jl._display import Advance, Drawn, progress_bar
from pynode_jl._io import json_values
from pynode_jl._validation import instance, items, optional_callable, whole_number
from pynode_jl.backends import BackendLike, as_backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics._crossings import CROSSINGS
from pynode_jl.diagnostics._diagnostic import Context, Diagnostic, Finding
from pynode_jl.diagnostics._error_share import ERROR_SHARE
from pynode_jl.diagnostics._fan import ERROR_TRANSPORT
from pynode_jl.diagnostics._files import read_report, write_report
from pynode_jl.diagnostics._folds import FOLDS
from pynode_jl.diagnostics._order_test import ORDER
from pynode_jl.diagnostics._sentences import weakness_text
from pynode_jl.diagnostics._step_sweep import ANSWERS_BY_STEP
from pynode_jl.diagnostics._swap import swap
from pynode_jl.diagnostics._swap_report import SwapReport
from pynode_jl.diagnostics._verdict import Criterion, Verdict
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedLike, TrainedModel, as_trained_model, check_fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOG = logging.getLogger(__name__)

#: All diagnostics, in the order in which they are run and shown.
DIAGNOSTICS: tuple[Diagnostic, ...] = (
    ANSWERS_BY_STEP,
    ERROR_SHARE,
    FOLDS,
    CROSSINGS,
    ORDER,
    ERROR_TRANSPORT,
)

# Verdicts on models whose answers there is no point in comparing, and why.
_UNFIT = {
    "untrained": "The model has not learned its task.",
    "overfitted": "The model has not learned its task beyond its training data.",
    "non-finite": "The model's weights are not finite.",
    "failed": "The training solve fails on the test samples.",
}


@dataclass(frozen=True, repr=False)
class Certificate(Drawn):
    """One model's verdict and what its diagnostics found.

    Attributes:
        solver: the solver that the model was trained with.
        data: the data set's name, size and fingerprint.
        model: the field, interval, classes and state size, in words.
        backend: what integrated.
        samples: how many test samples those diagnostics take that need Jacobians, at the most.
        swap: the swap table, its verdict, and the reference that all diagnostics share.
        findings: one of each diagnostic.

    Example:
        >>> from pynode_jl.diagnostics import DIAGNOSTICS
        >>> folds = [each for each in DIAGNOSTICS if each.name == "folds"]
        >>> certificate = pn.certify(trained, data, diagnostics=folds, backend="jax")
        >>> certificate.verdict.kind, [finding.outcome for finding in certificate.findings]
        ('tied', ['contradicts'])
    """

    solver: Solver
    data: str
    model: str
    backend: str
    samples: int
    swap: SwapReport
    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        return f"Certificate({self.verdict!r}, {len(self.findings)} findings)"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the certificate to a JSON file; the diagnostics' own measurements are left out.

        `path` is that of the file.

        Raises:
            OutputError: the file cannot be written.

        Example:
            >>> certificate = pn.certify(trained, data, diagnostics=[], backend="jax")
            >>> certificate.save("certificate.json")
            >>> pn.Certificate.load("certificate.json").text == certificate.text
            True
        """
        findings = [{**each.to_dict(), "clause": each.clause} for each in self.findings]
        values = {**self.to_dict(), "swap": self.swap.to_values(), "findings": findings}
        write_report(path, "Certificate", values)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Certificate:
        """Return the certificate that `save` wrote.

        `path` is that of the file.

        Raises:
            InputError: no such file, a damaged one, or another.
        """

        def build(values: Mapping[str, Any]) -> Certificate:
            return cls(
                Solver.from_dict(values["solver"]),
                values["data"],
                values["model"],
                values["backend"],
                values["samples"],
                SwapReport.from_values(values["swap"]),
                tuple(Finding(**each) for each in values["findings"]),
            )

        return read_report(path, "Certificate", build)

    def plot(self) -> Figure:
        """Draw what the diagnostics measured; `Certificate.swap` has plots of its own.

        Raises:
            InvalidValueError: nothing was measured, or the certificate was read from a file.

        Example:
            >>> figure = pn.certify(trained, data, backend="jax").plot()
        """
        return self._figure()

    @property
    def verdict(self) -> Verdict:
        """The swap's verdict."""
        return self.swap.verdict

    @property
    def weakened_by(self) -> tuple[str, ...]:
        """The names of the diagnostics that contradict a valid verdict; () for all others."""
        return tuple(each.name for each in self._against)

    @property
    def weakness(self) -> str:
        """What weakens a valid verdict, as a sentence; "" where nothing does."""
        return weakness_text({each.name: each.clause for each in self._against})

    @property
    def text(self) -> str:
        """The verdict in a few sentences, and what weakens it."""
        return f"{self.weakness} {self.verdict.text}" if self.weakness else self.verdict.text

    @property
    def settled(self) -> float | None:
        """The largest step (or tolerance) from which on down the answers are surely the ODE's."""
        found = self.finding(ANSWERS_BY_STEP.name)
        settled: float | None = None if found is None else found.data.get("settled")
        return settled

    def finding(self, name: str) -> Finding | None:
        """Return the finding of one diagnostic; None where the certificate has none."""
        return next((each for each in self.findings if each.name == name), None)

    @property
    def _against(self) -> tuple[Finding, ...]:
        if self.verdict.kind != "valid":
            return ()
        return tuple(each for each in self.findings if each.outcome == "contradicts")

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values: verdict, findings, numbers. What is not finite is None."""
        values = {
            "format": "pynode_jl certificate 2",
            "text": self.text,
            "verdict": self.verdict.to_dict(),
            "weakened by": self.weakened_by,
            "solver": self.solver.to_dict(),
            "model": self.model,
            "data": self.data,
            "backend": self.backend,
            "samples": self.samples,
            "diagnostics": [each.to_dict() for each in self.findings],
            "settled": self.settled,
            self.verdict.metric: {
                "as trained": self.swap.trained,
                "as an ODE": self.swap.ode,
                "chance": self.swap.chance,
            },
            "reference": None if self.swap.cost is None else self.swap.cost.to_dict(),
            "swaps": self.swap.table.to_dict("records"),
        }
        plain: dict[str, Any] = json_values(values)
        return plain

    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def certify(
    trained: TrainedLike,
    dataset: Dataset,
    *,
    samples: int = 64,
    margin: float | None = None,
    confidence: float = 0.95,
    criterion: Criterion = "flips",
    diagnostics: Sequence[Diagnostic] | None = None,
    backend: BackendLike = None,
    on_stage: Callable[[str], None] | None = None,
    progress: bool | None = None,
) -> Certificate:
    """Give the verdict on a trained model, and run all diagnostics on it.

    Args:
        trained: what `train` returned, or a `TrainedModel` that was trained elsewhere (a
            `FunctionField` around a JAX function, a translated torch module).
        dataset: whose test part is used.
        samples: test samples for diagnostics that cost a Jacobian each at every step; fewer are
            taken where states are large.
        margin: the change of answers up to which a model still holds; default the task's.
        confidence: of all intervals.
        criterion: the verdict's rule, as for `swap`.
        diagnostics: what to run beside the swap; default `DIAGNOSTICS`.
        backend: what integrates, or its name; default `get_backend()`.
        on_stage: called before the swap and before each diagnostic, with its name.
        progress: whether to show a progress bar; default: in a notebook.

    Raises:
        InvalidValueError: no samples, a margin or confidence out of range, an unknown criterion.
        DataError: data that the model cannot take.

    Example:
        >>> certificate = pn.certify(trained, data, backend="jax")
        >>> [each.name for each in certificate.findings if each.outcome == "contradicts"]
        ['answers by step', 'error share', 'folds', 'crossings']
    """
    whole_number("samples", samples, hint="64 is the default.")
    trained = as_trained_model(trained)
    backend = as_backend(backend, trained.model)
    check_fit(trained.model, dataset)
    optional_callable("on_stage", on_stage)
    expected, hint = "a list of Diagnostics", "Choose from pn.diagnostics.DIAGNOSTICS."
    chosen = (
        DIAGNOSTICS if diagnostics is None else items("diagnostics", diagnostics, expected, hint)
    )
    for each in chosen:
        instance("diagnostics", each, Diagnostic, expected, hint)
    with progress_bar("certify", progress) as advance:
        tell = _Stages(len(chosen) + 1, on_stage, advance)
        tell("swaps")
        swapped = swap(
            trained,
            dataset,
            margin=margin,
            confidence=confidence,
            criterion=criterion,
            backend=backend,
            progress=False,
        )
        context = Context(trained, dataset, backend, swapped, samples)
        unfit = _UNFIT.get(swapped.verdict.kind)
        findings = []
        for diagnostic in chosen:
            if unfit is not None:
                findings.append(diagnostic.not_run(unfit))
                continue
            tell(diagnostic.name)
            findings.append(diagnostic(context))
        tell.end(swapped.verdict.kind)
    return Certificate(
        trained.solver,
        _data_line(dataset),
        _described(trained),
        backend.name,
        len(context.x),
        swapped,
        tuple(findings),
    )


@dataclass
class _Stages:
    """What is told before each stage: the log, a bar, the user's function."""

    count: int
    on_stage: Callable[[str], None] | None
    advance: Advance | None
    done: int = 0

    def __call__(self, name: str) -> None:
        _LOG.debug("certificate, stage %d of %d: %s", self.done + 1, self.count, name)
        if self.advance is not None:
            self.advance(self.done, self.count, name)
        if self.on_stage is not None:
            self.on_stage(name)
        self.done += 1

    def end(self, said: str) -> None:
        if self.advance is not None:
            self.advance(self.count, self.count, said)


def _data_line(dataset: Dataset) -> str:
    remarks = f", {dataset.remarks}" if dataset.remarks else ""
    return f"{dataset.name}, {len(dataset.x_test)} test samples, {dataset.fingerprint}{remarks}"


def _described(trained: TrainedModel) -> str:
    model = trained.model
    shape = "x".join(map(str, model.field.state_shape))
    weights = sum(math.prod(shape) for shape in model.weight_shapes().values())
    return (
        f"{type(model.field).__name__}, state {shape}, {weights} weights, {_asked(model)},"
        f" t from {model.t0:g} to {model.t1:g}"
    )


def _asked(model: Model) -> str:
    return f"{model.classes} classes" if model.classes else model.task.kind
