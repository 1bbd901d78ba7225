"""A sweep: many configurations, as one base and axes along which it is varied."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w

from pynode_jl._io import read_text, user_path
from pynode_jl._validation import instance
from pynode_jl.errors import InputError, PyNODEError, SweepError, nearest_hint
from pynode_jl.runs import TABLES, Config, RunIdentity
from pynode_jl.sweeps._axes import (
    combinations,
    grid_axes,
    point_axis,
    with_paths_from,
    zip_axes,
)

_KEYS = ("name", "base", "run", "grid", "zip", "points")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep: a training, and a swap of the trained model.

    Attributes:
        config: what decides it.
        settings: what the sweep's axes give it, by dotted key.
        identity: what its training, the name of its folder, and its swap are known by.
        shorter: digests of the sweep's trainings that differ in fewer iterations alone, the longest
            first: it may go on from one of them.

    Example:
        >>> sweep = pn.Sweep(grid={"seed": [0, 1]})
        >>> [run.settings for run in sweep.runs]
        [{'seed': 0}, {'seed': 1}]
    """

    config: Config
    settings: Mapping[str, Any]
    identity: RunIdentity
    shorter: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What its result is known by."""
        return f"{self.identity.training}-{self.identity.swap}"

    @property
    def folder(self) -> str:
        """The name of its folder, among the sweep's runs."""
        return self.identity.training


@dataclass(frozen=True)
class Sweep:
    """Many runs, as a base configuration and axes of dotted keys; every combination is a run.

    Attributes:
        base: what all runs have in common.
        grid: lists by key, each an axis.
        zip: tables of lists of one length; each table is an axis.
        points: tables of settings; all of them are one axis.
        name: of the sweep, for its pages.

    Raises:
        SweepError: no lists, lists of different lengths, a key on two axes.

    Example:
        >>> sweep = pn.Sweep(
        ...     pn.Config().changed({"train.iterations": 100}),
        ...     grid={"train.solver": ["Euler:dt=1/2", "Euler:dt=0.5", "RK4:dt=1/2"]},
        ...     zip=[{"seed": [0, 1], "train.learning_rate": [1e-3, 1e-4]}],
        ... )
        >>> len(sweep.runs)  # 1/2 and 0.5 are one step
        4
        >>> sweep.runs[0].settings["train.solver"]
        'Euler:dt=1/2'
    """

    base: Config = dataclasses.field(default_factory=Config)
    grid: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    zip: Sequence[Mapping[str, Sequence[Any]]] = ()
    points: Sequence[Mapping[str, Any]] = ()
    name: str = ""

    def __post_init__(self) -> None:
        instance("base", self.base, Config, "a Config", "Make one: pn.Config(...).")
        instance("name", self.name, str, "a text", 'Use "", say.')
        object.__setattr__(self, "grid", grid_axes(self.grid))
        object.__setattr__(self, "zip", zip_axes(self.zip))
        object.__setattr__(self, "points", point_axis(self.points))

    @cached_property
    def runs(self) -> tuple[PlannedRun, ...]:
        """The runs, each once, however often its settings occur.

        Raises:
            SweepError: settings of which no run can be made; the message says which and why.
        """
        found: dict[str, PlannedRun] = {}
        families: dict[str, dict[str, int]] = {}
        for settings in self._combinations():
            try:
                config = self.base.changed(settings)
                identity = RunIdentity.of(config)
            except (PyNODEError, TypeError) as error:
                raise SweepError(
                    "sweep", settings, "settings that make a run", f"{error}"
                ) from error
            run = PlannedRun(config, settings, identity)
            found.setdefault(run.key, run)
            if identity.family:
                family = families.setdefault(identity.family, {})
                family[identity.training] = config.train.iterations
        shorter = dict(_shorter(families))
        return tuple(
            dataclasses.replace(run, shorter=shorter.get(run.folder, ())) for run in found.values()
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """The dotted keys that are varied, in the order of the axes."""
        lists = [*self.points, *self.zip, self.grid]
        return tuple(dict.fromkeys(key for each in lists for key in each))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sweep:
        """Make a sweep from plain nested values, as `to_dict` gives them.

        Raises:
            SweepError: an unknown key, or axes that `Sweep` refuses.
            ConfigError: a base that is no configuration.
        """
        return _read(values, Path.cwd())

    @classmethod
    def load(cls, path: str | Path) -> Sweep:
        """Read the sweep in a TOML file, by its path; paths in it are from the file's folder.

        `path` is that of the file.

        Raises:
            SweepError: no such file, not TOML, an unknown key, or axes that `Sweep` refuses.
            ConfigError: a base that is no configuration.
        """
        file = user_path("sweep", path)
        try:
            values = tomllib.loads(read_text(file))
        except (InputError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise SweepError("sweep", str(path), "a readable TOML file", f"{error}") from error
        return _read(values, file.parent)

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values."""
        return {
            "name": self.name,
            "run": self.base.to_dict(),
            "grid": dict(self.grid),
            "zip": [dict(table) for table in self.zip],
            "points": [dict(table) for table in self.points],
        }

    def to_toml(self) -> str:
        """Return the text of a TOML file that `load` reads back."""
        return tomli_w.dumps(self.to_dict())

    def with_paths_from(self, folder: Path) -> Sweep:
        """Return the sweep with the paths of its data absolute, from `folder`."""
        return dataclasses.replace(
            self,
            base=self.base.with_paths_from(folder),
            grid=with_paths_from(self.grid, folder),
            zip=[with_paths_from(table, folder) for table in self.zip],
            points=[with_paths_from(table, folder) for table in self.points],
        )

    def _combinations(self) -> Iterator[dict[str, Any]]:
        points: Any = self.points
        return combinations(dict(self.grid), list(self.zip), points)  # type: ignore[arg-type]


def _shorter(families: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for family in families.values():
        ordered = sorted(family, key=family.__getitem__)
        for place, training in enumerate(ordered):
            yield training, tuple(reversed(ordered[:place]))


def _read(values: Mapping[str, Any], folder: Path) -> Sweep:
    if not isinstance(values, Mapping):
        raise SweepError("sweep", values, "a table", f"Its keys are {', '.join(_KEYS)}.")
    for key in values:
        if key not in _KEYS:
            hint = nearest_hint(key, _KEYS, "Remove it.")
            if key in Config().to_dict():
                hint = f"What all runs have in common belongs to [run]: run.{key}."
            raise SweepError("sweep key", key, ", ".join(_KEYS), hint)
    base = Config()
    if "base" in values:
        base = Config.from_toml(folder / user_path("base", values["base"]))
    sweep = Sweep(
        base,
        values.get("grid", {}),
        values.get("zip", ()),
        values.get("points", ()),
        values.get("name", ""),
    )
    if "run" in values:
        common = dict(_dotted(values["run"]))
        try:
            base = base.changed(common)
        except PyNODEError:
            # It may be whole with an axis alone: test solvers that go with the solvers of a grid.
            base = base.changed(common | next(sweep._combinations(), {}))
    return dataclasses.replace(sweep, base=base).with_paths_from(folder)


def _dotted(table: object) -> Iterator[tuple[str, Any]]:
    """Yield what [run] sets, key by key, so that it changes a base and does not replace it."""
    if not isinstance(table, Mapping):
        raise SweepError("run", table, "a table", "Write [run] and its keys below.")
    for key, value in table.items():
        if isinstance(value, Mapping) and key in TABLES:
            yield from ((f"{key}.{inner}", each) for inner, each in value.items())
        else:
            yield key, value
