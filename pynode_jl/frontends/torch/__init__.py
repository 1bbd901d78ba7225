"""The torch front end: torchdiffeq's calls, every solver of the catalogue.

``from pynode_jl.torch import odeint`` in place of ``from torchdiffeq import odeint`` is all that a
program has to change.
"""

from pynode_jl.errors import MissingDependencyError

try:
    import torch  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        "torch", "pynode_jl.torch", "pip install torch (for a CPU build see pytorch.org)."
    ) from error

from pynode_jl.backends.torch import FieldModule
from pynode_jl.frontends.torch._adjoint import odeint_adjoint
from pynode_jl.frontends.torch._from_trained import TorchParts, from_trained
from pynode_jl.frontends.torch._module import NeuralODE
from pynode_jl.frontends.torch._odeint import odeint, odeint_event
from pynode_jl.frontends.torch._to_trained import to_trained
from pynode_jl.frontends.torch._translate import Translation, UntranslatableError, translate
from pynode_jl.frontends.torch._verdicts import certify, swap

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
