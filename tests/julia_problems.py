"""What the tests of the Julia backend share: when they run, problems, and known exceptions."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from pynode_jl.backends.julia import discover
from pynode_jl.backends.julia._names import OTHER_STEPS
from pynode_jl.fields import MLP, ConvField1d, ConvField2d
from pynode_jl.solvers import catalogue, tableau

needs_julia = pytest.mark.skipif(not discover().found, reason=discover().text)

FIELDS = {
    "mlp": MLP(3, width=8, activation="gelu", time_dependent=True),
    "conv1d, one matrix": ConvField1d(2, channels=4, activation="tanh"),
    "conv1d, windows": ConvField1d(5, channels=4, activation="silu", time_dependent=True),
    "conv2d": ConvField2d((2, 4, 3), channels=5, activation="softplus", time_dependent=True),
}
PARITY = [row.name for row in catalogue(backend="jax") if "julia" in row.backends]
EXPLICIT = [name for name in PARITY if tableau(name).explicit]
# Solvers that fail in Julia itself, as docs/zoo.csv has it.
BROKEN = {name: OTHER_STEPS[name] for name in ("RKV76IIa", "SSPRK932")}


def a_tenth(names: list[str]) -> list[Any]:
    """All names, to be parameters of a test: a tenth, drawn with a seed, for the default suite, the
    others for `make test-zoo`."""
    drawn = set(random.Random(2026).sample(sorted(names), len(names) // 10))
    return [n if n in drawn else pytest.param(n, marks=pytest.mark.zoo) for n in names]


def problem(name: str, dtype: Any = np.float64) -> tuple[Any, dict[str, Any], np.ndarray]:
    field, random = FIELDS[name], np.random.default_rng(7)
    weights = {k: random.normal(0, 0.4, s).astype(dtype) for k, s in field.weight_shapes().items()}
    return field, weights, random.normal(0, 1, (6, *field.state_shape)).astype(dtype)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(a - b)) / (1 + np.max(np.abs(b))))
