"""Arrays of every kind across frameworks: the right values, or `InvalidValueError`.

    PYNODE_FUZZ=20000 pytest tests/frontends/test_dlpack_fuzz.py

runs as many cases; a failure names its seed.
"""

from __future__ import annotations

import os
import random
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

from pynode_jl.dlpack import as_jax, as_numpy, as_torch
from pynode_jl.errors import InvalidValueError

CASES = int(os.environ.get("PYNODE_FUZZ", "240"))
NUMPY: list[Any] = [
    "?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", ">i4",
    ">i8", ">u8", ">f4", ">f8", ">c16", np.longdouble, "M8[s]", "S3", "U2", "O", "V4",
    ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, [("a", "f4")],
]  # fmt: skip
TORCH = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint64", "float16", "bfloat16",
    "float32", "float64", "complex32", "complex64", "complex128", "float8_e4m3fn",
]  # fmt: skip
JAX = [
    "bool", "int8", "int32", "int64", "uint8", "float16", "bfloat16", "float32", "float64",
    "complex64", "complex128",
]  # fmt: skip
OTHERS: list[Any] = [
    [1.0, 2.0], [[1, 2], [3]], 3, 2.5, 1j, None, "a", b"a", {1: 2}, [], (), [[]], [None], True,
    [True, 2.5], [2**70], np.float32(2), np.int64(2**40 + 3), range(3), memoryview(b"abc"),
    bytearray(b"ab"), {1, 2}, [np.ones(2), np.ones(2)], np.ma.masked_array([1.0, 2.0], [0, 1]),
    [1j, 2.0], float("nan"),
]  # fmt: skip


def values(draw: random.Random, wide: bool) -> Any:
    shape = tuple(draw.choice([0, 1, 1, 2, 3, 7]) for _ in range(draw.randrange(4)))
    choices = [0, 1, 2, 3, 100, *([2**40 + 3] if wide else [])]
    numbers = [draw.choice(choices) for _ in range(int(np.prod(shape)))]
    return np.array(numbers, dtype=np.float64).reshape(shape)


def view(draw: random.Random, x: Any) -> Any:
    """A view of an array: sliced, transposed, reversed, emptied, repeated."""
    for _ in range(draw.randrange(3)):
        kind = draw.randrange(7)
        if x.ndim and kind == 0:
            x = x[draw.randrange(2) :]
        elif x.ndim and kind == 1:
            x = x[::2]
        elif x.ndim and kind == 2:
            x = x[:0]
        elif x.ndim and kind == 3 and not isinstance(x, torch.Tensor):
            x = x[::-1]
        elif kind == 4:
            x = x.permute(tuple(reversed(range(x.ndim)))) if isinstance(x, torch.Tensor) else x.T
        elif kind == 5 and isinstance(x, torch.Tensor):
            x = x.expand(2, *x.shape)
        elif kind == 6:
            x = x[None]
    return x


def numpy_array(draw: random.Random) -> Any:
    dtype = np.dtype(draw.choice(NUMPY))
    try:
        x = view(draw, values(draw, dtype.itemsize >= 8).astype(dtype))
    except (TypeError, ValueError):
        x = np.zeros((2,), dtype)
    if draw.random() < 0.15:
        x = x.copy()
        x.flags.writeable = False
    elif draw.random() < 0.15 and dtype.kind in "if":  # not even at a multiple of its item
        raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
        unaligned = raw.view(dtype).reshape(x.shape)
        unaligned[...] = x
        x = unaligned
    return x


def torch_tensor(draw: random.Random) -> Any:
    dtype: Any = getattr(torch, draw.choice(TORCH))
    numbers = values(draw, dtype in (torch.int64, torch.float64, torch.complex128))
    x: Any = torch.from_numpy(numbers).to(dtype)
    kind = draw.randrange(12)
    if kind == 0 and x.is_complex():
        x = x.conj() if draw.random() < 0.5 else x.conj().imag
    elif kind == 1 and dtype not in (torch.complex32, torch.float8_e4m3fn):
        x = torch._efficientzerotensor(x.shape, dtype=dtype)
    elif kind == 2:
        return x.to("meta")
    elif kind == 3 and x.ndim == 2 and dtype is torch.float32:
        return x.to_sparse()
    elif kind == 4 and x.is_floating_point() and x.element_size() > 1:
        x = x.requires_grad_()
    elif kind == 5:
        return torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8)
    return view(draw, x)


def jax_array(draw: random.Random) -> Any:
    kind = draw.randrange(12)
    if kind == 0:
        return jax.random.key(0)
    if kind == 1:
        deleted = jnp.zeros(3)
        deleted.delete()
        return deleted
    return view(draw, jnp.asarray(values(draw, False)).astype(draw.choice(JAX)))


def number_of(x: Any) -> Any:
    """The values of an array as NumPy has them, by another way than the one tested."""
    if isinstance(x, torch.Tensor):
        x = x.detach()
        x = x.clone() if x._is_zerotensor() else x
        if x.dtype in (torch.bfloat16, torch.float8_e4m3fn):
            x = x.float()
        x = x.to(torch.complex64) if x.dtype is torch.complex32 else x
        return x.resolve_conj().resolve_neg().cpu().numpy()
    return np.asarray(x)


def name_of(x: Any) -> str:
    dtype = x.dtype.newbyteorder("=") if isinstance(x, np.ndarray) else x.dtype
    return str(dtype).removeprefix("torch.")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(4))
def test_arrays_of_every_kind(part: int) -> None:
    warnings.simplefilter("ignore")
    taken = refused = 0
    for seed in range(part, CASES, 4):
        draw = random.Random(seed)
        make = draw.choice([numpy_array, numpy_array, torch_tensor, torch_tensor, jax_array, None])
        with jax.enable_x64(draw.random() < 0.6):
            x = draw.choice(OTHERS) if make is None else make(draw)
        to, copy = draw.choice([as_numpy, as_torch, as_jax]), draw.choice([None, None, True, False])
        note = f"seed {seed}: {to.__name__}({type(x).__name__}, copy={copy})"
        with jax.enable_x64(draw.random() < 0.5):
            try:
                y = to(x, copy=copy)
            except InvalidValueError:
                refused += 1
                continue
            except Exception as error:
                pytest.fail(f"{note}: {type(error).__name__}: {error}")
            taken += 1
            if isinstance(y, torch.Tensor) and (y.is_meta or y.is_sparse or y.is_quantized):
                assert y.dtype == x.dtype, note
                continue
            got, expected = number_of(y), number_of(x)
        if hasattr(x, "dtype"):
            assert name_of(y) == name_of(x), note
        assert got.shape == expected.shape, note
        np.testing.assert_array_equal(got, expected, err_msg=note)
    assert taken > CASES / 20
    assert refused > CASES / 40
