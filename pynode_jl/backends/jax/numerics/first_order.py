"""What refuses a second derivative in reverse mode, and lets one in forward mode pass.

A reverse sweep is a loop of as many turns as there were steps. JAX differentiates such a loop in
forward mode only.
"""

from __future__ import annotations

from typing import Any, NoReturn

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from pynode_jl.errors import InvalidValueError


def refuse_reverse(tree: Any) -> Any:
    """Return `tree` as it is: arrays that no derivative in reverse mode passes.

    Raises:
        InvalidValueError: when such a derivative is taken.
    """
    return jax.tree.map(_identity.bind, tree)


def _refuse(*_: object) -> NoReturn:
    raise InvalidValueError(
        "a derivative of a gradient of a solve",
        "reverse mode",
        "forward mode: the gradient is a loop over the steps taken, whose number is not known",
        "Use jax.hessian, or jax.jacfwd(jax.grad(f)) in place of jax.grad(jax.grad(f)).",
    )


_identity = Primitive("refuse_reverse")
_identity.def_impl(lambda x: x)  # type: ignore[no-untyped-call]
_identity.def_abstract_eval(lambda x: x)  # type: ignore[no-untyped-call]
ad.deflinear2(_identity, _refuse)  # type: ignore[no-untyped-call]
batching.defvectorized(_identity)  # type: ignore[no-untyped-call]
mlir.register_lowering(_identity, lambda context, x: [x])
