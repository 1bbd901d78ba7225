"""Butcher tableaus as data: one JSON row a method, read when first asked for.

A step of size ``dt`` from ``(t, y)`` with ``s`` stages is (Butcher, *Numerical Methods for Ordinary
Differential Equations*, ch. 3)::

    k_i = f(t + c_i dt, y + dt sum_j a_ij k_j)        i = 1..s
    y_new = y + dt sum_i b_i k_i
    err = dt sum_i b_error_i k_i

``b_error`` is Julia's ``btilde``, sign and scale included: up to a factor it is the difference from
the companion method. The coefficients are those that the Julia solver of the same name runs with;
where its abscissae are not the row sums, `c` holds the row sums; where its error weights estimate
no error, `b_error` is None; the catalogue's notes say so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pynode_jl.errors import UnknownSolverError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
ErrorRule = Literal["single", "max", "hairer"]

_FOLDER = os.path.join(os.path.dirname(__file__), "tableaus")
_ROW_SUM_TOLERANCE = 1e-12


@dataclass(frozen=True, eq=False)
class Tableau:
    """The coefficients of one Runge-Kutta method, explicit or diagonally implicit.

    Attributes:
        name: the name in the catalogue.
        c: abscissae, shape ``(s,)``; the row sums of ``a``.
        a: stage weights, shape ``(s, s)``, lower triangular; an implicit stage has a non-zero
            diagonal entry.
        b: weights of the step, shape ``(s,)``.
        b_error: weights of the error estimate, shape ``(s,)``; None for a method without one.
        order: the order that the coefficients satisfy.
        embedded_order: the order of the companion method; None without `b_error`.
        source: where the method was published.
        b_error2: weights of a second error estimate, to be used as `error_rule` says.
        error_rule: how scaled norms ``e1`` (of `b_error`) and ``e2`` (of `b_error2`) make the error
            that the controller sees: ``"single"`` is ``e1``; ``"max"`` is ``max(e1, e2)`` (BS5);
            ``"hairer"`` is ``e1**2 / sqrt(e1**2 + 0.01 * e2**2)`` (DP8; Hairer, Norsett, Wanner,
            *Solving ODEs I*, II.10).
    """

    name: str
    c: Array
    a: Array
    b: Array
    b_error: Array | None
    order: int
    embedded_order: int | None
    source: str
    b_error2: Array | None = None
    error_rule: ErrorRule = "single"

    def __post_init__(self) -> None:
        s = self.b.shape[0]
        rows = {"b": self.b, "c": self.c, "b_error": self.b_error, "b_error2": self.b_error2}
        wrong = [key for key, row in rows.items() if row is not None and row.shape != (s,)]
        if wrong or self.a.shape != (s, s):
            raise ValueError(f"tableau {self.name}: {wrong or 'a'} does not fit {s} stages")
        if np.any(np.triu(self.a, 1)):
            raise ValueError(f"tableau {self.name}: a has entries above its diagonal")
        scale = 1.0 + np.abs(self.a).sum(axis=1)
        if np.any(np.abs(self.a.sum(axis=1) - self.c) > _ROW_SUM_TOLERANCE * scale):
            raise ValueError(f"tableau {self.name}: c is not the row sums of a")
        if (self.b_error2 is None) != (self.error_rule == "single"):
            raise ValueError(f"tableau {self.name}: error_rule does not fit b_error2")
        for row in (self.a, *rows.values()):
            if row is not None:
                row.setflags(write=False)

    @property
    def stages(self) -> int:
        """The number of stages."""
        return int(self.b.shape[0])

    @property
    def explicit(self) -> bool:
        """True when no stage needs a solve."""
        return not self.implicit_stages

    @property
    def implicit_stages(self) -> tuple[int, ...]:
        """The indices of the stages that need a solve."""
        return tuple(int(i) for i in np.flatnonzero(np.diagonal(self.a)))

    @property
    def fsal(self) -> bool:
        """True when the last stage is f at the end of the step: the first stage of the next one."""
        return bool(
            self.stages > 1
            and self.c[0] == 0.0
            and self.a[0, 0] == 0.0
            and self.c[-1] == 1.0
            and np.array_equal(self.a[-1], self.b)
        )


def tableau(name: str) -> Tableau:
    """The tableau called `name`.

    Raises:
        UnknownSolverError: no tableau has that name; it may still be a solver (`info`).
    """
    if name not in _rows():
        raise UnknownSolverError("tableau", name, _rows())
    return _parsed(name)


def tableau_names() -> tuple[str, ...]:
    """The names of all tableaus, by family and then in the order of the data files."""
    return tuple(_rows())


def row(name: str) -> Mapping[str, Any]:
    """The data of the tableau called `name` as they stand in its file."""
    return _rows()[name]


@cache
def _rows() -> Mapping[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for file in sorted(os.listdir(_FOLDER)):
        if file.endswith(".json"):
            with open(os.path.join(_FOLDER, file), encoding="utf-8") as lines:
                table.update(json.load(lines))
    return table


@cache
def _parsed(name: str) -> Tableau:
    row = _rows()[name]
    stages = len(row["b"])
    a = np.zeros((stages, stages))
    for i, entries in enumerate(row["a"]):
        a[i, : len(entries)] = _numbers(entries)
    return Tableau(
        name=name,
        c=_numbers(row["c"]),
        a=a,
        b=_numbers(row["b"]),
        b_error=_optional(row.get("b_error")),
        order=row["order"],
        embedded_order=row.get("embedded_order"),
        source=row["source"],
        b_error2=_optional(row.get("b_error2")),
        error_rule=row.get("error_rule", "single"),
    )


def _optional(entries: Sequence[str] | None) -> Array | None:
    return None if entries is None else _numbers(entries)


def _numbers(entries: Sequence[str]) -> Array:
    return np.array([_number(entry) for entry in entries], dtype=np.float64)


def _number(entry: str) -> float:
    """A fraction ``"44/45"`` or a decimal, correctly rounded (int / int is, in Python)."""
    numerator, slash, denominator = entry.partition("/")
    return int(numerator) / int(denominator) if slash else float(numerator)
