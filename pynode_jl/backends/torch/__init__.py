"""The eager backend: any torch module or function, integrated step by step in torch."""

from pynode_jl.backends.torch._backend import TorchBackend

__all__ = ["TorchBackend"]
