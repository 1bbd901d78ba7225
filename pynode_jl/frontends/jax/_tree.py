"""Functions with nested parameters, as flax and haiku write them, as fields of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pynode_jl._validation import mapping, numbers
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import FunctionField
from pynode_jl.models import ModelWeights


def tree_field(
    function: Callable[[Any, Any, Any], Any], params: Any, state_shape: tuple[int, ...]
) -> FunctionField:
    """Make a field that trains and swaps like any other, out of ``function(params, t, y)``.

    Args:
        function: the slope of a batch of states ``(batch, *state_shape)``: flax's
            ``lambda params, t, y: model.apply(params, y)``, say.
        params: its parameters, nested dicts (or any pytree) of float arrays; those to start from.
        state_shape: the shape of one sample's state.

    Returns:
        A `FunctionField` whose weights are called by their paths, ``params/Dense_0/kernel``, say;
        `as_tree` nests them again.

    Raises:
        InvalidValueError: no function, or a tree without names or with one twice.

    Example:
        >>> from pynode_jl.jax import tree_field
        >>> params = {"decay": {"rate": np.array(2.0)}}
        >>> field = tree_field(lambda p, t, y: -p["decay"]["rate"] * y, params, (1,))
        >>> list(field.weight_shapes().values())
        [()]
    """
    if not callable(function):
        raise InvalidValueError(
            "function", function, "a function of (params, t, y)", "Write one: def f(...)."
        )
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [_name(path) for path, _ in paths]
    if not names or len(set(names)) < len(names):
        raise InvalidValueError("params", params, "arrays under names that differ", "Rename them.")

    def flat(weights: Mapping[str, Any], t: Any, y: Any) -> Any:
        tree = jax.tree_util.tree_unflatten(structure, [weights[name] for name in names])
        return function(tree, t, y)

    initial = tuple(
        (name, numbers(f"params, {name}", leaf))
        for name, (_, leaf) in zip(names, paths, strict=True)
    )
    return FunctionField(flat, state_shape, initial)


def as_tree(weights: Mapping[str, Any], like: Any) -> Any:
    """Return the weights of a `tree_field` in the structure of `like`, what it was made of.

    Args:
        weights: of the field, or of a model that was trained with it: its head is left out.
        like: the parameters that `tree_field` was given.

    Raises:
        InvalidValueError: a parameter is missing.

    Example:
        >>> from pynode_jl.jax import as_tree, tree_field
        >>> params = {"decay": {"rate": np.array(2.0)}}
        >>> field = tree_field(lambda p, t, y: -p["decay"]["rate"] * y, params, (1,))
        >>> float(as_tree(field.init(np.random.default_rng(0)), params)["decay"]["rate"])
        2.0
    """
    given = mapping("weights", weights, "a mapping of arrays by name", "Pass `Trained.weights`.")
    own = ModelWeights.from_dict(given).field if "head.weight" in given else given
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [_name(path) for path, _ in paths]
    missing = [name for name in names if name not in own]
    if missing:
        raise InvalidValueError("weights", sorted(given), f"also {missing}", "Pass all of them.")
    return jax.tree_util.tree_unflatten(structure, [jnp.asarray(own[name]) for name in names])


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Return a pytree's leaves with names made of their paths, in its own order."""
    return [(_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]


def _name(path: Any) -> str:
    keys = (getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))) for key in path)
    return "/".join(map(str, keys))
