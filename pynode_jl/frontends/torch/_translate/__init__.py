"""Translation of torch modules to `VectorField`s, so that a backend can run the whole solve.

`_purity` proves that a module is a function, by its bytecode (`_effects`), and `_guards` tell
whether the proof still holds. `_reader` calls it with symbols, `_operations` lists the operations
that it knows, `_check` compares the numbers with the module's.
"""

from pynode_jl.frontends.torch._translate._translate import (
    Reading,
    reading_of,
    translate,
    translated,
)
from pynode_jl.frontends.torch._translate._translation import (
    Translation,
    UntranslatableError,
)

__all__ = [
    "Reading",
    "Translation",
    "UntranslatableError",
    "reading_of",
    "translate",
    "translated",
]
