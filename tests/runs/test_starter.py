"""The starter file and the JSON schema: complete against the classes that read a configuration."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from pynode_jl.datasets import DATASETS
from pynode_jl.errors import InvalidValueError, PyNODEError
from pynode_jl.fields import FIELDS
from pynode_jl.runs import KEYS, Config, config_schema, starter_toml

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))


def every_key() -> set[str]:
    """The dotted keys of `Config`, those of makers apart."""
    found = set()
    for item in fields(Config):
        value = getattr(Config(), item.name)
        if is_dataclass(value):
            found |= {f"{item.name}.{each.name}" for each in fields(value)} - {
                f"{item.name}.options"
            }
        else:
            found.add(item.name)
    return found


def settings(text: str) -> dict[str, str]:
    """The settings in a starter file, by dotted key, commented ones too."""
    found, table = {}, ""
    for line in text.splitlines():
        head = re.fullmatch(r"\[(\w+)\]", line)
        table = f"{head[1]}." if head else table
        setting = re.match(r"(?:# )?(\w+) = (.*?)(?:  # .*)?$", line)
        if setting:
            found[table + setting[1]] = setting[2]
    return found


@pytest.mark.parametrize("data", DATASETS)
def test_a_starter_loads_and_has_every_key(data: str) -> None:
    text = starter_toml(data)
    config = Config.from_dict(tomllib.loads(text))
    assert config.data.name == data
    assert every_key() <= set(settings(text))
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("field", FIELDS)
def test_what_is_commented_out_is_the_default(field: str) -> None:
    """With all marks taken away but those of the controllers' options, it is the same run."""
    text = starter_toml("spheres", field)
    head, tail = text.partition("[adapt]")[::2]
    whole = re.sub(r"^# (\w+ = (?!\.\.\.))", r"\1", head, flags=re.MULTILINE)
    whole += tail[tail.index("[swap]") :]
    assert Config.from_dict(tomllib.loads(whole)) == Config.from_dict(tomllib.loads(text))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(PyNODEError, match="moon"):
        starter_toml("moon")
    with pytest.raises(PyNODEError, match="mlpp"):
        starter_toml("moons", "mlpp")


def test_every_key_says_what_it_is() -> None:
    assert every_key() <= set(KEYS)
    silent = [
        line
        for line in starter_toml("lorenz63").splitlines()
        if re.match(r"#? ?\w+ = [^#]*$", line)
    ]
    # Its comment is above a line that has no room for it.
    text = starter_toml("lorenz63").splitlines()
    assert not [line for line in silent if not text[text.index(line) - 1].startswith("#   ")]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_schema_knows_the_keys_of_the_examples(path: Path) -> None:
    schema = config_schema()
    for table, values in tomllib.loads(path.read_text()).items():
        known: Any = schema["properties"][table]
        if not isinstance(values, dict):
            continue
        names = dict(known["properties"])
        for case in known.get("allOf", ()):
            ((key, wanted),) = case["if"]["properties"].items()
            if values.get(key, names[key].get("default")) == wanted["const"]:
                names |= case["then"]["properties"]
        assert set(values) <= set(names)


def test_the_schema_has_the_types_and_defaults_of_the_classes() -> None:
    schema = config_schema()["properties"]
    assert schema["seed"] == {"type": "integer", "description": KEYS["seed"], "default": 0}
    assert schema["train"]["properties"]["learning_rate"]["type"] == "number"
    assert schema["swap"]["properties"]["solvers"]["items"] == {"type": "string"}
    assert schema["field"]["properties"]["kind"]["enum"] == list(FIELDS)
    mlp = next(
        case["then"]["properties"]
        for case in schema["field"]["allOf"]
        if case["if"]["properties"]["kind"]["const"] == "mlp"
    )
    assert mlp["width"]["default"] == 64


def test_a_misspelt_data_set_gets_the_nearest_name() -> None:
    """And the other kind of answer, a file."""
    with pytest.raises(InvalidValueError, match=r"Use data='lotka_volterra', say, or a file .*csv"):
        starter_toml("lotka-volterra")
