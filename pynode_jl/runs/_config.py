"""A configuration: everything that decides a run, as plain data, from TOML or from Python.

The two give the same run: a TOML file is read into the same frozen dataclasses that Python makes,
and what a run folder holds is written back from them.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tomli_w
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from pynode_jl._io import read_text, user_path
from pynode_jl.backends import BACKENDS, GRADIENTS, OPTIMIZERS, PRECISIONS, Optimizer
from pynode_jl.datasets import DATASETS, Dataset, load, takes_seed
from pynode_jl.diagnostics import CRITERIA, Criterion, check_rule, planned
from pynode_jl.errors import ConfigError, InputError, InvalidValueError
from pynode_jl.fields import FIELDS, VectorField
from pynode_jl.models import Model
from pynode_jl.runs._canonical import configured_optimizer, differences, set_key
from pynode_jl.runs._config_table import (
    CHECKED,
    Count,
    Factor,
    NameOf,
    Number,
    OptimizerSetting,
    Options,
    Seed,
    SolverSetting,
    SolverText,
    Table,
    Text,
    Whole,
    is_table,
    keys_of,
    named_refusals,
    with_named_refusals,
)
from pynode_jl.runs._makers import needed_options
from pynode_jl.runs._task_table import TaskConfig
from pynode_jl.solvers import Solver
from pynode_jl.training import Recipe, check_channels
from pynode_jl.training.step_adaptation import CONTROLLERS, StepAdapter


@with_named_refusals
@dataclass(frozen=True, config=CHECKED)
class DataConfig(Table):
    """Table ``[data]``: the data set's name and its options (the seed is the configuration's).

    Example:
        >>> from pynode_jl.runs import DataConfig
        >>> pn.Config(data=DataConfig("spheres", {"dim": 3})).dataset().x_train.shape
        (2000, 3)
    """

    MAKERS = DATASETS

    name: Annotated[Text, NameOf("data set", DATASETS)] = Field(
        default="spheres", description=f"One of {', '.join(DATASETS)}."
    )
    options: Options = Field(default_factory=dict)


@with_named_refusals
@dataclass(frozen=True, config=CHECKED)
class FieldConfig(Table):
    """Table ``[field]``: the field's kind (`FIELDS`) and its options (the state is the data's).

    Example:
        >>> from pynode_jl.runs import FieldConfig
        >>> config = pn.Config(field=FieldConfig("mlp", {"width": 16}))
        >>> config.make_model(config.dataset()).field.weight_shapes()["layers.0.weight"]
        (16, 2)
    """

    MAKERS = FIELDS

    kind: Annotated[Text, NameOf("field", FIELDS)] = Field(
        default="conv1d", description=f"One of {', '.join(FIELDS)}."
    )
    options: Options = Field(default_factory=dict)


@with_named_refusals
@dataclass(frozen=True, config=CHECKED)
class ModelConfig(Table):
    """Table ``[model]``: the interval, the zeros appended to the input, and the read-out.

    The read-out is "linear", "none" or "", the task's. The last time of a trajectory is its t1.

    Example:
        >>> from pynode_jl.runs import ModelConfig
        >>> config = pn.Config(model=ModelConfig(t1=2.0, augment=1))
        >>> config.make_model(config.dataset()).field.state_shape
        (3,)
    """

    t0: Number = Field(default=0.0, description="Where the interval of the ODE begins.")
    t1: Number = Field(
        default=1.0, description="Where it ends; of trajectories it is their last time."
    )
    augment: Whole = Field(default=0, description="Zeros that are appended to each state.")
    head: Literal["linear", "none", ""] = Field(
        default="", description='Read-out: linear, none, or "" for the task\'s.'
    )

    def __post_init__(self) -> None:
        if self.t0 == self.t1:
            raise InvalidValueError("model.t1", self.t1, "another time than t0", "Take 0 to 1.")


@with_named_refusals
@dataclass(frozen=True, config=CHECKED)
class TrainConfig(Table):
    """Table ``[train]``: the solver, as ``"Euler:dt=1/16"`` or a table, and the recipe.

    The optimiser is a text or a table, too: ``"sgd:momentum=0.9"``. Its learning rate is
    `learning_rate` unless it has its own. A `Solver` and an `Optimizer` become tables.

    Example:
        >>> from pynode_jl.runs import TrainConfig
        >>> pn.Config(train=TrainConfig(solver="RK4:dt=1/4")).recipe().solver.label
        'RK4 h=1/4'
        >>> train = TrainConfig(learning_rate=0.1, optimizer={"name": "sgd", "momentum": 0.9})
        >>> pn.Config(train=train).recipe().optimizer
        SGD(learning_rate=0.1, ...momentum=0.9...)
    """

    solver: SolverSetting = Field(
        default="Euler:dt=1/16",
        description="A name of `pynode-jl solvers`, with dt=... or rtol=...,atol=... or tol=...",
    )
    iterations: Count = Field(default=10_000, description="Updates of the weights.")
    batch_size: Count = Field(default=128, description="Samples an update.")
    learning_rate: Number = Field(default=1e-4, gt=0, description="Of the optimiser.")
    gradient: Text = Field(default="discrete", description=f"One of {', '.join(GRADIENTS)}.")
    precision: Annotated[Text, NameOf("precision", PRECISIONS)] = Field(
        default="full",
        description=f"One of {', '.join(PRECISIONS)}; bfloat16 is for the field's layers.",
    )
    chunk: Count = Field(
        default=50,
        description="Iterations between two looks at the model; a killed run loses one at most.",
    )
    optimizer: OptimizerSetting = Field(
        default="adam",
        description=f'One of {", ".join(OPTIMIZERS)}, with options: "sgd:momentum=0.9".',
    )

    def make_optimizer(self) -> Optimizer:
        """Return the optimiser.

        Raises:
            PyNODEError: an optimiser that does not exist, or an option that it does not have.
            ConfigError: two learning rates that differ.
        """
        return configured_optimizer(self.optimizer, self.learning_rate)


@with_named_refusals
@dataclass(frozen=True, config=CHECKED)
class AdaptConfig(Table):
    """Table ``[adapt]``: the controller (`CONTROLLERS`, or "none") and its options.

    Example:
        >>> from pynode_jl.runs import AdaptConfig
        >>> AdaptConfig("steady", {"every": 50}).make().every
        50
    """

    MAKERS = CONTROLLERS

    controller: Annotated[Text, NameOf("controller", CONTROLLERS, ("none",))] = Field(
        default="none",
        description=f"Adapts the step while training: none, {', '.join(CONTROLLERS)}.",
    )
    options: Options = Field(default_factory=dict)

    def make(self) -> StepAdapter | None:
        """Return the step adapter; None for "none"."""
        return None if self.controller == "none" else CONTROLLERS[self.controller](**self.options)


@with_named_refusals
@dataclass(frozen=True, config=CHECKED)
class SwapConfig(Table):
    """Table ``[swap]``: what `pynode_jl.swap` is called with; an empty list is its default.

    Without a margin it is the task's.

    Raises:
        InvalidValueError: a margin, confidence or criterion that `swap` would refuse.

    Example:
        >>> from pynode_jl.runs import SwapConfig
        >>> pn.Config(swap=SwapConfig(("RK4", "Tsit5:rtol=1e-6"), (0.5, 1.0))).swap.solvers
        ('RK4', 'Tsit5:rtol=1e-6')
    """

    solvers: tuple[SolverText, ...] = Field(
        default=(), description="Test solvers; an empty list is the default choice."
    )
    factors: tuple[Factor, ...] = Field(
        default=(), description="Multiples of the training step or tolerance; empty: the default."
    )
    margin: Number | None = Field(
        default=None, description="The change of answers that is allowed; left out, the task's."
    )
    confidence: Number = Field(default=0.95, description="Of the verdict's intervals.")
    criterion: Criterion = Field(default="flips", description=f"One of {', '.join(CRITERIA)}.")

    def __post_init__(self) -> None:
        check_rule(self.margin, self.confidence, self.criterion)


@with_named_refusals
@dataclass(frozen=True, eq=False, config=CHECKED)
class Config(Table):
    """Everything that decides a run.

    Two are equal where their settings are, however these were written: 1/256 and 0.00390625, a list
    and a tuple, a default and its value.

    Attributes:
        seed: decides the data, the initial weights and the batches.
        backend: a name of `BACKENDS`; "auto" is resolved when the run begins.
        device: "cpu", "gpu", or "" for the backend's default.
        data, task, field, model, train, adapt, swap: the tables of the same names, each as an
            object of its class or as a dict of a TOML file's keys.

    Raises:
        ConfigError: a value that no run can be made of; the message says which and why.

    Example:
        >>> config = pn.Config.from_dict({"seed": 1, "train": {"solver": "Euler:dt=1/8"}})
        >>> config.recipe().solver.label
        'Euler h=1/8'
        >>> config.changed({"train.iterations": 100}).train.iterations
        100
    """

    seed: Seed = Field(
        default=0, description="Decides the data, the initial weights and the batches."
    )
    backend: Annotated[Text, NameOf("backend", BACKENDS, ("auto",))] = Field(
        default="auto", description=f"auto, {', '.join(BACKENDS)}."
    )
    device: Text = Field(default="", description='cpu, gpu, or "" for the backend\'s default.')
    data: DataConfig = DataConfig()
    task: TaskConfig = TaskConfig()
    field: FieldConfig = FieldConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    adapt: AdaptConfig = AdaptConfig()
    swap: SwapConfig = SwapConfig()

    def __post_init__(self) -> None:
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
        """Make the data, from the seed where chance has a part in them.

        Raises:
            ConfigError: an option that the data set needs and has not, or that has a wrong value.
            PyNODEError: a file that it cannot be made of.
        """
        options = dict(self.data.options)
        if takes_seed(self.data.name):
            options.setdefault("seed", self.seed)
        options = self.task.data_options(self.data.name) | options
        needed = needed_options(DATASETS[self.data.name])
        with _named_keys("data", (*self.data.options, *needed)):
            data = load(self.data.name, **options)
        return self.task.applied(data)

    def make_model(self, dataset: Dataset) -> Model:
        """Make the model for these data.

        `dataset` gives the shape of states and the task.

        Raises:
            ConfigError: options that the field does not have, or that have wrong values.
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
            with _named_keys("field", self.field.options):
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
        values: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
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
        with named_refusals(cls):
            return _ADAPTER.validate_python(values)

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


@contextmanager
def _named_keys(table: str, options: Collection[str]) -> Iterator[None]:
    """Have what a maker refuses of these options named as the keys that they are."""
    try:
        yield
    except InvalidValueError as error:
        if type(error) is not InvalidValueError or error.argument not in options:
            raise
        key = f"{table}.{error.argument}"
        raise ConfigError(key, error.value, error.expected, error.hint) from error


_ADAPTER = TypeAdapter(Config)
#: The tables of a configuration, by name.
TABLES: Mapping[str, type[Table]] = {
    key: item.annotation for key, item in keys_of(Config).items() if is_table(Config, key)
}
#: Options of data sets that are paths.
_PATHS = ("path", "folder", "test_path")
