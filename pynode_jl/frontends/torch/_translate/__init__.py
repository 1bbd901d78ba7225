"""Translation of torch modules to `VectorField`s, so that a backend can run the whole solve.

`_reader` traces a module with `torch.fx` and follows the state through the graph, `_operations`
lists the layers and operations that it knows, `_check` compares the numbers with the module's.
"""

from pynode_jl.frontends.torch._translate._translate import translate
from pynode_jl.frontends.torch._translate._translation import (
    Translation,
    UntranslatableError,
)

__all__ = ["Translation", "UntranslatableError", "translate"]
