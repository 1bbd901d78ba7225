"""The starter file and the JSON schema: complete against the classes that read a configuration."""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynode_jl.datasets import DATASETS
from pynode_jl.errors import InvalidValueError, PyNODEError
from pynode_jl.fields import ACTIVATIONS, FIELDS
from pynode_jl.runs import TABLES, Config, config_schema, starter_toml

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


@pytest.mark.parametrize("data", DATASETS)
def test_every_key_says_what_it_is(data: str) -> None:
    """Beside it, or above it and others that it is said of."""
    text = starter_toml(data).splitlines()
    told = [bool(re.match(r"#   |(# )?\w+ = .*  # ", line)) for line in text]
    for i, line in enumerate(text):
        if re.match(r"(# )?\w+ = ", line):
            told[i] |= told[i - 1]
            assert told[i], line


def test_what_two_keys_say_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "plums.csv").write_text("a,b,kind\n1,2,x\n3,4,y\n")
    text = starter_toml(str(tmp_path / "plums.csv"))
    assert text.count("in long form") == 1
    assert "\n# time = ...\n# trajectory = ...\n" in text
    assert '\nnormalize = "standard"  # ' in text  # columns differ in their units
    assert "None" not in text


# The schema, read by another program than ours: jsonschema


SCHEMA = jsonschema.Draft202012Validator(config_schema())


def faults(values: Any) -> list[str]:
    """What jsonschema finds in a configuration's values."""
    return [each.message for each in SCHEMA.iter_errors(values)]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(config_schema())
    assert json.loads(json.dumps(config_schema())) == config_schema()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_schema_takes_the_examples(path: Path) -> None:
    assert faults(tomllib.loads(path.read_text())) == []


@pytest.mark.parametrize("data", DATASETS)
def test_the_schema_takes_what_init_writes(data: str) -> None:
    values = tomllib.loads(starter_toml(data))
    assert faults(values) == []
    assert faults(Config.from_dict(values).to_dict()) == []


def build(values: Any) -> None:
    config = Config.from_dict(values)
    config.make_model(config.dataset())


@pytest.mark.parametrize(
    "values",
    [
        {"sed": 1},
        {"seed": -1},
        {"seed": "1"},
        {"backend": "jaxx"},
        {"data": 3},
        {"data": {"name": "sphere"}},
        {"data": {"dimm": 2}},
        {"data": {"name": "moons", "dim": 2}},
        {"data": {"name": "csv"}},
        {"data": {"name": "mnist", "seed": 0}},
        {"task": {"kind": "density", "trace": "exactly"}},
        {"task": {"classes": 2}},
        {"field": {"width": 8}},
        {"field": {"kind": "mlp", "activation": "tan"}},
        {"model": {"augment": -1}},
        {"model": {"head": "lin"}},
        {"train": {"iterations": 0}},
        {"train": {"iterations": True}},
        {"train": {"solver": 3}},
        {"train": {"optimizer": {"name": "adam", "momentum": 0.9}}},
        {"train": {"learning_rate": 0}},
        {"train": {"precision": "half"}},
        {"adapt": {"every": 50}},
        {"adapt": {"controller": "paper", "samples": 100}},
        {"swap": {"solvers": "RK4"}},
        {"swap": {"factors": [0.0]}},
        {"swap": {"criterion": "flip"}},
    ],
    ids=str,
)
def test_what_the_schema_refuses_the_reader_refuses(values: dict[str, Any]) -> None:
    """Each fault of one key, by both."""
    assert faults(values)
    with pytest.raises(PyNODEError):
        build(values)


@given(
    st.sampled_from(sorted(every_key())),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 300),
        st.floats(),
        st.text(max_size=4),
        st.lists(st.floats(0, 2), max_size=2),
        st.lists(st.text(max_size=3), max_size=2),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        st.sampled_from(["RK4:dt=1/8", "adam", "mlp", "moons", "jax", "flips", "none", "linear"]),
    ),
)
def test_what_the_reader_takes_the_schema_takes(key: str, value: Any) -> None:
    with suppress(PyNODEError):
        config = Config().changed({key: value})
        assert faults(config.to_dict()) == []


def test_the_schema_has_the_types_and_defaults_of_the_classes() -> None:
    schema = config_schema()["properties"]
    assert schema["seed"]["type"] == "integer"
    assert schema["seed"]["default"] == schema["seed"]["minimum"] == 0
    assert schema["train"]["properties"]["learning_rate"]["type"] == "number"
    assert schema["swap"]["properties"]["solvers"]["items"] == {"type": "string"}
    assert schema["field"]["properties"]["kind"]["enum"] == list(FIELDS)
    assert schema["data"]["properties"]["name"]["default"] == Config().data.name
    mlp = next(
        case["then"]["properties"]
        for case in schema["field"]["allOf"]
        if case["if"]["properties"]["kind"]["const"] == "mlp"
    )
    assert mlp["width"]["default"] == 64
    assert mlp["activation"]["enum"] == list(ACTIVATIONS)
    assert list(schema)[3:] == list(TABLES)


def test_a_misspelt_data_set_gets_the_nearest_name() -> None:
    """And the other kind of answer, a file."""
    with pytest.raises(InvalidValueError, match=r"Use data='lotka_volterra', say, or a file .*csv"):
        starter_toml("lotka-volterra")
