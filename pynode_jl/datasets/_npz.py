"""A user's own data from an .npz file."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode_jl._io import check_regular, user_path
from pynode_jl._validation import text
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.tasks import AnyTask, Density, named_task

_STATES = ("x", "data", "features", "images", "inputs")
_TARGETS = ("y", "label", "labels", "target", "targets")
_NAMING = "Give the name of an array in the file, without train or test."
_KEYS = "the arrays x_train, y_train, x_test, y_test, or x, y"


def arrays(
    path: str | os.PathLike[str],
    *,
    x: str | None = None,
    y: str | None = None,
    test_fraction: float | None = None,
    classes: int | None = None,
    task: AnyTask | None = None,
    labels: str | None = None,
    channels: str = "first",
    seed: int = 0,
) -> Dataset:
    """Read the data in the file `path`, as ``numpy.savez`` writes it; named after the file.

    It holds x_train, y_train, x_test, y_test, or x, y, which a seeded split divides. Common other
    names are known: X, data, features, images or inputs for x, label, labels, target or targets
    for y, with train or test before or behind (train_images, X_test). Other arrays in the file are
    not read, and pickled objects never are: a pickle can run code.

    Args:
        path: the .npz file.
        x, y: other names of its arrays, without train or test.
        test_fraction, classes, task, labels, channels, seed: as in `Dataset.from_arrays`.

    Raises:
        DataError: no such file, a damaged one, missing arrays, several under names of one meaning,
            or data that cannot be used.
        InvalidValueError: an argument that is not allowed.

    Example:
        >>> from pynode_jl.datasets import arrays
        >>> points = np.random.default_rng(0).normal(size=(50, 2))
        >>> np.savez("own.npz", X=points, labels=np.where(points[:, 0] > 0, "right", "left"))
        >>> arrays("own.npz", test_fraction=0.2).label_names
        ('left', 'right')
    """
    if not isinstance(path, str | os.PathLike):
        raise InvalidValueError("path", path, "the path of an .npz file", "Pass a string or Path.")
    path = user_path("path", path)
    targets = not isinstance(named_task(task), Density)
    found = _read(path, x, y, targets)
    part = "_train" if "x_train" in found else ""
    return Dataset.from_arrays(
        found[f"x{part}"],
        found.get(f"y{part}"),
        x_test=found.get("x_test"),
        y_test=found.get("y_test"),
        test_fraction=test_fraction,
        classes=classes,
        task=task,
        labels=labels,
        channels=channels,
        seed=seed,
        name=path.stem,
    )


def _read(path: Path, x: str | None, y: str | None, targets: bool) -> dict[str, NDArray[Any]]:
    try:
        # A pipe or a device may have no end.
        check_regular(path)
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise zipfile.BadZipFile("not a whole zip archive: cut short, or another format")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                wanted = _wanted(path, archive.files, x, y, targets)
                return {slot: archive[key] for slot, key in wanted.items()}
    except InvalidValueError:
        raise
    except OSError as cause:
        raise DataError("path", str(path), "a readable .npz file", f"{cause}.") from cause
    except Exception as cause:  # what zipfile, zlib and NumPy raise on bad bytes is open-ended
        pickled = isinstance(cause, ValueError) and "allow_pickle" in str(cause)
        raise DataError(
            "path",
            str(path),
            "an undamaged .npz file of numeric arrays",
            "It holds pickled objects, which are refused: save numeric arrays with equal rows, and"
            " texts with y.astype(str)."
            if pickled
            else f"Write it again with numpy.savez. {type(cause).__name__}: {cause}.",
        ) from cause


def _wanted(
    path: Path, files: list[str], x: str | None, y: str | None, targets: bool
) -> dict[str, str]:
    """Return the key of each array that is to be read, by what it is: x, y_train, ..."""
    has = f"It has {', '.join(sorted(files)) or 'nothing'}."
    roles = ("x", "y") if targets else ("x",)
    names = {
        "x": _STATES if x is None else (text("x", x, _NAMING),),
        "y": _TARGETS if y is None else (text("y", y, _NAMING),),
    }
    whole = {role: _keys(files, role, names[role], "") for role in roles}
    split = {
        f"{role}_{part}": _keys(files, f"{role}_{part}", names[role], part)
        for part in ("train", "test")
        for role in roles
    }
    if any(split.values()) and any(whole.values()):
        # Of two sets of arrays the one that has the names of this package.
        for one, other in ((split, whole), (whole, split)):
            if all(keys == [slot] for slot, keys in one.items()) and not any(
                slot in keys for slot, keys in other.items()
            ):
                return {slot: slot for slot in one}
        raise DataError("path", str(path), f"{_KEYS}, not both", has)
    wanted = split if any(split.values()) else whole
    for slot, keys in wanted.items():
        if len(keys) > 1:
            role = slot[0]
            raise DataError(
                "path",
                str(path),
                f"one array for {slot}",
                f"It has {' and '.join(keys)}. Name the one, without train or test:"
                f" {role}={_bare(keys[0])!r}, say.",
            )
    if missing := [slot for slot, keys in wanted.items() if not keys]:
        known = (
            f" Known names are {', '.join(_STATES)} for x, {', '.join(_TARGETS)} for y, with train"
            " or test before or behind; name others with x= and y=."
        )
        raise DataError(
            "path",
            str(path),
            f"a file with {_KEYS}",
            f"It lacks {', '.join(missing)}; has {', '.join(sorted(files)) or 'nothing'}.{known}",
        )
    return {slot: keys[0] for slot, keys in wanted.items()}


def _keys(files: list[str], slot: str, names: tuple[str, ...], part: str) -> list[str]:
    """Return the keys that name this array; the slot's own name alone where it is there."""
    if slot in files and slot[0] in names:
        return [slot]
    known = {_folded(name) for name in names}
    known = {each for name in known for each in (name + part, part + name)}
    return [key for key in files if _folded(key) in known]


def _folded(key: str) -> str:
    return key.casefold().replace("_", "").replace("-", "")


def _bare(key: str) -> str:
    """Return a key without train or test."""
    for part in ("train", "test"):
        key = re.sub(f"(?i)[_-]?{part}[_-]?", "", key)
    return key
