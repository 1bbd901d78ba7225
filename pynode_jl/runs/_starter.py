"""A starter file and a JSON schema of configurations, both made of the classes that read them."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from types import MappingProxyType
from typing import Any, cast

import tomli_w

from pynode_jl._io import user_path
from pynode_jl._validation import choice
from pynode_jl.backends import BACKENDS, GRADIENTS, OPTIMIZERS
from pynode_jl.datasets import DATASETS, NORMALIZATIONS, Dataset, csv_columns
from pynode_jl.diagnostics import CRITERIA
from pynode_jl.fields import ACTIVATIONS, FIELDS
from pynode_jl.runs._canonical import plain
from pynode_jl.runs._config import (
    TABLES,
    Config,
)
from pynode_jl.tasks import TASKS
from pynode_jl.training.step_adaptation import CONTROLLERS

# Tables whose first key names a maker; the other keys are its arguments.
_MAKERS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "data": DATASETS,
    "task": cast(Any, TASKS),
    "field": FIELDS,
    "adapt": CONTROLLERS,
}
# Data whose states are images or sequences of steps; a field without neighbours suits all others.
_FIELDS_BY_DATA = {
    "spheres": "conv1d",
    "mnist": "conv2d",
    "cifar10": "conv2d",
    "digits": "conv2d",
}
# What a file's data set cannot do without, and how its files' names end.
_NEEDED = {"csv": {"path": "data.csv", "target": "label"}, "arrays": {"path": "data.npz"}}
_ENDINGS = {".csv": "csv", ".npz": "arrays"}
_AS_IN = re.compile(r"As in (?:Dataset\.)?(\w+)\.")
# Table [task] says it.
_ELSEWHERE = {"seed", "task"}

#: What each key says, by dotted key. Those of data sets, tasks and controllers are in docstrings
#: of their makers.
KEYS: Mapping[str, str] = {
    "seed": "Decides the data, the initial weights and the batches.",
    "backend": f"auto, {', '.join(BACKENDS)}.",
    "device": 'cpu, gpu, or "" for the backend\'s default.',
    "data.name": f"One of {', '.join(DATASETS)}.",
    "task.kind": f'One of {", ".join(TASKS)}; "" for the data set\'s own.',
    "field.kind": f"One of {', '.join(FIELDS)}.",
    "data.normalize": f"One of {', '.join(NORMALIZATIONS)}, or left out.",
    "field.channels": "Of the layers between.",
    "field.width": "Of the hidden layers.",
    "field.depth": "Hidden layers.",
    "field.activation": f"One of {', '.join(ACTIVATIONS)}.",
    "field.time_dependent": "Whether the field depends on time.",
    "model.t0": "The ODE is solved from here ...",
    "model.t1": "... to here. Of trajectories it is their last time.",
    "model.augment": "Zeros that are appended to each state.",
    "model.head": 'Read-out: linear, none, or "" for the task\'s.',
    "train.solver": "A name of `pynode-jl solvers`, with dt=... or rtol=...,atol=... or tol=...",
    "train.iterations": "Updates of the weights.",
    "train.batch_size": "Samples an update.",
    "train.learning_rate": "Of the optimiser.",
    "train.gradient": f"One of {', '.join(GRADIENTS)}.",
    "train.precision": "full, or bfloat16 for the field's layers.",
    "train.chunk": "Iterations between two looks at the model; a killed run loses one at most.",
    "train.optimizer": f'One of {", ".join(OPTIMIZERS)}, with options: "sgd:momentum=0.9".',
    "adapt.controller": f"Adapts the step while training: none, {', '.join(CONTROLLERS)}.",
    "swap.solvers": "Test solvers; an empty list is the default choice.",
    "swap.factors": "Multiples of the training step or tolerance; empty: the default.",
    "swap.margin": "The change of answers that is allowed; left out, the task's.",
    "swap.confidence": "Of the verdict's intervals.",
    "swap.criterion": f"One of {', '.join(CRITERIA)}.",
}

_HEAD = """\
# A run of pynode_jl.
#
#     pynode-jl train {file} --out runs/{stem}
#     pynode-jl swap runs/{stem}
#
# A key in a line that begins with "# " has that value if it is left out: take the mark away to
# change it.
"""


def starter_toml(data: str = "spheres", field: str | None = None, file: str = "run.toml") -> str:
    """Return a TOML file with every key, its default and what it says.

    Args:
        data: a name of `DATASETS`, or a file: .csv, whose last column is then the target, or .npz.
        field: a name of `FIELDS`; default: one that suits the data.
        file: its name, for the commands in its first lines.

    Raises:
        InvalidValueError: no such data set or field.
        DataError: no such file, or no table.

    Example:
        >>> from pynode_jl.runs import starter_toml
        >>> print(starter_toml("moons").splitlines()[8])
        seed = 0  # Decides the data, the initial weights and the batches.
    """
    data, needed = _data_and_needed(data)
    kind = (
        _FIELDS_BY_DATA.get(data, "mlp") if field is None else choice("field", field, list(FIELDS))
    )
    chosen: dict[str, Any] = {
        "seed": 0,
        "data.name": data,
        "field.kind": kind,
        "train.solver": "Euler:dt=1/16",
        "train.iterations": 3000,
        "train.learning_rate": 1e-3,
        "swap.solvers": ["Euler", "Midpoint", "RK4", "Tsit5:tol=1e-4"],
        "swap.factors": [0.5, 1.0, 2.0],
    }
    lines = [_HEAD.format(file=file, stem=file.rpartition("/")[2].removesuffix(".toml"))]
    for item in fields(Config):
        if item.name not in TABLES:
            lines.append(_line(item.name, chosen, item.default))
    for table, made in TABLES.items():
        lines.append(f"\n[{table}]")
        for item in fields(cast(Any, made)):
            if item.name != "options":
                lines.append(_line(f"{table}.{item.name}", chosen, item.default))
        if table in ("data", "field"):
            maker = _MAKERS[table][chosen[f"{table}.{_first_key(table)}"]]
            lines += _option_lines(table, maker, needed if table == "data" else {})
        if table == "data":
            lines.append(_commented("# normalize = ...", KEYS["data.normalize"]))
        if table == "adapt":
            for name, controller in CONTROLLERS.items():
                lines.append(f"# Options of {name}:")
                lines += _option_lines(table, controller)
    return "\n".join(lines) + "\n"


def config_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of configuration files, for editors that check TOML.

    The schema is made of the classes that read a configuration. What rests on several keys at once
    only these can tell.

    Example:
        >>> from pynode_jl.runs import config_schema
        >>> config_schema()["properties"]["train"]["properties"]["iterations"]["default"]
        10000
    """
    tables = {name: _table_schema(name) for name in TABLES}
    top = {
        item.name: _value_schema(item.name, str(item.type), item.default)
        for item in fields(Config)
        if item.name not in TABLES
    }
    top["backend"]["enum"] = ["auto", *BACKENDS]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A run of pynode_jl",
        "type": "object",
        "properties": {**top, **tables},
        "additionalProperties": False,
    }


def _data_and_needed(data: str) -> tuple[str, Mapping[str, str]]:
    """Return the name of a data set, given by its name or its file, and what it needs."""
    name = next((each for end, each in _ENDINGS.items() if str(data).lower().endswith(end)), None)
    if name is None:
        hint = f"Use {{nearest}}, say, or a file that ends in {' or '.join(_ENDINGS)}."
        return choice("data", data, list(DATASETS), hint), _NEEDED.get(data, {})
    needed = {**_NEEDED[name], "path": str(user_path("data", data))}
    if name == "csv":
        needed["target"] = csv_columns(data)[-1]
    return name, needed


def _first_key(table: str) -> str:
    return str(fields(cast(Any, TABLES[table]))[0].name)


def _line(key: str, chosen: Mapping[str, Any], default: Any) -> str:
    name, text = key.rpartition(".")[2], KEYS[key]
    if key in chosen:
        return _commented(f"{name} = {_value(chosen[key])}", text)
    value = None if default is MISSING else default
    return _commented(f"# {name} = {_value(value)}", text)


def _option_lines(
    table: str, maker: Callable[..., Any], needed: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Return a line for each option of a maker: its default, and what is said of it."""
    said, lines = descriptions(maker), []
    for name, each in inspect.signature(maker).parameters.items():
        text = said.get(name) or KEYS.get(f"{table}.{name}", "")
        if name in needed:
            lines.append(_commented(f"{name} = {_value(needed[name])}", text))
        elif name not in _ELSEWHERE and each.default is not each.empty:
            lines.append(_commented(f"# {name} = {_value(each.default)}", text))
    return lines


def _value(value: Any) -> str:
    if value is None:
        return "..."
    text = tomli_w.dumps({"x": plain(value)}).partition(" = ")[2].strip()
    return re.sub(r"\s+", " ", text).replace(",]", "]").replace("[ ", "[").replace(", ]", "]")


def _commented(setting: str, text: str) -> str:
    """Return a line with its comment; lines of comments above it where that is long."""
    if not text:
        return setting
    line = f"{setting}  # {text}"
    if len(line) <= 100:
        return line
    return "\n".join([*(f"#   {each}" for each in textwrap.wrap(text, 94)), setting])


def descriptions(maker: Callable[..., Any]) -> dict[str, str]:
    """Return what a docstring's Args, or Attributes, say, by name, each in one line.

    What is "as in" another data set or method is what that one says.
    """
    text = inspect.getdoc(maker) or ""
    found: dict[str, str] = {}
    for section in re.findall(
        r"^(?:Args|Attributes):\n((?:[ ]+.*\n?|\n(?=[ ]))+)", text, re.MULTILINE
    ):
        entries = re.split(
            r"^(?=    \S)", textwrap.indent(textwrap.dedent(section), "    "), flags=re.MULTILINE
        )
        for entry in entries:
            names, colon, said = entry.strip().partition(":")
            if colon:
                line = re.sub(r"\s+", " ", said).strip().replace("``", "").replace("`", "")
                line = line[:1].upper() + line[1:]
                found |= {name.strip(): line for name in names.split(",")}
    for name, line in found.items():
        other = _AS_IN.fullmatch(line)
        if other is not None:
            maker = DATASETS.get(other[1]) or getattr(Dataset, other[1])
            found[name] = descriptions(maker)[name]
    return found


def _table_schema(table: str) -> dict[str, Any]:
    made = TABLES[table]
    properties = {
        item.name: _value_schema(f"{table}.{item.name}", str(item.type), item.default)
        for item in fields(cast(Any, made))
        if item.name != "options"
    }
    makers = _MAKERS.get(table)
    if makers is None:
        return {"type": "object", "properties": properties, "additionalProperties": False}
    if table == "data":
        properties["normalize"] = _value_schema("data.normalize", "str", None)
    first = _first_key(table)
    none = {"adapt": ["none"], "task": [""]}.get(table, [])
    properties[first]["enum"] = [*none, *makers]
    cases = [
        {
            "if": {"properties": {first: {"const": name}}, "required": [first]},
            "then": {"properties": _option_schemas(table, maker)},
        }
        for name, maker in makers.items()
    ]
    return {"type": "object", "properties": properties, "allOf": cases}


def _option_schemas(table: str, maker: Callable[..., Any]) -> dict[str, Any]:
    said, found = descriptions(maker), {}
    for name, each in inspect.signature(maker).parameters.items():
        text = said.get(name) or KEYS.get(f"{table}.{name}")
        schema: dict[str, Any] = {"description": text} if text else {}
        if each.default is not each.empty and each.default is not None:
            schema = {**_type_of(plain(each.default)), **schema, "default": plain(each.default)}
        found[name] = schema
    return found


_TYPES: Mapping[str, dict[str, Any]] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "float | None": {"type": "number"},
    "str": {"type": "string"},
    "Criterion": {"enum": list(CRITERIA)},
    "str | Mapping[str, Any]": {"type": ["string", "object"]},
    "tuple[str, ...]": {"type": "array", "items": {"type": "string"}},
    "tuple[float, ...]": {"type": "array", "items": {"type": "number"}},
}


def _value_schema(key: str, kind: str, default: Any) -> dict[str, Any]:
    schema = {**_TYPES[kind], "description": KEYS[key]}
    if default is not MISSING and default is not None:
        schema["default"] = plain(default)
    return schema


def _type_of(value: Any) -> dict[str, Any]:
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))
    name = next((name for kind, name in kinds if isinstance(value, kind)), "array")
    return {"type": "number"} if name == "float" else {"type": name}
