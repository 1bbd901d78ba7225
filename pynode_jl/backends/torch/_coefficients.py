"""Coefficients as the torch stepper runs them: plain floats, full stage matrices allowed.

Most come from the catalogue. Those that torchdiffeq has and Julia has not under any name (fully
implicit collocation, Heun's third-order method, an SDIRK method) are made here from their nodes.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np

from pynode_jl.solvers import Tableau, tableau

Row = tuple[float, ...]


class Coefficients(NamedTuple):
    """A Runge-Kutta method. `a` may be full; `errors` has a row for each error estimate, to be
    joined as `error_rule` says (see `Tableau`)."""

    c: Row
    a: tuple[Row, ...]
    b: Row
    errors: tuple[Row, ...]
    error_rule: str
    order: int
    fsal: bool

    @property
    def explicit_first(self) -> bool:
        """Whether the first stage is f(t, y)."""
        return self.c[0] == 0.0 and not any(self.a[0])

    @property
    def stages_for_solution(self) -> int:
        """The number of stages that the solution needs; the rest serve error estimate and FSAL."""
        return max(i + 1 for i, weight in enumerate(self.b) if weight != 0.0)

    def coupled(self, i: int) -> int:
        """Return where the block of stages ends that stage `i` is solved with; `i` if explicit."""
        if not any(self.a[i][i:]):
            return i
        return len(self.b) if any(self.a[i][i + 1 :]) else i + 1


@cache
def from_catalogue(name: str) -> Coefficients:
    """The coefficients of the catalogue's tableau `name`."""
    return _from_tableau(tableau(name))


def _from_tableau(table: Tableau) -> Coefficients:
    rows = [row for row in (table.b_error, table.b_error2) if row is not None]
    return Coefficients(
        tuple(table.c.tolist()),
        tuple(map(tuple, table.a.tolist())),
        tuple(table.b.tolist()),
        tuple(tuple(row.tolist()) for row in rows),
        table.error_rule,
        table.order,
        table.fsal,
    )


def collocation(nodes: Row, order: int) -> Coefficients:
    """The collocation method on `nodes` in [0, 1] (Hairer, Norsett, Wanner, *Solving ODEs I*,
    II.7): a_ij and b_j integrate the Lagrange polynomials up to each node and up to 1."""
    c = np.array(nodes)
    powers = np.arange(1, len(nodes) + 1)
    vandermonde = c[None, :] ** (powers[:, None] - 1)
    a = np.linalg.solve(vandermonde, (c[:, None] ** powers / powers).T).T
    b = np.linalg.solve(vandermonde, 1.0 / powers)
    return Coefficients(
        nodes, tuple(map(tuple, a.tolist())), tuple(b.tolist()), (), "single", order, False
    )


def _plain(c: Row, a: tuple[Row, ...], b: Row, order: int) -> Coefficients:
    full = tuple(row + (0.0,) * (len(b) - len(row)) for row in a)
    return Coefficients(c, full, b, (), "single", order, False)


#: Heun's third-order method (Heun 1900).
HEUN3 = _plain((0.0, 1 / 3, 2 / 3), ((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4), 3)

_GAMMA = 1 - math.sqrt(2) / 2
#: The stiffly accurate SDIRK method of order 2 (Alexander 1977). Julia's SDIRK2 is another one.
SDIRK2_ALEXANDER = _plain((_GAMMA, 1.0), ((_GAMMA,), (1 - _GAMMA, _GAMMA)), (1 - _GAMMA, _GAMMA), 2)

_ROOT3, _ROOT6, _ROOT15 = math.sqrt(3), math.sqrt(6), math.sqrt(15)
GAUSS4 = collocation((0.5 - _ROOT3 / 6, 0.5 + _ROOT3 / 6), 4)
GAUSS6 = collocation((0.5 - _ROOT15 / 10, 0.5, 0.5 + _ROOT15 / 10), 6)
RADAU3 = collocation((1 / 3, 1.0), 3)
RADAU5 = collocation(((4 - _ROOT6) / 10, (4 + _ROOT6) / 10, 1.0), 5)


@cache
def adams_weights(steps: int, *, implicit: bool) -> Row:
    """Weights of f at the times 0, -1, -2, ... (with f at 1 in front if `implicit`) in the Adams
    method that uses `steps` of them, for an equidistant grid of step 1: the integrals over [0, 1]
    of the Lagrange polynomials (Hairer, Norsett, Wanner, *Solving ODEs I*, III.1)."""
    first = 1 if implicit else 0
    nodes = [Fraction(first - j) for j in range(steps)]
    weights = []
    for j, node in enumerate(nodes):
        polynomial = [Fraction(1)]  # coefficients, lowest power first
        for other in nodes[:j] + nodes[j + 1 :]:
            shifted = [Fraction(0), *polynomial]
            scaled = [other * each for each in polynomial] + [Fraction(0)]
            polynomial = [(s - t) / (node - other) for s, t in zip(shifted, scaled, strict=True)]
        weights.append(float(sum(each / (k + 1) for k, each in enumerate(polynomial))))
    return tuple(weights)
