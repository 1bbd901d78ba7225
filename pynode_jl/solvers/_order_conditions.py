"""The order conditions of Runge-Kutta methods, tree by tree.

A method has order p if ``sum_i b_i phi_i(tree) = 1 / gamma(tree)`` for every rooted tree of at most
p vertices (Butcher; Hairer, Norsett, Wanner, *Solving ODEs I*, II.2).
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pynode_jl.errors import InvalidValueError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pynode_jl.solvers._tableau import Tableau

    Array = NDArray[np.float64]

#: Trees have at most so many vertices here: 115 of 8, but 719 of 10 and 32,973 of 14.
MOST_VERTICES = 8

#: A condition that is missed by no more than this is met: published coefficients have 10 digits.
TOLERANCE = 1e-9

_Tree = tuple[tuple[tuple[int, int], ...], int]


@cache
def rooted_trees(order: int) -> tuple[_Tree, ...]:
    """Return the rooted trees of `order` vertices as (children, gamma).

    The children are the trees that hang from the root, each as (order, index).
    """
    if order == 1:
        return (((), 1),)
    found: list[_Tree] = []

    def extend(left: int, largest: tuple[int, int], children: list[tuple[int, int]]) -> None:
        if left == 0:
            gamma = order * math.prod(rooted_trees(o)[i][1] for o, i in children)
            found.append((tuple(children), gamma))
            return
        for o in range(min(left, largest[0]), 0, -1):
            last = largest[1] if o == largest[0] else len(rooted_trees(o)) - 1
            for i in range(last, -1, -1):
                extend(left - o, (o, i), [*children, (o, i)])

    extend(order - 1, (order - 1, len(rooted_trees(order - 1)) - 1), [])
    return tuple(found)


def elementary_weights(a: Array, order: int) -> list[Array]:
    """Return phi of the trees with 1, 2, ..., `order` vertices, each ``(trees, stages)``."""
    phi: list[Array] = []
    images: list[Array] = []
    for n in range(1, order + 1):
        rows = np.ones((len(rooted_trees(n)), a.shape[0]))
        for tree, (children, _) in enumerate(rooted_trees(n)):
            for o, i in children:
                rows[tree] *= images[o - 1][i]
        phi.append(rows)
        images.append(rows @ a.T)
    return phi


def order_misses(a: Array, b: Array, order: int, *, vanishing: bool = False) -> list[float]:
    """Return by how much the weights `b` miss the conditions of order 1, 2, ..., `order`.

    A miss is the largest over the trees of that order, in units of 1 + the size of the sum's terms,
    which its rounding scales with. `vanishing` asks for sums of 0, as an error estimate's are.
    """
    phi, sizes = elementary_weights(a, order), elementary_weights(np.abs(a), order)
    misses = []
    for n in range(1, order + 1):
        gamma = np.array([gamma for _, gamma in rooted_trees(n)], dtype=np.float64)
        wanted = 0.0 if vanishing else 1.0 / gamma
        scale = 1.0 + sizes[n - 1] @ np.abs(b)
        misses.append(float(np.max(np.abs(phi[n - 1] @ b - wanted) / scale)))
    return misses


def satisfied_order(misses: list[float], allowed: float = TOLERANCE) -> int:
    """Return the order up to which no miss is larger than `allowed`."""
    return next((n for n, miss in enumerate(misses) if not miss <= allowed), len(misses))


@lru_cache(maxsize=256)
def check_order(table: Tableau) -> None:
    """Refuse a tableau whose coefficients do not have the order that it states.

    All trees of up to 8 vertices are looked at; above, the conditions of quadrature.

    Raises:
        InvalidValueError: a condition is missed, or the error weights estimate no error.
    """
    misses = order_misses(table.a, table.b, min(table.order, MOST_VERTICES))
    for k in range(MOST_VERTICES + 1, table.order + 1):
        powers = table.c ** (k - 1)
        scale = 1.0 + np.abs(table.b) @ np.abs(powers)
        misses.append(abs(float(table.b @ powers) - 1 / k) / float(scale))
    reached = satisfied_order(misses)
    if reached < table.order:
        raise InvalidValueError(
            f"tableau {table.name!r}, order",
            table.order,
            f"at most {reached}: its coefficients miss a condition of order {reached + 1} by"
            f" {misses[reached]:.1e}",
            "Look for a slip in a and b, or leave order out.",
        )
    if table.b_error is None:
        return
    lowest = min(table.embedded_order or 1, table.order, MOST_VERTICES)
    found = satisfied_order(order_misses(table.a, table.b_error, lowest, vanishing=True))
    if found < lowest or not np.any(table.b_error):
        raise InvalidValueError(
            f"tableau {table.name!r}, b_error",
            table.b_error,
            "the difference of the weights of two methods, not zero, whose conditions vanish up to"
            f" order {lowest}, the embedded one; these do up to {found}",
            "Give b minus the weights of the embedded method.",
        )
