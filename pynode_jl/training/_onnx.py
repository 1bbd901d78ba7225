"""A model's field and head as ONNX files, for runtimes that know neither JAX nor torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pynode_jl._io import make_folder, user_path, write_bytes
from pynode_jl.backends import Array
from pynode_jl.errors import InvalidValueError, MissingDependencyError
from pynode_jl.fields import Activation, Conv, Dense, LogDensityField, VectorField
from pynode_jl.models import Model, ModelWeights
from pynode_jl.tasks import Classification, Density

# Gelu is an operator from here on.
_OPSET = 20
# ONNX's name of each activation; those that it lacks are made of others.
_OPERATORS = {
    "relu": "Relu",
    "tanh": "Tanh",
    "softplus": "Softplus",
    "sigmoid": "Sigmoid",
    "gelu": "Gelu",
    "elu": "Elu",
}


def write_onnx(folder: object, model: Model, weights: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write ``field.onnx`` and ``head.onnx``; `TrainedModel.to_onnx` says what is refused."""
    try:
        onnx = import_module("onnx")
    except ImportError as error:
        raise MissingDependencyError("onnx", "to_onnx", "pip install onnx") from error
    place = user_path("folder", folder)
    parts = ModelWeights.from_dict(weights)
    field = model.field.field if isinstance(model.field, LogDensityField) else model.field
    if not isinstance(field, VectorField):
        raise _refused("field", field)
    if model.encoder is not None or not isinstance(model.head, str):
        name = "head" if model.encoder is None else "encoder"
        raise _refused(name, getattr(model, name))
    files = {"field.onnx": _field_file(onnx, field, parts.field)}
    if not isinstance(model.task, Density):  # its answer is an integral, no function of a state
        files["head.onnx"] = _head_file(onnx, model, parts)
    make_folder(place)
    for name, content in files.items():
        write_bytes(place / name, content)
    return tuple(place / name for name in files)


class _Graph:
    """Nodes and constants, in the order in which they are made."""

    def __init__(self, onnx: ModuleType, real: np.dtype[Any]) -> None:
        self.onnx = onnx
        self.real = real
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Array | Sequence[int] | float, name: str = "") -> str:
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(self.real)
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{operator.lower()}_{len(self.nodes)}"
        made = self.onnx.helper.make_node(operator, inputs, [name], **attributes)
        self.nodes.append(made)
        return name

    def file(self, inputs: Mapping[str, Sequence[Any]], output: tuple[str, Sequence[Any]]) -> bytes:
        """Return the file of the graph whose last node gives the output."""
        helper = self.onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(self.real)
        self.node("Identity", self.nodes[-1].output[0], name=output[0])

        def info(name: str, shape: Sequence[Any]) -> Any:
            return helper.make_tensor_value_info(name, kind, list(shape))

        graph = helper.make_graph(
            self.nodes,
            "model",
            [info(*each) for each in inputs.items()],
            [info(*output)],
            self.constants,
        )
        opset = helper.make_opsetid("", _OPSET)
        made = helper.make_model(graph, opset_imports=[opset], producer_name="pynode-jl")
        made.ir_version = 9  # that of the operators: older runtimes read it
        self.onnx.checker.check_model(made)
        content: bytes = made.SerializeToString()
        return content


def _field_file(onnx: ModuleType, field: VectorField, weights: Mapping[str, Any]) -> bytes:
    """Return f(t, y) of a field."""
    graph = _Graph(onnx, np.asarray(next(iter(weights.values()))).dtype)
    plain = len(field.state_shape) == 1 and any(isinstance(e, Conv) for e in field.layers)
    now = "y"
    if plain:  # a vector is one channel
        now = graph.node("Unsqueeze", now, graph.constant([1]))
    if field.time_dependent:
        first = [graph.constant([each]) for each in (0, 1, 1)]
        shape = graph.node("Shape", graph.node("Slice", now, *first))
        now = graph.node("Concat", now, graph.node("Expand", "t", shape), axis=1)
    for number, layer in enumerate(field.layers):
        if isinstance(layer, Activation):
            now = _activated(graph, layer.name, now)
            continue
        names = [f"layers.{number}.{part}" for part in ("weight", "bias")]
        held = [graph.constant(np.asarray(weights[name]), name) for name in names]
        now = _LAYERS[type(layer)](graph, layer, now, held)
    if plain:
        graph.node("Squeeze", now, graph.constant([1]))
    batch = ("batch", *field.state_shape)
    return graph.file({"t": (), "y": batch}, ("dy", batch))


def _dense(graph: _Graph, _: Dense, now: str, held: list[str]) -> str:
    return graph.node("Gemm", now, *held, transB=1)


def _conv(graph: _Graph, layer: Conv, now: str, held: list[str]) -> str:
    return graph.node("Conv", now, *held, pads=[layer.kernel // 2] * (2 * layer.axes))


_LAYERS: Mapping[type, Callable[[_Graph, Any, str, list[str]], str]] = {Dense: _dense, Conv: _conv}


def _activated(graph: _Graph, name: str, now: str) -> str:
    if name == "silu":
        return graph.node("Mul", now, graph.node("Sigmoid", now))
    return graph.node(_OPERATORS[name], now)


def _head_file(onnx: ModuleType, model: Model, weights: ModelWeights) -> bytes:
    """Return what a model reads from a state."""
    graph = _Graph(onnx, np.asarray(next(iter(weights.to_dict().values()))).dtype)
    state = ("batch", *model.field.state_shape)
    outputs = model.answer_shape
    if len(model.times) > 2:
        outputs = outputs[1:]  # at one of its times
    if model.head == "none":
        kept = [graph.constant([each]) for each in (0, outputs[0], 1)]
        graph.node("Slice", "y", *kept)
        return graph.file({"y": state}, ("outputs", ("batch", *outputs)))
    held = [
        graph.constant(weights.head_weight, "weight"),
        graph.constant(weights.head_bias, "bias"),
    ]
    now = graph.node("Gemm", graph.node("Flatten", "y"), *held, transB=1)
    task = model.task
    if isinstance(task, Classification) and task.one_logit:
        zeros = graph.node("Mul", now, graph.constant(0.0))
        graph.node("Concat", zeros, now, axis=1)
    elif len(outputs) != 1:
        graph.node("Reshape", now, graph.constant([-1, *outputs]))
    return graph.file({"y": state}, ("outputs", ("batch", *outputs)))


def _refused(name: str, part: object) -> InvalidValueError:
    return InvalidValueError(
        f"model.{name}",
        part,
        "layers of this package, and a linear head or none",
        "Functions of torch: pynode_jl.torch.from_trained, and torch.onnx.export of its modules.",
    )
