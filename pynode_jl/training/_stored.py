"""A trained model in one file: its weights, and what they are the weights of.

safetensors, written whole or not at all, with the checksums of its arrays and of its facts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from pynode_jl._io import check_regular, digest, user_path, write_bytes
from pynode_jl._validation import numbers, rounded
from pynode_jl.backends import Array, Precision
from pynode_jl.datasets import checked_names
from pynode_jl.errors import InputError, InvalidValueError
from pynode_jl.fields import (
    Activation,
    Conv,
    Dense,
    Field,
    Layer,
    LogDensityField,
    VectorField,
    Weights,
)
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Classification, Density, Regression, Task, Trajectory

_FORMAT = "pynode_jl model 1"
_LAYERS: Mapping[str, type[Layer]] = {kind.__name__: kind for kind in (Dense, Conv, Activation)}
_TASKS: Mapping[str, type[Task]] = {
    kind.kind: kind for kind in (Classification, Regression, Trajectory, Density)
}


def write_model(
    path: object,
    model: Model,
    weights: Mapping[str, Any],
    solver: Solver,
    precision: Precision,
    label_names: tuple[str, ...] | None = None,
) -> None:
    """Write a model to `path`; `TrainedModel.save` says what is refused."""
    arrays = {
        name: np.ascontiguousarray(
            value if value.dtype in (np.float32, np.float64) else rounded(name, value, np.float32)
        )
        for name, value in ((name, numbers(name, each)) for name, each in weights.items())
    }
    facts = {
        "format": _FORMAT,
        "field": _field_facts(model.field),
        "task": _task_facts(model.task),
        "head": _named_head(model),
        **{name: getattr(model, name) for name in ("t0", "t1", "augment")},
        "solver": solver.to_dict(),
        "precision": precision,
        **({} if label_names is None else {"label_names": label_names}),
        "arrays": arrays_digest(arrays),
    }
    text = json.dumps(facts)
    metadata = {"facts": text, "sha256": digest(text.encode())}
    write_bytes(user_path("path", path), save(arrays, metadata))


def read_model(
    path: object,
) -> tuple[Model, Weights, Solver, Precision, tuple[str, ...] | None]:
    """Return what `write_model` wrote.

    Raises:
        InputError: no such file, a damaged one, or another.
    """
    file = user_path("path", path)
    try:
        check_regular(file)
        with safe_open(file, framework="np") as opened:
            metadata = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if metadata["sha256"] != digest(metadata["facts"].encode()):
            raise ValueError("its facts fail their checksum")
        facts = json.loads(metadata["facts"])
        if facts["format"] != _FORMAT:
            raise ValueError(f"its format is {facts['format']!r}")
        if facts["arrays"] != arrays_digest(arrays):
            raise ValueError("its arrays fail their checksum")
        model = _model(facts)
        if {name: each.shape for name, each in arrays.items()} != model.weight_shapes():
            raise ValueError("its arrays are not the model's weights")
        ordered = {name: arrays[name] for name in model.weight_shapes()}
        named = facts.get("label_names")
        names = None if named is None else checked_names(tuple(named), model.classes)
        return model, ordered, Solver.from_dict(facts["solver"]), facts["precision"], names
    except Exception as error:  # what bytes of any kind cause is open-ended
        said = f"{type(error).__name__}: {error}"
        raise InputError(
            "path", str(file), "a file that TrainedModel.save wrote", f"{said}."
        ) from error


def arrays_digest(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 of arrays: names, types, shapes and bytes, in the order of the names.

    Example:
        >>> from pynode_jl.training import arrays_digest
        >>> arrays_digest({"a": np.zeros(2)}) == arrays_digest({"a": np.zeros(3)})
        False
    """
    parts: list[bytes | memoryview] = []
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        parts += [f"{name} {value.dtype.str} {value.shape} ".encode(), value.tobytes()]
    return digest(*parts)


def _model(facts: Mapping[str, Any]) -> Model:
    field, task = facts["field"], dict(facts["task"])
    layers = tuple(_LAYERS[each.pop("kind")](**each) for each in map(dict, field["layers"]))
    return Model(
        VectorField(tuple(field["state_shape"]), layers, field["time_dependent"]),
        t0=facts["t0"],
        t1=facts["t1"],
        augment=facts["augment"],
        task=_TASKS[task.pop("kind")](**task),
        head=facts["head"],
    )


def _field_facts(field: Field) -> dict[str, Any]:
    inner = field.field if isinstance(field, LogDensityField) else field
    if not isinstance(inner, VectorField):
        raise _refused("field", inner)
    return {
        "state_shape": list(inner.state_shape),
        "layers": [{"kind": type(each).__name__, **asdict(each)} for each in inner.layers],
        "time_dependent": inner.time_dependent,
    }


def _task_facts(task: Task) -> dict[str, Any]:
    if type(task) is not _TASKS.get(task.kind):
        raise _refused("task", task)
    return task.to_dict()


def _named_head(model: Model) -> str:
    for name, part in (("head", model.head), ("encoder", model.encoder)):
        if part is not None and not isinstance(part, str):
            raise _refused(name, part)
    return str(model.head)


def _refused(name: str, part: object) -> InvalidValueError:
    return InvalidValueError(
        f"model.{name}",
        part,
        "plain data where a model is saved: a VectorField, a task and a head of this package",
        'Save its weights, np.savez("weights.npz", **trained.weights), and make it anew from your'
        ' own model: pn.TrainedModel(model, dict(np.load("weights.npz")), solver).',
    )
