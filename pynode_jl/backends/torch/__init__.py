"""The eager backend: any torch module or function, integrated step by step in torch.

`TorchBackend` is its contract with the other backends. The rest serves the torch front end: a
`Problem` in tensors, integrated by a `Method`.
"""

from pynode_jl.backends.torch._backend import TorchBackend
from pynode_jl.backends.torch._events import EventGradient
from pynode_jl.backends.torch._fields import (
    ElementwiseModule,
    FieldModule,
    as_function_of_call,
    as_function_of_time,
    call_with_module,
    call_with_rhs,
    check_samples_apart,
    takes_time,
)
from pynode_jl.backends.torch._integrate import integrate
from pynode_jl.backends.torch._method import Kind, Method, julia_method
from pynode_jl.backends.torch._problem import (
    CALLBACKS,
    Problem,
    State,
    checked_times,
    join,
    mixed_norm,
    normalise,
    split,
)
from pynode_jl.backends.torch._transforms import (
    first_order_only,
    is_transformed,
    takes_derivatives_forward,
)

__all__ = [
    "CALLBACKS",
    "ElementwiseModule",
    "EventGradient",
    "FieldModule",
    "Kind",
    "Method",
    "Problem",
    "State",
    "TorchBackend",
    "as_function_of_call",
    "as_function_of_time",
    "call_with_module",
    "call_with_rhs",
    "check_samples_apart",
    "checked_times",
    "first_order_only",
    "integrate",
    "is_transformed",
    "join",
    "julia_method",
    "mixed_norm",
    "normalise",
    "split",
    "takes_derivatives_forward",
    "takes_time",
]
