"""The JSON schema of sweep files, made of that of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pynode_jl.runs import config_schema


def sweep_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of sweep files, for editors that check TOML.

    Which settings make a run together only `Sweep` can tell.

    Example:
        >>> from pynode_jl.sweeps import sweep_schema
        >>> list(sweep_schema()["properties"])
        ['name', 'base', 'run', 'grid', 'zip', 'points']
    """
    run = config_schema()
    keys = run["properties"]
    lists, settings = _axis(keys, listed=True), _axis(keys, listed=False)
    return {
        "$schema": run["$schema"],
        "title": "A sweep of pynode_jl",
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Of the sweep, for its pages."},
            "base": {"type": "string", "description": "A configuration's file; [run] changes it."},
            # An axis may change the name that a table's options belong to: they are not held to it.
            "run": settings | {"description": "What all runs have in common."},
            "grid": lists | {"description": "Lists by key, each an axis: all combinations."},
            "zip": _some(lists, "Tables of lists of one length; each table is an axis."),
            "points": _some(settings, "Tables of settings; all of them are one axis."),
        },
        "additionalProperties": False,
    }


def _some(table: Mapping[str, Any], text: str) -> dict[str, Any]:
    """One table, or a list of them."""
    return {"anyOf": [table, {"type": "array", "items": table}], "description": text}


def _axis(keys: Mapping[str, Any], listed: bool) -> dict[str, Any]:
    """Return the schema of a table of settings, or of lists of them, by key."""
    other: dict[str, Any] = {"type": "array", "minItems": 1} if listed else {}
    return {
        "type": "object",
        "properties": {key: _varied(schema, listed) for key, schema in keys.items()},
        "patternProperties": {r"\.": other},  # "train.solver" in quotes
        "additionalProperties": False,
    }


def _varied(schema: Mapping[str, Any], listed: bool) -> dict[str, Any]:
    """Return the schema of a setting, or of a list of it; of a table, key by key."""
    if "properties" in schema:
        table = _axis(schema["properties"], listed)
        if "allOf" in schema:  # options of any maker
            table["additionalProperties"] = table["patternProperties"][r"\."]
        return table
    if not listed:
        return dict(schema)
    values: dict[str, Any] = {"type": "array", "items": schema, "minItems": 1}
    if "anyOf" not in schema:
        return values
    # A solver and an optimiser have keys of their own: train.solver.dt.
    return {"anyOf": [values, {"type": "object", "additionalProperties": {"type": "array"}}]}
