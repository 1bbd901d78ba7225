"""The JAX front end: solves as JAX functions, modules and diffrax solvers, from one catalogue."""

if __name__ == "jax":  # the package's own folder is on sys.path, and hides the real one
    raise ImportError(
        "this is pynode_jl.jax, found as 'jax': run Python from the folder above pynode_jl"
    )

from pynode_jl.frontends.jax import (
    FieldModule,
    NeuralODE,
    as_tree,
    certify,
    diffrax_solver,
    odeint,
    swap,
    to_trained,
    tree_field,
)

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
