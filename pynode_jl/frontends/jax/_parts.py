"""Parts of a model in JAX as functions of their arrays: Equinox, flax, or plain functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pynode_jl._validation import numbers
from pynode_jl.errors import InvalidValueError
from pynode_jl.frontends.jax._tree import named_leaves
from pynode_jl.models import FunctionMap

# Rows that tell whether a function takes a batch or one sample; a state may have as many numbers.
_COUNTS = (5, 3)


class Part(NamedTuple):
    """A part of a model: ``function(arrays, *inputs)``, its arrays, and its required arguments."""

    function: Callable[..., Any]
    arrays: Any
    arguments: int

    @property
    def initial(self) -> tuple[tuple[str, Any], ...]:
        """Its arrays by name, as NumPy's."""
        return tuple((name, numbers(name, leaf)) for name, leaf in named_leaves(self.arrays))

    def named(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of (arrays, ...) as one of (weights by name, ...)."""
        names = [name for name, _ in named_leaves(self.arrays)]
        structure = jax.tree.structure(self.arrays)

        def by_name(weights: Any, *inputs: Any) -> Any:
            leaves = [weights[name] for name in names]
            return function(jax.tree.unflatten(structure, leaves), *inputs)

        return by_name


def opened(argument: str, part: object) -> Part:
    """Return a callable pytree, or ``(module, variables)`` with ``module.apply``, as a `Part`.

    Modules answer in inference mode.

    Raises:
        InvalidValueError: it is neither.
    """
    if isinstance(part, tuple) and len(part) == 2 and callable(getattr(part[0], "apply", None)):
        module: Any = part[0]
        return Part(lambda arrays, *x: module.apply(arrays, *x), part[1], _required(module))
    if not callable(part) or isinstance(part, type):
        raise InvalidValueError(
            argument,
            part,
            "a function of arrays, an Equinox module, or flax's (module, variables)",
            "Pass the trained module.",
        )
    arrays, rest = eqx.partition(eqx.nn.inference_mode(part), eqx.is_inexact_array)
    return Part(lambda arrays, *x: eqx.combine(arrays, rest)(*x), arrays, _required(part))


def over_samples(argument: str, function: Callable[[Any], Any], x: Any) -> bool:
    """Return whether a function is one of a batch; else it is one of a sample, to be mapped.

    Raises:
        InvalidValueError: it is neither.
    """
    reasons = []
    for each in (function, jax.vmap(function)):
        try:
            found = [np.asarray(each(_rows(x, count))) for count in _COUNTS]
        except Exception as error:  # the user's code may raise anything
            reasons.append(f"{type(error).__name__}: {error}")
            continue
        apart = all(
            len(values.shape) > 0 and len(values) == count
            for values, count in zip(found, _COUNTS, strict=True)
        )
        if apart and np.allclose(found[0][: _COUNTS[1]], found[1], 1e-4, 1e-5, equal_nan=True):
            return each is function
        reasons.append("It mixes samples")
    raise InvalidValueError(
        argument,
        "a function",
        f"one of a batch {tuple(x.shape)}, or of a sample of it",
        f"Called with a batch: {reasons[0]}. With a sample: {reasons[-1]}.",
    )


def as_map(
    argument: str, part: Part, x: Any, output_shape: tuple[int, ...] | None = None
) -> FunctionMap:
    """Return a part as an encoder or a read-out of a model.

    Args:
        argument: what errors call it.
        part: the part, a function of inputs alone.
        x: some inputs.
        output_shape: of a sample, in which its outputs are brought; default as they come.
    """
    rows = on_batch(argument, part, x)
    shape = output_shape or tuple(rows(part.arrays, x).shape[1:])

    def function(arrays: Any, x: Any) -> Any:
        return rows(arrays, x).reshape(x.shape[0], *shape)

    return FunctionMap(part.named(function), tuple(x.shape[1:]), shape, part.initial)


def on_batch(argument: str, part: Part, x: Any) -> Callable[[Any, Any], Any]:
    """Return ``(arrays, batch) -> values`` of a part, whether it takes a batch or a sample."""
    whole = over_samples(argument, lambda rows: part.function(part.arrays, rows), x)
    return part.function if whole else jax.vmap(part.function, (None, 0))


def _rows(x: Any, count: int) -> Any:
    return x[jnp.arange(count) % len(x)]


def _required(function: Any) -> int:
    """Return how many positional arguments a call needs."""
    called = function if inspect.isroutine(function) else type(function).__call__
    bound = 0 if inspect.isroutine(function) else 1
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):
        return 2
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each for each in parameters if each.default is each.empty and each.kind in kinds]
    return len(needed) - bound
