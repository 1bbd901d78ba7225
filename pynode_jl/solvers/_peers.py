"""What other libraries and books call a method: which of ours is the same, which only looks alike.

"The same" means the same coefficients and the same error weights. Each library has a step control
of its own, so steps at one tolerance differ even then. Peers with coefficients here stand beside
these, in ``tableaus/*.json``, where tests compare them number by number; the table below has all
others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from pynode_jl.solvers._tableau import row, tableau_names


class Peer(NamedTuple):
    """A method of another library, and the one of ours that is, or is most like, it.

    Attributes:
        library: who calls it so: a package, "MATLAB", "books", ...
        name: what it is called there.
        ours: the name here; "" where there is none.
        differs: what differs; "" where they are the same.

    Example:
        >>> from pynode_jl.solvers import peers
        >>> [(each.library, each.ours, each.differs) for each in peers("scipy.integrate.RK23")]
        [('scipy', 'BS3', '')]
    """

    library: str
    name: str
    ours: str
    differs: str

    @property
    def same(self) -> bool:
        """Whether ours has the same coefficients and error weights."""
        return bool(self.ours) and not self.differs


_CONTROL = "the same formulas; other starting values and step control"
_VARIABLE = "also of variable step and order; another implementation"
_SWITCHES = "it switches between Adams (VCABM) and BDF (QNDF); here you choose"
_STOCHASTIC = "it solves stochastic equations; all solvers here are for y' = f(t, y)"
_AS_TABLEAU = 'Solver(TORCHDIFFEQ_TABLEAUS["{}"], dt=1/16) of pynode_jl.solvers is it'
_ADAMS = "of fixed steps too; its order grows to 12 there, ours is fixed"
_NONE = "not in the catalogue"

# Library, the names there, ours, what differs.
_ELSEWHERE: tuple[tuple[str, str, str, str], ...] = (
    ("torchdiffeq", "heun2", "Heun", ""),
    ("torchdiffeq", "implicit_euler", "ImplicitEuler", ""),
    ("torchdiffeq", "implicit_midpoint", "ImplicitMidpoint", ""),
    ("torchdiffeq", "trapezoid", "Trapezoid", ""),
    ("torchdiffeq", "trbdf2", "TRBDF2", ""),
    ("torchdiffeq", "tsit5", "Tsit5", "it goes on with the embedded solution"),
    *(
        ("torchdiffeq", name, "", _AS_TABLEAU.format(name))
        for name in ("heun3", "sdirk2", "gl4", "gl6", "radauIIA3", "radauIIA5")
    ),
    ("torchdiffeq", "explicit_adams", "AB5", _ADAMS),
    ("torchdiffeq", "implicit_adams fixed_adams", "ABM54", _ADAMS),
    ("torchdiffeq", "scipy_solver", "", "it calls SciPy: give the name of SciPy's method"),
    ("scipy", "Radau", "RadauIIA5", _CONTROL),
    ("scipy", "BDF", "QNDF", _VARIABLE),
    ("scipy", "LSODA odeint", "VCABM", _SWITCHES),
    ("scipy", "LSODA odeint", "QNDF", _SWITCHES),
    ("scipy", "dopri5", "DP5", ""),
    ("scipy", "dop853", "DP8", ""),
    ("scipy", "vode zvode", "QNDF", _VARIABLE),
    ("scipy", "vode zvode", "VCABM", _VARIABLE),
    ("jax", "odeint", "DP5Shampine", "Dormand and Prince's pair with another step control"),
    ("diffrax", "SemiImplicitEuler", "SymplecticEuler", "ours needs a partitioned problem"),
    ("diffrax", "ReversibleHeun LeapfrogMidpoint Sil3", "", _NONE),
    (
        "diffrax",
        "EulerHeun ItoMilstein StratonovichMilstein HalfSolver SEA SRA1 ShARK GeneralShARK SlowRK"
        " SPaRK ALIGN ShOULD QUICSORT",
        "",
        _STOCHASTIC,
    ),
    ("MATLAB", "ode45", "DP5", ""),
    ("MATLAB", "ode23", "BS3", ""),
    ("MATLAB", "ode78", "Vern8", "Verner's pair too; their coefficients were not compared"),
    ("MATLAB", "ode89", "Vern9", "Verner's robust pair there, his efficient one here"),
    ("MATLAB", "ode113", "VCABM", _VARIABLE),
    ("MATLAB", "ode15s", "QNDF", _VARIABLE),
    ("MATLAB", "ode23s", "Rosenbrock23", _CONTROL),
    ("MATLAB", "ode23t", "Trapezoid", _CONTROL),
    ("MATLAB", "ode23tb", "TRBDF2", _CONTROL),
    ("MATLAB", "ode15i", "", "it solves fully implicit problems"),
    ("SUNDIALS", "CVODE CVODE_BDF", "QNDF", _VARIABLE),
    ("SUNDIALS", "CVODE_Adams", "VCABM", _VARIABLE),
    ("SUNDIALS", "ARKODE ARKStep", "KenCarp4", "its default method depends on the order asked for"),
    ("Hairer's codes", "radau5 radau", "RadauIIA5", _CONTROL),
    ("Hairer's codes", "rodas", "Rodas4", _CONTROL),
    (
        "Hairer's codes",
        "odex",
        "ExtrapolationMidpointHairerWanner",
        "the same scheme; another implementation",
    ),
    ("books", "forward_euler explicit_euler", "Euler", ""),
    ("books", "backward_euler", "ImplicitEuler", ""),
    ("books", "crank_nicolson", "Trapezoid", ""),
    ("books", "runge_kutta runge_kutta_4 classical_rk4", "RK4", ""),
    ("books", "bdf bdf2 gear", "QNDF", "of variable step and order; ABDF2 has order 2"),
    ("books", "dormand_prince dopri54 rkdp", "DP5", ""),
    ("books", "bogacki_shampine", "BS3", ""),
    ("books", "runge_kutta_fehlberg fehlberg rkf", "RKF45", ""),
)
_LIBRARIES = {"scipy", "diffrax", "torchdiffeq", "jax", "matlab", "sundials"}
# Of a library by another name.
_ALIASES = {"assimulo": "sundials", "scikits": "sundials"}


def peers(name: str) -> tuple[Peer, ...]:
    """Return what other libraries call `name`: the same methods first.

    Args:
        name: in either case, with or without its library and brackets: "dopri5", "diffrax.Dopri5",
            "Dopri5()".

    Example:
        >>> from pynode_jl.solvers import peers
        >>> [(each.ours, each.same) for each in peers("dopri5") if each.library == "torchdiffeq"]
        [('DP5Shampine', True), ('DP5', False)]
    """
    library, key = _taken_apart(name)
    return tuple(
        each for each in _by_spelling().get(key, ()) if library in ("", each.library.casefold())
    )


def bare_name(name: str) -> str:
    """Return the last part of a name as code has it, without brackets: "Tsit5" of "de.Tsit5()"."""
    return re.sub(r"\(.*\)\s*$", "", name.strip(), flags=re.DOTALL).rpartition(".")[2].strip()


def name_of_object(value: object) -> str | None:
    """Return the name of a solver object, or class, of another library; None for all else."""
    made = value if isinstance(value, type) else type(value)
    library = made.__module__.partition(".")[0]
    return f"{library}.{made.__name__}" if library in _LIBRARIES else None


def remarks(found: Iterable[Peer]) -> Mapping[str, str]:
    """Return ours by name, "" where there is none, each with what it is of others' methods."""
    grouped: dict[str, dict[str, list[str]]] = {}
    for each in found:
        said = grouped.setdefault(each.ours, {}).setdefault(each.differs, [])
        said.append(f"{each.name} of {each.library}")
    return {
        ours: "; ".join(
            f"not {', '.join(names)}: {differs}" if differs else f"the same as {', '.join(names)}"
            for differs, names in said.items()
        )
        for ours, said in grouped.items()
    }


def _taken_apart(name: str) -> tuple[str, str]:
    """Return the library, "" where none is named, and the spelling of the name alone."""
    parts = re.sub(r"\(.*\)\s*$", "", name.strip(), flags=re.DOTALL).split(".")
    root = _ALIASES.get(parts[0].casefold(), parts[0].casefold())
    return root if len(parts) > 1 and root in _LIBRARIES else "", _spelling(parts[-1])


def _spelling(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


@cache
def _by_spelling() -> Mapping[str, tuple[Peer, ...]]:
    rows = []
    for ours in tableau_names():
        about = row(ours)
        for kind in ("same_as", "near"):
            for library, peer in about.get(kind, {}).items():
                called, _, remark = peer.partition(" (")
                differs = "" if kind == "same_as" else remark.rstrip(")") or "it looks alike"
                if library != "julia":
                    rows.append(Peer(library, called, ours, differs))
    rows += [
        Peer(library, name, ours, differs)
        for library, names, ours, differs in _ELSEWHERE
        for name in names.split()
    ]
    found: dict[str, list[Peer]] = {}
    for each in sorted(rows, key=lambda each: not each.same):
        found.setdefault(_spelling(each.name), []).append(each)
    return {key: tuple(each) for key, each in found.items()}
