"""Models whose truth is known by theory: linear fields, whose flow is a matrix exponential."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pynode_jl.datasets import Dataset
from pynode_jl.fields import LinearField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained


def linear_model(
    matrix: Sequence[Sequence[float]] | np.ndarray,
    head: Sequence[float],
    solver: Solver,
    *,
    bias: float = 0.0,
    classes: int = 2,
) -> Trained:
    """y' = matrix y on [0, 1]; class 1 where head . y(1) + bias > 0, class 0 elsewhere."""
    a = np.asarray(matrix, np.float32)
    model = Model(LinearField(len(a)), classes=classes)
    weights = {name: np.zeros_like(value) for name, value in model.init(0).items()}
    weights["field.layers.0.weight"] = a
    weights["head.weight"][1] = head
    weights["head.bias"][1] = bias
    weights["head.bias"][2:] = -1e3
    return Trained.of(model, weights, solver)


def labelled(x: np.ndarray, labels: np.ndarray, *, classes: int | None = None) -> Dataset:
    """Test samples with labels; the training part is the same."""
    x32 = np.asarray(x, np.float32)
    return Dataset.from_arrays(x32, labels, x_test=x32, y_test=labels, classes=classes)


def normal(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Standard normal samples, (n, dim), as float32 holds them."""
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
