"""The torch front end: torchdiffeq's calls, every solver of the catalogue.

``from pynode_jl.torch import odeint`` in place of ``from torchdiffeq import odeint`` is all that a
program has to change."""

if __name__ == "torch":  # the package's own folder is on sys.path, and hides the real one
    raise ImportError(
        "this is pynode_jl.torch, found as 'torch': run Python from the folder above pynode_jl"
    )

from pynode_jl.frontends.torch import (
    FieldModule,
    NeuralODE,
    TorchParts,
    Translation,
    UntranslatableError,
    certify,
    from_trained,
    odeint,
    odeint_adjoint,
    odeint_event,
    swap,
    to_trained,
    translate,
)

__all__ = [
    "FieldModule",
    "NeuralODE",
    "TorchParts",
    "Translation",
    "UntranslatableError",
    "certify",
    "from_trained",
    "odeint",
    "odeint_adjoint",
    "odeint_event",
    "swap",
    "to_trained",
    "translate",
]
