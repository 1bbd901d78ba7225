"""`translate`: read a module once and cache the result."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from torch import Tensor, nn

from pynode_jl.frontends.torch._structure import ModuleStructure, module_structure
from pynode_jl.frontends.torch._translate._check import check_numbers
from pynode_jl.frontends.torch._translate._reader import read_module
from pynode_jl.frontends.torch._translate._translation import Translation, UntranslatableError

_MAX_CACHED = 16


class _CachedResult(NamedTuple):
    """A translation, or the reason why there is none; and the module's submodules.

    They are held so that their ids stay theirs. The module itself is not: the cache would keep it
    alive, as would an exception with its traceback.
    """

    result: Translation | str
    parts: tuple[nn.Module, ...]


_cache: weakref.WeakKeyDictionary[nn.Module, dict[Any, _CachedResult]] = weakref.WeakKeyDictionary()


def translate(
    module: nn.Module, y: Tensor, *, structure: ModuleStructure | None = None
) -> Translation:
    """Read `module`, a function of (t, y) or of y alone, for states shaped as `y`.

    Args:
        module: what to read. The result is cached while the module stays as it is; the values of
            its parameters may change.
        y: a state, or a batch of them.
        structure: the module's structure, if already read.

    Raises:
        UntranslatableError: the module computes more than a `VectorField` can express.

    Example:
        >>> import torch
        >>> from pynode_jl.torch import translate
        >>> translate(torch.nn.Linear(2, 2), torch.zeros(1, 2)).field.layers
        (Dense(inputs=2, outputs=2),)
    """
    structure = module_structure(module) if structure is None else structure
    shape = (tuple(y.shape[1:]) if y.ndim > 1 else tuple(y.shape), y.dtype)
    known = _cache.setdefault(module, {})
    # A refusal is cached by the frame alone: a module that counts its calls would be read at each.
    frame, whole = (structure.frame, shape), (structure.frame, structure.settings, shape)
    cached = known.get(frame) or known.get(whole)
    if cached is None:
        if len(known) >= _MAX_CACHED:
            known.clear()
        try:
            translation = read_module(module, structure, y)
            check_numbers(module, translation, y)
        except UntranslatableError as refused:
            cached = known[frame] = _CachedResult(refused.reason, structure.parts)
        else:
            cached = known[whole] = _CachedResult(translation, structure.parts)
    if isinstance(cached.result, str):
        raise UntranslatableError(module, cached.result)
    return cached.result
