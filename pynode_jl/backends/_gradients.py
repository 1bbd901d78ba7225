"""How a training gradient is taken: the methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from pynode_jl._validation import text as checked_text
from pynode_jl.backends._registry import BACKENDS, having
from pynode_jl.errors import InvalidValueError, UnknownNameError

#: A name of `GRADIENTS`, for some of them with a name of `VJPS` behind a colon:
#: ``"discrete"``, ``"GaussAdjoint"``, ``"InterpolatingAdjoint:ZygoteVJP"``.
GradientMethod: TypeAlias = str


class GradientInfo(NamedTuple):
    """What a method differentiates, and whether it takes a VJP."""

    meaning: str
    takes_vjp: bool = False


#: "discrete" differentiates the discrete model that is trained (discretise-then-optimise); an
#: adjoint that of the ODE (optimise-then-discretise). Names but the first are SciMLSensitivity's.
GRADIENTS: Mapping[str, GradientInfo] = {
    "discrete": GradientInfo("the solver's own steps, exactly"),
    "BacksolveAdjoint": GradientInfo(
        "the adjoint ODE, the state solved backwards with it; unsafe", True
    ),
    "InterpolatingAdjoint": GradientInfo("the adjoint ODE along the interpolated solution", True),
    "QuadratureAdjoint": GradientInfo(
        "the adjoint ODE, the weights' part by adaptive quadrature", True
    ),
    "GaussAdjoint": GradientInfo("the adjoint ODE, the weights' part by Gauss quadrature", True),
    "GaussKronrodAdjoint": GradientInfo(
        "the adjoint ODE, the weights' part by Gauss-Kronrod quadrature", True
    ),
    "ForwardDiffSensitivity": GradientInfo("forward-mode AD; expensive for many weights"),
    "ReverseDiffAdjoint": GradientInfo("the solver's loop, number by number"),
    "TrackerAdjoint": GradientInfo("the solver's loop, array by array"),
    "NeuralODE": GradientInfo("DiffEqFlux's NeuralODE as it comes"),
}

#: SciMLSensitivity's other methods, and why they are not among them.
REFUSED: Mapping[str, str] = {
    "ZygoteAdjoint": "Zygote does not get through OrdinaryDiffEq's loop, which writes into arrays",
    "EnzymeAdjoint": "it has not been tried: Enzyme needs a compiled library of its own",
    "MooncakeAdjoint": "it has not been tried: Mooncake is no dependency of SciMLSensitivity",
    "ForwardSensitivity": "it solves one ODE a weight beside the state's; ForwardDiffSensitivity"
    " gives the same",
    "ForwardDiffOverAdjoint": "it is for second derivatives",
    "SteadyStateAdjoint": "it is for steady states, not for trajectories",
    "UnconstrainedOptimizationAdjoint": "it is for minimisers, not for trajectories",
    **dict.fromkeys(
        ("ForwardLSS", "AdjointLSS", "NILSS", "NILSAS"),
        "it is for long averages of chaotic systems",
    ),
}

#: How an adjoint's vector-Jacobian products are taken: "written" are this package's own, written
#: out and in place, the default; the others are SciMLSensitivity's, through a Lux chain.
VJPS = ("written", "ZygoteVJP", "ReverseDiffVJP", "TrackerVJP", "EnzymeVJP")


class Gradient(NamedTuple):
    """A gradient method, taken apart."""

    method: str
    vjp: str


def checked_gradient(text: GradientMethod) -> GradientMethod:
    """`text` if it names a method, or an `UnknownNameError`.

    Example:
        >>> from pynode_jl.backends import checked_gradient
        >>> checked_gradient("discrete")
        'discrete'
    """
    parsed_gradient(text)
    return text


def parsed_gradient(text: GradientMethod, backend: str | None = None) -> Gradient:
    """Return the method and its vector-Jacobian product.

    Raises:
        UnknownNameError: no method, or no product, of that name.
        InvalidValueError: a product for a method that takes none, or a method that `backend` lacks.
    """
    method, colon, vjp = checked_text("gradient", text, 'Use "discrete".').partition(":")
    about = GRADIENTS.get(method)
    if method in REFUSED:
        raise InvalidValueError(
            "gradient", text, f"one of {', '.join(GRADIENTS)}", f"{method}: {REFUSED[method]}."
        )
    if about is None:
        raise UnknownNameError("gradient", method, GRADIENTS)
    if colon and not about.takes_vjp:
        allowed = ", ".join(name for name, each in GRADIENTS.items() if each.takes_vjp)
        raise InvalidValueError(
            "gradient",
            text,
            f"a vector-Jacobian product with one of {allowed} only",
            f'Use "{method}".',
        )
    if colon and vjp not in VJPS:
        raise UnknownNameError("vector-Jacobian product", vjp, VJPS)
    if backend is not None and method not in BACKENDS[backend].capabilities.gradients:
        have = ", ".join(BACKENDS[backend].capabilities.gradients)
        raise InvalidValueError(
            "gradient",
            text,
            f"one of {have} on the {backend} backend",
            f'Or use backend="{having("gradients", method)[0]}".',
        )
    return Gradient(method, vjp or VJPS[0])
