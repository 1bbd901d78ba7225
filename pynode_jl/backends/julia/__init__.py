"""The Julia backend: OrdinaryDiffEq's whole zoo, through juliacall, in this process."""

from pynode_jl.backends.julia._backend import JuliaBackend
from pynode_jl.backends.julia._fields import JuliaSource
from pynode_jl.backends.julia._process import Discovery, discover

__all__ = ["Discovery", "JuliaBackend", "JuliaSource", "discover"]
