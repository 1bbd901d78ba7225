"""The estimators: scikit-learn's own checks, its pipelines and searches, and the solver's question.

On the torch backend, with one thread: nothing is compiled for the many shapes of the checks.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pynode_jl as pn
from pynode_jl.errors import DataError, DivergedError, InvalidValueError, PyNODEError

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn", "1.6")
QUICK: dict[str, Any] = {
    "width": 8,
    "depth": 1,
    "iterations": 25,
    "solver": "Heun:dt=1",
    "optimizer": "adam:learning_rate=0.1",
    "backend": "torch",
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def samples() -> tuple[Any, Any]:
    x = np.random.default_rng(0).normal(size=(120, 3)) * [1.0, 50.0, 0.1] + [0.0, 7.0, 3.0]
    return x, np.where(x[:, 0] > 0, "up", "down")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pn.NeuralODEClassifier, pn.NeuralODERegressor])
def test_the_checks_of_scikit_learn_pass(kind: type[Any]) -> None:
    """In float64: in float32 sums round differently in batches of another size, by 2e-7, where
    `check_methods_subset_invariance` allows 1e-7. It is the one check that fails there."""
    from sklearn.exceptions import SkipTestWarning
    from sklearn.utils.estimator_checks import check_estimator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)  # array_api needs SCIPY_ARRAY_API
        results = check_estimator(kind(**QUICK, precision="float64"), on_fail=None)
    failed = [(each["check_name"], each["exception"]) for each in results]
    assert len(results) > 40
    assert not [each for each in failed if each[1] is not None and "Skip" not in repr(each[1])]


def test_it_goes_through_a_pipeline_and_a_search(samples: tuple[Any, Any]) -> None:
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = samples
    search = GridSearchCV(
        make_pipeline(StandardScaler(), pn.NeuralODEClassifier(**QUICK, normalize=None)),
        [
            {"neuralodeclassifier__solver": [pn.Solver("Euler", dt=0.5)]},
            {"neuralodeclassifier__field": [pn.LinearField]},
        ],
        cv=2,
        error_score="raise",
    ).fit(x, y)
    assert search.best_score_ > 0.85
    assert set(search.predict(x)) == {"up", "down"}


def test_a_clone_and_a_pickle_answer_alike(samples: tuple[Any, Any]) -> None:
    from sklearn.base import clone

    x, y = samples
    net = pn.NeuralODEClassifier(**QUICK).fit(x, y)
    again = clone(net).fit(x, y)
    read = pickle.loads(pickle.dumps(net))
    for other in (again, read):
        np.testing.assert_array_equal(other.predict_proba(x), net.predict_proba(x))
    assert net.trained_.label_names == ("down", "up")
    np.testing.assert_allclose(net.predict_proba(x).sum(axis=1), 1.0)


def test_the_samples_kept_out_give_the_verdict(samples: tuple[Any, Any]) -> None:
    x, y = samples
    net = pn.NeuralODEClassifier(**QUICK, validation_fraction=0.5).fit(x, y)
    assert net.data_.n_test == 60
    assert net.verdict_ == net.swap().verdict
    report = net.swap(x, y, ["RK4"])
    assert report.verdict.samples == len(x)
    assert report.trained == net.score(x, y)
    without = pn.NeuralODEClassifier(**QUICK).fit(x, y)
    with pytest.raises(AttributeError, match="validation_fraction"):
        _ = without.verdict_
    with pytest.raises(InvalidValueError, match="held-out"):
        without.swap()


def test_a_regression_is_judged_in_the_units_of_its_fit(samples: tuple[Any, Any]) -> None:
    """Targets a million times as large have the same R squared, and the same verdict."""
    x, _ = samples
    nets = [pn.NeuralODERegressor(**QUICK).fit(x, scale * x[:, 0]) for scale in (1.0, 1e6)]
    found = [
        (net.score(x, scale * x[:, 0]), net.swap(x, scale * x[:, 0], ["RK4"]).verdict.kind)
        for net, scale in zip(nets, (1.0, 1e6), strict=True)
    ]
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-3)
    assert found[0][0] > 0.8
    assert found[0][1] == found[1][1]


def test_balanced_classes_are_found_where_they_are_rare() -> None:
    """An untouched loss gains little from the rare class; a balanced one cannot ignore it."""
    random = np.random.default_rng(1)
    x = random.normal(size=(400, 2))
    x[:20] += 1.0
    y = np.arange(400) < 20
    recalls = [
        pn.NeuralODEClassifier(**QUICK, class_weight=weight).fit(x, y).predict(x)[:20].mean()
        for weight in (None, "balanced")
    ]
    assert recalls[1] > recalls[0] + 0.3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"solver": "Eular:dt=1"}, PyNODEError),
        ({"optimizer": "adamax"}, PyNODEError),
        ({"field": 3}, InvalidValueError),
        ({"field": pn.MLP(7)}, PyNODEError),
        ({"augment": -1}, InvalidValueError),
        ({"normalize": "robust"}, InvalidValueError),
        ({"validation_fraction": 1.0}, InvalidValueError),
        ({"random_state": "x"}, ValueError),
        ({"verbose": "yes"}, InvalidValueError),
        ({"batch_size": 0}, InvalidValueError),
        ({"optimizer": "sgd:learning_rate=1e30"}, DivergedError),
    ],
    ids=str,
)
def test_parameters_are_refused_by_fit(
    samples: tuple[Any, Any], options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        pn.NeuralODEClassifier(**{**QUICK, **options}).fit(*samples)


def test_samples_have_no_weights_and_labels_are_those_of_the_fit(samples: tuple[Any, Any]) -> None:
    x, y = samples
    net = pn.NeuralODEClassifier(**QUICK).fit(x, y)
    with pytest.raises(TypeError, match="sample_weight"):
        net.fit(x, y, sample_weight=np.ones(len(x)))
    with pytest.raises(DataError, match=r"y\[0\] = 'left'"):
        net.swap(x[:1], ["left"])
