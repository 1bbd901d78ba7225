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
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pynode_jl._validation import rounded, text, whole_number
from pynode_jl.errors import InvalidValueError, UnknownSolverError
from pynode_jl.solvers._order_conditions import MOST_VERTICES, order_misses, satisfied_order

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
#: How the error of a step is estimated from one or two sets of error weights.
ErrorRule = Literal["single", "max", "hairer"]
Kind = Literal["explicit", "dirk", "full"]

_FOLDER = os.path.join(os.path.dirname(__file__), "tableaus")
_ROW_SUM_TOLERANCE = 1e-12
_ERROR_RULES = ("single", "max", "hairer")


@dataclass(frozen=True, eq=False, repr=False)
class Tableau:
    """The coefficients of one Runge-Kutta method: explicit, diagonally implicit or fully implicit.

    Arrays are copied, and read-only afterwards. Two tableaus are equal, and have one hash, if all
    but their sources are equal. ``Solver(Tableau(...), dt=...)`` makes a solver of one.

    Attributes:
        name: the name in the catalogue, or the user's own.
        c: abscissae, shape ``(s,)``; the row sums of ``a``. None, when it is made, for those.
        a: stage weights, shape ``(s, s)``; the stage i holds those j with a non-zero ``a[i, j]``.
        b: weights of the step, shape ``(s,)``.
        b_error: weights of the error estimate, shape ``(s,)``; None for a method without one.
        order: the order that the coefficients satisfy; left out, it is found from them (to 8).
        embedded_order: the order of the companion method; None without `b_error`.
        source: where the method was published.
        b_error2: weights of a second error estimate, to be used as `error_rule` says.
        error_rule: how scaled norms ``e1`` (of `b_error`) and ``e2`` (of `b_error2`) make the error
            that the controller sees: ``"single"`` is ``e1``; ``"max"`` is ``max(e1, e2)`` (BS5);
            ``"hairer"`` is ``e1**2 / sqrt(e1**2 + 0.01 * e2**2)`` (DP8; Hairer, Norsett, Wanner,
            *Solving ODEs I*, II.10).

    Raises:
        InvalidValueError: arrays that do not fit each other or are not finite, abscissae that are
            not the row sums, an `order` that is none or that no coefficients of this kind have.

    Example:
        >>> from pynode_jl.solvers import Tableau
        >>> mine = Tableau("Mine", c=[0, 2 / 3], a=[[0, 0], [2 / 3, 0]], b=[1 / 4, 3 / 4])
        >>> mine.order, mine.kind
        (2, 'explicit')
    """

    name: str
    c: Array
    a: Array
    b: Array
    b_error: Array | None = None
    order: int = 0
    embedded_order: int | None = None
    source: str = ""
    b_error2: Array | None = None
    error_rule: ErrorRule = "single"

    def __init__(
        self,
        name: str,
        c: ArrayLike | None,
        a: ArrayLike,
        b: ArrayLike,
        b_error: ArrayLike | None = None,
        order: int = 0,
        embedded_order: int | None = None,
        source: str = "",
        b_error2: ArrayLike | None = None,
        error_rule: ErrorRule = "single",
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise InvalidValueError("name", name, "a text", 'Name it: Tableau("Mine", ...).')
        object.__setattr__(self, "name", name)
        weights = self._array("a", a, 2)
        arrays = {
            "b": self._array("b", b),
            "a": weights,
            "c": weights.sum(axis=1) if c is None else self._array("c", c),
            "b_error": None if b_error is None else self._array("b_error", b_error),
            "b_error2": None if b_error2 is None else self._array("b_error2", b_error2),
        }
        self._check_shapes(arrays)
        for key, row in arrays.items():
            if row is not None:
                row.setflags(write=False)
            object.__setattr__(self, key, row)
        self._check_row_sums()
        if (
            not isinstance(error_rule, str)
            or error_rule not in _ERROR_RULES
            or (b_error2 is None) != (error_rule == "single")
        ):
            raise self._refused(
                "error_rule",
                error_rule,
                '"max" or "hairer" with b_error2, "single" without',
                "Change one of the two.",
            )
        for key, value in (
            ("order", self._found_order() if order is None or _is_zero(order) else order),
            ("embedded_order", embedded_order),
        ):
            name_of = f"tableau {self.name!r}, {key}"
            found = None if value is None else whole_number(name_of, value, hint="Correct it.")
            object.__setattr__(self, key, found)
        object.__setattr__(self, "source", text("source", source, "Say where it is published."))
        object.__setattr__(self, "error_rule", error_rule)

    def _found_order(self) -> int:
        return satisfied_order(order_misses(self.a, self.b, MOST_VERTICES))

    def _array(self, key: str, value: object, ndim: int = 1) -> Array:
        try:
            array = np.array(rounded(key, value, np.float64))
        except InvalidValueError as error:
            raise self._refused(
                key, value, "an array of numbers", "Give every row whole."
            ) from error
        if array.ndim != ndim or array.size == 0:
            axes = "(stages,)" if ndim == 1 else "(stages, stages)"
            raise self._refused(key, array.shape, f"an array of shape {axes}", "Reshape it.")
        if not np.isfinite(array).all():
            raise self._refused(key, value, "finite numbers", "Look for NaN and infinity in it.")
        return array

    def _check_shapes(self, arrays: Mapping[str, Array | None]) -> None:
        assert arrays["b"] is not None
        s = arrays["b"].shape[0]
        for key, row in arrays.items():
            shape = (s, s) if key == "a" else (s,)
            if row is not None and row.shape != shape:
                raise self._refused(
                    f"the shape of {key}",
                    row.shape,
                    f"{shape}, as b has {s} stages",
                    "Correct one.",
                )

    def _check_row_sums(self) -> None:
        a, c = self.a, self.c
        scale = 1.0 + np.abs(a).sum(axis=1)
        (wrong,) = np.nonzero(np.abs(a.sum(axis=1) - c) > _ROW_SUM_TOLERANCE * scale)
        if wrong.size:
            i = int(wrong[0])
            raise self._refused(
                f"c[{i}]",
                float(c[i]),
                f"{float(a[i].sum())!r}, for c is the row sums of a",
                "Correct that row, or give c=None.",
            )

    def _refused(self, key: str, value: object, expected: str, hint: str) -> InvalidValueError:
        return InvalidValueError(f"tableau {self.name!r}, {key}", value, expected, hint)

    def __repr__(self) -> str:
        return f"Tableau({self.name!r}, {self.kind}, {self.stages} stages, order {self.order})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Made anew, so that the arrays of a copy are read-only too.
        return Tableau, tuple(getattr(self, field.name) for field in fields(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tableau):
            return NotImplemented
        return self is other or self._content == other._content

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _content(self) -> tuple[Any, ...]:
        values = [getattr(self, field.name) for field in fields(self) if field.name != "source"]
        # 0.0, so that -0.0 is equal to it here too.
        return tuple(
            (each + 0.0).tobytes() if isinstance(each, np.ndarray) else each for each in values
        )

    @cached_property
    def _hash(self) -> int:
        return hash(self._content)

    def same_method(self, other: Tableau | None) -> bool:
        """Return whether another tableau has the same coefficients, whatever its name."""
        if other is None or len(self.error_weights) != len(other.error_weights):
            return False
        mine, theirs = ((t.c, t.a, t.b, *t.error_weights) for t in (self, other))
        same = all(np.array_equal(*pair) for pair in zip(mine, theirs, strict=True))
        return same and self.error_rule == other.error_rule

    @cached_property
    def stages(self) -> int:
        """The number of stages."""
        return int(self.b.shape[0])

    @cached_property
    def kind(self) -> Kind:
        """``"explicit"``; ``"dirk"``, with stages to be solved one by one; ``"full"``, together."""
        if np.any(np.triu(self.a, 1)):
            return "full"
        return "dirk" if np.any(np.diagonal(self.a)) else "explicit"

    @cached_property
    def weight_sum(self) -> float:
        """The largest sum of the absolute weights of a stage, or of the step: 1 of Euler's method.

        So many roundings of a slope times the step may reach a state.
        """
        return float(max(np.abs(self.a).sum(axis=1).max(), np.abs(self.b).sum()))

    @cached_property
    def explicit(self) -> bool:
        """True when no stage needs a solve."""
        return self.kind == "explicit"

    @cached_property
    def implicit_stages(self) -> tuple[int, ...]:
        """The indices of the stages that need a solve."""
        return tuple(i for i in range(self.stages) if self.coupled(i) > i)

    def coupled(self, i: int) -> int:
        """Return where the block of stages ends that stage `i` is solved with.

        It is `i` for an explicit stage, ``i + 1`` for a stage that is solved alone, and `stages`
        where it holds later ones.
        """
        return self._block_ends[i]

    @cached_property
    def _block_ends(self) -> tuple[int, ...]:
        s = self.stages
        ends = [int(np.max(np.nonzero(row)[0], initial=-1)) + 1 for row in self.a]
        return tuple(i if end <= i else end if end == i + 1 else s for i, end in enumerate(ends))

    @cached_property
    def error_weights(self) -> tuple[Array, ...]:
        """The weights of all error estimates: none, `b_error`, or `b_error` and `b_error2`."""
        return tuple(row for row in (self.b_error, self.b_error2) if row is not None)

    @cached_property
    def explicit_first(self) -> bool:
        """True when the first stage is f(t, y)."""
        return bool(self.c[0] == 0.0 and not np.any(self.a[0]))

    @cached_property
    def fsal(self) -> bool:
        """True when the last stage is f at the end of the step: the first stage of the next one."""
        return bool(
            self.stages > 1
            and self.explicit_first
            and self.c[-1] == 1.0
            and np.array_equal(self.a[-1], self.b)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON or TOML, without what is None; `from_dict` reads them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in values.items()
            if value is not None
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Tableau:
        """Return the tableau that `to_dict` wrote.

        `values` are plain: name, a, b, c, and what else `to_dict` has.

        Raises:
            InvalidValueError: a key that a tableau does not have, one that is missing, or a value
                that is refused.
        """
        known = [field.name for field in fields(Tableau)]
        needed = {"name", "c", "a", "b"}
        if not isinstance(values, Mapping) or not needed <= set(values) <= set(known):
            raise InvalidValueError(
                "tableau",
                sorted(values) if isinstance(values, Mapping) else values,
                f"a table with name, c, a, b and any of {', '.join(known[4:])}",
                "Write it with Tableau.to_dict.",
            )
        return Tableau(**values)


def _is_zero(order: object) -> bool:
    return isinstance(order, int) and order == 0


def tableau(name: str) -> Tableau:
    """Return the tableau called `name`.

    Raises:
        UnknownSolverError: no tableau has that name; it may still be a solver (`info`).

    Example:
        >>> from pynode_jl.solvers import tableau
        >>> tableau("Heun").b
        array([0.5, 0.5])
    """
    if text("name", name, 'Use "Tsit5", say.') not in _rows():
        raise UnknownSolverError("tableau", name, _rows())
    return _parsed(name)


def tableau_names() -> tuple[str, ...]:
    """Return the names of all tableaus, by family and then in the order of the data files.

    Example:
        >>> from pynode_jl.solvers import tableau_names
        >>> "Feagin14" in tableau_names()
        True
    """
    return tuple(_rows())


def row(name: str) -> Mapping[str, Any]:
    """Return the data of the tableau called `name` as they stand in its file."""
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
    """Return a fraction ``"44/45"`` or a decimal, correctly rounded (int / int is, in Python)."""
    numerator, slash, denominator = entry.partition("/")
    return int(numerator) / int(denominator) if slash else float(numerator)
