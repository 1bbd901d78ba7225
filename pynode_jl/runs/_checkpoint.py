"""One file that holds where a training run stands: weights, moments, history, control, its end.

safetensors, written whole or not at all (`_io`): whoever kills the process finds the last
checkpoint or the one before it, never half of one. It has the checksums of its arrays and of its
facts, and says what it was trained by; a file of which anything does not fit is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from pynode_jl._io import check_regular, digest, write_bytes
from pynode_jl.backends import Array, RetCode, TrainState
from pynode_jl.errors import RunFolderError
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.training import History, Recipe, Trained, arrays_digest, training_facts
from pynode_jl.training.step_adaptation import Check, ControlState, Validation

_Record = TypeVar("_Record", Check, ControlState, Validation)

_FORMAT = "pynode_jl checkpoint 3"
#: Of version 0.1: without checksums, and without what it was trained by.
_OLD_FORMAT = "pynode_jl checkpoint 2"
_STATE = ("weights", "mu", "nu")
_HISTORY = ("loss", "accuracy", "nf", "step")
_ANEW = "Delete it to train anew."


def save_checkpoint(path: Path, trained: Trained) -> None:
    """Write `trained` to `path`.

    Raises:
        OutputError: it cannot be written; the checkpoint before it stays.
    """
    state, history = trained.state, trained.history
    arrays = {
        f"{part}/{name}": value for part in _STATE for name, value in getattr(state, part).items()
    }
    arrays |= {f"history/{name}": getattr(history, name) for name in _HISTORY}
    if trained.best_weights is not None:
        arrays |= {f"kept/{name}": value for name, value in trained.best_weights.items()}
    # safetensors writes an array's memory, whatever its strides.
    rows = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    facts = {
        "format": _FORMAT,
        "iteration": state.iteration,
        "retcode": str(trained.retcode),
        "seconds": trained.seconds,
        "solver": trained.solver.to_dict(),
        "control": _plain(trained.control),
        "checks": [_plain(check) for check in history.checks],
        "validation": _plain(trained.validation),
        "data": trained.fingerprint,
        "trained by": training_facts(trained.model, trained.recipe),
        "arrays": arrays_digest(rows),
    }
    text = json.dumps(facts)
    write_bytes(path, save(rows, {"facts": text, "sha256": digest(text.encode())}))


def checkpoint_bytes(model: Model, recipe: Recipe) -> int:
    """Return about how many bytes a checkpoint will have at most, best weights included."""
    numbers = sum(math.prod(shape) for shape in model.weight_shapes().values())
    wide = 2 if recipe.precision == "float64" else 1
    return wide * (4 * 4 * numbers + 20 * recipe.iterations) + 2**14


def load_checkpoint(path: Path, model: Model, recipe: Recipe) -> Trained:
    """Read what `save_checkpoint` wrote.

    Raises:
        RunFolderError: a damaged file, or one of another model or recipe.
    """
    with _opened(path) as file:
        facts = _facts(file)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        new = facts["format"] == _FORMAT
        require(not new or facts["arrays"] == arrays_digest(arrays), "it fails its checksum")
        parts: dict[str, dict[str, Array]] = {part: {} for part in (*_STATE, "history", "kept")}
        for name, value in arrays.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = value
    if new:
        # Through JSON, as what was written went.
        mine = json.loads(json.dumps(training_facts(model, recipe)))
        _check_origin(path, mine, facts.get("trained by"))
    shapes = {name: tuple(shape) for name, shape in model.weight_shapes().items()}
    if {name: value.shape for name, value in parts["weights"].items()} != shapes:
        raise RunFolderError(
            "checkpoint",
            str(path),
            "a checkpoint with the weights of this configuration's model",
            "Take another folder, or delete the checkpoint to train anew.",
        )
    with _refused(path):
        return _trained(model, recipe, parts, facts, shapes)


def recorded_fingerprint(path: Path) -> str:
    """Return the fingerprint of the data that a checkpoint was trained on.

    Only the file's head is read. "" for a checkpoint without it: version 0.1 kept it in
    environment.json only.

    Raises:
        RunFolderError: a damaged file.
    """
    with _opened(path) as file:
        return _text(_facts(file).get("data", ""))


def iterations_done(path: Path) -> int:
    """Return how many iterations a checkpoint has; only the file's head is read.

    Raises:
        RunFolderError: a damaged file.
    """
    with _opened(path) as file:
        return _whole(_facts(file)["iteration"])


def _trained(
    model: Model,
    recipe: Recipe,
    parts: Mapping[str, Mapping[str, Array]],
    facts: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
) -> Trained:
    """Return what the facts and arrays say; raise whatever shows that they do not fit."""
    iteration, best = _whole(facts["iteration"]), dict(parts["kept"]) or None
    for part in (*_STATE, *(["kept"] if best else [])):
        found = {name: value.shape for name, value in parts[part].items()}
        require(found == shapes, f"the shapes of {part} are not those of the weights")
        for value in parts[part].values():
            require(value.dtype.kind == "f" and value.itemsize >= 4, f"{part} are no floats")
            require(bool(np.isfinite(value).all()), f"{part} has numbers that are not finite")
    require(all((value >= 0).all() for value in parts["nu"].values()), "nu is negative")
    signed = model.task.signed
    control = _made(ControlState, facts["control"]) if facts["control"] is not None else None
    validation = _made(Validation, facts["validation"]) if facts["validation"] is not None else None
    checks = tuple(_made(Check, values) for values in facts["checks"])
    adapted = recipe.controller is not None
    made = any(each is not None for each in (control, validation, best))
    require(adapted or not made, "it has a step adapter's state")
    require(
        control is not None or not adapted or not iteration, "it lacks the step adapter's state"
    )
    require(best is None or any(check.best for check in checks), "no check marked best weights")
    for solver in (each.solver for each in (control, validation) if each is not None):
        same = solver.name == recipe.solver.name and solver.fixed == recipe.solver.fixed
        require(same, f"{solver.label} is not what {recipe.solver.label} adapts to")
    require(iteration <= recipe.iterations, f"it has {iteration} of {recipe.iterations} iterations")
    return Trained(
        model,
        recipe,
        TrainState(dict(parts["weights"]), dict(parts["mu"]), dict(parts["nu"]), iteration),
        History(**_history(parts["history"], iteration, signed), checks=checks),
        RetCode(facts["retcode"]),
        read_number(facts["seconds"]),
        control,
        validation,
        best,
        _text(facts.get("data", "")),
    )


def _history(arrays: Mapping[str, Array], iterations: int, signed: bool) -> dict[str, Array]:
    require(set(arrays) == set(_HISTORY), f"the history has {sorted(arrays)}")
    for name, value in arrays.items():
        kind = "iu" if name == "nf" else "f"
        require(value.shape == (iterations,) and value.dtype.kind in kind, f"history/{name}")
        # A loss near 0 may be below it by rounding.
        least = -math.inf if signed and name in ("loss", "accuracy") else -1e-3 * (name == "loss")
        require(bool((value >= least).all() and np.isfinite(value).all()), f"history/{name}")
    return dict(arrays)


def _check_origin(path: Path, mine: Mapping[str, Any], theirs: Any) -> None:
    with _refused(path):
        _table(theirs)
        names = [name for name in (*mine, *theirs) if mine.get(name) != theirs.get(name)]
    for name in names:
        whose = "with the weights of this configuration's model"
        raise RunFolderError(
            "checkpoint",
            str(path),
            f"a checkpoint {whose if name.startswith('model.') else 'of this configuration'}",
            f"{name} is {mine.get(name)} here and {theirs.get(name)} there. Take another folder, or"
            " delete the checkpoint to train anew.",
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with _refused(path):
        check_regular(path)
        with safe_open(path, framework="np") as file:
            yield file


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Turn whatever a damaged or foreign file causes into one error."""
    try:
        yield
    except RunFolderError:
        raise
    except Exception as error:  # what bytes of any kind cause is open-ended
        said = f"{type(error).__name__}: {error}"
        raise RunFolderError(
            "checkpoint",
            str(path),
            "a whole checkpoint with the facts of its format",
            f"{said}. {_ANEW}",
        ) from error


def _facts(file: Any) -> dict[str, Any]:
    metadata = file.metadata() or {}
    text = metadata["facts"]
    facts: dict[str, Any] = json.loads(text)
    require(isinstance(facts, dict), "its facts are no table")
    known = facts.get("format")
    require(known in (_FORMAT, _OLD_FORMAT), f"its format is {known!r}")
    require(
        known == _OLD_FORMAT or metadata.get("sha256") == digest(text.encode()),
        "its facts fail their checksum",
    )
    return facts


def require(fits: bool, otherwise: str) -> None:
    """Raise a ValueError for what does not fit in a file: its reader makes an error of ours."""
    if not fits:
        raise ValueError(otherwise)


def _plain(record: Check | ControlState | Validation | None) -> dict[str, Any] | None:
    """Return a record as JSON values; Python's JSON gives every float back as it was, NaN too."""
    if record is None:
        return None
    return {
        name: value.to_dict() if isinstance(value, Solver) else value
        for name, value in vars(record).items()
    }


def _made(kind: type[_Record], values: Any) -> _Record:
    """Read what `_plain` wrote, each value of the type that its field has."""
    require(isinstance(values, dict), f"a {kind.__name__} is no table")
    known = {item.name: item for item in fields(kind)}
    needed = {
        name
        for name, item in known.items()
        if item.default is MISSING and item.default_factory is MISSING
    }
    require(needed <= set(values) <= set(known), f"a {kind.__name__} of {sorted(values)}")
    return kind(**{name: _value(str(known[name].type), each) for name, each in values.items()})


def _value(annotation: str, value: Any) -> Any:
    if value is None and annotation.endswith(" | None"):
        return None
    return _READERS[annotation.removesuffix(" | None")](value)


def _whole(value: Any) -> int:
    require(type(value) is int and 0 <= value < 2**63, f"{value!r} is no count")
    return int(value)


def read_number(value: Any) -> float:
    """Return a number that JSON has given."""
    require(type(value) in (int, float), f"{value!r} is no number")
    return float(value)


def _text(value: Any) -> str:
    require(isinstance(value, str), f"{value!r} is no text")
    return str(value)


def _flag(value: Any) -> bool:
    require(isinstance(value, bool), f"{value!r} is no flag")
    return bool(value)


def _table(value: Any) -> dict[str, Any]:
    require(isinstance(value, dict), f"{value!r} is no table")
    return dict(value)


_READERS: Mapping[str, Any] = {
    "int": _whole,
    "float": read_number,
    "str": _text,
    "bool": _flag,
    "Mapping[str, Any]": _table,
    "Solver": lambda value: Solver.from_dict(_table(value)),
}
