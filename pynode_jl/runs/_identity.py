"""What decides a run's numbers, in one form for all spellings: what a run is known by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pynode_jl._io import digest, read_bytes
from pynode_jl.errors import InputError
from pynode_jl.runs._canonical import canonical
from pynode_jl.runs._config import Config
from pynode_jl.runs._folder import is_free

_LENGTH = 16  # hex digits: 64 bits, as good as never the same for a million runs
#: Options of data sets that name a file of one's own: its content decides, not its place.
_FILES = ("data.path", "data.test_path")


@dataclass(frozen=True)
class RunIdentity:
    """What a run is known by: 16 hex digits, equal for all spellings of its settings.

    Attributes:
        training: of what decides the training. Files of data count by their content.
        family: of the same without the number of iterations; "" where the first iterations depend
            on it.
        swap: of the settings of the swap.
        settings: all settings, by dotted key, in canonical form.

    Example:
        >>> from pynode_jl.runs import RunIdentity
        >>> base = pn.Config()
        >>> same = base.changed({"train.solver": "Euler:dt=0.0625"})
        >>> RunIdentity.of(base).training == RunIdentity.of(same).training
        True
    """

    training: str
    family: str
    swap: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, config: Config) -> RunIdentity:
        """Return what the run of `config` is known by.

        Raises:
            InputError: a file of data that cannot be read.
        """
        settings = canonical(config.to_dict())
        decisive = {key: value for key, value in settings.items() if not is_free(key)}
        for key in _FILES:
            path = config.data.options.get(key.partition(".")[2])
            if isinstance(path, str) and path:
                decisive[key] = _content_digest(Path(path))
        training = _digest(decisive)
        del decisive["train.iterations"]
        bound = config.recipe().bound_to_iterations
        swap = {key: value for key, value in settings.items() if key.startswith("swap.")}
        return cls(training, "" if bound else _digest(decisive), _digest(swap), settings)


def training_settings(config: Config) -> dict[str, Any]:
    """Return the settings of `config` that decide what is trained, by dotted key, canonical.

    `config` is the run's.

    Example:
        >>> from pynode_jl.runs import training_settings
        >>> training_settings(pn.Config())["train.solver"]
        {'name': 'Euler', 'dt': 0.0625}
    """
    settings = canonical(config.to_dict())
    return {key: value for key, value in settings.items() if not is_free(key)}


def _content_digest(path: Path) -> str:
    try:
        found = path.stat()
    except OSError as error:
        raise InputError("path", str(path), "a readable file", f"{error}.") from error
    return _digest_at(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=256)
def _digest_at(path: Path, changed: int, size: int) -> str:
    """Return the digest of a file as it is, read once however many runs have it."""
    return digest(read_bytes(path))


def _digest(settings: Mapping[str, Any]) -> str:
    text = json.dumps(_one_number(settings), sort_keys=True, allow_nan=False)
    return digest(text.encode())[:_LENGTH]


def _one_number(value: Any) -> Any:
    """Return nested values in which a whole number is an int, however it was written: 1.0 is 1."""
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() else value
    if kind is dict:
        return {key: _one_number(each) for key, each in value.items()}
    if kind is tuple or kind is list:
        return [_one_number(each) for each in value]
    return value
