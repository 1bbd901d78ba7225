"""The JAX front end: solves as JAX functions, modules and diffrax solvers, from one catalogue."""

from pynode_jl.backends.jax.diffrax_adapter import diffrax_solver
from pynode_jl.frontends.jax._module import FieldModule, NeuralODE
from pynode_jl.frontends.jax._odeint import odeint
from pynode_jl.frontends.jax._to_trained import to_trained
from pynode_jl.frontends.jax._tree import as_tree, tree_field
from pynode_jl.frontends.jax._verdicts import certify, swap

__all__ = [
    "FieldModule",
    "NeuralODE",
    "as_tree",
    "certify",
    "diffrax_solver",
    "odeint",
    "swap",
    "to_trained",
    "tree_field",
]
