"""Data as people have them: tables, archives, labels of all kinds, channels, normalisation."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pynode_jl as pn
from pynode_jl.datasets import Dataset, Normalization, arrays, checked_names, load
from pynode_jl.diagnostics._certificate import _data_line
from pynode_jl.errors import DataError, InvalidValueError, PyNODEError, UnknownNameError
from pynode_jl.tasks import Classification, Density, Regression, Trajectory

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20) % 2
NAMES = np.array(["right", "left"])[Y]


def whole(data: Dataset) -> tuple[Any, Any]:
    """All examples, in the order of X."""
    x, y = np.concatenate([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test])
    order = np.argsort(x[:, 0])
    return x[order], y[order]


# --- labels ---


@pytest.mark.parametrize(
    ("labels", "how", "names", "expected"),
    [
        (NAMES, None, ("left", "right"), 1 - Y),
        (NAMES.astype(object), None, ("left", "right"), 1 - Y),
        (np.char.encode(NAMES), None, ("left", "right"), 1 - Y),
        (pd.Series(NAMES), None, ("left", "right"), 1 - Y),
        (pd.Series(NAMES, dtype="category"), None, ("left", "right"), 1 - Y),
        (NAMES.tolist(), "map", ("left", "right"), 1 - Y),
        (np.eye(2)[Y], None, None, Y),
        (np.eye(2, dtype=bool)[Y], None, None, Y),
        (Y[:, None], None, None, Y),
        (Y == 1, None, None, Y),
        (2 * Y - 1, "map", ("-1", "1"), Y),
        (2.0 * Y - 1, "map", ("-1", "1"), Y),
        (5 * Y + 3, "map", ("3", "8"), Y),
        (Y + 1, "map", ("1", "2"), Y),
        (Y, "map", ("0", "1"), Y),
    ],
)
def test_labels_are_numbered_and_their_names_kept(
    labels: Any, how: str | None, names: Any, expected: Any
) -> None:
    data = Dataset.from_arrays(X, labels, labels=how)
    assert np.array_equal(whole(data)[1], expected)
    assert (data.classes, data.label_names) == (2, names)
    again = pickle.loads(pickle.dumps(data))
    assert again.label_names == names
    assert repr(again) == repr(data)
    assert ("label_names" in repr(data)) == (names is not None)
    # Names are no part of the fingerprint.
    assert data.fingerprint == Dataset.from_arrays(X, expected).fingerprint


def test_parts_are_mapped_together() -> None:
    data = Dataset.from_arrays(X[:3], ["b", "c", "b"], x_test=X[3:5], y_test=["a", "c"])
    assert data.label_names == ("a", "b", "c")
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([1, 2, 1], [0, 2])
    told = Dataset.from_arrays(X, NAMES, task=Classification(2, class_weights=(1, 2)))
    assert told.label_names == ("left", "right")
    assert Dataset.from_arrays(X, np.eye(3)[Y]).classes == 3  # a class without an example


@pytest.mark.parametrize(
    ("labels", "options", "text"),
    [
        (2 * Y - 1, {}, r"y\[0\] = -1: .*labels=\"map\""),
        (5 * Y + 3, {}, r"labels 3, 8 of 2 classes.*labels=\"map\""),
        (Y + 1, {}, r"labels 1, 2 of 2 classes.*labels=\"map\""),
        (np.arange(20) + 0.5, {}, r"y\[0\] = 0.5: .*pn.Regression"),
        (np.arange(20) + 0.5, {"labels": "map"}, r"y\[0\] = 0.5: .*Regression"),
        ([f"id {i}" for i in range(20)] * 2, {}, ""),
        (np.eye(2)[Y] * 0.9, {}, r"y\[0\] = \[0.9, 0.0\]: .*one-hot.*argmax.*Regression\(2\)"),
        (np.ones((20, 2)), {}, r"y\[0\] = \[1.0, 1.0\]"),
        ([*NAMES[:-1].tolist(), None], {}, r"y\[19\] = None: expected a text"),
        ([*NAMES[:-1].tolist(), 3.5], {"labels": "map"}, r"y\[19\] = 3.5: expected a text"),
        (NAMES, {"classes": 3}, "classes = 3: expected 2, as the labels have: left, right"),
        (NAMES, {"task": Classification(3)}, "label_names"),
        (Y, {"labels": "maps"}, "labels = 'maps': expected 'map'"),
        (Y, {"labels": "map", "task": Regression()}, "labels = 'map': expected None"),
        (["a"] * 20, {}, "two classes or more"),
        (np.array([1e300] * 20), {"labels": "map"}, r"y\[0\] = 1e\+300"),
        (np.full((20, 2, 2), 1.0), {}, "y.shape"),
    ],
)
def test_labels_that_are_none_are_refused(labels: Any, options: dict[str, Any], text: str) -> None:
    x = np.arange(2.0 * len(labels)).reshape(-1, 2)
    if not text:  # many names of few examples each are ids
        assert Dataset.from_arrays(x, labels).classes == 20
        labels, x, text = [*labels[:20], "id 20"], x[:21], "Ids and measured"
        labels[-2] = "id 21"
    with pytest.raises(PyNODEError, match=text):
        Dataset.from_arrays(x, labels, **options)


def test_parts_of_two_kinds_are_refused() -> None:
    with pytest.raises(DataError, match=r"y_test = 'numeric labels': expected text labels, as y"):
        Dataset.from_arrays(X, NAMES, x_test=X, y_test=Y)
    with pytest.raises(DataError, match=r"y_test.shape = \(20, 3\)"):
        Dataset.from_arrays(X, np.eye(2)[Y], x_test=X, y_test=np.eye(3)[Y])
    with pytest.raises(InvalidValueError, match=r"label_names = .*2 different texts"):
        Dataset("own", X, Y, X, Y, classes=2, label_names=("a", "a"))


# --- channels ---


def test_channels_are_moved_where_they_are_said_to_be() -> None:
    images = np.random.default_rng(0).normal(size=(20, 8, 9, 3)).astype("f")
    data = Dataset.from_arrays(images, Y, channels="last")
    assert data.state_shape == (3, 8, 9)
    assert data.fingerprint == Dataset.from_arrays(np.moveaxis(images, -1, 1), Y).fingerprint
    grey = Dataset.from_arrays(images[..., 0], Y, channels="none", x_test=images[..., 1], y_test=Y)
    assert grey.x_test.shape == (20, 1, 8, 9)
    for channels, x in (("last", X), ("none", images), ("last", images[..., 0])):
        with pytest.raises(DataError, match=f"x.shape = .*channels='{channels}'"):
            Dataset.from_arrays(x, Y, channels=channels)
    with pytest.raises(InvalidValueError, match="channels = 'middle'"):
        Dataset.from_arrays(images, Y, channels="middle")


# --- archives ---


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ("x", "y"),
        ("X", "Y"),
        ("data", "labels"),
        ("features", "target"),
        ("images", "label"),
        ("inputs", "targets"),
    ],
)
def test_common_names_of_arrays_are_known(tmp_path: Path, x: str, y: str) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **{x: X, y: Y, "other": np.zeros(3)})
    assert arrays(path).fingerprint == Dataset.from_arrays(X, Y).fingerprint
    split = Dataset.from_arrays(X, Y, x_test=X[:4], y_test=Y[:4]).fingerprint
    for form in ("{}_train", "train_{}", "train{}", "{}-train"):
        keys = {form.format(x): X, form.format(y): Y}
        keys |= {key.replace("train", "test"): value[:4] for key, value in keys.items()}
        np.savez(path, **keys, val_images=X)
        assert arrays(path).fingerprint == split


def test_medmnist_and_keras_files_are_read(tmp_path: Path) -> None:
    """Their layouts: images without channels, labels (n, 1) or flat, bytes."""
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = Y[:, None].astype(np.uint8)
    medical = {f"{p}_images": images for p in ("train", "val", "test")}
    np.savez(
        tmp_path / "a.npz", **medical, **{f"{p}_labels": labels for p in ("train", "val", "test")}
    )
    keras = {"x_train": images, "y_train": Y, "x_test": images, "y_test": Y}
    np.savez(tmp_path / "b.npz", **keras)
    for name in "ab":
        data = load("arrays", path=tmp_path / f"{name}.npz", channels="none", normalize="minmax")
        assert data.state_shape == (1, 28, 28)
        assert (data.x_train.min(), data.x_train.max()) == (0, 1)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("data", "X", "y"), "one array for x. It has data and X. .* x='data', say"),
        (("x", "target", "labels"), "one array for y. It has target and labels"),
        (
            ("train_images", "train_data", "train_labels", "test_images", "test_labels"),
            "x='images'",
        ),
        (("points", "y"), "It lacks x; has points, y. Known names are x, data, .*x= and y="),
        (("x_train", "y_train", "test_images"), "It lacks y_test; has"),
        (("X", "labels", "test_images"), "not both. It has X, labels, test_images"),
    ],
)
def test_ambiguous_or_unknown_names_are_refused_with_the_fix(
    tmp_path: Path, keys: tuple[str, ...], text: str
) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **{key: Y if key in ("y", "target", "labels") else X for key in keys})
    with pytest.raises(DataError, match=text):
        arrays(path)
    if "points" in keys:
        assert arrays(path, x="points").fingerprint == Dataset.from_arrays(X, Y).fingerprint
    elif "data" in keys:
        assert arrays(path, x="data").fingerprint == Dataset.from_arrays(X, Y).fingerprint


def test_the_names_of_this_package_go_before_others(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x=X, y=Y, data=X + 1, labels=Y + 3)
    assert arrays(path).fingerprint == Dataset.from_arrays(X, Y).fingerprint
    np.savez(path, x_train=X, y_train=Y, x_test=X, y_test=Y, labels=["a", "b"])
    assert arrays(path).n_test == 20
    np.savez(path, x=X, y=Y, test_images=X)
    assert arrays(path).n_test == 4


def test_archives_of_other_tasks(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x=X, y=X * 2)
    assert arrays(path, task="regression").task == Regression(2)
    np.savez(path, x=X, y=np.zeros((20, 3, 2)))
    named = {"kind": "trajectory", "times": [0.5, 1, 2]}
    assert arrays(path, task=named).task == Trajectory((0.5, 1.0, 2.0))
    np.savez(path, data=X)
    assert arrays(path, task="density").task == Density()
    with pytest.raises(UnknownNameError, match="task 'regresion': did you mean regression"):
        arrays(path, task="regresion")
    for wrong in ({"kind": "trajectory"}, {"kind": "regression", "outputs": 2}):
        with pytest.raises(InvalidValueError, match="the options of"):
            arrays(path, task=wrong)


# --- tables ---


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"a": X[:, 0], "kind": NAMES, "b": X[:, 1].astype(int), "size": X.sum(1)})


def test_a_csv_file_is_its_frame_and_its_arrays(tmp_path: Path, frame: pd.DataFrame) -> None:
    path = tmp_path / "plants.csv"
    frame.to_csv(path, index=False)
    data = Dataset.from_csv(path, "kind", features=["a", "b"], seed=3)
    assert (data.name, data.label_names) == ("plants", ("left", "right"))
    assert data.fingerprint == Dataset.from_arrays(X, NAMES, seed=3).fingerprint
    assert (
        data.fingerprint
        == Dataset.from_frame(frame, "kind", features=["a", "b"], seed=3).fingerprint
    )
    assert Dataset.from_csv(path, "kind").state_shape == (3,)  # all others
    fit = load("csv", path=path, target="size", features=("b", "a"), task="regression")
    x, y = fit.x_train, fit.y_train
    assert np.array_equal(y[:, 0], x.sum(axis=1))
    assert np.array_equal(x[:, 0], x[:, 1] + 1)  # in the order that was asked for
    both = Dataset.from_csv(path, ["a", "size"], features="b", task="regression")
    assert both.task == Regression(2)
    assert Dataset.from_csv(path, features="a", task="density").task == Density()
    parts = Dataset.from_csv(path, "kind", features="a", test_path=path)
    assert (parts.n_train, parts.n_test, parts.seed) == (20, 20, None)


def test_other_forms_of_files(tmp_path: Path, frame: pd.DataFrame) -> None:
    path = tmp_path / "plants.csv"
    expected = Dataset.from_frame(frame, "kind").fingerprint
    for encoding in ("utf-8-sig", "utf-16"):
        frame.to_csv(path, index=False, sep=";", encoding=encoding)
        assert Dataset.from_csv(path, "kind", separator=";").fingerprint == expected
    with pytest.raises(DataError, match=r"separator = ',': .*try separator=';'"):
        Dataset.from_csv(path, "kind")
    frame.to_csv(path, index=False, header=False)
    assert Dataset.from_csv(path, 1, header=False).fingerprint == expected
    X_text = "\n".join(",".join(map(str, row)) for row in np.column_stack([X, Y]))
    path.write_text(X_text)
    assert Dataset.from_csv(path, 2, header=False).n_train == 16
    with pytest.raises(DataError, match=r"a first row with the names.*pass header=False"):
        Dataset.from_csv(path, "2")


def test_one_hot_columns_have_the_names_of_the_classes(frame: pd.DataFrame) -> None:
    dummies = pd.get_dummies(frame["kind"])
    data = Dataset.from_frame(pd.concat([frame[["a", "b"]], dummies], axis=1), ["right", "left"])
    assert data.label_names == ("right", "left")
    assert data.fingerprint == Dataset.from_arrays(X, Y).fingerprint
    direct = Dataset.from_arrays(frame[["a", "b"]], dummies)
    assert direct.label_names == ("left", "right")


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        (
            {},
            {"target": "knd"},
            "target = 'knd': .*Did you mean 'kind'. The columns are 'a', 'kind'",
        ),
        ({}, {"target": None}, "target = None: .*task='density'"),
        ({}, {"target": []}, "target = "),
        ({}, {"target": "kind", "features": ["kind"]}, "columns other than 'kind'"),
        ({}, {"target": "kind", "features": ["a", "a"]}, "each once"),
        ({}, {"target": "a", "task": "regression"}, "column 'kind', row 0 = 'right'.*get_dummies"),
        ({}, {"target": "kind", "task": "regression"}, "column 'kind', row 0.*as a target is"),
        ({"a": [np.nan, *X[1:, 0]]}, {"target": "kind"}, "column 'a', row 0 = None.*dropna"),
        ({"kind": [None, *NAMES[1:]]}, {"target": "kind"}, "column 'kind', row 0 = None"),
        ({"a": pd.date_range("2026", periods=20)}, {"target": "kind"}, "column 'a', row 0"),
        ({"Unnamed: 0": X[:, 0]}, {"target": "kind"}, "the index that pandas writes"),
        ({}, {"target": "size", "features": "a"}, "Ids and measured values|the labels 0 to"),
    ],
)
def test_columns_that_cannot_be_used_are_named(
    frame: pd.DataFrame, change: dict[str, Any], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(PyNODEError, match=text):
        Dataset.from_frame(frame.assign(**change), **options)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"a,b\n",
        b"a,b\n1,2\n3,4,5\n",
        b"a,b\n1,2\n3\n",
        b"\xff\xfe\x00",
        b"\0\1\2",
        b'a,b\n"1',
        b"b,b\n1,2\n3,4",
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(content)
    with pytest.raises(DataError):
        Dataset.from_csv(path, "b", task="regression")


def test_what_is_no_file_or_frame_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv", "/dev/zero"):
        with pytest.raises(DataError, match="path = "):
            Dataset.from_csv(path, "y")
    with pytest.raises(InvalidValueError, match=r"path = 3"):
        Dataset.from_csv(3, "y")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match=r"frame = 'ndarray': .*from_arrays"):
        Dataset.from_frame(X, "y")  # type: ignore[arg-type]


# --- trajectories in long form ---


def long_form(data: Dataset) -> pd.DataFrame:
    """One row for each trajectory and time, shuffled, gaps left out."""
    times = np.array([0.0, *data.task.times])  # type: ignore[attr-defined]
    states = np.concatenate([data.x_train[:, None], data.y_train], axis=1)
    n, _, _ = states.shape
    frame = pd.DataFrame(
        {
            "run": np.repeat([f"run {i:02}" for i in range(n)], len(times)),
            "t": np.tile(times, n),
            "x": states[..., 0].ravel(),
            "v": states[..., 1].ravel(),
        }
    )
    return frame.dropna().sample(frac=1, random_state=0)


def test_a_long_table_gives_its_trajectories(tmp_path: Path) -> None:
    """The way there and back, with gaps: first through a test part of its own, then by a split."""
    source = pn.spiral(n_train=12, n_test=3, n_times=5, irregular=True, missing=0.4)
    frame = long_form(source)
    path = tmp_path / "runs.csv"
    frame.to_csv(path, index=False)
    order = frame["run"].drop_duplicates().str[4:].astype(int)  # as they come
    data = Dataset.from_csv(path, time="t", trajectory="run", test_path=path)
    assert data.task == source.task
    assert np.allclose(data.x_train, source.x_train[order])
    assert np.allclose(data.y_train, source.y_train[order], equal_nan=True)
    split = load(
        "csv", path=path, time="t", trajectory="run", features=["x", "v"], task="trajectory"
    )
    assert (split.n_train, split.n_test, split.task) == (10, 2, source.task)
    one = Dataset.from_frame(
        frame[frame["run"] == "run 03"],
        time="t",
        features=["v"],
        test_frame=frame.iloc[:0:-1][frame["run"].iloc[:0:-1] == "run 04"],
    )
    assert (one.n_train, one.n_test, one.state_shape) == (1, 1, (1,))


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        ({}, {"trajectory": None}, "a number, as a state|two rows at time 0"),
        ({}, {"trajectory": None, "features": "x"}, "one trajectory.*trajectory='id'"),
        ({"t": np.arange(12.0)}, {}, "trajectory 'b' = 'not observed at time 0'.*from its own"),
        ({"x": np.nan}, {}, "trajectory 'a' = 'not observed at time 0'"),
        ({"t": pd.date_range("2026", periods=12)}, {}, "column 't', row 0 .*total_seconds"),
        ({"t": 0.0}, {}, "column 't' = .0.0.: expected two times or more"),
        ({}, {"time": "when"}, "time = 'when': .*'run', 't', 'x'"),
        ({}, {"time": ["t", "x"]}, "time = .*one column"),
        ({}, {"trajectory": "t"}, "another column than time"),
        ({}, {"target": "x"}, "target = 'x': expected None beside time="),
        ({}, {"task": "regression"}, "task = 'regression': expected 'trajectory'"),
        ({}, {"time": None}, "time = None: .*time='t'"),
        ({}, {"features": ["x", "t"]}, "Leave out 't'"),
        ({"run": "a", "t": np.arange(12.0)}, {}, "one trajectory.*some are kept for the test"),
        ({"run": ["a", None, *["b"] * 10]}, {}, "column 'run', row 1 = None"),
    ],
)
def test_long_tables_that_cannot_be_used_are_refused(
    change: dict[str, Any], options: dict[str, Any], text: str
) -> None:
    frame = pd.DataFrame({"run": list("abc") * 4, "t": np.repeat(np.arange(4.0), 3), "x": 1.0})
    with pytest.raises(PyNODEError, match=text):
        Dataset.from_frame(frame.assign(**change), **{"time": "t", "trajectory": "run"} | options)


def test_two_rows_at_one_time_are_refused() -> None:
    frame = pd.DataFrame({"run": list("abb"), "t": [0.0, 0.0, 0.0], "x": 1.0})
    late = frame.assign(t=[1.0, 1.0, 2.0])
    with pytest.raises(DataError, match=r"trajectory 'b' = 'two rows at time 0'.*trajectory="):
        Dataset.from_frame(pd.concat([frame, late]), time="t", trajectory="run")


def test_a_trajectory_of_one_row_is_refused_with_the_fix(frame: pd.DataFrame) -> None:
    with pytest.raises(InvalidValueError, match=r"a trajectory has many rows.*time="):
        Dataset.from_frame(frame, ["a", "b"], features="size", task=Trajectory((1.0, 2.0)))


# --- normalisation ---


def test_statistics_are_those_of_the_training_part() -> None:
    x = np.random.default_rng(0).normal(3, [1, 5], size=(50, 2))
    x_test = x[:10] + 100
    raw = Dataset.from_arrays(x, np.arange(50) % 2, x_test=x_test, y_test=np.arange(10) % 2)
    data = raw.normalized("standard")
    assert np.allclose(data.x_train.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(data.x_train.std(axis=0), 1, atol=1e-6)
    assert np.allclose(data.x_test, (x_test - x.mean(axis=0)) / x.std(axis=0), rtol=1e-5)
    assert np.array_equal(data.transform(raw.x_test), data.x_test)
    assert raw.transform(raw.x_test) is not None
    assert np.array_equal(data.y_train, raw.y_train)
    assert data.fingerprint != raw.fingerprint
    assert "normalize='standard'" in repr(data)
    again = pickle.loads(pickle.dumps(data))
    assert np.array_equal(again.transform(raw.x_test), data.x_test)
    with pytest.raises(InvalidValueError, match="Normalise the data once"):
        data.normalized()
    with pytest.raises(InvalidValueError, match="normalize = 'z': expected 'standard' or 'minmax'"):
        raw.normalized("z")
    with pytest.raises(DataError, match=r"x.shape\[1:\] = \(3,\)"):
        data.transform(np.zeros((1, 3)))


def test_constant_features_and_channels() -> None:
    x = np.random.default_rng(0).uniform(size=(20, 2, 4, 5)) * np.array([1, 7])[:, None, None]
    data = Dataset.from_arrays(x, Y).normalized("minmax")
    for channel in (0, 1):  # each by itself, over all its pixels
        values = data.x_train[:, channel]
        assert (values.min(), values.max()) == (0, 1)
    still = Dataset.from_arrays(np.full((20, 1), 7.3), Y).normalized("standard")
    assert np.allclose(still.x_train, 0, atol=1e-6)
    x[0] = 3e38
    with pytest.raises(DataError, match=r"x_test.* finite in float32"):
        Dataset.from_arrays(x[1:] / 1e30, Y[1:], x_test=x, y_test=Y).normalized()
    with pytest.raises(DataError, match="feature 1 all missing"):
        Normalization.fit("minmax", np.array([[1.0, np.nan], [2.0, np.nan]]))
    huge = Normalization.fit("standard", np.array([[1e30], [3e30]], dtype=np.float32))
    assert huge.apply([[3e30]])[0, 0] == pytest.approx(1)


def test_targets_of_regressions_and_trajectories_are_normalised_and_restored() -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    raw = Dataset.from_arrays(x, 1000 + 50 * x[:, 0], task=Regression())
    data = raw.normalized()
    assert np.allclose([data.y_train.mean(), data.y_train.std()], [0, 1], atol=1e-5)
    assert np.allclose(data.restore(data.y_test), raw.y_test, rtol=1e-6)
    states = x[:, None] * np.array([1.0, 2.0, 4.0])[:, None]
    states[0, 1] = np.nan
    raw = Dataset.from_arrays(x, states, task=Trajectory((1.0, 2.0, 3.0)))
    data = raw.normalized()
    # One map for all states: at time 0 and later.
    assert data.target_normalization is data.normalization
    joined = np.concatenate([raw.x_train, raw.y_train.reshape(-1, 2)])
    assert np.allclose(data.normalization.scale, np.nanstd(joined, axis=0))  # type: ignore[union-attr]
    assert np.array_equal(np.isnan(data.y_train), np.isnan(raw.y_train))
    assert np.allclose(data.restore(data.y_train), raw.y_train, atol=1e-5, equal_nan=True)
    with pytest.raises(DataError, match=r"x.shape = \(5, 3\): .* 2 features"):
        data.restore(np.zeros((5, 3)))
    flow = Dataset.from_arrays(x, None, task=Density()).normalized()
    assert flow.target_normalization is None
    assert flow.restore(flow.y_train).shape == flow.y_train.shape


def test_a_run_keeps_its_normalisation(tmp_path: Path) -> None:
    """It is an option of the data, so it is in config.toml and decides what a run is."""
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "kind": NAMES})
    frame.to_csv(tmp_path / "own.csv", index=False)
    options = {"name": "csv", "path": "own.csv", "target": "kind", "normalize": "standard"}
    text = "[data]\n" + "\n".join(f'{key} = "{value}"' for key, value in options.items())
    (tmp_path / "run.toml").write_text(text)
    config = pn.Config.from_toml(tmp_path / "run.toml")
    run = pn.Run.create(config, tmp_path / "run")
    assert abs(run.dataset.x_train.mean()) < 1e-6
    assert pn.Run.open(tmp_path / "run").dataset.fingerprint == run.dataset.fingerprint
    assert run.dataset.label_names == ("left", "right")
    assert run.dataset.remarks == "labels 0 = left, 1 = right; standard-normalised"
    assert run._environment()["data_remarks"] == run.dataset.remarks
    assert _data_line(run.dataset).endswith(run.dataset.remarks)
    other = config.changed({"data.normalize": "minmax"})
    assert config.differences(other) == {"data.normalize": ("standard", "minmax")}
    with pytest.raises(PyNODEError, match="normalize = 3"):
        config.changed({"data.normalize": 3}).dataset()


@pytest.mark.parametrize("names", [[[1.0], "b"], [1, 2], ["a", "a", "b"], ["a"], "ab"])
def test_names_of_labels_are_one_text_each(names: Any) -> None:
    with pytest.raises(InvalidValueError, match="2 different texts"):
        checked_names(names, 2)
