"""What every table of a configuration is: a frozen dataclass whose values pydantic checks.

A table whose first key names a maker (a data set, a field, ...) is open: its other keys are the
arguments of that maker, and are kept as `options`.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass as plain_dataclass
from functools import wraps
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationError,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs, core_schema

from pynode_jl.backends import OPTIMIZERS, Optimizer
from pynode_jl.errors import ConfigError, PyNODEError, UnknownNameError, nearest_hint
from pynode_jl.runs._canonical import plain
from pynode_jl.runs._makers import Maker, maker_cases, options_of
from pynode_jl.seeding import checked_seed
from pynode_jl.solvers import Solver

T = TypeVar("T")
CHECKED = ConfigDict(extra="forbid")
_NOTHING: Mapping[str, Any] = MappingProxyType({})

# The kinds of value that keys have. pydantic would take "3" for 3, and True for 1.
Text = Annotated[str, Strict()]
Whole = Annotated[int, Strict(), Field(ge=0)]
Count = Annotated[int, Strict(), Field(ge=1)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Factor = Annotated[Number, Field(gt=0)]
Seed = Annotated[Whole, BeforeValidator(checked_seed)]


def _checked_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    for key, value in options.items():
        if not _in_toml(value):
            expected = "a finite number, text or list"
            raise ConfigError(key, value, expected, "Use plain values.")
    return options


def _in_toml(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_in_toml, value.values()))
    if isinstance(value, tuple):
        return all(map(_in_toml, value))
    if isinstance(value, float):
        return math.isfinite(value)  # NaN is not even equal to itself
    return isinstance(value, bool | int | str)


Options = Annotated[Mapping[str, Any], AfterValidator(_checked_options)]


def _setting(kind: type[Solver] | type[Optimizer]) -> PlainValidator:
    """Return the check of a text or table that `kind.of` takes; an object becomes a table."""

    def checked(given: Any) -> Any:
        if isinstance(given, kind):
            return plain(given.to_dict())
        kind.of(given)
        return given

    return PlainValidator(checked)


def _solver_text(given: Any) -> Any:
    return str(given) if isinstance(given, Solver) else given


def _text_or_table(
    name: Mapping[str, Any], settings: Mapping[str, Any], cases: Mapping[str, Any] = _NOTHING
) -> WithJsonSchema:
    """Return the JSON schema of a text, or of a table with a name, other settings, and cases."""
    properties = {"name": name, **settings}
    table = {"type": "object", "properties": properties, "required": ["name"], **cases}
    return WithJsonSchema({"anyOf": [{"type": "string"}, table]})


#: A solver or an optimiser, as a text or a table: kept as it was written.
SolverSetting = Annotated[
    str | Mapping[str, Any],
    _setting(Solver),
    _text_or_table({"type": "string"}, {key: {"type": "number"} for key in ("dt", "rtol", "atol")}),
]
OptimizerSetting = Annotated[
    str | Mapping[str, Any],
    _setting(Optimizer),
    _text_or_table({"enum": list(OPTIMIZERS)}, {}, maker_cases("name", OPTIMIZERS)),
]
SolverText = Annotated[str, BeforeValidator(_solver_text), Strict()]


@plain_dataclass(frozen=True)
class NameOf:
    """Annotates a key whose value is a name of a registry, or one of `others`."""

    kind: str
    registry: Mapping[str, Any]
    others: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "enum": [*self.others, *self.registry]}

    def _known(self, name: str) -> str:
        if name not in self.registry and name not in self.others:
            raise UnknownNameError(self.kind, name, (*self.others, *self.registry))
        return name


@dataclass(frozen=True, config=CHECKED)
class Table:
    """A table of a configuration, or the whole of it.

    Attributes:
        MAKERS: of an open table, what its first key names.
    """

    MAKERS: ClassVar[Mapping[str, Maker]] = _NOTHING

    @model_validator(mode="before")
    @classmethod
    def _in_plain_values(cls, given: Any) -> Any:
        """Give the values the one form of their kind; of an open table, part name and options."""
        if isinstance(given, ArgsKwargs):
            named = {key: cls._plain(key, value) for key, value in (given.kwargs or {}).items()}
            placed = zip(keys_of(cls), given.args, strict=False)
            return ArgsKwargs(tuple(cls._plain(*each) for each in placed), named)
        if not isinstance(given, Mapping):
            return given
        values = {key: cls._plain(key, value) for key, value in given.items()}
        if not cls.MAKERS:
            return values
        first = first_key(cls)
        options = {str(key): each for key, each in values.items() if key != first}
        chosen = {first: values[first]} if first in values else {}
        return chosen | {"options": _without_none(options)}

    @classmethod
    def _plain(cls, key: object, value: Any) -> Any:
        """Return the value of a key in plain form; a table of its own does that itself."""
        if is_table(cls, key):
            return value
        found = plain(value)
        return _without_none(found) if isinstance(found, dict) else found

    @model_validator(mode="after")
    def _check_options(self) -> Table:
        if self.MAKERS:
            first = first_key(type(self))
            chosen, options = getattr(self, first), getattr(self, "options", {})
            if chosen in self.MAKERS:
                check_options(type(self), options, self.MAKERS[chosen])
            elif options:
                expected = f"no options without a {first}"
                raise ConfigError(table_name(type(self)), dict(options), expected, "Name one.")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return what a TOML file holds: options among the keys; what is None is left out."""
        values = written(self)
        values |= values.pop("options", {})
        return _without_none(values)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = handler.resolve_ref_schema(handler(schema))
        said = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0]
        found["description"] = said.replace("``", "`")
        if cls.MAKERS:
            del found["properties"]["options"], found["additionalProperties"]
            first = first_key(cls)
            default = keys_of(cls)[first].default
            found |= maker_cases(first, cls.MAKERS, table_name(cls), default)
        return found


def first_key(made: type) -> str:
    """Return the key of an open table that names its maker."""
    return next(iter(keys_of(made)))


def keys_of(made: type) -> Mapping[str, Any]:
    """Return pydantic's description of each key, by name."""
    found: Mapping[str, Any] = made.__pydantic_fields__  # type: ignore[attr-defined]
    return found


def is_table(made: type, key: object) -> bool:
    """Return whether a key of `made` is a table of its own."""
    known = keys_of(made)
    held = known[key].annotation if isinstance(key, str) and key in known else None
    return isinstance(held, type) and issubclass(held, Table)


def table_name(made: type) -> str:
    """Return the name of a table in a TOML file; "" for `Config`, which is the file.

    Example:
        >>> from pynode_jl.runs import TrainConfig
        >>> table_name(TrainConfig)
        'train'
    """
    return made.__name__.removesuffix("Config").lower()


def check_options(made: type, options: Mapping[str, Any], maker: Maker) -> None:
    """Refuse an option that the maker of a table does not have."""
    table = table_name(made)
    known = options_of(maker, table)
    if known is None:  # it takes any
        return
    for option in options:
        if option not in known:
            keys = [first_key(made), *known]
            hint = nearest_hint(option, keys, "Remove it.")
            raise ConfigError(f"{table}.{option}", options[option], ", ".join(keys), hint)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is not None: a TOML file has no None, its default stands for it."""
    return {key: value for key, value in values.items() if value is not None}


# Refusals


def with_named_refusals(made: type[T]) -> type[T]:
    """Have a table's ``__init__`` raise the errors of pynode_jl."""
    held: Any = made
    check = held.__init__

    @wraps(check)
    def init(self: T, *args: Any, **kwargs: Any) -> None:
        with named_refusals(made):
            check(self, *args, **kwargs)

    held.__init__ = init
    return made


@contextmanager
def named_refusals(made: type) -> Iterator[None]:
    """Raise what pydantic refuses in a table of the class `made` as an error of pynode_jl."""
    try:
        yield
    except ValidationError as error:
        raise _refusal(error, made) from None


# What pydantic says of a value, as a noun phrase; what is not here has a sentence of its own.
_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "options by name",
    "mapping_type": "options by name",
    "dataclass_type": "a table",
    "multiple_argument_values": "one value",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "literal_error": "{expected}",
}


def _refusal(error: ValidationError, made: type) -> PyNODEError:
    """Return the first of pydantic's complaints as an error that names the key."""
    found = error.errors(include_url=False)[0]
    kind, given, context = found["type"], found["input"], found.get("ctx", {})
    if isinstance(cause := context.get("error"), PyNODEError):
        return cause
    where: Sequence[Any] = found["loc"]
    made, key = _place(made, where)
    if kind == "invalid_key":  # a number, say: no place of an argument
        made, key = _place(made, (*where[:-1], ""))[0], where[-1]
    name, known = table_name(made), list(keys_of(made))
    if kind in ("unexpected_keyword_argument", "invalid_key"):
        hint = nearest_hint(key, known, "Remove it.")
        return ConfigError(f"{name or 'configuration'} key", key, ", ".join(known), hint)
    if kind == "unexpected_positional_argument":
        return ConfigError(made.__name__, given, f"{len(known)} values", "Remove it.")
    expected = _EXPECTED.get(kind, found["msg"].removeprefix("Input should be "))
    expected = expected.format(**context)
    if not key:
        return ConfigError(name or "configuration", given, expected, "Give a dict.")
    names = re.findall(r"'([^']*)'", expected) if kind == "literal_error" else ()
    argument, hint = ".".join(filter(None, (name, key))), _hint(made, key)
    return ConfigError(argument, given, expected, nearest_hint(given, names, hint))


def _hint(made: type, key: str) -> str:
    """Return what is to be written: a table's heading, or what a key says and its default."""
    if is_table(made, key):
        return f"Write [{key}] and its keys below."
    held = keys_of(made)[key]
    text = held.description or "Options by name."
    default = held.get_default(call_default_factory=True)
    return text if default is None else f"{text} Left out, it is {default!r}."


def _place(made: type, where: Sequence[Any]) -> tuple[type, Any]:
    """Return the table and the key that pydantic's path leads to."""
    known = keys_of(made)
    key, *inner = where or ("",)
    if isinstance(key, int) and key < len(known):  # an argument without its name
        key = list(known)[key]
    return _place(known[key].annotation, inner) if inner and is_table(made, key) else (made, key)
