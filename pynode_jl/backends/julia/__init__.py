"""The Julia backend: OrdinaryDiffEq's whole zoo, through juliacall, in this process."""

from pynode_jl.backends.julia._algorithms import julia_solver, sublibrary
from pynode_jl.backends.julia._backend import JuliaBackend
from pynode_jl.backends.julia._discovery import (
    Discovery,
    discover,
    environment,
    pythoncall_version,
)
from pynode_jl.backends.julia._fields import JuliaSource, lux_field
from pynode_jl.backends.julia._install import install
from pynode_jl.backends.julia._names import set_at_hand
from pynode_jl.backends.julia._precompiled import Image, build_images, solvers_by_library

__all__ = [
    "Discovery",
    "Image",
    "JuliaBackend",
    "JuliaSource",
    "build_images",
    "discover",
    "environment",
    "install",
    "julia_solver",
    "lux_field",
    "pythoncall_version",
    "set_at_hand",
    "solvers_by_library",
    "sublibrary",
]
