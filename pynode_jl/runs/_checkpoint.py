"""One file that holds where a training run stands: weights, moments, history, control, its end.

safetensors, written whole or not at all (`_io`): whoever kills the process finds the last
checkpoint or the one before it, never half of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pynode_jl._io import write_bytes
from pynode_jl.backends import RetCode, TrainState
from pynode_jl.errors import RunFolderError
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.training import History, Recipe, Trained
from pynode_jl.training.step_adaptation import Check, ControlState, Validation

_Record = TypeVar("_Record", Check, ControlState, Validation)
_SOLVERS = ("solver", "test_solver", "chosen", "trained_with")

_FORMAT = "pynode_jl checkpoint 2"
_STATE = ("weights", "mu", "nu")
_HISTORY = ("loss", "accuracy", "nf", "step")


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
    }
    # safetensors writes an array's memory, whatever its strides.
    rows = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    write_bytes(path, save(rows, {"facts": json.dumps(facts)}))


def load_checkpoint(path: Path, model: Model, recipe: Recipe) -> Trained:
    """Read what `save_checkpoint` wrote.

    Raises:
        RunFolderError: a damaged file, or one of another model.
    """
    with _opened(path) as file:
        facts = _facts(file)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    parts = {
        part: {
            name.removeprefix(f"{part}/"): value
            for name, value in arrays.items()
            if name.startswith(f"{part}/")
        }
        for part in (*_STATE, "history", "kept")
    }
    shapes = {name: tuple(shape) for name, shape in model.weight_shapes().items()}
    found = {name: value.shape for name, value in parts["weights"].items()}
    if facts.get("format") != _FORMAT or found != shapes:
        raise RunFolderError(
            "checkpoint",
            str(path),
            f"{_FORMAT} with the weights of this configuration's model",
            "Take another folder, or delete the checkpoint to train anew.",
        )
    try:
        return _trained(model, recipe, parts, facts)
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(
            "checkpoint",
            str(path),
            f"the facts of {_FORMAT}",
            f"{type(error).__name__}: {error}. Delete it to train anew.",
        ) from error


def _trained(
    model: Model, recipe: Recipe, parts: dict[str, dict[str, Any]], facts: dict[str, Any]
) -> Trained:
    return Trained(
        model,
        recipe,
        TrainState(parts["weights"], parts["mu"], parts["nu"], facts["iteration"]),
        History(
            **{name: parts["history"][name] for name in _HISTORY},
            checks=tuple(_made(Check, values) for values in facts["checks"]),
        ),
        RetCode(facts["retcode"]),
        facts["seconds"],
        _made(ControlState, facts["control"]) if facts["control"] else None,
        _made(Validation, facts["validation"]) if facts["validation"] else None,
        parts["kept"] or None,
        facts.get("data", ""),
    )


def recorded_fingerprint(path: Path) -> str:
    """Return the fingerprint of the data that a checkpoint was trained on.

    Only the file's head is read. "" for a checkpoint without it: version 0.1 kept it in
    environment.json only.

    Raises:
        RunFolderError: a damaged file.
    """
    with _opened(path) as file:
        return str(_facts(file).get("data", ""))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise RunFolderError(
            "checkpoint", str(path), "a whole checkpoint", f"{error}. Delete it to train anew."
        ) from error


def _facts(file: Any) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((file.metadata() or {}).get("facts", "{}"))
    return facts


def _plain(record: Check | ControlState | Validation | None) -> dict[str, Any] | None:
    """Return a record as JSON values; Python's JSON gives every float back as it was, NaN too."""
    if record is None:
        return None
    return {
        name: value.to_dict() if isinstance(value, Solver) else value
        for name, value in vars(record).items()
    }


def _made(kind: type[_Record], values: dict[str, Any]) -> _Record:
    """Read what `_plain` wrote."""
    made: dict[str, Any] = {
        name: Solver.from_dict(value) if name in _SOLVERS and value else value
        for name, value in values.items()
    }
    return kind(**made)
