"""The catalogue: every solver by its Julia name, what it is, and who has the same one.

Two data files feed it. ``zoo.json`` holds what OrdinaryDiffEq exports, by name, with the traits of
its sources. ``tableaus/*.json`` holds the coefficients and, beside them, notes and peers in other
libraries; a tableau whose name Julia does not have is a solver of the JAX backend only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache
from typing import Any, Literal

from pynode_jl._validation import choice, flag, text, whole_number
from pynode_jl.errors import InvalidValueError, UnknownSolverError
from pynode_jl.solvers._peers import bare_name, name_of_object, peers, remarks
from pynode_jl.solvers._tableau import Tableau, row, tableau, tableau_names

Backend = Literal["jax", "julia"]

_ZOO = os.path.join(os.path.dirname(__file__), "zoo.json")


@dataclass(frozen=True)
class SolverInfo:
    """What a solver is.

    Attributes:
        name: its Julia name, or ours where Julia has none.
        order: order of convergence as its source states it; None where it varies or is an option.
        measured_order: the order that its coefficients satisfy, where that is another one.
        embedded_order: order of the companion method of its error estimate, where it has weights.
        family: what its Julia sub-library holds, in words.
        kind: explicit RK, implicit RK, rosenbrock, multistep, ...
        adaptive: its source estimates an error and adapts steps. In the JAX backend that also
            needs weights, ``tableau.b_error``: RK4, say, has none (Julia controls its residual).
        fixed_step: it runs with fixed steps.
        implicit: it solves equations in its stages.
        fsal: the last stage of a step is the first of the next; None without a tableau.
        problem: the kind of problem that it solves, as Julia calls it.
        sublibrary: the Julia package that holds it; None for what Julia does not have.
        backends: the backends that have it.
        tableau: its coefficients, where they are known.
        same_as: peers with the same coefficients and the same error weights, by library.
        near: peers that look the same and are not, by library.
        note: what to know before comparing it.

    Example:
        >>> from pynode_jl.solvers import info
        >>> vern7 = info("Vern7")
        >>> vern7.order, vern7.adaptive, vern7.implicit
        (7, True, False)
    """

    name: str
    order: int | None
    measured_order: int | None
    embedded_order: int | None
    family: str
    kind: str
    adaptive: bool
    fixed_step: bool
    implicit: bool
    fsal: bool | None
    problem: str
    sublibrary: str | None
    backends: tuple[Backend, ...]
    tableau: Tableau | None = field(repr=False)
    same_as: Mapping[str, str] = field(hash=False)
    near: Mapping[str, str] = field(hash=False)
    note: str

    @property
    def plain(self) -> bool:
        """It solves a plain y' = f(t, y)."""
        return "ODEProblem" in self.problem.split(" or ")

    @property
    def takes_jacobian(self) -> bool:
        """It is given the Jacobian: an implicit or an exponential method."""
        return self.implicit or self.kind == "exponential"

    def to_dict(self) -> dict[str, Any]:
        """Return the traits as plain values, without the coefficients."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        del values["tableau"]
        return values | {"same_as": dict(self.same_as), "near": dict(self.near)}


def info(name: str) -> SolverInfo:
    """Return the row of the solver called `name`.

    Raises:
        UnknownSolverError: no solver has that name; the message holds the nearest ones.
        InvalidValueError: `name` is no text.

    Example:
        >>> from pynode_jl.solvers import info
        >>> info("DP5").order
        5
    """
    if not isinstance(name, str):
        elsewhere = name_of_object(name)
        if elsewhere is not None:
            raise _unknown(elsewhere)
        raise InvalidValueError("name", name, "the name of a solver", 'Use "Tsit5", say.')
    if name not in zoo() and name not in tableau_names():  # a dict first: each solve asks
        raise _unknown(name)
    return _info(name)


def catalogue(
    *,
    family: str | None = None,
    backend: Backend | None = None,
    adaptive: bool | None = None,
    implicit: bool | None = None,
    order: int | None = None,
) -> tuple[SolverInfo, ...]:
    """Return the solvers that meet every condition given, in the order of their families.

    Args:
        family: a part of the family's name, in either case: ``"ssp"``, ``"low storage"``.
        backend: ``"jax"`` or ``"julia"``.
        adaptive: only those that adapt their steps, or only those that do not.
        implicit: only implicit ones, or only explicit ones.
        order: only those of this order.

    Raises:
        InvalidValueError: no solver has such a family; a backend that is neither.

    Example:
        >>> [row.name for row in pn.catalogue(family="verner", adaptive=True, backend="jax")][:2]
        ['Vern6', 'Vern7']
    """
    rows = [_info(name) for name in solver_names()]
    if backend is not None:
        choice("backend", backend, ("jax", "julia"))
    if order is not None:
        order = whole_number("order", order)
    for name, value in (("adaptive", adaptive), ("implicit", implicit)):
        if value is not None:
            flag(name, value)
    if family is not None:
        text("family", family, 'Use "verner", say.')
        families = sorted({each.family for each in rows})
        rows = [each for each in rows if family.casefold() in each.family.casefold()]
        if not rows:
            raise InvalidValueError(
                "family", family, f"a part of one of: {'; '.join(families)}", "Use such a part."
            )
    return tuple(
        each
        for each in rows
        if (backend is None or backend in each.backends)
        and (adaptive is None or adaptive == each.adaptive)
        and (implicit is None or implicit == each.implicit)
        and (order is None or order == each.order)
    )


@lru_cache(maxsize=256)
def own_info(table: Tableau) -> SolverInfo:
    """Return the row of a user's own tableau."""
    return SolverInfo(
        **_traits(table, "own tableaus"),
        measured_order=None,
        embedded_order=table.embedded_order,
        fsal=table.fsal,
        backends=() if table.kind == "full" else ("jax",),
        tableau=table,
        same_as={},
        near={},
        note=table.source,
    )


def _traits(table: Tableau, family: str) -> dict[str, Any]:
    return {
        "name": table.name,
        "order": table.order,
        "family": family,
        "kind": "explicit RK" if table.explicit else "implicit RK",
        "adaptive": table.b_error is not None,
        "fixed_step": True,
        "implicit": not table.explicit,
        "problem": "ODEProblem",
        "sublibrary": None,
    }


@cache
def zoo() -> Mapping[str, dict[str, Any]]:
    """Return the rows of ``zoo.json`` by name."""
    with open(_ZOO, encoding="utf-8") as lines:
        return {entry["name"]: entry for entry in json.load(lines)}


@cache
def solver_names() -> tuple[str, ...]:
    """Return the names of all solvers of the catalogue.

    Example:
        >>> from pynode_jl.solvers import solver_names
        >>> "Tsit5" in solver_names()
        True
    """
    return tuple(dict.fromkeys((*zoo(), *tableau_names())))


def _unknown(name: str) -> UnknownSolverError:
    """Return the error that says what other libraries mean by `name`."""
    bare, ours = bare_name(name), dict(remarks(peers(name)))
    elsewhere = ours.pop("", "").removeprefix("not ")
    if bare in solver_names():
        ours = {bare: ours.get(bare, ""), **ours}
    return UnknownSolverError("solver", name, solver_names(), ours, elsewhere)


@cache
def _info(name: str) -> SolverInfo:
    julia = zoo().get(name)
    coefficients = tableau(name) if name in tableau_names() else None
    extra = row(name) if coefficients else {}
    if julia is not None:
        traits = {key: value for key, value in julia.items() if key not in ("controller", "note")}
    else:
        assert coefficients is not None  # a name comes from one of the two files
        traits = _traits(coefficients, "explicit RK: not in Julia by name")
    backends: list[Backend] = ["jax"] if coefficients else []
    return SolverInfo(
        **traits,
        measured_order=extra.get("measured_order"),
        embedded_order=coefficients.embedded_order if coefficients else None,
        fsal=coefficients.fsal if coefficients else None,
        backends=(*backends, "julia") if julia else tuple(backends),
        tableau=coefficients,
        same_as=extra.get("same_as", {}),
        near=extra.get("near", {}),
        note=" ".join(filter(None, (extra.get("note"), (julia or {}).get("note")))),
    )
