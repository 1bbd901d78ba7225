"""Reports, matrices, certificates in files: JSON; numbers that are not finite go by their names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from pynode_jl._io import floats_of_names, named_floats, read_json, user_path, write_text
from pynode_jl.errors import InputError

_T = TypeVar("_T")


def write_report(path: object, kind: str, values: Mapping[str, Any]) -> None:
    """Write plain nested values to `path`.

    Raises:
        OutputError: the file cannot be written.
    """
    content = named_floats({"file": _header(kind), **values})
    text = json.dumps(content, indent=1, allow_nan=False, default=_number)
    write_text(user_path("path", path), text)


def read_report(path: object, kind: str, build: Callable[[dict[str, Any]], _T]) -> _T:
    """Return what `build` makes of the values that `write_report` wrote.

    Raises:
        InputError: no such file, a damaged one, or another.
    """
    file = user_path("path", path)
    values = read_json(file)
    try:
        if values.get("file") != _header(kind):
            raise ValueError(f"it begins with {values.get('file')!r}")
        return build(floats_of_names(values))
    except Exception as error:  # what bytes of any kind cause is open-ended
        said = f"{type(error).__name__}: {error}"
        raise InputError("path", str(file), f"a file that {kind}.save wrote", f"{said}.") from error


def _header(kind: str) -> str:
    return f"pynode_jl {kind} 1"


def _number(value: Any) -> Any:
    """Return a number of NumPy as Python's."""
    if isinstance(value, (np.generic, np.ndarray)):
        return named_floats(value.tolist())
    raise TypeError(f"{type(value).__name__} has no form in JSON")
