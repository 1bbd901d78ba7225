"""A starter file and a JSON schema of configurations, both made of the classes that read them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import tomli_w
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from pynode_jl._io import user_path
from pynode_jl._validation import choice
from pynode_jl.datasets import DATASETS, csv_columns
from pynode_jl.fields import FIELDS
from pynode_jl.runs._canonical import plain
from pynode_jl.runs._config import TABLES, Config
from pynode_jl.runs._config_table import first_key
from pynode_jl.training.step_adaptation import CONTROLLERS

_NOTHING: Mapping[str, Any] = MappingProxyType({})
# Data whose states are images or sequences of steps; a field without neighbours suits all others.
_FIELDS_BY_DATA = {
    "spheres": "conv1d",
    "mnist": "conv2d",
    "cifar10": "conv2d",
    "digits": "conv2d",
}
# What a file's data set cannot do without, or should not, and how its files' names end.
_NEEDED = {
    "csv": {"path": "data.csv", "target": "label", "normalize": "standard"},
    "arrays": {"path": "data.npz"},
}
_ENDINGS = {".csv": "csv", ".npz": "arrays"}
# Table [task] says it.
_ELSEWHERE = {"seed", "task"}

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
    field_kind = (
        _FIELDS_BY_DATA.get(data, "mlp") if field is None else choice("field", field, list(FIELDS))
    )
    chosen: dict[str, Any] = {
        "seed": 0,
        "data.name": data,
        "field.kind": field_kind,
        "train.solver": "Euler:dt=1/16",
        "train.iterations": 3000,
        "train.learning_rate": 1e-3,
        "swap.solvers": ["Euler", "Midpoint", "RK4", "Tsit5:tol=1e-4"],
        "swap.factors": [0.5, 1.0, 2.0],
    }
    schema = config_schema()
    lines = [_HEAD.format(file=file, stem=file.rpartition("/")[2].removesuffix(".toml"))]
    for name, each in schema["properties"].items():
        if name not in TABLES:
            lines.append(_line(name, each, chosen))
    for table in TABLES:
        lines.append(f"\n[{table}]")
        for name, each in schema["properties"][table]["properties"].items():
            lines.append(_line(f"{table}.{name}", each, chosen))
        if table in ("data", "field"):
            kind = chosen[f"{table}.{first_key(TABLES[table])}"]
            for name, each in _options(schema, table, kind).items():
                if name in needed:
                    lines.append(_line(name, each, needed))
                elif name not in _ELSEWHERE:
                    lines.append(_line(name, each))
        if table == "adapt":
            for controller in CONTROLLERS:
                lines.append(f"# Options of {controller}:")
                lines += [_line(*each) for each in _options(schema, table, controller).items()]
    return "\n".join(_said_once(lines)) + "\n"


def config_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of configuration files, for editors that check TOML.

    What rests on several keys at once only the classes that read a configuration can tell.

    Example:
        >>> from pynode_jl.runs import config_schema
        >>> config_schema()["properties"]["train"]["properties"]["iterations"]["default"]
        10000
    """
    schema = TypeAdapter(Config).json_schema(schema_generator=_Untitled)
    tables = schema.pop("$defs")
    for name, made in TABLES.items():
        schema["properties"][name] = tables[made.__name__]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "A run of pynode_jl",
    }


class _Untitled(GenerateJsonSchema):
    """Without a title for each key, which would say its name again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


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


def _options(schema: Mapping[str, Any], table: str, kind: str) -> Mapping[str, Any]:
    """Return the schemas of the options that a table has with one of its kinds."""
    cases = schema["properties"][table]["allOf"]
    first = first_key(TABLES[table])
    found: Mapping[str, Any] = next(
        case["then"].get("properties", {})
        for case in cases
        if case["if"]["properties"][first]["const"] == kind
    )
    return found


def _line(key: str, schema: Mapping[str, Any], chosen: Mapping[str, Any] = _NOTHING) -> str:
    """Return a key with its default, commented out, or with what is chosen; and what it says."""
    name, text = key.rpartition(".")[2], schema.get("description", "")
    if key in chosen:
        return _commented(f"{name} = {_value(chosen[key])}", text)
    return _commented(f"# {name} = {_value(schema.get('default'))}", text)


def _said_once(lines: Iterable[str]) -> Iterator[str]:
    """Yield settings, without the comment above one that stands above the one before it."""
    before = ""
    for line in lines:
        comment, _, setting = line.rpartition("\n")
        yield setting if comment and comment == before else line
        before = comment


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
