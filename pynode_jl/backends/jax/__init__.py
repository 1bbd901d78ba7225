"""The embedded backend, on JAX and diffrax: works after `pip install` alone."""

from pynode_jl.backends.jax._backend import JaxBackend

__all__ = ["JaxBackend"]
