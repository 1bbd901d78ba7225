"""Arrays to Julia and back: one memory where it can be, the right numbers always."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from julia_problems import needs_julia

from pynode_jl.backends import get_backend
from pynode_jl.dlpack import as_jax, as_julia, as_numpy, as_torch
from pynode_jl.errors import InvalidValueError

pytestmark = needs_julia

DTYPES = ["bool", "int8", "uint16", "int32", "int64", "float16", "float32", "float64", "complex64"]


@pytest.fixture(scope="module")
def main() -> Any:
    get_backend("julia")
    import juliacall

    return juliacall.Main


def values(shape: tuple[int, ...] = (3, 4), dtype: str = "float64") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def address(main: Any, array: Any) -> int:
    return int(main.seval("x -> UInt(pointer(parent(x)))")(array))


SOURCES = {
    "numpy": values,
    "numpy by columns": lambda: np.asfortranarray(values()),
    "torch": lambda: torch.from_numpy(values()),
    "torch transposed": lambda: torch.from_numpy(values((4, 3))).T,
    "jax": lambda: jnp.asarray(values().astype("f")),
}


@pytest.mark.parametrize("source", SOURCES)
def test_memory_and_indices_are_shared(main: Any, source: str) -> None:
    x = SOURCES[source]()
    expected = as_numpy(x).copy()
    array = as_julia(x, copy=False)
    assert address(main, array) == as_numpy(x).ctypes.data
    assert tuple(array.shape) == (3, 4)
    assert all(array[i, j] == expected[i, j] for i, j in np.ndindex(3, 4))
    if not source.startswith("jax"):
        main.seval("x -> (x[2, 3] = -7; nothing)")(array)  # Julia counts from 1
        assert float(x[1, 2]) == -7
        as_numpy(x)[0, 1] = 5
        assert array[0, 1] == 5
    copied = as_julia(x, copy=True)
    assert address(main, copied) != address(main, array)
    np.testing.assert_array_equal(as_numpy(copied), as_numpy(x))


def test_what_julia_makes_of_it(main: Any) -> None:
    kind = main.seval("x -> string(typeof(x))")
    assert kind(as_julia(np.asfortranarray(values()))) == "Matrix{Float64}"
    assert kind(as_julia(values((5,)))) == "Vector{Float64}"
    assert kind(as_julia(values())).startswith("PermutedDimsArray{Float64, 2")
    product = main.seval("(a, b) -> a * b")(as_julia(values()), as_julia(values((4, 2))))
    np.testing.assert_array_equal(as_numpy(product), values() @ values((4, 2)))


@pytest.mark.parametrize("to", [as_numpy, as_torch, as_jax])
def test_from_julia(main: Any, to: Any) -> None:
    # Of a size that Julia lays at 64 bytes, which JAX wants.
    array = main.seval("reshape(Float32.(0:4095), 32, 128)")  # lazy: collected
    np.testing.assert_array_equal(
        np.asarray(to(array)), np.arange(4096).reshape(32, 128, order="F")
    )
    made = main.seval("x -> Matrix(x)")(array)
    y = to(made, copy=False)
    assert tuple(y.shape) == (32, 128)
    pointer = y.unsafe_buffer_pointer() if to is as_jax else np.asarray(y).ctypes.data
    assert pointer == address(main, made)
    main.seval("x -> (x[3, 2] = -7; nothing)")(made)
    assert float(y[2, 1]) == -7
    if to is not as_jax:
        y[0, 0] = 9
        assert made[0, 0] == 9
    assert float(to(made, copy=True)[2, 1]) == -7
    view = main.seval("x -> view(x, 1:2:5, 2:3)")(made)
    np.testing.assert_array_equal(np.asarray(to(view)), np.asarray(y)[:5:2, 1:3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: str) -> None:
    x = np.array([[0, 1], [1, 0]]).astype(dtype)
    array = as_julia(x, copy=False)
    back = as_numpy(array)
    assert back.dtype == x.dtype
    assert back.ctypes.data == x.ctypes.data
    np.testing.assert_array_equal(back, x)


def test_copied_or_refused() -> None:
    read_only = values()
    read_only.flags.writeable = False
    cases = {
        "contiguous": [values()[::2], values()[::-1, ::-1], values((2, 3, 4))[:, 1]],
        "read-only": [read_only],
        "byte order": [values().astype(">f8")],
    }
    for reason, arrays in cases.items():
        for x in arrays:
            np.testing.assert_array_equal(as_numpy(as_julia(x)), x)
            with pytest.raises(InvalidValueError, match=reason):
                as_julia(x, copy=False)
    for x in (np.array(["a"]), torch.ones(3, dtype=torch.bfloat16), np.zeros(2, np.longdouble)):
        with pytest.raises(InvalidValueError, match="dtype"):
            as_julia(x)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 3, 4)])
def test_shapes(shape: tuple[int, ...]) -> None:
    for order in ("C", "F"):
        x = np.array(values(shape), order=order)  # type: ignore[call-overload]
        array = as_julia(x, copy=False)
        assert as_numpy(array).shape == tuple(array.shape) == shape
        np.testing.assert_array_equal(as_numpy(array), x)
    assert as_julia(array) is array


def test_either_side_may_go_first(main: Any) -> None:
    """Memory lives as long as either side looks at it, collections forced on both."""
    collect = main.seval("() -> GC.gc()")
    total = main.seval("x -> sum(x)")
    reshaped = main.seval("x -> reshape(parent(x), :)")
    for _ in range(3):
        made = [as_julia(torch.full((50, size), 2.0)) for size in (1, 40, 4000)]
        flat = [reshaped(each) for each in made]
        kept = [as_numpy(main.seval(f"fill(3.0, {size})")) for size in (1, 1000, 100_000)]
        gc.collect()
        collect()
        noise = [np.full(50 * size, -1.0, "f") for size in (1, 40, 4000)]
        assert [total(each) for each in made] == [100, 4000, 400_000]
        del made
        gc.collect()
        collect()
        noise += [np.full(50 * size, -1.0, "f") for size in (1, 40, 4000)]
        assert [total(each) for each in flat] == [100, 4000, 400_000]
        assert all((each == 3.0).all() for each in kept)
        del flat, kept, noise


class Watched(np.ndarray):
    """An array that can be referred to weakly."""


def test_what_no_one_looks_at_is_freed(main: Any) -> None:
    x = Watched(1000)  # the memory is its own
    x[:] = np.arange(1000)
    owner, array = weakref.ref(x), as_julia(x)
    del x
    gc.collect()
    main.seval("() -> GC.gc()")()
    assert owner() is not None
    assert array[999] == 999
    del array
    for _ in range(3):
        gc.collect()
        main.seval("() -> GC.gc()")()
    assert owner() is None
