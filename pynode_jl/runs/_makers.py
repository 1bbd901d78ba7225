"""The options that a configuration passes to a maker: its arguments, as keys with a JSON schema."""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, TypeAlias

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import to_jsonable_python

from pynode_jl.datasets import DATASETS, NORMALIZATIONS, Dataset

#: What makes a data set, a task, a field, a controller or an optimiser of its options.
Maker: TypeAlias = Callable[..., Any]

_AS_IN = re.compile(r"As in (?:Dataset\.)?(\w+)\.")
# Of every data set: `load`'s own option, and of what chance has a part in, the seed.
_SEED = {"type": "integer", "description": "Left out, it is that of the configuration."}
_NORMALIZE = {
    "enum": list(NORMALIZATIONS),
    "description": f"One of {', '.join(NORMALIZATIONS)}, or left out.",
}


@cache
def options_of(maker: Maker, table: str = "") -> Mapping[str, Mapping[str, Any]] | None:
    """Return a JSON schema of each option, by name: type, default, description.

    An option without a default has none. None stands for a maker that takes any option.

    Args:
        maker: what is called with the options.
        table: that of the configuration. A field's first argument is the state, which the data
            give; every data set can be normalised, too.
    """
    parameters = list(inspect.signature(maker).parameters.values())
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    said, hints = descriptions(maker), _type_hints(maker)
    found: dict[str, dict[str, Any]] = {}
    for each in parameters[1 if table == "field" else 0 :]:
        schema = _schema_of(hints.get(each.name, Any))
        names, text = schema.get("enum", []), said.get(each.name, "")
        if not all(name in text for name in names):
            text = f"{text} One of {', '.join(names)}.".strip()
        if text:
            schema["description"] = text
        if each.default is not each.empty and each.default is not None:
            schema["default"] = to_jsonable_python(each.default)
        found[each.name] = schema
    if table == "data":
        found |= {"seed": _SEED} if "seed" in found else {}
        found["normalize"] = _NORMALIZE
    return found


def needed_options(maker: Maker) -> list[str]:
    """Return the options without a default."""
    parameters = inspect.signature(maker).parameters.values()
    return [each.name for each in parameters if each.default is each.empty]


def maker_cases(
    first: str, makers: Mapping[str, Maker], table: str = "", default: str = ""
) -> dict[str, Any]:
    """Return the part of a table's JSON schema that its first key decides: the options it has.

    `default` is the name that holds where the first key is left out.
    """
    cases = []
    for name, maker in makers.items():
        options = options_of(maker, table)
        text = " ".join((inspect.getdoc(maker) or "").partition("\n\n")[0].split())
        allowed: dict[str, Any] = {"description": text, "properties": options or {}}
        if options is None:
            allowed["additionalProperties"] = True
        elif table == "data" and (needed := needed_options(maker)):
            allowed["required"] = needed
        condition: dict[str, Any] = {"properties": {first: {"const": name}}}
        if name != default:
            condition["required"] = [first]
        cases.append({"if": condition, "then": allowed})
    return {"allOf": cases, "unevaluatedProperties": False}


def descriptions(maker: Maker) -> dict[str, str]:
    """Return what a docstring's Args, or Attributes, say, by name, each in one line.

    Of a class, its bases' too. What is "as in" another data set or method is what that one says.
    """
    found: dict[str, str] = {}
    for each in reversed(inspect.getmro(maker)) if inspect.isclass(maker) else (maker,):
        found |= _described(inspect.getdoc(each) or "")
    for name, line in found.items():
        other = _AS_IN.fullmatch(line)
        if other is not None:
            found[name] = descriptions(DATASETS.get(other[1]) or getattr(Dataset, other[1]))[name]
    return found


def _described(text: str) -> Iterable[tuple[str, str]]:
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
                yield from ((name.strip(), line) for name in names.split(","))


def _type_hints(maker: Maker) -> dict[str, Any]:
    called = maker.__init__ if inspect.isclass(maker) else maker
    try:
        return typing.get_type_hints(called)
    except (NameError, TypeError):  # a maker of a user's, with annotations that are no types
        return {}


def _schema_of(hint: Any) -> dict[str, Any]:
    """Return the JSON schema of a type as a TOML file can have it, without null; {} for any."""
    try:
        schema = TypeAdapter(hint).json_schema()
    except PydanticSchemaGenerationError:  # a task, say: text or table
        return {}
    kinds = [each for each in schema.pop("anyOf", []) if each != {"type": "null"}]
    if {"type": "string"} in kinds:  # a path is one
        kinds = [each for each in kinds if each.get("format") != "path"]
    if {} in kinds:
        return schema
    return schema | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})
