"""Comparison of a translation with its module, and of the module with itself before tracing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pynode_jl.backends.torch import FieldModule, as_function_of_time
from pynode_jl.frontends.torch._translate._translation import Translation, UntranslatableError


def attributes(module: nn.Module) -> dict[tuple[int, str], tuple[Any, int]]:
    """Return the attributes that users set, with the lengths of those that grow."""
    return {
        (id(each), name): (value, len(value) if isinstance(value, (list, dict, set)) else 0)
        for each in module.modules()
        for name, value in vars(each).items()
        if not name.startswith("_")
    }


def restore_attributes(
    module: nn.Module, before: Mapping[tuple[int, str], tuple[Any, int]]
) -> str | None:
    """Undo changes since `before` where possible; return the name of a changed attribute."""
    owners = {id(each): each for each in module.modules()}
    changed = None
    for key, (value, length) in attributes(module).items():
        old, old_length = before.get(key, (None, 0))
        if value is old and length == old_length:
            continue
        changed = key[1]
        if value is not old and key in before:
            setattr(owners[key[0]], key[1], old)
        elif isinstance(value, list):
            del value[old_length:]
    return changed


def check_numbers(module: nn.Module, translation: Translation, y: Tensor) -> None:
    """Compare a translation with its module at random states and times.

    Raises:
        UntranslatableError: the numbers differ, or the module fails there.
    """
    twin = FieldModule(translation.field)
    weights = translation.weights(module)
    twin.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()})
    twin = twin.to(y.dtype)
    random = torch.Generator().manual_seed(0)
    function = as_function_of_time(module)
    batched = y.ndim > len(translation.field.state_shape)
    shape = (2, *y.shape[1:]) if batched else y.shape
    with torch.no_grad():
        for moment in (0.3, -1.7):
            states = torch.randn(*shape, generator=random, dtype=y.dtype)
            time = torch.tensor(moment, dtype=y.dtype)
            try:
                expected = function(time, states)
            except Exception as error:  # the user's own code
                raise UntranslatableError(module, f"It fails at a test state ({error})") from error
            flat = states.reshape(-1, *translation.field.state_shape)
            actual = twin(time, flat).reshape(states.shape)
            tolerance = 1e3 * torch.finfo(y.dtype).eps
            if not torch.allclose(actual, expected, rtol=tolerance, atol=tolerance):
                raise UntranslatableError(module, "Its numbers are not those of what was read")
