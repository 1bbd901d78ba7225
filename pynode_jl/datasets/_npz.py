"""A user's own data from an .npz file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode_jl._io import check_regular, user_path
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.errors import DataError, InvalidValueError

_SPLIT = ("x_train", "y_train", "x_test", "y_test")
_WHOLE = ("x", "y")
_KEYS = "the arrays x_train, y_train, x_test, y_test, or x, y"


def arrays(
    path: str | os.PathLike[str],
    *,
    test_fraction: float | None = None,
    classes: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Read the data in the file `path`, as ``numpy.savez`` writes it; named after the file.

    It holds x_train, y_train, x_test, y_test, or x, y, which a seeded stratified split divides.
    Other arrays in it are not read, and pickled objects never are: a pickle can run code.

    Args:
        path: the .npz file.
        test_fraction, classes, seed: as in `Dataset.from_arrays`.

    Raises:
        DataError: no such file, a damaged one, missing arrays, or data that cannot be used.
        InvalidValueError: an argument that is not allowed.

    Example:
        >>> from pynode_jl.datasets import arrays
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> np.savez("own.npz", x=x, y=(x[:, 0] > 0).astype(int))
        >>> arrays("own.npz", test_fraction=0.2).name
        'own'
    """
    if not isinstance(path, str | os.PathLike):
        raise InvalidValueError("path", path, "the path of an .npz file", "Pass a string or Path.")
    path = user_path("path", path)
    found = _read(path)
    if "x_train" not in found:
        return Dataset.from_arrays(
            found["x"],
            found["y"],
            test_fraction=test_fraction,
            classes=classes,
            seed=seed,
            name=path.stem,
        )
    return Dataset.from_arrays(
        found["x_train"],
        found["y_train"],
        x_test=found["x_test"],
        y_test=found["y_test"],
        test_fraction=test_fraction,
        classes=classes,
        seed=seed,
        name=path.stem,
    )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # A pipe or a device may have no end.
        check_regular(path)
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise zipfile.BadZipFile("not a whole zip archive: cut short, or another format")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {key: archive[key] for key in _wanted(path, archive.files)}
    except DataError:
        raise
    except OSError as cause:
        raise DataError("path", str(path), "a readable .npz file", f"{cause}.") from cause
    except Exception as cause:  # what zipfile, zlib and NumPy raise on bad bytes is open-ended
        pickled = isinstance(cause, ValueError) and "allow_pickle" in str(cause)
        raise DataError(
            "path",
            str(path),
            "an undamaged .npz file of numeric arrays",
            "It holds pickled objects, which are refused: save numeric arrays with equal rows."
            if pickled
            else f"Write it again with numpy.savez. {type(cause).__name__}: {cause}.",
        ) from cause


def _wanted(path: Path, files: list[str]) -> tuple[str, ...]:
    split, whole = set(_SPLIT) & set(files), set(_WHOLE) & set(files)
    if split and whole:
        raise DataError(
            "path", str(path), f"{_KEYS}, not both", f"It has {', '.join(sorted(files))}."
        )
    wanted = _SPLIT if split else _WHOLE
    missing = [key for key in wanted if key not in files]
    if missing:
        has = ", ".join(sorted(files)) or "nothing"
        raise DataError(
            "path", str(path), f"a file with {_KEYS}", f"It lacks {', '.join(missing)}; has {has}."
        )
    return wanted
