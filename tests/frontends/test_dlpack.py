"""Arrays across frameworks: the same memory where it can be, the right numbers always."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from pynode_jl import dlpack
from pynode_jl.dlpack import as_jax, as_numpy, as_torch
from pynode_jl.errors import InvalidValueError


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    """Arrays of JAX are in the host's memory (tests/backends/test_gpu.py has those of a GPU)."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        yield


def pointer(x: Any) -> int:
    if isinstance(x, torch.Tensor):
        return x.data_ptr()
    return x.unsafe_buffer_pointer() if isinstance(x, jax.Array) else int(x.ctypes.data)


def aligned(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """A NumPy array at 64 bytes, which NumPy does not promise and JAX wants."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    begin = -raw.ctypes.data % 64
    array = raw[begin : begin + size].view(dtype).reshape(shape)
    array[...] = np.arange(array.size).reshape(shape)
    return array


SOURCES = {
    "numpy": lambda: aligned((3, 4)),
    "torch": lambda: torch.arange(12.0).reshape(3, 4),
    "jax": lambda: jnp.arange(12.0, dtype=jnp.float32).reshape(3, 4),
}
TARGETS = {"numpy": as_numpy, "torch": as_torch, "jax": as_jax}


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_memory_is_shared(source: str, to: str) -> None:
    x = SOURCES[source]()
    y = TARGETS[to](x, copy=False)
    assert pointer(y) == pointer(x)
    np.testing.assert_array_equal(np.asarray(y), np.arange(12.0).reshape(3, 4))
    z = TARGETS[to](x, copy=True)
    assert pointer(z) != pointer(x)
    np.testing.assert_array_equal(np.asarray(z), np.arange(12.0).reshape(3, 4))


def test_the_way_into_jax_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX's own function behind `from_dlpack` is used as long as it does what it did."""
    assert dlpack._quick_import() is not None, "jaxlib has changed: crossing takes 30 us, not 15"
    faults: list[Any] = [
        SimpleNamespace(),
        SimpleNamespace(dlpack_managed_tensor_to_buffer=lambda capsule, device: None),
        SimpleNamespace(dlpack_managed_tensor_to_buffer=lambda *given: jnp.zeros(64, jnp.uint8)),
    ]
    for changed in faults:
        monkeypatch.setattr(dlpack, "import_module", lambda name, changed=changed: changed)
        assert dlpack._quick_import.__wrapped__() is None
    monkeypatch.setattr(dlpack, "_quick_import", lambda: None)
    x = torch.arange(16.0)
    assert pointer(as_jax(x, copy=False)) == pointer(x)


def test_what_is_written_is_seen() -> None:
    array, tensor = aligned((3,)), torch.zeros(16)
    as_torch(array)[1] = 7
    assert array[1] == 7
    as_numpy(tensor)[2] = 5
    assert tensor[2] == 5
    seen = as_jax(tensor)
    tensor[3] = 4
    assert float(seen[3]) == 4


LAYOUTS = {
    "transposed": lambda x: x.T,
    "every other row": lambda x: x[::2],
    "columns": lambda x: x[:, 1:3],
    "offset": lambda x: x[1:],
    "empty": lambda x: x[:0],
    "zero-dimensional": lambda x: x[1, 2],
    "one row": lambda x: x[1:2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_views(source: str, to: str, layout: str) -> None:
    x = LAYOUTS[layout](SOURCES[source]())
    expected = LAYOUTS[layout](np.arange(12.0, dtype=np.float32).reshape(3, 4))
    y = TARGETS[to](x)
    assert tuple(y.shape) == expected.shape
    np.testing.assert_array_equal(np.asarray(y), expected)


@pytest.mark.parametrize("layout", ["columns", "every other row"])
def test_strides_that_jax_has_not_are_copied_or_refused(layout: str) -> None:
    for source in ("numpy", "torch"):
        x = LAYOUTS[layout](SOURCES[source]())
        with pytest.raises(InvalidValueError, match=r"strides|aligned"):
            as_jax(x, copy=False)


def test_negative_strides() -> None:
    """torch ends the process at these, given them by plain DLPack."""
    x = aligned((3, 4))[::-1, ::-1]
    for to in (as_torch, as_jax):
        np.testing.assert_array_equal(np.asarray(to(x)), x)
        with pytest.raises(InvalidValueError, match=r"strides|aligned"):
            to(x, copy=False)


def test_big_strides() -> None:
    big = np.lib.stride_tricks.as_strided(np.zeros(2**21), (2, 2), (8 * 2**20, 8))
    big[1, 1] = 3.0
    for to in (as_torch, as_jax):
        np.testing.assert_array_equal(np.asarray(to(big)), [[0, 0], [0, 3]])


def test_read_only() -> None:
    x = aligned((4,))
    x.flags.writeable = False
    for to in (as_torch, as_jax):
        y = to(x)
        assert pointer(y) != pointer(x)
        np.testing.assert_array_equal(np.asarray(y), x)
        with pytest.raises(InvalidValueError, match="read-only"):
            to(x, copy=False)
    as_torch(x)[0] = 9.0
    assert x[0] == 0.0
    assert not as_numpy(jnp.ones(3)).flags.writeable


DTYPES = ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool", "complex64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("to", TARGETS)
def test_dtypes(to: str, dtype: str) -> None:
    values = np.array([0, 1, 1, 0]).astype(dtype)
    for x in (values, torch.from_numpy(values.copy()), jnp.asarray(values)):
        y = TARGETS[to](x)
        assert str(y.dtype).removeprefix("torch.") == dtype
        np.testing.assert_array_equal(np.asarray(y), values)


def test_bfloat16() -> None:
    tensor = torch.ones(64, dtype=torch.bfloat16)
    assert pointer(as_jax(tensor, copy=False)) == pointer(tensor)
    assert as_torch(jnp.ones(3, jnp.bfloat16)).dtype == torch.bfloat16
    with pytest.raises(InvalidValueError, match="float"):
        as_numpy(tensor)


def test_what_neither_has_is_refused() -> None:
    for bad in (np.array(["a"]), np.array([object()]), [[1.0], [1.0, 2.0]]):
        for to in TARGETS.values():
            with pytest.raises(InvalidValueError):
                to(bad)
    with pytest.raises(InvalidValueError, match="torch has"):
        as_torch(np.zeros(2, np.longdouble))
    for to in (as_numpy, as_jax):
        with pytest.raises(InvalidValueError, match="to_dense"):
            to(torch.eye(3).to_sparse())


def test_foreign_byte_order() -> None:
    x = np.arange(3.0).astype(">f8")
    for to in (as_torch, as_jax):
        np.testing.assert_array_equal(np.asarray(to(x)), [0, 1, 2])


@pytest.mark.parametrize("dtype", ["f8", "i8", "u8", "c16"])
def test_foreign_byte_order_is_not_narrowed(dtype: str) -> None:
    """2**40 + 3 has come out as 3."""
    x = np.array([0.1 if dtype in ("f8", "c16") else 2**40 + 3], dtype)
    foreign = x.astype(x.dtype.newbyteorder())
    assert as_jax(foreign).dtype == x.dtype
    np.testing.assert_array_equal(np.asarray(as_jax(foreign)), x)
    with jax.enable_x64(False), pytest.raises(InvalidValueError, match="jax_enable_x64"):
        as_jax(foreign)


def test_nothing_at_any_address() -> None:
    """JAX refuses memory that is not aligned, even of no numbers."""
    for offset in range(6):
        empty = np.zeros(64, np.float32)[offset : offset + 1][:0]
        assert as_jax(empty).shape == as_jax(torch.from_numpy(empty)).shape == (0,)
    for shape in ((3, 0, 2), (0, 4)):
        assert as_jax(np.zeros(shape, np.float32)).shape == shape


def test_zeros_that_have_no_memory() -> None:
    """What forward mode makes for a tangent of zero: its memory is anyone's."""
    held = [torch.full((1000,), 7.25) for _ in range(50)]
    del held
    zero = torch._efficientzerotensor((1000,), dtype=torch.float32)
    for copy in (None, True):
        for to in (as_numpy, as_jax):
            np.testing.assert_array_equal(np.asarray(to(zero, copy=copy)), np.zeros(1000))
    for to in (as_numpy, as_jax):
        with pytest.raises(InvalidValueError, match="lazy"):
            to(zero, copy=False)


def test_masks_and_lists_lose_nothing_in_silence() -> None:
    with pytest.raises(InvalidValueError, match="filled"):
        as_numpy(np.ma.masked_array([1.0, 2.0], [0, 1]))
    for to in TARGETS.values():
        with pytest.raises(InvalidValueError, match="no array"):
            to([1.0, 2.0], copy=False)


def test_lazy_conjugates_and_gradients() -> None:
    x = torch.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    for to in (as_numpy, as_jax):
        np.testing.assert_array_equal(np.asarray(to(x.conj())), [1 - 2j, 3 + 1j])
        np.testing.assert_array_equal(np.asarray(to(x.conj().imag)), [-2, 1])
        with pytest.raises(InvalidValueError, match="lazy"):
            to(x.conj(), copy=False)
    assert not as_torch(x).requires_grad


@pytest.mark.parametrize("value", [np.float64(1e-30), np.int64(2**40)])
def test_narrowing_is_refused(value: Any) -> None:
    with jax.enable_x64(False):
        for x in (np.array([value]), torch.tensor([value])):
            with pytest.raises(InvalidValueError, match="jax_enable_x64"):
                as_jax(x)


def test_either_side_may_go_first() -> None:
    """Memory lives as long as anyone looks at it: checked under load, with collections forced."""
    gc.freeze()  # a collection looks at what is made here, not at all that is imported
    for source in SOURCES.values():
        for to in TARGETS.values():
            x = to(source())
            made = [to(torch.full((size,), float(size))) for size in (1, 1000, 100_000) * 3]
            gc.collect()
            noise = [torch.randn(len(each)) for each in made]
            for each in made:
                assert float(each[0]) == len(each) == float(each[-1])
            del made, noise
            gc.collect()
            np.testing.assert_array_equal(np.asarray(x).ravel(), np.arange(12.0))
    gc.unfreeze()


def test_nothing_is_imported_for_nothing() -> None:
    code = (
        "import numpy, sys; from pynode_jl.dlpack import as_numpy; as_numpy([1.0]);"
        "assert not {'torch', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
