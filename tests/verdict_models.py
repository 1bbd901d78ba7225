"""Models whose truth is known by theory: linear fields, whose flow is a matrix exponential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm

from pynode_jl.backends import get_backend
from pynode_jl.datasets import Dataset
from pynode_jl.fields import LinearField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Regression
from pynode_jl.training import TrainedModel


def linear_model(
    matrix: Sequence[Sequence[float]] | np.ndarray,
    head: Sequence[float],
    solver: Solver,
    *,
    bias: float = 0.0,
    classes: int = 2,
) -> TrainedModel:
    """y' = matrix y on [0, 1]; class 1 where head . y(1) + bias > 0, class 0 elsewhere."""
    a = np.asarray(matrix, np.float32)
    model = Model(LinearField(len(a)), classes=classes)
    weights = {name: np.zeros_like(value) for name, value in model.init(0).items()}
    weights["field.layers.0.weight"] = a
    weights["head.weight"][1] = head
    weights["head.bias"][1] = bias
    weights["head.bias"][2:] = -1e3
    return TrainedModel(model, weights, solver)


def labelled(x: np.ndarray, labels: np.ndarray, *, classes: int | None = None) -> Dataset:
    """Test samples with labels; the training part is the same."""
    x32 = np.asarray(x, np.float32)
    return Dataset.from_arrays(x32, labels, x_test=x32, y_test=labels, classes=classes)


def normal(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Standard normal samples, (n, dim), as float32 holds them."""
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


# Random models: what a verdict is calibrated on.

KINDS = ("stable", "growing", "oscillating", "stiff", "defective")
SIZES = (30, 100, 300, 1000, 2000)
CLASSES = 3  # logits of every random model; a model of two classes leaves the last one idle
_POOL = 100_000
_EXPLICIT = ("Euler", "Midpoint", "Heun", "BS3", "RK4")
_IMPLICIT = ("ImplicitEuler", "Trapezoid", "TRBDF2", "KenCarp4")
_ADAPTIVE = ("Fehlberg21", "BS3", "DP5", "Tsit5")


@dataclass(frozen=True)
class RandomModel:
    """A linear model with its test samples and the truth about it.

    Attributes:
        kind: of `KINDS`.
        trained: the model.
        dataset: n test samples.
        rate: the share of answers, of 100,000 samples, that the exact flow changes.
        class_rate: the largest such share within a class.
        pool, pool_labels: these samples, for questions about other solves.
        answers: the training solver's answers to them.
    """

    kind: str
    trained: TrainedModel
    dataset: Dataset
    rate: float
    class_rate: float
    pool: np.ndarray
    pool_labels: np.ndarray
    answers: np.ndarray


def random_model(seed: int, pool: int = _POOL, sizes: Sequence[int] = SIZES) -> RandomModel:
    """Draw a linear field, a training solver, a head, and samples.

    The head is chosen so that the true rate of flips comes near one drawn from 0.3 to 30 %.
    """
    random = np.random.default_rng([20261125, seed])
    dim = int(random.integers(1, 6))
    kind = str(random.choice(KINDS if dim > 1 else ("stable", "growing")))
    matrix = _matrix(kind, dim, random).astype(np.float32)
    solver = _solver(kind, random)
    x = _samples(pool, dim, random)
    start = linear_model(matrix, np.zeros(dim), solver, classes=CLASSES)
    exact = x.astype(np.float64) @ expm(matrix.astype(np.float64)).T
    own = _final_states(start, x)
    head, bias = _head(own, exact, random)
    weights = dict(start.weights)
    weights["head.weight"], weights["head.bias"] = head, bias
    trained = TrainedModel(start.model, weights, solver)
    answers = _answers(own, head, bias)
    ode = _answers(exact, head, bias)
    learned = ode if random.random() < 0.5 else answers
    noise = random.uniform(0, 0.15)

    def labels_of(learned: np.ndarray) -> np.ndarray:
        wrong = random.random(learned.size) < noise
        used = 2 if bias[2] < -100 else CLASSES
        return np.where(wrong, random.integers(0, used, learned.size), learned)

    labels = labels_of(learned)
    flipped = answers != ode
    shares = [flipped[labels == c].mean() for c in np.unique(labels)]
    n = int(random.choice(sizes))
    test = random.permutation(pool)[:n]
    # The test samples are of the pool: a share of it as the truth is then exact for them too.
    dataset = labelled(x[test], labels[test], classes=CLASSES)
    return RandomModel(
        kind, trained, dataset, float(flipped.mean()), float(max(shares)), x, labels, answers
    )


RESIDUALS = ("normal", "uniform", "Laplace", "growing with the answer")


@dataclass(frozen=True)
class RandomRegression:
    """A linear regression with its test samples and the truth about it.

    Attributes:
        kind, trained, dataset: as of a `RandomModel`.
        residuals: how its errors are distributed, of `RESIDUALS`.
        shift: of the exact flow's answers, of 100,000 samples.
        pool, pool_targets: these samples, for questions about other solves.
        answers: the training solver's answers to them.
    """

    kind: str
    residuals: str
    trained: TrainedModel
    dataset: Dataset
    shift: float
    pool: np.ndarray
    pool_targets: np.ndarray
    answers: np.ndarray


def random_regression(
    seed: int, pool: int = _POOL, sizes: Sequence[int] = SIZES
) -> RandomRegression:
    """Draw a linear field, a training solver, a head of numbers, samples, and errors.

    The errors are chosen so that the true shift comes near one drawn from 1 to 100 %.
    """
    random = np.random.default_rng([20261126, seed])
    dim, count = int(random.integers(1, 6)), int(random.integers(1, 3))
    kind = str(random.choice(KINDS if dim > 1 else ("stable", "growing")))
    matrix = _matrix(kind, dim, random).astype(np.float32)
    solver, x, task = _solver(kind, random), _samples(pool, dim, random), Regression(count)
    model = Model(LinearField(dim), task=task)
    weights = {name: np.zeros_like(value) for name, value in model.init(0).items()}
    weights["field.layers.0.weight"] = matrix
    exact = x.astype(np.float64) @ expm(matrix.astype(np.float64)).T
    weights["head.weight"] = (random.normal(size=(count, dim)) / (1e-6 + exact.std(axis=0))).astype(
        np.float32
    )
    trained = TrainedModel(model, weights, solver)
    head = weights["head.weight"].astype(np.float64).T
    with np.errstate(over="ignore", invalid="ignore"):
        own, ode = _final_states(trained, x) @ head, exact @ head
        moved = float(np.sqrt(np.mean((own - ode) ** 2)))
        residuals = str(random.choice(RESIDUALS))
        target = float(np.exp(random.uniform(np.log(0.01), np.log(1.0))))
        # Far above what float32 rounds answers by.
        size = max(moved / target, 1e-3 * float(own.std()))
        errors = size * _residuals(residuals, own, random)
        # Part of the solver's error may be an error, the rest fits the data.
        targets = own + errors + random.choice([0.0, 0.0, random.uniform()]) * (ode - own)
    targets = targets.astype(np.float32)
    shift = float(task.shift(task.changes(own, ode, targets), task.scale(own, targets)))
    test = random.permutation(pool)[: int(random.choice(sizes))]
    finite = np.where(np.isfinite(targets[test]), targets[test], 0.0).astype(np.float32)
    dataset = Dataset.from_arrays(x[test], finite, x_test=x[test], y_test=finite, task=task)
    return RandomRegression(kind, residuals, trained, dataset, shift, x, targets, own)


def _residuals(kind: str, own: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Errors of unit size in the mean, shaped as the answers."""
    draw = {"uniform": random.uniform, "Laplace": random.laplace}.get(kind, random.normal)
    found = draw(size=own.shape) - (0.5 if kind == "uniform" else 0.0)
    if kind == "growing with the answer":
        found *= 0.2 + np.abs(own) / (1e-30 + np.sqrt(np.mean(own**2)))
    return np.asarray(found / np.sqrt(np.mean(found**2)))


def _matrix(kind: str, dim: int, random: np.random.Generator) -> np.ndarray:
    mild = random.uniform(-3.0, 0.3, dim)
    form = np.diag(mild)
    if kind == "stable":
        form = np.diag(-random.uniform(0.2, 4.0, dim))
    elif kind == "growing":
        form = np.diag(random.uniform(-1.0, 3.0, dim))
    elif kind == "stiff":
        form[0, 0] = -random.uniform(30.0, 300.0)
    elif kind == "oscillating":
        for i in range(0, dim - 1, 2):
            omega = random.uniform(1.0, 4 * np.pi)
            form[i : i + 2, i : i + 2] = [[mild[i] / 3, omega], [-omega, mild[i] / 3]]
    else:
        value = random.uniform(-3.0, 1.0)
        form = value * np.eye(dim) + np.diag(random.uniform(1.0, 3.0, dim - 1), 1)
    turned, _ = np.linalg.qr(random.normal(size=(dim, dim)))
    basis = turned @ np.diag(random.uniform(0.5, 2.0, dim))
    return basis @ form @ np.linalg.inv(basis)


def _solver(kind: str, random: np.random.Generator) -> Solver:
    how = random.choice(["explicit", "implicit", "adaptive"], p=[0.5, 0.25, 0.25])
    if how == "adaptive":
        tolerance = float(10 ** -random.uniform(0, 5))
        return Solver(str(random.choice(_ADAPTIVE)), rtol=tolerance, atol=tolerance)
    names = _EXPLICIT if how == "explicit" else _IMPLICIT
    steps = round(2 ** random.uniform(0, 6))
    return Solver(str(random.choice(names)), dt=1.0 / steps)


def _samples(n: int, dim: int, random: np.random.Generator) -> np.ndarray:
    shape = random.choice(["normal", "uniform", "mixture"])
    x = random.normal(size=(n, dim))
    if shape == "uniform":
        x = random.uniform(-1, 1, size=(n, dim))
    elif shape == "mixture":
        x = 0.4 * x + random.choice([-1.0, 1.0], size=(n, 1)) * random.uniform(0.3, 1.5, dim)
    return x.astype(np.float32)


def _final_states(trained: TrainedModel, x: np.ndarray) -> np.ndarray:
    """Final states under the training solver; at fixed steps a matrix, by one solve of the unit
    vectors."""
    backend = get_backend("jax")
    if not trained.solver.fixed:
        return backend.evaluate(trained.model, trained.weights, x, trained.solver).states.astype(
            np.float64
        )
    unit = np.eye(x.shape[1])
    columns = backend.evaluate(trained.model, trained.weights, unit, trained.solver).states
    return x.astype(np.float64) @ columns


def _answers(states: np.ndarray, head: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.argmax(states @ head.astype(np.float64).T + bias, axis=1)


def _head(
    own: np.ndarray, exact: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Of random heads the one whose rate of flips is nearest to a random target."""
    target = float(np.exp(random.uniform(np.log(0.003), np.log(0.3))))
    dim, used = own.shape[1], int(random.choice([2, CLASSES]))
    few = slice(0, 20_000)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for _ in range(60):
        head = np.zeros((CLASSES, dim), np.float32)
        head[:used] = random.normal(size=(used, dim)) / (1e-6 + exact[few].std(axis=0))
        bias = np.full(CLASSES, -1e3, np.float32)
        middle = exact[few] @ head[:used].T
        bias[:used] = -np.quantile(middle, random.uniform(0.1, 0.9), axis=0)
        first, second = (_answers(each[few], head, bias) for each in (own, exact))
        if np.bincount(second, minlength=CLASSES).max() > 0.95 * second.size:
            continue
        rate = max(float(np.mean(first != second)), 1e-4)
        miss = abs(np.log(rate / target))
        if best is None or miss < best[0]:
            best = miss, head, bias
    if best is None:
        return head, bias
    return best[1], best[2]
