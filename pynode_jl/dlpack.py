"""Arrays from one framework to another, sharing memory wherever both can.

`as_numpy`, `as_torch`, `as_jax` and `as_julia` take an array of any of the four (or of anything
else with ``__dlpack__`` or ``__array__``) and give it in theirs: the same memory where device,
dtype and layout allow, a copy where they do not, an error where neither is right. What is shared
keeps the memory alive, whichever side is dropped first, and shows what is written on the other
side. Shape and indices stay: a[i, j] is Julia's A[i + 1, j + 1].

| from, to | shares memory | is copied |
|---|---|---|
| torch to NumPy | on the CPU, any strides | lazy conjugates and negatives; from the GPU |
| JAX to NumPy | on the CPU, read-only | from the GPU |
| NumPy to torch | writable, no negative strides | read-only; such strides; foreign bytes |
| JAX to torch | always: do not write, JAX takes its arrays for constants | |
| to Julia | compact, rows or columns first; JAX's: do not write | other strides; read-only NumPy |
| Julia to NumPy, torch | strided arrays | ranges and other lazy ones |
| to JAX | strides of a (transposed) compact array, memory at 64 bytes | all else |

Plain DLPack, as the frameworks call it, is not enough: torch ends the process at a negative stride
of NumPy's, and takes read-only memory for writable; JAX makes float32 of float64 without a word
unless ``jax_enable_x64`` is set. Values only: gradients are the business of `pynode_jl.torch`.

Nothing is imported here before it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from pynode_jl.errors import InvalidValueError, PyNODEError

if TYPE_CHECKING:
    import jax
    import torch

_KINDS = "biufc"
_XLA_ALIGNMENT = 64
_DLPACK_CPU = 1  # DLPack's number for a device type
_WIDE = ("float64", "int64", "uint64", "complex128")


F = TypeVar("F", bound=Callable[..., Any])


def _refusing(function: F) -> F:
    """Make the errors of the frameworks about an array into ours."""

    @wraps(function)
    def call(x: Any, *, copy: bool | None = None) -> Any:
        try:
            return function(x, copy=copy)
        except PyNODEError:
            raise
        except Exception as error:  # whatever the frameworks raise at what they cannot take
            raise InvalidValueError(
                "x",
                f"a {type(x).__name__} of {getattr(x, 'dtype', 'no dtype')}",
                f"an array of numbers that {function.__name__} can take",
                f"{type(error).__name__}: {error}".splitlines()[0],
            ) from error

    return cast(F, call)


@_refusing
def as_numpy(x: Any, *, copy: bool | None = None) -> npt.NDArray[Any]:
    """`x` as a NumPy array.

    Args:
        x: an array of any framework, or nested lists.
        copy: None copies where it must; True always; False never, and raises where it must.

    Raises:
        InvalidValueError: NumPy has no such dtype or layout, or `copy` is False and it takes one.

    Example:
        >>> from pynode_jl.dlpack import as_numpy
        >>> import jax.numpy as jnp
        >>> as_numpy(jnp.ones(2))
        array([1., 1.], dtype=float32)
    """
    if _is_torch(x):
        return _torch_to_numpy(x, copy)
    if isinstance(x, np.ma.MaskedArray):
        raise InvalidValueError("x", x, "an array without a mask", "Use x.filled(...).")
    if copy is False and isinstance(x, list | tuple | complex | float | int | np.generic):
        raise _must_copy(x, "it is no array")
    if not hasattr(x, "__array__") and hasattr(x, "__dlpack__"):
        x = np.from_dlpack(x)
    if copy is False and _is_jax(x) and not _is_on_cpu(x):
        raise _must_copy(x, "it is on a GPU")
    try:
        array = np.asarray(x)
    except ValueError as error:  # ragged lists
        raise InvalidValueError("x", x, "an array of numbers", "Mend its shape.") from error
    if array.dtype.kind not in _KINDS and array.dtype.name != "bfloat16":
        raise InvalidValueError("x.dtype", array.dtype, "numbers or booleans", "Convert it.")
    return array.copy() if copy else array


@_refusing
def as_torch(x: Any, *, copy: bool | None = None) -> torch.Tensor:
    """`x` as a torch tensor, without gradient.

    Args, Raises: as for `as_numpy`.

    `copy` says whether to copy; None copies where memory cannot be shared.

    Raises:
        InvalidValueError: as for `as_numpy`.

    Example:
        >>> from pynode_jl.dlpack import as_torch
        >>> as_torch(np.ones(2)).tolist()
        [1.0, 1.0]
    """
    import torch

    if _is_torch(x):
        shared: torch.Tensor = x.detach()
        return shared.clone() if copy else shared
    if _is_jax(x):
        shared = torch.utils.dlpack.from_dlpack(x)
        return shared.clone() if copy else shared
    array = as_numpy(x, copy=False if copy is False else None)
    reason = _unfit_for_torch(array)
    if copy is False and reason is not None:
        raise _must_copy(x, reason)
    if copy or reason is not None:
        array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise InvalidValueError(
            "x.dtype", array.dtype, "a dtype that torch has", "Use .astype."
        ) from error


@_refusing
def as_jax(x: Any, *, copy: bool | None = None) -> jax.Array:
    """`x` as a JAX array.

    Args, Raises: as for `as_numpy`. Also for 64-bit numbers where ``jax_enable_x64`` is off: JAX
    would narrow them.

    `copy` says whether to copy; None copies where memory cannot be shared.

    Raises:
        InvalidValueError: as for `as_numpy`.

    Example:
        >>> from pynode_jl.dlpack import as_jax
        >>> as_jax(np.ones(2, np.float32)).tolist()
        [1.0, 1.0]
    """
    import jax
    import jax.numpy as jnp

    if _is_jax(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.extended):
            raise InvalidValueError("x.dtype", x.dtype, "numbers or booleans", "Convert it.")
        if not isinstance(x, jax.core.Tracer) and x.is_deleted():
            raise InvalidValueError("x", "a deleted array", "an array", "Copy it before.")
        array: jax.Array = jnp.array(x) if copy else x
        return array
    source: Any = x.detach() if _is_torch(x) else as_numpy(x, copy=False if copy is False else None)
    _refuse_narrowing(source)
    reason = _torch_unfit_for_jax(source) if _is_torch(source) else _numpy_unfit_for_jax(source)
    if copy is False and reason is not None:
        raise _must_copy(x, reason)
    if not copy and reason is None:
        array = _imported(source)
    elif _is_torch(source):
        owned = _materialised(source).clone(memory_format=sys.modules["torch"].contiguous_format)
        array = jax.dlpack.from_dlpack(owned)
    else:
        array = jnp.array(source.astype(source.dtype.newbyteorder("="), copy=False))
    return array


def _imported(source: Any) -> jax.Array:
    """JAX's view of memory that it can share."""
    quick = _quick_import() if source.__dlpack_device__()[0] == _DLPACK_CPU else None
    if quick is not None:
        return quick(source)
    array: jax.Array = sys.modules["jax"].dlpack.from_dlpack(source, copy=False)
    return array


@cache
def _quick_import() -> Callable[[Any], jax.Array] | None:
    """Return the function under `jax.dlpack.from_dlpack`, for memory on the CPU, if JAX has it.

    On its way it asks for a GPU's stream, catches the error and canonicalises what has been: 25 us
    of 30. The function is internal to jaxlib and its arguments have changed, so it is tried first.
    """
    import jax

    try:
        convert = import_module("jaxlib._jax").dlpack_managed_tensor_to_buffer
        (device, *_) = jax.devices("cpu")

        def quick(source: Any) -> jax.Array:
            array: jax.Array = convert(source.__dlpack__(), device, None, False, _DLPACK_CPU)
            return array

        memory = np.zeros(_XLA_ALIGNMENT * 2, np.uint8)
        begin = -memory.ctypes.data % _XLA_ALIGNMENT
        sample = memory[begin : begin + _XLA_ALIGNMENT]
        array = quick(sample)
        fits = isinstance(array, jax.Array) and array.unsafe_buffer_pointer() == sample.ctypes.data
    except Exception:
        # An import, a signature, a type: whatever has changed, the public way is open.
        return None
    return quick if fits else None


@_refusing
def as_julia(x: Any, *, copy: bool | None = None) -> Any:
    """`x` as a Julia array, starting Julia if it does not run yet.

    Column-major memory becomes an ``Array``, row-major memory (the usual one of Python's) a
    ``PermutedDimsArray`` of one, so that indices stay as they are. ``parent(A)`` is the ``Array``
    of reversed shape, for code that wants one.

    Args, Raises: as for `as_numpy`. Also `BackendUnavailableError` without Julia.

    `copy` says whether to copy; None copies where memory cannot be shared.

    Raises:
        InvalidValueError: as for `as_numpy`.
    """
    from pynode_jl.backends.julia import shared_memory

    if _is_julia(x):
        return x.copy() if copy else x
    array = as_numpy(x)
    if not shared_memory.has_dtype(array):
        raise InvalidValueError("x.dtype", array.dtype, "a dtype that Julia has", "Use .astype.")
    reason = shared_memory.unfit(array)
    if not (array.flags.writeable or _is_jax(x)):
        reason = "it is read-only, and Julia has no such arrays"
    if copy is False and reason is not None:
        raise _must_copy(x, reason)
    if copy or reason is not None:
        array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
    return shared_memory.shared(array)


def _is_torch(x: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def _is_jax(x: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.Array)


def _is_on_cpu(x: jax.Array) -> bool:
    return all(device.platform == "cpu" for device in x.devices())


def _is_julia(x: Any) -> bool:
    juliacall = sys.modules.get("juliacall")
    return juliacall is not None and isinstance(x, juliacall.ArrayValue)


def _must_copy(x: Any, reason: str) -> InvalidValueError:
    return InvalidValueError(
        "copy", False, f"None or True for this array: {reason}", "Leave copy out."
    )


def _torch_to_numpy(x: Any, copy: bool | None) -> npt.NDArray[Any]:
    if x.layout != sys.modules["torch"].strided:
        raise InvalidValueError("x.layout", x.layout, "a strided tensor", "Use x.to_dense().")
    lazy = _is_lazy(x)
    if copy is False and (lazy or x.device.type != "cpu"):
        raise _must_copy(x, _LAZY if lazy else "it is on a GPU")
    if x.dtype in _without_numpy():
        raise InvalidValueError("x.dtype", x.dtype, "a dtype that NumPy has", "Use x.float().")
    array: npt.NDArray[Any] = _materialised(x.detach().cpu()).numpy()
    return array.copy() if copy else array


_LAZY = "it is a lazy conjugate, negative or zero"


def _is_lazy(x: torch.Tensor) -> bool:
    """Return whether a tensor's memory does not hold its numbers."""
    return x.is_conj() or x.is_neg() or x._is_zerotensor()


def _materialised(x: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose memory holds its numbers."""
    if x._is_zerotensor():
        return x.clone()
    return x.resolve_conj().resolve_neg()


@cache
def _without_numpy() -> frozenset[Any]:
    torch = sys.modules["torch"]
    names = ("bfloat16", "complex32")
    return frozenset(getattr(torch, name) for name in names)


def _unfit_for_torch(array: npt.NDArray[Any]) -> str | None:
    """Why torch cannot share this memory."""
    if not array.flags.writeable:
        return "it is read-only, and torch has no such tensors"
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        return "torch has no such strides"
    return None if array.dtype.isnative else "its byte order is foreign"


def _numpy_unfit_for_jax(array: npt.NDArray[Any]) -> str | None:
    if not array.flags.writeable:
        return "it is read-only, which NumPy's DLPack export cannot say"
    if not array.dtype.isnative:
        return "its byte order is foreign"
    if array.dtype.kind not in _KINDS:
        return "DLPack has no such dtype"
    return _unfit_layout(array.shape, array.strides, array.itemsize, array.ctypes.data)


def _torch_unfit_for_jax(tensor: torch.Tensor) -> str | None:
    if tensor.layout != sys.modules["torch"].strided:
        raise InvalidValueError("x.layout", tensor.layout, "a strided tensor", "Use x.to_dense().")
    if _is_lazy(tensor):
        return _LAZY
    if tensor.device.type != "cpu":
        return None
    return _unfit_layout(tuple(tensor.shape), tensor.stride(), 1, tensor.data_ptr())


def _unfit_layout(
    shape: tuple[int, ...], strides: tuple[int, ...], unit: int, address: int
) -> str | None:
    """Why XLA cannot share: it takes transpositions of compact arrays, at aligned addresses."""
    if address % _XLA_ALIGNMENT:
        return "its memory is not aligned to 64 bytes"
    if 0 in shape:
        return None
    expected = unit
    for stride, length in sorted(
        (stride, length) for stride, length in zip(strides, shape, strict=True) if length > 1
    ):
        if stride != expected:
            return "JAX has no such strides"
        expected *= length
    return None


def _refuse_narrowing(source: Any) -> None:
    if source.dtype.itemsize < 8:
        return
    # NumPy's name of a dtype does not tell the order of its bytes.
    name = getattr(source.dtype, "name", None) or str(source.dtype).removeprefix("torch.")
    if name in _WIDE and sys.modules["jax"].dtypes.canonicalize_dtype(name) != name:
        raise InvalidValueError(
            "x.dtype",
            name,
            "32 bits where jax_enable_x64 is off: JAX would narrow it",
            'Use jax.config.update("jax_enable_x64", True), or convert it yourself.',
        )
