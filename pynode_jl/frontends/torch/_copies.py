"""Copies of a user's modules, as they answer: in eval mode, and with nothing shared."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from pynode_jl.backends.torch import call_with_module, check_samples_apart
from pynode_jl.errors import InvalidValueError, PyNODEError
from pynode_jl.models import FunctionMap

#: What is taken for a part of a model: a module, one with a `state_dict` to load, or a function.
Part: TypeAlias = nn.Module | tuple[nn.Module, Mapping[str, Any]] | Callable[..., Tensor]

_NARROW = (torch.float16, torch.bfloat16)


def answering(argument: str, part: object) -> Any:
    """Return a copy of a module in eval mode, its `state_dict` loaded; a function as it is.

    Counters, buffers and flags of the copy may change: the module's own stay.

    Raises:
        InvalidValueError: it is no such part, cannot be copied, or its `state_dict` is another's.
    """
    pair: Any = part if isinstance(part, tuple) and len(part) == 2 else (part, None)
    module, state = pair
    expected = "an nn.Module, (module, state_dict), or a function of tensors"
    if isinstance(module, type) or not callable(module):
        raise InvalidValueError(argument, part, expected, "Pass the trained module.")
    if not isinstance(module, nn.Module):
        if state is not None:
            raise InvalidValueError(argument, part, expected, "A function has no state_dict.")
        return module
    # What `torch.compile` returned holds the module that it compiles.
    module = getattr(module, "_orig_mod", module)
    if isinstance(module, nn.DataParallel):
        module = module.module
    try:
        # A tensor on a module that has a gradient's history, as weight_norm's, is a value here.
        memo = {
            id(value): value.detach().clone()
            for each in module.modules()
            for value in vars(each).values()
            if isinstance(value, Tensor) and not value.is_leaf
        }
        copied = copy.deepcopy(module, memo)
        if state is not None:
            copied.load_state_dict(state)
    except Exception as error:  # whatever a module's own __deepcopy__ or hooks raise
        raise InvalidValueError(
            argument,
            type(module).__name__,
            "a module that can be copied, and the state_dict of such a module",
            f"{type(error).__name__}: {error}.",
        ) from error
    if any(each.dtype in _NARROW for each in copied.parameters()):
        copied = copied.float()
    return copied.eval()


def as_map(
    argument: str, part: Any, x: Tensor, output_shape: tuple[int, ...] | None = None
) -> FunctionMap:
    """Return what `answering` gave as an encoder or a read-out of a model.

    Args:
        argument: what errors call it.
        part: the module or function, of a batch.
        x: some inputs.
        output_shape: of a sample, in which its outputs are brought; default as they come.

    Raises:
        InvalidValueError: it fails, mixes samples, or does not run in float64, in which the
            reference solve is made.
    """
    shape = output_shape or tuple(called(argument, part, x).shape[1:])
    if not isinstance(part, nn.Module):

        def function(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
            return called(argument, part, x).reshape(len(x), *shape)

        names: tuple[tuple[str, Any], ...] = ()
    else:

        def function(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
            found = call_with_module(part, weights, x, lambda module: called(argument, module, x))
            return found.reshape(len(x), *shape)

        names = tuple(
            (name, each.detach().cpu().numpy().copy()) for name, each in part.named_parameters()
        )
    made = FunctionMap(function, tuple(x.shape[1:]), shape, names, "torch")
    double = x.double()
    weights = {name: torch.tensor(each, dtype=torch.float64) for name, each in names}
    weights = {name: each.to(x.device) for name, each in weights.items()}
    check_samples_apart(argument, part, lambda rows: made(weights, rows), double)
    return made


def called(argument: str, part: Callable[..., Any], *inputs: Any) -> Tensor:
    """Return a part's value, one row a sample; the last of `inputs` is a batch.

    Raises:
        InvalidValueError: it fails, or returns something else.
    """
    rows = len(inputs[-1])
    try:
        found = part(*inputs)
    except PyNODEError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise InvalidValueError(
            argument,
            type(part).__name__,
            f"one that takes {inputs[-1].dtype} {tuple(inputs[-1].shape)}",
            "It must run in float64 too, as the reference solve does: make its constants buffers,"
            f" or of the input's dtype. {type(error).__name__}: {error}.",
        ) from error
    if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != rows:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InvalidValueError(
            argument, type(part).__name__, "one that returns a row a sample", f"It returned {got}."
        )
    return found


def as_inputs(argument: str, given: Any, module: object) -> Tensor:
    """Return samples as a tensor where a module is, floats in its precision."""
    if isinstance(given, Tensor):
        tensor = given.detach()
    else:
        try:
            tensor = torch.as_tensor(np.array(given))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidValueError(
                argument, type(given).__name__, "tensors or arrays of numbers", f"{error}."
            ) from error
    of_module = module if isinstance(module, nn.Module) else nn.Module()
    held = [*of_module.parameters(), *of_module.buffers()]
    like = next((each for each in held if each.is_floating_point()), torch.empty(0))
    return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)


def as_batches(x: Any) -> Any:
    """Return a torch data set in batches, and anything else as it is."""
    if isinstance(x, torch.utils.data.Dataset) and not hasattr(x, "shape"):
        return torch.utils.data.DataLoader(x, batch_size=256)
    return x


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Give torch's random numbers the state back that they have now."""
    devices = range(torch.cuda.device_count()) if _cuda_began() else ()
    with torch.random.fork_rng(devices=list(devices)):
        yield


def _cuda_began() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
