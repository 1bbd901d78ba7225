"""The JAX backend: the default, which needs nothing else installed."""

from pynode_jl.backends.jax._backend import JaxBackend

__all__ = ["JaxBackend"]
