"""What torchdiffeq has and Julia has not under any name: tableaus, a step control, interpolants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from pynode_jl.errors import InvalidValueError
from pynode_jl.solvers._controller import Controller
from pynode_jl.solvers._dense import DenseMethod, dense_method
from pynode_jl.solvers._tableau import Tableau, tableau


def collocation(name: str, nodes: Sequence[float], order: int = 0, source: str = "") -> Tableau:
    """Return the collocation method on `nodes`, an implicit Runge-Kutta method.

    Its stages are the slopes at the nodes of a polynomial that solves the equation there: ``a_ij``
    and ``b_j`` integrate the Lagrange polynomials up to node i and up to 1 (Hairer, Norsett and
    Wanner, *Solving ODEs I*, II.7). With s nodes Gauss' have order 2 s, Radau's 2 s - 1, Lobatto's
    2 s - 2.

    Args:
        name: a name for it.
        nodes: the abscissae, different numbers in [0, 1].
        order: the order; left out, it is found (to 8).
        source: where it was published.

    Raises:
        InvalidValueError: nodes that are equal, not in [0, 1], or none.

    Example:
        >>> from pynode_jl.solvers import collocation
        >>> collocation("Midpoint rule", [1 / 2]).order
        2
    """
    c = np.array(nodes, dtype=np.float64)
    inside = c.ndim == 1 and c.size > 0 and bool(np.all((c >= 0) & (c <= 1)))
    if not inside or np.unique(c).size < c.size:
        raise InvalidValueError(
            "nodes", nodes, "one number or more in [0, 1], no two equal", "Use [0.5], say."
        )
    powers = np.arange(1, c.size + 1)
    vandermonde = c[None, :] ** (powers[:, None] - 1)
    a = np.linalg.solve(vandermonde, (c[:, None] ** powers / powers).T).T
    b = np.linalg.solve(vandermonde, 1.0 / powers)
    return Tableau(name, c, a, b, order=order, source=source)


_GAMMA = 1 - math.sqrt(2) / 2
_ROOT3, _ROOT6, _ROOT15 = math.sqrt(3), math.sqrt(6), math.sqrt(15)

#: torchdiffeq's methods that are not in the catalogue, by its names.
TORCHDIFFEQ_TABLEAUS: Mapping[str, Tableau] = {
    table.name: table
    for table in (
        Tableau(
            "heun3",
            [0, 1 / 3, 2 / 3],
            [[0.0, 0.0, 0.0], [1 / 3, 0.0, 0.0], [0.0, 2 / 3, 0.0]],
            [1 / 4, 0, 3 / 4],
            order=3,
            source="Heun 1900",
        ),
        # Stiffly accurate. Julia's SDIRK2 is another one.
        Tableau(
            "sdirk2",
            [_GAMMA, 1],
            [[_GAMMA, 0.0], [1 - _GAMMA, _GAMMA]],
            [1 - _GAMMA, _GAMMA],
            order=2,
            source="Alexander 1977, SIAM J. Numer. Anal. 14",
        ),
        collocation("gl4", (0.5 - _ROOT3 / 6, 0.5 + _ROOT3 / 6), 4, "Gauss"),
        collocation("gl6", (0.5 - _ROOT15 / 10, 0.5, 0.5 + _ROOT15 / 10), 6, "Gauss"),
        collocation("radauIIA3", (1 / 3, 1.0), 3, "Radau"),
        collocation("radauIIA5", ((4 - _ROOT6) / 10, (4 + _ROOT6) / 10, 1.0), 5, "Radau"),
    )
}


def torchdiffeq_controller(
    order: int, *, safety: float = 0.9, ifactor: float = 10.0, dfactor: float = 0.2
) -> Controller:
    """Return torchdiffeq's rule: an I control that shrinks no step after an accepted one.

    The steady band says the latter: it reaches from 1 to the largest q there is. The same rule but
    for an error of exactly 1, where torchdiffeq shrinks.

    Args:
        order: order of the method.
        safety, ifactor, dfactor: torchdiffeq's options.

    Example:
        >>> from pynode_jl.solvers import torchdiffeq_controller
        >>> torchdiffeq_controller(5).kind
        'I'
    """
    return Controller(
        kind="I",
        beta1=1 / order,
        beta2=0.0,
        beta3=0.0,
        gamma=safety,
        qmin=dfactor,
        qmax=ifactor,
        qmax_first_step=ifactor,
        qsteady_min=1.0,
        qsteady_max=1 / dfactor,
        qoldinit=1e-4,
    )


#: Weights of the stages in ``(y(1/2) - y0) / dt`` for the tableaus that torchdiffeq adapts, as it
#: takes them; one more than the stages is f at the end of the step.
MIDDLE_WEIGHTS: Mapping[str, tuple[float, ...]] = {
    # Shampine 1986.
    "DP5Shampine": (
        6025192743 / 30085553152 / 2,
        0.0,
        51252292925 / 65400821598 / 2,
        -2691868925 / 45128329728 / 2,
        187940372067 / 1594534317056 / 2,
        -1776094331 / 19743644256 / 2,
        11237099 / 235043384 / 2,
    ),
    # Prince and Dormand's 8(7)13M.
    "Dopri8": (
        0.04103130360739393,
        0.0,
        0.0,
        0.0,
        0.0,
        0.05100562801991382,
        0.2388930677412202,
        0.3096870143996103,
        -0.2172325471755352,
        0.07833405679331928,
        -0.0018614369715579948,
        0.007072844202678841,
        0.00690847373200576,
        -0.013838404349047373,
    ),
    # Tsitouras 2011, by his free interpolant.
    "Tsit5": (
        0.10741235230100377,
        0.01135625,
        0.39560903056045305,
        -0.34475214352593553,
        1.3161853649581645,
        -1.0170608542936508,
        0.031249999999999993,
    ),
    "BS3": (0.0, 0.5, 0.0, 0.0),
    "Fehlberg21": (0.0, 0.5, 0.0),
    "Heun": (0.5, 0.0),
}


@cache
def torchdiffeq_method(name: str) -> DenseMethod:
    """Return the tableau `name` of `MIDDLE_WEIGHTS`, stepped and interpolated as in torchdiffeq.

    Example:
        >>> from pynode_jl.solvers import torchdiffeq_method
        >>> type(torchdiffeq_method("DP5Shampine")).__name__
        'DenseMethod'
    """
    table = tableau(name)
    return dense_method(table, MIDDLE_WEIGHTS[name], torchdiffeq_controller(table.order))
