"""Error share: how much of each answer's margin is made by the numerical error.

A classifier answers by its margin, the first logit minus the second. The same two logits under the
ODE have another one; the difference is numerical error, in favour of the answer where the solver's
margin is the larger. A share of 1 and more means that the ODE does not give the answer at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pynode_jl._display import ShortRepr
from pynode_jl._validation import rounded
from pynode_jl.backends import Array
from pynode_jl.diagnostics._diagnostic import Context, Diagnostic, Finding
from pynode_jl.diagnostics._sentences import share_text
from pynode_jl.errors import InvalidValueError

_HALF, _ALL = 0.5, 1.0


@dataclass(frozen=True, repr=False)
class ErrorShare(ShortRepr):
    """Margins of all test samples, and the numerical error in them.

    Attributes:
        margin: (n,), the first minus the second logit under the training solver.
        error: (n,), the part of it that the ODE does not have: positive in favour of the answer,
            negative against it.

    Example:
        >>> from pynode_jl.diagnostics import error_share
        >>> error_share(np.array([[2.0, 0.0]]), np.array([[0.5, 0.0]])).share.tolist()
        [0.75]
    """

    margin: Array
    error: Array

    @property
    def share(self) -> Array:
        """(n,), error over margin, with its sign; inf where there is no margin, or no answer."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share: Array = self.error / self.margin
        # No margin and no error: level under both.
        share = np.where((self.margin == 0) & (self.error == 0), 0.0, share)
        return np.where(np.isnan(share), np.inf, share)


def error_share(logits: Array, exact: Array) -> ErrorShare:
    """Return margins and the error in them.

    Args:
        logits: (n, classes), under a solver.
        exact: (n, classes), of the same samples under the ODE.

    Raises:
        InvalidValueError: two arrays of other shapes than (n, classes).

    Example:
        >>> from pynode_jl.diagnostics import error_share
        >>> logits, exact = np.array([[2.0, 0.0]]), np.array([[0.5, 0.0]])
        >>> share = error_share(logits, exact)
        >>> share.margin.tolist(), share.error.tolist()
        ([2.0], [1.5])
    """
    own, ode = rounded("logits", logits, np.float64), rounded("exact", exact, np.float64)
    if own.ndim != 2 or own.shape[1] < 2 or own.shape != ode.shape:
        raise InvalidValueError(
            "logits.shape", own.shape, f"(n, classes) as exact, {ode.shape}", "Match the two."
        )
    second, first = np.argsort(own, axis=1)[:, -2:].T
    rows = np.arange(len(own))
    with np.errstate(invalid="ignore"):
        margin = own[rows, first] - own[rows, second]
        return ErrorShare(margin, margin - (ode[rows, first] - ode[rows, second]))


def signed_share(share: float) -> str:
    """Return a signed share in percent: "+5.6%"; of ten margins and more, as a multiple."""
    if not np.isfinite(share):
        return "infinitely many times"
    if abs(share) >= 10:
        return f"{share:+,.0f} times"
    return "0.0%" if abs(share) < 0.0005 else f"{share:+.1%}"


def _run(context: Context) -> Finding:
    found = error_share(context.own.logits, context.exact.logits)
    share, open_ = found.share, context.reference.unsure

    def at_least(limit: float) -> int:
        return int(np.sum(share >= limit))

    half, all_ = (
        context.share(at_least(limit), len(share), unsure=int(np.sum(open_ & (share < limit))))
        for limit in (_HALF, _ALL)
    )
    # Of an error that shrinks the margin the share is negative: it is none in favour.
    median = float(np.median(share))
    high = float(np.sort(share)[int(np.ceil(0.95 * len(share))) - 1])
    favour = " (it shrinks the margin)" if median < -0.0005 else ""
    text = (
        f"Numerical error in favour of the answer is {signed_share(median)} of the margin in the"
        f" median{favour}, {signed_share(high)} at the 95th percentile, under"
        f" {context.trained.solver.label}. It is half of the answer's margin or more for"
        f" {half.told('samples')} and all of it for {all_}; the margin of the verdict is"
        f" {share_text(context.margin)}."
    )
    return Finding(
        "",
        half.outcome(context.margin),
        text,
        "",
        {
            "median": median,
            "95th percentile": high,
            "half or more": half.to_dict(),
            "all": all_.to_dict(),
        },
        f"numerical error is half of the margin or more for {half.told('samples')}",
        found,
    )


ERROR_SHARE = Diagnostic(
    "error share",
    _run,
    "It is about the leading two classes' margin in the head's logits. A large margin may hide a"
    " large error in the states.",
    lambda context: context.trained.model.task.comparison == "flips",
    "answers that are labels",
)
