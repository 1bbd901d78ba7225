"""A configuration: everything that decides a run, as plain data, from TOML or from Python.

The two give the same run: a TOML file is read into the same frozen dataclasses that Python makes,
and what a run folder holds is written back from them.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, cast

import tomli_w

from pynode_jl._io import read_text, user_path
from pynode_jl._validation import choice, real_number, whole_number
from pynode_jl.backends import BACKENDS, Optimizer
from pynode_jl.datasets import DATASETS, Dataset, load, takes_seed
from pynode_jl.diagnostics import Criterion, check_rule, planned
from pynode_jl.errors import (
    ConfigError,
    InputError,
    InvalidValueError,
    PyNODEError,
    UnknownNameError,
    nearest_names,
)
from pynode_jl.fields import FIELDS, VectorField
from pynode_jl.models import Model
from pynode_jl.runs._canonical import (
    check_options,
    configured_optimizer,
    differences,
    make_plain,
    plain,
    set_key,
)
from pynode_jl.runs._task_table import TaskConfig
from pynode_jl.seeding import checked_seed
from pynode_jl.solvers import Solver
from pynode_jl.training import Recipe, check_channels
from pynode_jl.training.step_adaptation import CONTROLLERS, StepAdapter


@dataclass(frozen=True)
class DataConfig:
    """Table ``[data]``: the data set's name and its options (the seed is the configuration's).

    Example:
        >>> from pynode_jl.runs import DataConfig
        >>> pn.Config(data=DataConfig("spheres", {"dim": 3})).dataset().x_train.shape
        (2000, 3)
    """

    name: str = "spheres"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        make_plain(self)


@dataclass(frozen=True)
class FieldConfig:
    """Table ``[field]``: the field's kind (`FIELDS`) and its options (the state is the data's).

    Example:
        >>> from pynode_jl.runs import FieldConfig
        >>> config = pn.Config(field=FieldConfig("mlp", {"width": 16}))
        >>> config.make_model(config.dataset()).field.weight_shapes()["layers.0.weight"]
        (16, 2)
    """

    kind: str = "conv1d"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        make_plain(self)


@dataclass(frozen=True)
class ModelConfig:
    """Table ``[model]``: the interval, the zeros appended to the input, and the read-out.

    The read-out is "linear", "none" or "", the task's. The last time of a trajectory is its t1.

    Example:
        >>> from pynode_jl.runs import ModelConfig
        >>> config = pn.Config(model=ModelConfig(t1=2.0, augment=1))
        >>> config.make_model(config.dataset()).field.state_shape
        (3,)
    """

    t0: float = 0.0
    t1: float = 1.0
    augment: int = 0
    head: str = ""

    def __post_init__(self) -> None:
        make_plain(self)
        choice("model.head", self.head, ("linear", "none", ""))
        for name in ("t0", "t1"):
            real_number(f"model.{name}", getattr(self, name), "0 to 1 is usual.")
        if self.t0 == self.t1:
            raise InvalidValueError("model.t1", self.t1, "another time than t0", "Take 0 to 1.")
        whole_number("model.augment", self.augment, 0)


@dataclass(frozen=True)
class TrainConfig:
    """Table ``[train]``: the solver, as ``"Euler:dt=1/16"`` or a table, and the recipe.

    The optimiser is a text or a table, too: ``"sgd:momentum=0.9"``. Its learning rate is
    `learning_rate` unless it has its own.

    Example:
        >>> from pynode_jl.runs import TrainConfig
        >>> pn.Config(train=TrainConfig(solver="RK4:dt=1/4")).recipe().solver.label
        'RK4 h=1/4'
        >>> train = TrainConfig(learning_rate=0.1, optimizer={"name": "sgd", "momentum": 0.9})
        >>> pn.Config(train=train).recipe().optimizer
        SGD(learning_rate=0.1, ...momentum=0.9...)
    """

    solver: str | Mapping[str, Any] = "Euler:dt=1/16"
    iterations: int = 10_000
    batch_size: int = 128
    learning_rate: float = 1e-4
    gradient: str = "discrete"
    precision: str = "full"
    chunk: int = 50
    optimizer: str | Mapping[str, Any] = "adam"

    def __post_init__(self) -> None:
        if isinstance(self.optimizer, Optimizer):
            object.__setattr__(self, "optimizer", self.optimizer.to_dict())
        make_plain(self)

    def make_optimizer(self) -> Optimizer:
        """Return the optimiser.

        Raises:
            PyNODEError: an optimiser that does not exist, or an option that it does not have.
            ConfigError: two learning rates that differ.
        """
        return configured_optimizer(self.optimizer, self.learning_rate)


@dataclass(frozen=True)
class AdaptConfig:
    """Table ``[adapt]``: the controller (`CONTROLLERS`, or "none") and its options.

    Example:
        >>> from pynode_jl.runs import AdaptConfig
        >>> AdaptConfig("steady", {"every": 50}).make().every
        50
    """

    controller: str = "none"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        make_plain(self)

    def make(self) -> StepAdapter | None:
        """Return the step adapter; None for "none".

        Raises:
            UnknownNameError: no controller has that name.
            ConfigError: an option that it does not have.
        """
        if self.controller == "none":
            if self.options:
                raise ConfigError(
                    "adapt", dict(self.options), "no options without a controller", "Name one."
                )
            return None
        if not isinstance(self.controller, str):
            raise ConfigError("adapt.controller", self.controller, "a name", 'Use "none", say.')
        if self.controller not in CONTROLLERS:
            raise UnknownNameError("controller", self.controller, ("none", *CONTROLLERS))
        made = CONTROLLERS[self.controller]
        check_options("adapt", self.options, [item.name for item in fields(made)])
        return made(**self.options)


@dataclass(frozen=True)
class SwapConfig:
    """Table ``[swap]``: what `pynode_jl.swap` is called with; an empty list is its default.

    Without a margin it is the task's.

    Raises:
        InvalidValueError: a margin, confidence or criterion that `swap` would refuse.

    Example:
        >>> from pynode_jl.runs import SwapConfig
        >>> pn.Config(swap=SwapConfig(("RK4", "Tsit5:rtol=1e-6"), (0.5, 1.0))).swap.solvers
        ('RK4', 'Tsit5:rtol=1e-6')
    """

    solvers: tuple[str, ...] = ()
    factors: tuple[float, ...] = ()
    margin: float | None = None
    confidence: float = 0.95
    criterion: Criterion = "flips"

    def __post_init__(self) -> None:
        for name, kind in (("solvers", "solvers, as text"), ("factors", "numbers")):
            value = getattr(self, name)
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                raise InvalidValueError(f"swap.{name}", value, f"a list of {kind}", "Write [...].")
        solvers = tuple(str(each) if isinstance(each, Solver) else each for each in self.solvers)
        object.__setattr__(self, "solvers", solvers)
        object.__setattr__(self, "factors", tuple(self.factors))
        make_plain(self)
        for each in self.solvers:
            if not isinstance(each, str):
                raise InvalidValueError("swap.solvers", each, "a solver, as text", 'Use "RK4".')
        for factor in self.factors:
            real_number("swap.factors", factor, "0.5 halves the step.", above=0)
        check_rule(self.margin, self.confidence, self.criterion)


@dataclass(frozen=True, eq=False)
class Config:
    """Everything that decides a run.

    Two are equal where their settings are, however these were written: 1/256 and 0.00390625, a list
    and a tuple, a default and its value.

    Attributes:
        seed: decides the data, the initial weights and the batches.
        backend: a name of `BACKENDS`; "auto" is resolved when the run begins.
        device: "cpu", "gpu", or "" for the backend's default.
        data, task, field, model, train, adapt, swap: the tables of the same names.

    Raises:
        ConfigError: a value that no run can be made of; the cause says which and why.

    Example:
        >>> config = pn.Config.from_dict({"seed": 1, "train": {"solver": "Euler:dt=1/8"}})
        >>> config.recipe().solver.label
        'Euler h=1/8'
        >>> config.changed({"train.iterations": 100}).train.iterations
        100
    """

    seed: int = 0
    backend: str = "auto"
    device: str = ""
    data: DataConfig = DataConfig()
    task: TaskConfig = dataclasses.field(default_factory=TaskConfig)
    field: FieldConfig = FieldConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    adapt: AdaptConfig = AdaptConfig()
    swap: SwapConfig = SwapConfig()

    def __post_init__(self) -> None:
        checked_seed(self.seed)
        object.__setattr__(self, "seed", int(self.seed))
        for table, made in TABLES.items():
            value = getattr(self, table)
            if not isinstance(value, made):
                raise ConfigError(
                    table, value, f"a {made.__name__}", f"Write {made.__name__}(...)."
                )
        for kind, name, known in (
            ("backend", self.backend, ("auto", *BACKENDS)),
            ("data set", self.data.name, DATASETS),
            ("field", self.field.kind, FIELDS),
        ):
            if not isinstance(name, str):
                raise ConfigError(kind, name, "a name", f"Use one of {', '.join(known)}.")
            if name not in known:
                raise UnknownNameError(kind, name, known)
        if not isinstance(self.device, str):
            raise ConfigError("device", self.device, '"cpu", "gpu" or ""', 'Use "" for neither.')
        solver = self.recipe().solver
        if solver.fixed and not self.task.has_times(self.data.name):
            solver.grid(self.model.t0, self.model.t1)
        # What a swap would refuse is to be found before training, not after it.
        span = abs(self.model.t1 - self.model.t0)
        list(planned(solver, self.swap.solvers or None, self.swap.factors or None, span))
        if self.swap.criterion == "three-points":
            _ = solver.order  # the rule is about orders

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Config):
            return NotImplemented
        return not self.differences(other)

    def differences(self, other: Config) -> dict[str, tuple[Any, Any]]:
        """Return the settings in which two differ, by dotted key, each with both values.

        `other` is another configuration.

        Example:
            >>> base = pn.Config()
            >>> base.differences(base.changed({"train.solver": "Euler:dt=0.0625", "seed": 1}))
            {'seed': (0, 1)}
        """
        return differences(self.to_dict(), other.to_dict())

    def with_paths_from(self, folder: Path) -> Config:
        """Return the configuration with the paths of its data absolute, from `folder`."""
        options = dict(self.data.options)
        for name in _PATHS:
            if isinstance(options.get(name), str):
                path = folder / user_path(f"data.{name}", options[name])
                options[name] = os.path.abspath(path)
        return replace(self, data=replace(self.data, options=options))

    def dataset(self) -> Dataset:
        """Make the data, from the seed where chance has a part in them."""
        options = dict(self.data.options)
        if takes_seed(self.data.name):
            options.setdefault("seed", self.seed)
        options = self.task.data_options(self.data.name) | options
        return self.task.applied(load(self.data.name, **options))

    def make_model(self, dataset: Dataset) -> Model:
        """Make the model for these data.

        `dataset` gives the shape of states and the task.

        Raises:
            ConfigError: options that the field does not have.
            DataError: images without channels, or with the channels last, for "conv2d".
            InvalidValueError: a read-out, step or rule of the swap that the task cannot take.
        """
        check_rule(self.swap.margin, self.swap.confidence, self.swap.criterion, dataset.task)
        if self.field.kind == "conv2d":
            check_channels(dataset.state_shape)
        first, *rest = dataset.state_shape
        state = (first + self.model.augment, *rest)
        make = FIELDS[self.field.kind]
        try:
            made: VectorField = make(state if rest else state[0], **self.field.options)
        except (TypeError, AttributeError) as error:
            raise ConfigError(
                "field",
                dict(self.field.options),
                f"the options of {make.__name__}, for a state {state}",
                f"{error}.",
            ) from error
        span, augment, head = (self.model.t0, self.model.t1), self.model.augment, self.model.head
        model = Model(made, 0, *span, augment, task=dataset.task, head=cast(Any, head))
        if (solver := self.recipe().solver).fixed:
            solver.grid(model.t0, model.t1)
        return model

    def recipe(self) -> Recipe:
        """How to train."""
        return Recipe(
            Solver.of(self.train.solver),
            self.train.iterations,
            self.train.batch_size,
            self.train.make_optimizer(),
            self.seed,
            self.train.gradient,  # `Recipe` checks the names
            self.train.precision,
            self.train.chunk,
            self.adapt.make(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, as a TOML file holds them; what is None is left out."""
        values: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            values[item.name] = _plain_table(value) if item.name in TABLES else value
        return values

    def to_toml(self) -> str:
        """Return the text of a TOML file that `from_toml` reads back."""
        return tomli_w.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Make a configuration from plain nested values.

        Raises:
            ConfigError: an unknown key, a value of the wrong type.
        """
        _check_keys("configuration", values, [item.name for item in fields(cls)])
        made = {
            name: _read_table(name, values[name]) if name in TABLES else values[name]
            for name in values
        }
        try:
            return cls(**made)
        except (TypeError, ValueError) as error:
            if isinstance(error, PyNODEError):
                raise
            raise ConfigError(
                "configuration", dict(values), "values that fit", f"{error}."
            ) from error

    @classmethod
    def from_toml(cls, path: str | Path) -> Config:
        """Read the configuration in a TOML file; a relative path in it is from the file's folder.

        Raises:
            ConfigError: no such file, or not TOML, or not a configuration.
        """
        file = user_path("config", path)
        try:
            values = tomllib.loads(read_text(file))
        except (InputError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigError("config", str(path), "a readable TOML file", f"{error}") from error
        return cls.from_dict(values).with_paths_from(file.parent)

    def changed(self, settings: Mapping[str, Any]) -> Config:
        """Return this configuration with dotted keys set: ``{"train.iterations": 100}``.

        A solver's and an optimiser's settings are keys too: ``{"train.solver.dt": 0.5}``.

        Raises:
            ConfigError: an unknown key.
        """
        values = self.to_dict()
        # Wholes before their parts: a solver, then its step.
        for key in sorted(settings, key=lambda key: str(key).count(".")):
            set_key(values, key, settings[key], tuple(TABLES))
        return Config.from_dict(values)


#: The tables of a configuration, by name.
TABLES: Mapping[str, type] = {
    "data": DataConfig,
    "task": TaskConfig,
    "field": FieldConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "adapt": AdaptConfig,
    "swap": SwapConfig,
}
#: Tables whose keys beyond the first belong to a maker of their own.
_OPEN = ("data", "task", "field", "adapt")
#: Options of data sets that are paths.
_PATHS = ("path", "folder", "test_path")
#: The values of each type that a key takes; an int is a float too.
_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "Criterion": (str,),
    "int": (Integral,),
    "float": (Real,),
    "float | None": (Real,),
    "str | Mapping[str, Any]": (str, Mapping),
    "tuple[str, ...]": (list, tuple),
    "tuple[float, ...]": (list, tuple),
}


def _read_table(name: str, values: object) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(name, values, "a table", f"Write [{name}] and its keys below.")
    table = TABLES[name]
    keys = {item.name: str(item.type) for item in fields(table)}
    if name in _OPEN:
        first = next(iter(keys))
        options = {key: value for key, value in values.items() if key != first}
        return table(**{key: values[key] for key in values if key == first}, options=options)
    _check_keys(name, values, keys)
    values = {key: plain(value) for key, value in values.items()}
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, _TYPES[keys[key]]):
            raise ConfigError(f"{name}.{key}", value, keys[key], "Correct its type.")
    return table(**values)


def _check_keys(name: str, values: Mapping[str, Any], known: Any) -> None:
    for key in values:
        if not isinstance(key, str):
            raise ConfigError(f"{name} key", key, "a name", "Write it as text.")
        if key not in known:
            near = nearest_names(key, known)
            hint = f"Did you mean {near[0]}?" if near else "Remove it."
            raise ConfigError(f"{name} key", key, ", ".join(known), hint)


def _plain_table(table: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in fields(table):
        value = getattr(table, item.name)
        if item.name == "options":
            values.update(value)
        elif value is not None:
            values[item.name] = list(value) if isinstance(value, tuple) else value
    return values
