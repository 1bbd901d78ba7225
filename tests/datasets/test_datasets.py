"""The data sets: their facts, their seeds, and everything that they refuse."""

from __future__ import annotations

import builtins
import dataclasses
import io
import itertools
import math
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from pynode_jl.datasets import (
    DATASETS,
    Dataset,
    arrays,
    concentric_spheres,
    digits,
    load,
    three_minima,
)
from pynode_jl.datasets._cifar10_batches import FORMATS
from pynode_jl.datasets._spheres import SHELLS
from pynode_jl.datasets.particle import BARRIERS, MINIMA, POTENTIAL
from pynode_jl.errors import (
    BackendUnavailableError,
    DataError,
    InvalidValueError,
    MissingDependencyError,
    PyNODEError,
    UnknownNameError,
)
from pynode_jl.fields import MLP, ConvField2d
from pynode_jl.models import Model
from pynode_jl.runs import Config, FieldConfig
from pynode_jl.seeding import STREAMS, generator
from pynode_jl.training import check_fit

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20) % 2


def dataset(**changes: Any) -> Dataset:
    fields: dict[str, Any] = {
        "name": "test",
        "x_train": X,
        "y_train": Y,
        "x_test": X[:4],
        "y_test": Y[:4],
        "classes": 2,
    }
    return Dataset(**fields | changes)


# --- seeding ---


def test_streams_are_independent_and_repeatable() -> None:
    draws = {s: generator(3, s).random(4) for s in STREAMS}
    assert len({d.tobytes() for d in draws.values()}) == len(STREAMS)
    for stream, draw in draws.items():
        expected = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(STREAMS[stream],)))
        assert np.array_equal(draw, generator(3, stream).random(4))
        assert np.array_equal(draw, expected.random(4))
    assert STREAMS == {
        "data": 0,
        "weights": 1,
        "batches": 2,
        "controller": 3,
        "trace": 4,
        "resampling": 5,
    }


@pytest.mark.parametrize("seed", [-1, True, 1.0, "0", None])
def test_a_wrong_seed_is_refused(seed: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"seed = .* expected an integer of 0 or more"):
        generator(seed, "data")
    for build in (concentric_spheres, three_minima, digits):
        with pytest.raises(InvalidValueError, match=r"seed = "):
            build(seed=seed)


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"random stream 'weight': did you mean weights"):
        generator(0, "weight")


# --- every data set ---


@pytest.mark.parametrize("name", ["spheres", "three_minima", "digits"])
def test_one_seed_decides_the_data_bit_for_bit(name: str) -> None:
    first, again, other = load(name, seed=5), load(name, seed=5), load(name, seed=6)
    for field in ("x_train", "y_train", "x_test", "y_test"):
        assert getattr(first, field).tobytes() == getattr(again, field).tobytes()
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.seed == 5


@pytest.mark.parametrize("build", [concentric_spheres, three_minima])
def test_more_test_examples_leave_the_training_examples(build: Any) -> None:
    few, many = build(n_train=40, n_test=4), build(n_train=40, n_test=80)
    assert np.array_equal(few.x_train, many.x_train)
    assert np.array_equal(few.y_train, many.y_train)


def test_data_are_the_same_in_another_process() -> None:
    code = (
        "from pynode_jl.datasets import load;"
        "print(load('spheres').fingerprint, load('three_minima').fingerprint)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [load(n).fingerprint for n in ("spheres", "three_minima")]


def test_import_loads_neither_scipy_nor_scikit_learn() -> None:
    code = (
        "import sys, pynode_jl.datasets;"
        "print(sorted({'scipy', 'sklearn', 'pandas', 'torch', 'jax'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# --- spheres ---


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 900])
def test_spheres_have_their_shells_and_balance(dim: int) -> None:
    data = concentric_spheres(dim, seed=1)
    assert data.state_shape == (dim,)
    assert (data.n_train, data.n_test, data.classes) == (2000, 1000, 2)
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        radius = np.linalg.norm(x.astype(np.float64), axis=1)
        seen = np.zeros(len(y), dtype=bool)
        for r_min, r_max, label, quarters in SHELLS:
            inside = (radius >= r_min - 1e-7) & (radius <= r_max + 1e-7)
            assert inside.sum() == len(y) * quarters // 4
            assert (y[inside] == label).all()
            share = np.clip((radius[inside] - r_min) / (r_max - r_min), 0, 1)
            assert stats.kstest(share**dim, "uniform").pvalue > 1e-3
            seen |= inside
        assert seen.all()
        assert np.bincount(y).tolist() == [len(y) // 2, len(y) // 2]


@pytest.mark.parametrize("dim", [2, 3, 10, 900])
def test_sphere_directions_are_uniform(dim: int) -> None:
    x = concentric_spheres(dim, seed=2).x_train.astype(np.float64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    # One squared coordinate of a uniform direction is Beta(1/2, (dim - 1)/2).
    for axis in (0, dim - 1):
        law = stats.beta(0.5, (dim - 1) / 2)
        assert stats.kstest(unit[:, axis] ** 2, law.cdf).pvalue > 1e-3
        assert abs((unit[:, axis] > 0).mean() - 0.5) < 0.05


def test_spheres_are_shuffled() -> None:
    y = concentric_spheres().y_train
    assert abs(y[:500].mean() - 0.5) < 0.1


@given(dim=st.integers(1, 30), quarter=st.integers(1, 30), seed=st.integers(0, 2**70))
@settings(max_examples=30)
def test_spheres_balance_at_any_size(dim: int, quarter: int, seed: int) -> None:
    data = concentric_spheres(dim, n_train=4 * quarter, n_test=4, seed=seed)
    assert np.bincount(data.y_train).tolist() == [2 * quarter] * 2
    radius = np.linalg.norm(data.x_train.astype(np.float64), axis=1)
    counts = [((radius > a - 1e-7) & (radius < b + 1e-7)).sum() for a, b, _, _ in SHELLS]
    assert counts == [quarter, 2 * quarter, quarter]


@pytest.mark.parametrize("dim", [0, -2, 2.0, True, "2"])
def test_a_wrong_dim_is_refused(dim: Any) -> None:
    with pytest.raises(
        InvalidValueError, match=r"dim = .* an integer of 1 or more\. Pass dim=1 or more"
    ):
        concentric_spheres(dim)


def test_sphere_counts_are_multiples_of_four() -> None:
    with pytest.raises(InvalidValueError, match=r"n_train = 10: .* multiple of 4. Pass n_train=12"):
        concentric_spheres(n_train=10)
    with pytest.raises(InvalidValueError, match=r"n_test = 0: .* Pass n_test=4 or more"):
        concentric_spheres(n_test=0)


# --- three minima ---


def test_minima_and_barriers_are_roots_of_the_slope() -> None:
    roots = [-1.0, -0.6, 0.0, 0.5, 1.6, 2.0]

    def slope(x: float) -> float:
        return 0.2 * sum(math.prod(x - r for r in roots if r != s) for s in roots)

    # Between two neighbouring roots of V lies one critical point.
    found = [brentq(slope, a, b, xtol=1e-14) for a, b in itertools.pairwise(roots)]
    assert found[0::2] == pytest.approx(MINIMA, abs=1e-9)
    assert found[1::2] == pytest.approx(BARRIERS, abs=1e-9)
    assert pytest.approx([-0.850, 0.269, 1.839], abs=1e-3) == MINIMA
    assert (POTENTIAL.deriv(2)(MINIMA) > 0).all()
    assert (POTENTIAL.deriv(2)(BARRIERS) < 0).all()


def test_three_minima_have_the_measured_shares() -> None:
    data = three_minima()
    assert (data.state_shape, data.n_train, data.n_test, data.classes) == ((2,), 2000, 1000, 3)
    x, v = np.concatenate([data.x_train, data.x_test]).T
    assert stats.kstest((x + 1) / 3, "uniform").pvalue > 1e-3
    assert stats.kstest((v + 2) / 4, "uniform").pvalue > 1e-3
    for y in (data.y_train, data.y_test):
        expected = np.array([718, 709, 573]) / 2000 * len(y)
        assert (abs(np.bincount(y) - expected) < 4 * np.sqrt(expected)).all()


def test_labels_agree_with_an_accurate_solve_to_the_end() -> None:
    data = three_minima(n_train=250, n_test=4, seed=7)

    def rates(_: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
        x, v = y.reshape(2, -1)
        return np.concatenate([v, -POTENTIAL.deriv()(x) - 0.2 * v])

    start = data.x_train.T.astype(np.float64).ravel()
    end = solve_ivp(rates, (0, 100), start, method="DOP853", rtol=1e-10, atol=1e-12)
    distance = abs(end.y[: data.n_train, -1][:, None] - MINIMA)
    assert (distance.min(axis=1) < 1e-3).all()
    assert np.array_equal(distance.argmin(axis=1), data.y_train)


@pytest.mark.parametrize("t_end", [1e-9, 1.0, 10.0])
def test_a_particle_without_a_class_is_an_error(t_end: float) -> None:
    with pytest.raises(DataError, match=rf"x_train\[\d+\] = \(.*decided by t_end = {t_end:g}"):
        three_minima(n_train=200, n_test=10, t_end=t_end)


def test_a_test_particle_without_a_class_is_named_in_its_own_array() -> None:
    for seed in range(30):
        with pytest.raises(DataError) as caught:
            three_minima(n_train=1, n_test=50, seed=seed, t_end=1.0)
        if caught.value.argument.startswith("x_test["):
            index = int(caught.value.argument[7:-1])
            states = three_minima(n_train=1, n_test=50, seed=seed).x_test
            assert caught.value.value == tuple(states[index].tolist())
            return
    pytest.fail("no seed has a training particle that is caught at once")


@pytest.mark.parametrize("t_end", [0.0, -1.0, float("inf"), float("nan"), True, "100"])
def test_a_wrong_end_time_is_refused(t_end: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"t_end = .* a number above 0. Try t_end=100"):
        three_minima(t_end=t_end)


# --- digits ---


def test_digits_are_images_with_their_shares() -> None:
    from sklearn.datasets import load_digits

    data = digits()
    assert (data.state_shape, data.classes, data.n_test) == ((1, 8, 8), 10, 359)
    images = np.concatenate([data.x_train, data.x_test])
    assert (images.min(), images.max()) == (0.0, 1.0)
    pixels, labels = load_digits(return_X_y=True)
    ours = {
        (image.tobytes(), int(label))
        for image, label in zip(
            (images * 16).astype(int), np.concatenate([data.y_train, data.y_test]), strict=True
        )
    }
    theirs = {
        (image.tobytes(), int(label))
        for image, label in zip(pixels.astype(int), labels, strict=True)
    }
    assert ours == theirs
    assert len(images) == len(pixels)
    assert (abs(np.bincount(data.y_test) - 0.2 * np.bincount(labels)) < 1).all()


def test_digits_without_scikit_learn_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        MissingDependencyError, match=r"needs scikit-learn, .*pip install"
    ) as caught:
        digits()
    assert caught.value.package == "scikit-learn"
    assert isinstance(caught.value, BackendUnavailableError)  # as it was called in version 0.1


# --- Dataset ---


def test_arrays_are_float32_int32_read_only_copies() -> None:
    x, y = X.copy(), Y.copy()
    data = dataset(x_train=x, y_train=y)
    x[:], y[:] = -1.0, 1
    assert np.array_equal(data.x_train, X)
    assert np.array_equal(data.y_train, Y)
    for array, dtype in ((data.x_train, np.float32), (data.y_test, np.int32)):
        assert array.dtype == dtype
        with pytest.raises(ValueError, match=r"read-only"):
            array[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.classes = 3  # type: ignore[misc]
    assert (data.state_shape, data.n_train, data.n_test, data.seed) == ((2,), 20, 4, None)
    assert repr(data) == (
        "Dataset('test', state_shape=(2,), n_train=20, n_test=4, classes=2, seed=None)"
    )


def test_pickling_keeps_the_data_read_only() -> None:
    data = dataset(seed=4)
    again = pickle.loads(pickle.dumps(data))
    assert again.fingerprint == data.fingerprint
    assert (again.name, again.classes, again.seed) == ("test", 2, 4)
    assert not again.x_train.flags.writeable


def test_the_fingerprint_sees_values_labels_and_shape() -> None:
    changed = X.copy()
    changed[3, 1] += 1
    prints = {
        dataset().fingerprint,
        dataset(x_train=changed).fingerprint,
        dataset(y_train=1 - Y).fingerprint,
        dataset(x_train=X.reshape(20, 2, 1), x_test=X[:4].reshape(4, 2, 1)).fingerprint,
    }
    assert len(prints) == 4
    assert dataset(name="other").fingerprint in prints  # of the arrays alone
    assert len(dataset().fingerprint) == 64


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda x: x.astype(">f8"),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(int),
        lambda x: x.astype(object),
        lambda x: x.tolist(),
        lambda x: np.repeat(x, 2, axis=0)[::2],
    ],
)
def test_any_memory_layout_gives_the_same_data(convert: Any) -> None:
    assert dataset(x_train=convert(X)).fingerprint == dataset().fingerprint


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("field", ["x_train", "x_test"])
def test_values_that_are_not_finite_are_named(field: str, bad: float) -> None:
    x = X.copy()
    x[3, 1] = x[7, 0] = bad
    with pytest.raises(DataError) as caught:
        dataset(**{field: x, field.replace("x", "y"): Y})
    message = f"{field}[3, 1] = {bad}: expected a number that is finite in float32."
    assert str(caught.value).startswith(message)
    assert f"2 of 40 entries of {field}" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": X[:, 0]}, r"x_train.shape = \(20,\).*reshape\(-1, 1\)"),
        ({"x_train": X[:0], "y_train": Y[:0]}, r"x_train.shape = \(0, 2\): expected non-empty"),
        ({"x_train": X[:, :0]}, r"x_train.shape = \(20, 0\): expected non-empty"),
        ({"x_train": X.astype(complex)}, "x_train.dtype = 'complex128': expected real numbers"),
        ({"x_train": X.astype(str)}, "x_train.dtype = '<U"),
        ({"x_train": [["a", None]] * 20}, "x_train.dtype = 'object'.*could not convert"),
        ({"x_train": [[1, None]] * 20}, r"x_train\[0, 1\] = None: .*20 of 40 entries"),
        (
            {"x_train": [[1.0], [1.0, 2.0]]},
            r"type\(x_train\) = 'list'.*Make the rows of a list equally long",
        ),
        ({"x_train": None}, "x_train.shape = "),
        ({"x_test": X[:4, :1]}, r"x_test.shape\[1:\] = \(1,\).*x_train, \(2,\)"),
        ({"y_train": Y[:-1]}, r"len\(y_train\) = 19: expected len\(x_train\) = 20"),
        ({"y_test": Y}, r"len\(y_test\) = 20: expected len\(x_test\) = 4"),
        ({"y_train": Y + 1}, r"y_train\[1\] = 2: expected an integer in range\(2\)"),
        ({"y_train": Y - 1}, r"y_train\[0\] = -1: expected an integer in range\(2\)"),
        ({"y_train": Y * 0.5}, r"y_train\[1\] = 0.5"),
        ({"y_train": np.where(Y == 1, np.nan, 0.0)}, r"y_train\[1\] = nan"),
        ({"y_train": np.eye(2)[Y]}, r"y_train.shape = \(20, 2\).*argmax"),
        ({"y_train": np.array(["cat", "dog"])[Y]}, "y_train.dtype = '<U3': .*np.unique"),
        ({"y_train": np.array(["cat", "dog"], object)[Y]}, "y_train.dtype = 'object': .*np.un"),
        ({"y_train": Y[:0]}, r"y_train.shape = \(0,\)"),
    ],
)
def test_wrong_data_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 1}, "classes = 1: expected an integer of 2 or more"),
        ({"classes": 2.0}, "classes = 2.0"),
        ({"name": ""}, "name = '': expected a non-empty string"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_wrong_descriptions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        dataset(**changes)


@pytest.mark.parametrize("labels", [Y.astype(bool), Y.astype(float), Y.astype(np.uint8), list(Y)])
def test_whole_numbers_of_any_type_are_labels(labels: Any) -> None:
    assert np.array_equal(dataset(y_train=labels).y_train, Y)


# --- from_arrays ---


def test_a_given_test_part_is_kept_and_nothing_is_drawn() -> None:
    data = Dataset.from_arrays(X, Y, x_test=X[:3], y_test=[2, 0, 1], name="mine")
    assert np.array_equal(data.x_train, X)
    assert data.y_test.tolist() == [2, 0, 1]
    assert (data.classes, data.seed, data.name) == (3, None, "mine")


def test_a_split_keeps_pairs_together() -> None:
    data = Dataset.from_arrays(X, Y, seed=3)
    assert (data.n_train, data.n_test, data.classes, data.seed) == (16, 4, 2, 3)
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert np.array_equal(x[:, 0] / 2 % 2, y)
    assert data.fingerprint == Dataset.from_arrays(X, Y, seed=3, test_fraction=0.2).fingerprint
    assert data.fingerprint != Dataset.from_arrays(X, Y, seed=4).fingerprint


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=80).filter(lambda y: max(y) > 0),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150)
def test_a_split_is_a_stratified_partition(labels: list[int], fraction: float, seed: int) -> None:
    x = np.arange(len(labels), dtype=np.float32)[:, None]
    counts = np.bincount(labels)
    wanted = round(len(labels) * fraction)
    if wanted == 0 or counts.max() == 1:
        with pytest.raises(DataError, match=r"one example or more, from a class of two or more"):
            Dataset.from_arrays(x, labels, test_fraction=fraction, classes=5, seed=seed)
        return
    data = Dataset.from_arrays(x, labels, test_fraction=fraction, classes=5, seed=seed)
    assert data.n_test <= wanted
    if (counts * (1 - fraction) >= 1).all():
        assert data.n_test == wanted
    order = np.concatenate([data.x_train, data.x_test]).ravel().astype(int)
    assert np.array_equal(np.sort(order), np.arange(len(labels)))
    assert np.array_equal(np.array(labels)[order], np.concatenate([data.y_train, data.y_test]))
    assert set(data.y_train) == set(labels)
    for label in set(labels):
        count, tested = labels.count(label), int((data.y_test == label).sum())
        assert abs(tested - min(count * fraction, count - 1)) < 1 + 1e-9


def test_torch_and_jax_arrays_are_taken() -> None:
    expected = Dataset.from_arrays(X, Y).fingerprint
    torch = pytest.importorskip("torch")
    assert Dataset.from_arrays(torch.tensor(X), torch.tensor(Y)).fingerprint == expected
    with pytest.raises(DataError, match=r"type\(x\) = 'Tensor'.*x\.detach\(\)\.cpu\(\)"):
        Dataset.from_arrays(torch.tensor(X, requires_grad=True), Y)
    jnp = pytest.importorskip("jax.numpy")
    assert Dataset.from_arrays(jnp.asarray(X), jnp.asarray(Y)).fingerprint == expected
    half = jnp.asarray(X, dtype=jnp.bfloat16)
    assert Dataset.from_arrays(half, Y).fingerprint == expected  # 0..39 are exact in bfloat16


def test_an_array_with_dlpack_alone_is_taken() -> None:
    class Foreign:
        def __init__(self, array: NDArray[Any]) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    data = Dataset.from_arrays(Foreign(X), Foreign(Y))
    assert data.fingerprint == Dataset.from_arrays(X, Y).fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x_test": X}, "y_test = None: expected both of x_test and y_test, or neither"),
        ({"y_test": Y}, "x_test = None"),
        ({"x_test": X, "y_test": Y, "test_fraction": 0.5}, "test_fraction = 0.5: expected None"),
        ({"test_fraction": 0.0}, "test_fraction = 0.0: expected a number between 0 and 1. Try"),
        ({"test_fraction": 1.0}, "test_fraction = 1.0"),
        ({"test_fraction": "half"}, "test_fraction = 'half'"),
        ({"test_fraction": 0.01}, "y = 20: expected labels of which a fraction 0.01"),
        ({"classes": 1}, "classes = 1"),
        ({"seed": -1}, "seed = -1"),
        ({"y": Y[:-1]}, r"len\(y\) = 19: expected len\(x\) = 20"),
        ({"y": Y * 0}, "y = 0: .*two classes or more. Every label is 0"),
        ({"y": Y - 1}, r"y\[0\] = -1: expected an integer >= 0"),
        ({"y": Y + 2**40}, r"y\[0\] = 1099511627776"),
        ({"x": np.where(X > 38, np.nan, X)}, r"x\[19, 1\] = nan"),
    ],
)
def test_wrong_arrays_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        Dataset.from_arrays(**{"x": X, "y": Y} | options)


# --- load and .npz files ---


def test_load_builds_every_row_of_the_table() -> None:
    assert set(DATASETS) == {
        "spheres", "three_minima", "digits", "mnist", "cifar10", "arrays", "csv",
        "moons", "circles", "spirals", "annuli", "sine", "diabetes",
        "lotka_volterra", "spiral", "pendulum", "lorenz63", "van_der_pol",
    }  # fmt: skip
    assert load("spheres", dim=3).fingerprint == concentric_spheres(3).fingerprint
    with pytest.raises(TypeError):
        DATASETS["new"] = concentric_spheres  # type: ignore[index]


def test_load_refuses_unknown_names_and_options() -> None:
    with pytest.raises(UnknownNameError, match=r"data set 'sphere': did you mean spheres"):
        load("sphere")
    with pytest.raises(
        InvalidValueError,
        match=r"dims = 3: expected an option of data set 'spheres': dim, n_train, n_test, seed,"
        r" normalize\. Did you mean dim\?",
    ):
        load("spheres", dims=3)
    with pytest.raises(InvalidValueError, match=r"colour = 1: .*Leave it out"):
        load("digits", colour=1)
    with pytest.raises(InvalidValueError, match=r"path = None: .*'arrays' needs it. Set path\."):
        load("arrays")
    with pytest.raises(InvalidValueError, match=r"n_train = 'many'"):
        load("three_minima", n_train="many")


def test_npz_files_of_both_kinds_are_read(tmp_path: Path) -> None:
    whole, split = tmp_path / "whole.npz", tmp_path / "split.npz"
    np.savez_compressed(whole, x=X, y=Y, extra=np.zeros(3))
    np.savez(split, x_train=X, y_train=Y, x_test=X[:4], y_test=Y[:4])
    data = load("arrays", path=str(whole), seed=2, test_fraction=0.5)
    assert data.name == "whole"
    expected = Dataset.from_arrays(X, Y, seed=2, test_fraction=0.5)
    assert data.fingerprint == expected.fingerprint
    assert load("arrays", path=split, classes=5).classes == 5
    assert arrays(split).fingerprint == dataset().fingerprint
    with pytest.raises(InvalidValueError, match=r"test_fraction = 0.5: expected None"):
        arrays(split, test_fraction=0.5)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"x": X}, "It lacks y; has x."),
        ({"a": X, "b": Y}, "It lacks x, y; has a, b."),
        ({"x_train": X, "y_train": Y}, "It lacks x_test, y_test; has x_train, y_train."),
        ({"x": X, "y": Y, "x_test": X}, "x, y, not both. It has x, x_test, y."),
        ({"x": X, "y": np.array([{}] * 20)}, "It holds pickled objects, which are refused"),
        ({}, "It lacks x, y; has nothing."),
        ({"x": X * np.nan, "y": Y}, r"x\[0, 0\] = nan"),
    ],
)
def test_npz_files_without_usable_arrays_are_refused(
    tmp_path: Path, contents: dict[str, Any], message: str
) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **contents)
    with pytest.raises(DataError, match=message):
        arrays(path)


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with pytest.raises(DataError, match=r"path = .*readable .npz file.*No such file"):
        arrays(path)
    with pytest.raises(DataError, match=r"readable .npz file.*directory"):
        arrays(tmp_path)
    with pytest.raises(InvalidValueError, match=r"path = 3: expected the path"):
        arrays(3)  # type: ignore[arg-type]
    single = io.BytesIO()
    np.save(single, X)
    for content in (b"", b"text", single.getvalue(), pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"Write it again with numpy.savez.*not a whole zip"):
            arrays(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "not an array")
        archive.writestr("y.npy", "nor this")
    with pytest.raises(PyNODEError):
        arrays(path)


def _archive() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x=X, y=Y)
    return file.getvalue()


ARCHIVE = _archive()


@given(length=st.integers(0, len(ARCHIVE) - 1))
@settings(max_examples=60)
def test_a_truncated_file_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("npz") / "cut.npz"
    path.write_bytes(ARCHIVE[:length])
    with pytest.raises(DataError, match=r"path = "):
        arrays(path)


@given(place=st.integers(0, len(ARCHIVE) - 1), flip=st.integers(1, 255))
@settings(max_examples=200)
def test_a_damaged_file_is_refused_or_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    path = tmp_path_factory.mktemp("npz") / "damaged.npz"
    content = bytearray(ARCHIVE)
    content[place] ^= flip
    path.write_bytes(content)
    try:
        data = arrays(path)
    except DataError:
        return
    assert data.fingerprint == Dataset.from_arrays(X, Y).fingerprint


# --- labels that number no classes, images of another layout, files without an end ---


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([-1, 1] * 10, r"y\[0\] = -1: .*np\.unique\(y, return_inverse=True\)"),
        ([1, 2, 3, 4] * 5, "labels 1, 2, 3, 4 of 4 classes'.*0 to 3.*np.unique"),
        ([3, 8] * 10, "labels 3, 8 of 2 classes.*0 to 1, each"),
        ([20240130, 20240131] * 10, r"labels 20240130, 20240131.*inverse=True\)\[1\]\.$"),
        ([0, 1, 3, 4] * 5, "labels 0, 1, 3, 4"),
        ([1] * 20, "y = 1: .*two classes or more"),
        (list(range(60)), "60 different labels of 60 examples.*Ids and measured"),
        ([25.0, 346.0, 101.0] * 10, "labels 25, 101, 346"),
    ],
)
def test_labels_that_number_no_classes_are_refused(labels: list[float], text: str) -> None:
    x = np.arange(len(labels), dtype=float)[:, None]
    with pytest.raises(DataError, match=text):
        Dataset.from_arrays(x, labels)
    if min(labels) >= 0 and max(labels) < 10:
        told = Dataset.from_arrays(x, labels, classes=10)
        assert told.classes == 10
    mended = Dataset.from_arrays(x, np.arange(len(labels)) % 2)
    assert mended.classes == 2


@pytest.mark.parametrize("classes", [20_000_000, 1, "2"])
def test_a_number_of_classes_is_one_that_memory_has_room_for(classes: Any) -> None:
    for make in (
        lambda: Dataset.from_arrays(np.zeros((4, 2)), [0, 1, 0, 1], classes=classes),
        lambda: Model(MLP(2), classes=classes),
    ):
        with pytest.raises(InvalidValueError, match=r"classes = .*at most 65536.*ids and measured"):
            make()


def test_a_class_may_have_its_examples_in_the_test_part_alone() -> None:
    x = np.zeros((4, 1))
    data = Dataset.from_arrays(x, [0, 1, 0, 1], x_test=x, y_test=[0, 1, 2, 2])
    assert data.classes == 3
    with pytest.raises(DataError, match="labels 0, 1, 3"):
        Dataset.from_arrays(x, [0, 1, 0, 1], x_test=x, y_test=[0, 1, 3, 3])


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((28, 28, 1), "channels come last.*moveaxis"),
        ((32, 32, 3), "channels come last"),
        ((48, 64, 4), "channels come last"),
        ((28, 28), r"a channel: x = x\[:, None\]"),
        ((1, 28, 28), ""),
        ((3, 32, 32), ""),
        ((16, 4, 4), ""),
    ],
)
def test_images_have_their_channels_first(shape: tuple[int, ...], text: str) -> None:
    x = np.zeros((8, *shape), np.float32)
    data = Dataset.from_arrays(x, np.arange(8) % 2)
    config = Config(field=FieldConfig("conv2d", {"channels": 2}))
    if not text:
        check_fit(config.make_model(data), data)
        return
    with pytest.raises(DataError, match=text):
        config.make_model(data)
    if len(shape) == 3:
        with pytest.raises(DataError, match=text):
            check_fit(Model(ConvField2d(shape, channels=2), classes=2), data)


@pytest.mark.parametrize("make", ["pipe", "device", "folder", "link to a device"])
def test_what_is_no_file_is_not_read(tmp_path: Path, make: str) -> None:
    """A pipe waits for a writer, and a device has no end."""
    path = tmp_path / "data.npz"
    if make == "pipe":
        os.mkfifo(path)
    elif make == "folder":
        path.mkdir()
    elif make == "device":
        path = Path("/dev/zero")
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="no regular file"):
        arrays(path)


@pytest.mark.parametrize(
    "data",
    [
        b"Nr\xff\xff\xff\x7f.",
        b"Np2147483647\n.",
        b"\x80\x04\x96" + (2**32).to_bytes(8, "little") + b".",
        b"\x80\x02}q\x00X\xff\xff\xff\x7f.",
        b"\x80\x02T\xff\xff\xff\x7f.",
        b"",
        b".",
    ],
    ids=str,
)
def test_a_pickle_of_a_few_bytes_takes_a_few_bytes(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="damaged, or not that"):
            FORMATS["python"][1](Path("batch.tar.gz"), "data_batch_1", data)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
