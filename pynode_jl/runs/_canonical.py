"""One form for each configuration, however it was written: what decides whether two are one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from numbers import Integral, Real
from typing import Any, cast

import numpy as np

from pynode_jl.backends import Adam, Optimizer
from pynode_jl.datasets import DATASETS, takes_seed
from pynode_jl.errors import ConfigError, nearest_hint
from pynode_jl.fields import FIELDS
from pynode_jl.solvers import Solver
from pynode_jl.tasks import TASKS
from pynode_jl.training.step_adaptation import CONTROLLERS


def canonical(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration's settings by dotted key, in one form.

    Solvers and optimisers are compared by what they are (1/256 is 0.00390625), lists and tuples by
    their items, numbers by their value; an option that is left out has its default.

    Args:
        values: nested, as `Config.to_dict` gives them.

    Example:
        >>> from pynode_jl.runs import canonical
        >>> canonical(pn.Config().to_dict())["train.solver"]
        {'name': 'Euler', 'dt': 0.0625}
    """
    flat: dict[str, Any] = {}
    for table, held in values.items():
        if isinstance(held, Mapping):
            flat |= {f"{table}.{key}": plain(value) for key, value in held.items()}
        else:
            flat[table] = plain(held)
    solver = Solver.of(values["train"]["solver"])
    flat["train.solver"] = plain(solver.to_dict())
    train = values["train"]
    optimizer = configured_optimizer(train["optimizer"], train["learning_rate"]).to_dict()
    flat["train.learning_rate"] = optimizer.pop("learning_rate")
    flat["train.optimizer"] = plain(optimizer)
    flat["swap.solvers"] = tuple(
        plain(Solver.parse(text).to_dict()) if ":" in text else text
        for text in values["swap"]["solvers"]
    )
    data, adapt = values["data"]["name"], values["adapt"]["controller"]
    # An option of its own first: `None` would say "unless the configuration has another".
    flat = dict(_defaults("data", DATASETS[data])) | flat
    if takes_seed(data) and "seed" not in values["data"]:
        flat["data.seed"] = flat["seed"]
    flat = dict(_defaults("field", FIELDS[values["field"]["kind"]])) | flat
    if (kind := values.get("task", {}).get("kind")) in TASKS:
        flat = dict(_defaults("task", TASKS[kind])) | flat
    if adapt in CONTROLLERS:
        flat = dict(_defaults("adapt", cast(Any, CONTROLLERS[adapt]))) | flat
    return flat


def configured_optimizer(given: str | Mapping[str, Any], learning_rate: float) -> Optimizer:
    """Return the optimiser of ``[train]``: at `learning_rate`, unless it has a rate of its own.

    Raises:
        PyNODEError: an optimiser that does not exist, or an option that it does not have.
        ConfigError: two rates that differ.
    """
    optimizer = Optimizer.of(given)
    if "learning_rate" not in given:  # among a table's keys, or in a text
        return replace(optimizer, learning_rate=learning_rate)
    if learning_rate not in (Adam.learning_rate, optimizer.learning_rate):
        raise ConfigError(
            "train.learning_rate",
            learning_rate,
            f"{optimizer.learning_rate}, as train.optimizer has it",
            "Give one of the two.",
        )
    return optimizer


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, by dotted key, each with both values; None for none."""
    a, b = canonical(mine), canonical(theirs)
    keys = dict.fromkeys((*a, *b))
    found = {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}
    if found.get("seed") == found.get("data.seed"):  # the data's is the configuration's
        found.pop("data.seed", None)
    return found


def set_key(values: dict[str, Any], key: str, value: Any, tables: Sequence[str]) -> None:
    """Set a dotted key in nested `values`, as `Config.to_dict` gives them.

    Args:
        values: changed in place.
        key: "seed", "train.iterations", or, of what a table's key holds, "train.solver.dt".
        value: what it is to be.
        tables: the names of the tables.

    Raises:
        ConfigError: a key of no table.
    """
    expected = f"table.key with a table of {', '.join(tables)}"
    table, _, rest = key.partition(".") if isinstance(key, str) else ("", "", "")
    if not table or (rest and table not in tables):
        hint = nearest_hint(table, tables, "Correct the key.")
        raise ConfigError(str(key), value, expected, hint)
    if not rest:
        values[table] = value
        return
    name, _, inner = rest.partition(".")
    target = values.setdefault(table, {})
    if inner:
        held = _as_table(name, target.get(name))
        if held is None or "." in inner:
            raise ConfigError(key, value, expected, f"{table}.{name} has no keys of its own.")
        target[name] = held | {inner: value}
    else:
        target[name] = value


def _as_table(name: str, held: Any) -> dict[str, Any] | None:
    """Return what a key holds as a table; None for what is none."""
    if isinstance(held, Mapping):
        return dict(held)
    if not isinstance(held, str) or name not in ("solver", "optimizer"):
        return None
    if name == "solver":
        return Solver.parse(held).to_dict()
    made = Optimizer.of(held).to_dict()
    if "learning_rate" not in held:  # it is train.learning_rate
        del made["learning_rate"]
    return made


@cache
def _defaults(table: str, make: Callable[..., Any]) -> Mapping[str, Any]:
    return {
        f"{table}.{name}": plain(each.default)
        for name, each in inspect.signature(make).parameters.items()
        if each.default is not each.empty
    }


def plain(value: Any) -> Any:
    """Return a value in the one form of its kind, Python's own; what is none, as it is.

    Example:
        >>> from pynode_jl.runs import plain
        >>> plain(np.float32(0.5)), plain([1, 2])
        (0.5, (1, 2))
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value
