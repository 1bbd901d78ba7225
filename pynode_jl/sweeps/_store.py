"""A sweep's folder: its definition, a folder for each run, and an index of the results.

::

    sweep.toml                       the sweep that was run here last
    runs/<training>/                 an ordinary run's folder, by its settings' digest, and in it
        result-<swap>.json           what came of it, written last, with checksums of the rest
        failure-<swap>.json          or why nothing did
    damaged/                         what failed its checksum, set aside
    index.sqlite                     a copy of the results, to list and filter

A run's folder is known by what decides its training: sweeps that share runs share them here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pynode_jl._io import digest, make_folder, read_sealed, user_path, write_sealed
from pynode_jl._validation import instance
from pynode_jl.errors import InputError, PyNODEError, SweepError
from pynode_jl.runs import Config, Run, canonical
from pynode_jl.solvers import Solver
from pynode_jl.sweeps._definition import PlannedRun, Sweep
from pynode_jl.sweeps._index import Condition, Index, conditions
from pynode_jl.sweeps._result_files import (
    Failure,
    failure_name,
    read_failure,
    read_result,
    result_name,
)

if TYPE_CHECKING:
    from pynode_jl.diagnostics import SwapMatrix

DEFINITION, RUNS, DAMAGED = "sweep.toml", "runs", "damaged"
_HEAD = "pynode_jl sweep 1"

#: What a run of a sweep may be: with a result, with a recorded failure, with neither.
STATES = ("done", "failed", "missing")


class SweepStore:
    """The results of a sweep in a folder. Made by `run_sweep` or `SweepStore.open`.

    Attributes:
        sweep: the sweep that was run here last.
        folder: where it lives.

    Example:
        >>> from pynode_jl.sweeps import SweepStore
        >>> store = SweepStore.create(pn.Sweep(grid={"seed": [0, 1]}), "sweeps/new")
        >>> SweepStore.open("sweeps/new").table()["state"].tolist()
        ['missing', 'missing']
    """

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        self.sweep = sweep
        self.folder = folder

    @classmethod
    def create(cls, sweep: Sweep, folder: str | Path) -> SweepStore:
        """Make the folder of a sweep, or take the one that is there; its results stay.

        Raises:
            SweepError: it holds something else, or the sweep has no run.
            OutputError: it cannot be written.
        """
        instance("sweep", sweep, Sweep, "a Sweep", "Make one: pn.Sweep(...).")
        path = user_path("folder", folder)
        # Results must be found from any working folder.
        sweep = sweep.with_paths_from(Path.cwd())
        if not (path / DEFINITION).exists() and path.exists():
            others = [file.name for file in path.iterdir()] if path.is_dir() else [path.name]
            if others:
                hint = f"It has {', '.join(sorted(others)[:3])}: take another folder."
                raise SweepError("folder", str(folder), "a new folder, or a sweep's", hint)
        made = cls(sweep, path)
        _ = sweep.runs  # refused before anything is written
        make_folder(path / RUNS)
        text = sweep.to_toml()
        if not (path / DEFINITION).exists() or _definition(path) != text:
            write_sealed(path / DEFINITION, _HEAD, text)
        return made

    @classmethod
    def open(cls, folder: str | Path) -> SweepStore:
        """Open the sweep that is in `folder`.

        Raises:
            SweepError: there is none, or its definition is damaged.
        """
        path = user_path("folder", folder)
        try:
            values = tomllib.loads(read_sealed(path / DEFINITION, _HEAD))
        except (InputError, tomllib.TOMLDecodeError, RecursionError) as error:
            hint = f"{error} `pynode-jl sweep run` makes one."
            raise SweepError("folder", str(folder), "a sweep's folder", hint) from error
        return cls(Sweep.from_dict(values), path)

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """The runs of the sweep, with a result or without."""
        return self.sweep.runs

    def run_folder(self, run: PlannedRun) -> Path:
        """Return the folder of one run."""
        return self.folder / RUNS / run.folder

    def result_path(self, run: PlannedRun) -> Path:
        """Return the path of one run's result."""
        return self.run_folder(run) / result_name(run.identity.swap)

    def failure_path(self, run: PlannedRun) -> Path:
        """Return the path of the file that says why one run has no result."""
        return self.run_folder(run) / failure_name(run.identity.swap)

    def result(self, run: PlannedRun) -> dict[str, Any]:
        """Return one run's result: metrics, verdict, swap, and more.

        Raises:
            InputError: there is none, or it or a file that it rests on is damaged.
        """
        return read_result(self.result_path(run))

    def failure(self, run: PlannedRun) -> Failure | None:
        """Return why one run has no result; None where no try has failed."""
        return read_failure(self.failure_path(run))

    def table(
        self,
        where: Iterable[str] = (),
        *,
        keys: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Return a row for each run of the sweep: its settings, state and metrics.

        Args:
            where: conditions that a row must fulfil: ``"seed<3"``, ``"state=failed"``,
                ``"train.solver=Euler:dt=1/4"``.
            keys: the settings to show, as dotted keys; default: those that the sweep varies.
            limit: the most rows.

        Raises:
            SweepError: a condition that is none, or of an unknown key.
            OutputError: the index can be neither read nor made anew.
        """
        shown = self.sweep.keys if keys is None else tuple(keys)
        self._catch_up()
        found = self._conditions(where)
        known = [*shown, *(condition.key for condition in found)]
        every = {key: _DEFAULTS.get(key) for key in known if key in self.known_keys}
        table = self.index.table(every, found, self._digest, limit)
        return table.drop(columns=[key for key in every if key not in shown])

    def counts(self) -> dict[str, int]:
        """Return the number of the sweep's runs by state."""
        self._catch_up()
        found = self.index.counts(self._digest)
        return {state: found.get(state, 0) for state in STATES}

    def swaps(self, where: Iterable[str] = ()) -> pd.DataFrame:
        """Return the swaps of finished runs as one table: a row for each run and test solver.

        Args:
            where: conditions on the runs, as for `table`.

        Raises:
            SweepError: as for `table`.
        """
        parts = []
        for row in self.table([*where, "state=done"]).to_dict("records"):
            try:
                swap = pd.DataFrame(read_result(self._paths(row["key"])[0])["swap"])
            except InputError:
                continue  # it is found, named and run again with the next run of the sweep
            settings = {key: row[key] for key in ("key", *self.sweep.keys)}
            parts.append(pd.concat([pd.DataFrame([settings] * len(swap)), swap], axis=1))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def finished(self, where: Iterable[str] = ()) -> list[Run]:
        """Return the finished runs, as run folders that every other call takes.

        Args:
            where: conditions on the runs, as for `table`.

        Raises:
            SweepError: as for `table`.
        """
        keys = self.table([*where, "state=done"], keys=())["key"]
        folders = dict.fromkeys(self._paths(key)[0].parent for key in keys)
        return [Run.open(folder) for folder in folders]

    def matrix(self, tests: Sequence[str | Solver] | None = None, **options: Any) -> SwapMatrix:
        """Make the swap matrix of the finished runs.

        Args:
            tests: test solvers, as for `runs.runs_matrix`; default: those of the base's ``[swap]``,
                with its factors.
            options: its other arguments; default: what ``[swap]`` says of them.

        Raises:
            InvalidValueError: no run is finished.
        """
        from pynode_jl.runs import of_one_task, runs_matrix

        own = self.sweep.base.swap
        if tests is None and own.solvers:
            tests, options = own.solvers, {"factors": own.factors or None, **options}
        rule = {"margin": own.margin, "confidence": own.confidence, "criterion": own.criterion}
        runs = of_one_task(self.finished(), options.get("on_skip"))
        return runs_matrix(runs, tests, **{**rule, **options})

    @cached_property
    def index(self) -> Index:
        """The index of all results in the folder."""
        return Index(self.folder, self._rows)

    @cached_property
    def known_keys(self) -> tuple[str, ...]:
        """Every dotted key that can be asked for."""
        return tuple(dict.fromkeys((*self.sweep.keys, *_DEFAULTS)))

    def record(self, runs: Iterable[PlannedRun]) -> None:
        """Write what the folders say of some runs to the index.

        Raises:
            OutputError: it cannot be written.
        """
        self.index.put([self._row(run.key, shown_settings(run.identity.settings)) for run in runs])

    def record_all(self) -> None:
        """Write what the folders say of all runs to the index, and that they are the sweep's.

        Raises:
            OutputError: it cannot be written.
        """
        self.record(self.runs)
        self.index.put_members(self._digest, [run.key for run in self.runs])

    @cached_property
    def _digest(self) -> str:
        return digest(self.sweep.to_toml().encode())

    def _paths(self, key: str) -> tuple[Path, Path]:
        """Return the paths of a run's result and failure."""
        training, _, swap = key.partition("-")
        folder = self.folder / RUNS / training
        return folder / result_name(swap), folder / failure_name(swap)

    def _row(self, key: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        result, failed = self._paths(key)
        try:
            return _row_of(key, read_result(result)) | {"settings": settings}
        except InputError:
            failure = read_failure(failed)
        row: dict[str, Any] = {"key": key, "state": "missing", "settings": settings}
        return row | (_row_of_failure(failure) if failure is not None else {})

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each result and failure in the folders, whichever sweep made it."""
        for path in sorted((self.folder / RUNS).glob("*/*-*.json")):
            kind, _, swap = path.stem.partition("-")
            key = f"{path.parent.name}-{swap}"
            try:
                if kind == "result":
                    values = read_result(path)
                    settings = shown_settings(values["settings"])
                    yield _row_of(key, values) | {"settings": settings}
                elif kind == "failure" and not path.with_name(result_name(swap)).exists():
                    failure, settings = read_failure(path), {}
                    if failure is not None:
                        row = _row_of_failure(failure)
                        yield {"key": key, "settings": settings, **row}
            except (PyNODEError, KeyError, TypeError):
                continue  # damaged: the next run of the sweep finds and names it

    def _catch_up(self) -> None:
        """Give the runs that the index does not know as finished what their folders say.

        A killed process may not have written to the index what it wrote to a folder.
        """
        known = self.index.counts(self._digest)
        if not known or None in known:  # an index made anew knows no sweeps
            self.record_all()
            return
        changed = []
        for key, state, settings in self.index.unfinished(self._digest):
            result, failed = self._paths(key)
            if result.exists() or state != ("failed" if failed.exists() else "missing"):
                changed.append(self._row(key, settings))
        if changed:
            self.index.put(changed)

    def _conditions(self, where: Iterable[str]) -> list[Condition]:
        found = []
        for condition in conditions(where, self.known_keys):
            if condition.key == "train.solver":
                label = Solver.parse(str(condition.value)).label
                condition = condition._replace(value=label)
            found.append(condition)
        return found


def shown_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return canonical settings as tables show them, without those that have their defaults."""
    made = {}
    for key, value in settings.items():
        shown = _shown(key, value)
        if key not in _DEFAULTS or shown != _DEFAULTS[key]:
            made[key] = shown
    return made


def _shown(key: str, value: Any) -> Any:
    if key == "train.solver":
        return Solver.of(value).label
    if isinstance(value, Mapping):
        rest = ",".join(f"{name}={each}" for name, each in value.items() if name != "name")
        return ":".join(filter(None, (value.get("name"), rest)))
    return list(value) if isinstance(value, tuple) else value


_DEFAULTS = {key: _shown(key, each) for key, each in canonical(Config().to_dict()).items()}


def _row_of(key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: values.get(name) for name in ("attempts", "finished", "host")}
    return {"key": key, "state": "done", **values["metrics"], **values["times"], **rest}


def _row_of_failure(failure: Failure) -> dict[str, Any]:
    return {
        "state": "failed",
        "failure": failure.kind,
        "error": failure.error,
        "attempts": failure.attempts,
    }


def _definition(folder: Path) -> str:
    try:
        return read_sealed(folder / DEFINITION, _HEAD)
    except InputError:
        return ""  # damaged: written anew
