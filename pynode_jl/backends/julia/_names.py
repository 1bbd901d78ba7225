"""Which solvers a Julia environment has, and what is missing for the others."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pynode_jl.backends.julia import _process
from pynode_jl.solvers import SolverInfo, catalogue

#: The version of its package from which on a solver is there, where 2026 brought it.
SINCE = {
    "NordsieckBDF": "2.4.2",
    "DNordsieckBDF": "2.4.2",
    "Rodas3d": "2.6.0",
    **{row.name: "3.3.0" for row in catalogue(backend="julia") if row.name.startswith("AlJahdali")},
}

#: Solvers that no environment can solve a plain field with, and why.
UNSOLVABLE = {
    "AMF": "it wraps another method and takes a field whose Jacobian is a product of factors",
    "HybridExplicitImplicitRK": "it is a frame without coefficients; Tsit5DA is the method in it",
    **dict.fromkeys(
        ("MER5v2", "MER6v2", "RK6v4"),
        "it evaluates several stages at once, in SIMD numbers, of a function out of place",
    ),
    **dict.fromkeys(
        ("JVODE", "JVODE_Adams", "JVODE_BDF"),
        "at tight tolerances it reads beyond its arrays and ends the process",
    ),
}

#: Explicit solvers that OrdinaryDiffEq cannot run on arrays of a device, and why.
HOST_ONLY = {
    **dict.fromkeys(
        ("Anas5", "Feagin10", "Feagin12", "Feagin14"), "it reads single numbers of the state"
    ),
    **dict.fromkeys(
        ("ExplicitTaylor", "ExplicitTaylor2", "ExplicitTaylorAdaptiveOrder"),
        "it evaluates the field in power series, for which a device's layers are not written",
    ),
}

#: Solvers that are adaptive by their type, and whose steps only a user's dt makes right, with why.
FIXED_STEPS_ONLY = {
    **dict.fromkeys(
        ("Alshina2", "Alshina3", "FRK65", "PFRK87", "SIR54", "SSPRK932"),
        "its error weights in OrdinaryDiffEq do not sum to 0: steps shrink without an end",
    ),
    **dict.fromkeys(
        ("ROS34PW1a", "ROS34PW1b"),
        "its error estimate in OrdinaryDiffEq is blind to what depends on time alone",
    ),
    **dict.fromkeys(("SSPRKMSVS32", "SSPRKMSVS43"), "it estimates no error in OrdinaryDiffEq"),
    # Its cache's stages start from u, which holds the rejected state, and not from uprev.
    **dict.fromkeys(
        (row.name for row in catalogue(backend="julia") if row.name.startswith("CKLLSRK")),
        "after a rejected step OrdinaryDiffEq goes on from the rejected state",
    ),
    "AN5": "with tolerances it does not converge in OrdinaryDiffEq: errors stay as these shrink",
}

#: Solvers whose steps in OrdinaryDiffEq are not those of their tableau, and why.
OTHER_STEPS = {
    "Kvaerno4": "OrdinaryDiffEq's has gamma = 0.4358665215, the tableau Kvaerno's 0.5728160625",
    "RKV76IIa": "its fixed steps blow up in OrdinaryDiffEqVerner 2",
    "SSPRK932": "of order 1 in OrdinaryDiffEqSSPRK, even where f does not depend on t",
}
#: Solvers of which OrdinaryDiffEq's abscissae are not the row sums of the tableau.
OTHER_ABSCISSAE = frozenset(
    ("CKLLSRK54_3C", "ESDIRK547L2SA2", "Kvaerno3", "Kvaerno4", "Kvaerno5", "SSPSDIRK2")
)


def solvers(device: str = "cpu") -> tuple[str, ...]:
    """Return the solvers of a plain y' = f(t, y) that the running Julia has; load nothing."""
    return tuple(row.name for row in _plain_rows() if why_not(row, device) is None)


def missing(device: str = "cpu") -> dict[str, str]:
    """Return the other solvers of a plain y' = f(t, y) by name, with what is missing."""
    found = {row.name: why_not(row, device) for row in _plain_rows()}
    return {name: reason for name, reason in found.items() if reason is not None}


@cache
def why_not(row: SolverInfo, device: str = "cpu") -> str | None:
    """Why the running Julia cannot solve with this solver, and how to change it; None if it can."""
    if row.name in UNSOLVABLE:
        return f"{UNSOLVABLE[row.name]}."
    if device != "cpu" and (row.takes_jacobian or row.name in HOST_ONLY):
        reason = HOST_ONLY.get(row.name, "an implicit solver's linear systems are solved there")
        return f"On the CPU only: {reason}. Leave device out."
    library = row.sublibrary
    if library is None:
        return 'Julia has no such solver. Use backend="jax".'
    module = _process.julia().PyNODE
    if not module.has_package(library):
        return (
            f'{library} is not in the Julia environment. Add it: using Pkg; Pkg.add("{library}").'
        )
    if not module.speaks_of(row.name, library):
        here = str(module.package_version(library))
        since = SINCE.get(row.name)
        wanted = f"{library} {since} or newer has it" if since else f"another {library} has it"
        return (
            f"{wanted}, the Julia environment has {here}. Where its packages' bounds admit that"
            f' version: using Pkg; Pkg.update("{library}").'
        )
    return None


class TestedSet(NamedTuple):
    """Versions of Julia packages that work together: what the set has and lacks, by package."""

    about: str
    versions: Mapping[str, str]


@cache
def tested_sets() -> dict[str, TestedSet]:
    """The sets of ``tested.toml`` by name."""
    text = Path(__file__).with_name("tested.toml").read_text(encoding="utf-8")
    return {name: TestedSet(**each) for name, each in tomllib.loads(text).items()}


def set_at_hand(core: str) -> str:
    """Which set an environment with this OrdinaryDiffEqCore has, in words.

    `core` is a version, ``"4.6.1"``.
    """
    known = {each.versions["OrdinaryDiffEqCore"]: each.about for each in tested_sets().values()}
    if core in known:
        return f"a tested set of versions: {known[core]}"
    return f"no tested set of versions (those have OrdinaryDiffEqCore {' and '.join(known)})"


def _plain_rows() -> list[SolverInfo]:
    return [row for row in catalogue(backend="julia") if row.plain]
