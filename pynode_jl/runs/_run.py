"""A run: a configuration and the folder that holds all that came of it.

::

    config.toml               what decides it
    environment.json          versions, machine and backend that it ran with
    checkpoint.safetensors    where training stands: weights, Adam's moments, history
    metrics.csv               loss, accuracy, evaluations and step by iteration
    checks.csv                what a controller saw and did, check by check
    swap.csv, verdict.json    the swap table and what it says
    report.html, *.png, *.pdf

Every figure can be drawn again from the folder. Starting a run again goes on from its checkpoint.

A run is held to the data that it was trained on: their fingerprint is in the checkpoint and in
environment.json, and data with another one are refused, whatever the run is used for.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from pynode_jl._io import make_folder, write_text
from pynode_jl.backends import Backend, get_backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import ReferenceCost, SwapReport, Verdict, swap
from pynode_jl.errors import OutputError, RunFolderError
from pynode_jl.models import Model
from pynode_jl.runs._adaptation_tables import checks_table
from pynode_jl.runs._checkpoint import (
    load_checkpoint,
    recorded_fingerprint,
    save_checkpoint,
)
from pynode_jl.runs._config import Config, SwapConfig
from pynode_jl.training import Trained, check_same_data, start, train

# Between two checkpoints: what a kill costs at most.
_SECONDS_BETWEEN_SAVES = 5.0
_PACKAGES = ("pynode-jl", "jax", "jaxlib", "diffrax", "optax", "numpy", "pandas", "matplotlib")


class Run:
    """A configuration in a folder. Made by `Run.create` or `Run.open`.

    Attributes:
        config: what decides the run.
        folder: where it lives.

    Example:
        >>> config = pn.Config.from_dict({"data": {"n_train": 64, "n_test": 16}})
        >>> run = pn.Run.create(config, "runs/small")
        >>> pn.Run.open("runs/small").config == config
        True
    """

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self.folder = folder

    @classmethod
    def create(cls, config: Config, folder: str | Path) -> Run:
        """Make the run of `config` in `folder`, or open it if it is there already.

        Raises:
            RunFolderError: the folder holds another configuration's run, or something else.
        """
        path = Path(folder)
        if path.exists() and not path.is_dir():
            raise RunFolderError("folder", str(path), "a folder", "Take another name.")
        file = path / "config.toml"
        if file.exists():
            run = cls.open(path)
            if run.config != config:
                raise RunFolderError(
                    "folder",
                    str(path),
                    "an empty folder, or the run of this same configuration",
                    "It holds a run of another configuration: take another folder, or delete it.",
                )
            return run
        if path.exists() and any(path.iterdir()):
            raise RunFolderError(
                "folder", str(path), "an empty or new folder, or a run's", "Take another folder."
            )
        make_folder(path)
        write_text(file, config.to_toml())
        return cls(config, path)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open the run that is in `folder`.

        Raises:
            RunFolderError: there is none.
        """
        path = Path(folder)
        if not (path / "config.toml").exists():
            raise RunFolderError(
                "folder",
                str(path),
                "a run's folder, with its config.toml",
                "`pynode-jl train` makes one.",
            )
        return cls(Config.from_toml(path / "config.toml"), path)

    def with_swap(self, settings: SwapConfig) -> Run:
        """Return the run under other settings of the swap; its config.toml stays as it is."""
        return Run(replace(self.config, swap=settings), self.folder)

    @cached_property
    def dataset(self) -> Dataset:
        """The data, made anew from the seed or read from their file.

        Raises:
            DataChangedError: they are not the data that the run was trained on.
        """
        dataset = self.config.dataset()
        check_same_data(self.recorded_fingerprint, dataset)
        return dataset

    @property
    def recorded_fingerprint(self) -> str:
        """The fingerprint of the data that the run was trained on; "" before its first training.

        Raises:
            RunFolderError: a damaged checkpoint or environment.json.
        """
        checkpoint, environment = (
            self.folder / name for name in ("checkpoint.safetensors", "environment.json")
        )
        recorded = recorded_fingerprint(checkpoint) if checkpoint.exists() else ""
        if recorded or not environment.exists():
            return recorded
        try:
            return str(json.loads(environment.read_text(encoding="utf-8")).get("data", ""))
        except (OSError, ValueError, AttributeError) as error:
            raise RunFolderError(
                "environment.json",
                str(environment),
                "a readable record of the run's data",
                f"{error}. Restore it, or train a new run in another folder.",
            ) from error

    @cached_property
    def model(self) -> Model:
        """The model."""
        return self.config.make_model(self.dataset)

    @property
    def backend(self) -> Backend:
        """The backend of the configuration."""
        return get_backend(self.config.backend, self.config.device or None)

    @property
    def trained(self) -> Trained:
        """Where training stands: its last checkpoint, or its start.

        Raises:
            DataChangedError: the data are not those that it was trained on.
        """
        path = self.folder / "checkpoint.safetensors"
        recipe = self.config.recipe()
        if not path.exists():
            return start(self.model, recipe)
        loaded = load_checkpoint(path, self.model, recipe)
        # The data may have been read before another process has trained the run.
        recorded = self.recorded_fingerprint
        check_same_data(recorded, self.dataset)
        return replace(loaded, fingerprint=recorded)

    def train(self, on_chunk: Callable[[Trained], None] | None = None) -> Trained:
        """Train from where the run stands to its end, saving on the way.

        A run that has finished, or has ended with a failure, is returned as it is.

        Raises:
            RunFolderError: another process is training this run.
            DataChangedError: the data are not those that it was trained on. Nothing is written.
            OutputError: the folder cannot be written; what was written before stays.
        """
        last_save = time.monotonic()

        def keep(trained: Trained) -> None:
            nonlocal last_save
            if time.monotonic() - last_save >= _SECONDS_BETWEEN_SAVES:
                self._save(trained)
                last_save = time.monotonic()
            if on_chunk is not None:
                on_chunk(trained)

        with self._locked():
            begun = self.trained
            check_same_data(self.recorded_fingerprint, self.dataset)
            if on_chunk is not None:
                on_chunk(begun)
            write_text(self.folder / "environment.json", json.dumps(self._environment(), indent=1))
            trained = train(
                self.model,
                self.dataset,
                self.config.recipe(),
                backend=self.backend,
                resume=begun,
                on_chunk=keep,
            )
            self._save(trained)
            history = trained.history
            table = pd.DataFrame(
                {
                    "loss": history.loss,
                    "accuracy": history.accuracy,
                    "nf": history.nf,
                    "step": history.step,
                }
            )
            write_text(self.folder / "metrics.csv", table.to_csv(index_label="iteration"))
            if history.checks:
                checks = checks_table(history).to_csv(index=False)
                write_text(self.folder / "checks.csv", checks)
        return trained

    def swap(self, on_solve: Callable[[int, int, str], None] | None = None) -> SwapReport:
        """Swap the solver of the trained model as the configuration's ``[swap]`` says.

        Raises:
            RunFolderError: the run is not trained to its end.
            DataChangedError: the data are not those that it was trained on.
        """
        trained = self.trained
        if not trained.finished:
            raise RunFolderError(
                "folder",
                str(self.folder),
                "a run that is trained to its end",
                f"It stands at iteration {trained.state.iteration} of {trained.recipe.iterations}"
                f" ({trained.retcode}). `pynode-jl train` goes on with it.",
            )
        settings = self.config.swap
        report = swap(
            trained,
            self.dataset,
            settings.solvers or None,
            factors=settings.factors or None,
            margin=settings.margin,
            confidence=settings.confidence,
            criterion=settings.criterion,
            backend=self.backend,
            on_solve=on_solve,
        )
        write_text(self.folder / "swap.csv", report.table.to_csv(index=False))
        found = {**report.to_dict(), "data": self.dataset.fingerprint}
        write_text(self.folder / "verdict.json", json.dumps(found, indent=1, allow_nan=False))
        return report

    def stored_swap(self) -> SwapReport:
        """Read the swap report that the folder holds.

        Raises:
            RunFolderError: there is none.
            DataChangedError: the data are not those that the run was trained on.
        """
        check_same_data(self.recorded_fingerprint, self.dataset)
        try:
            table = pd.read_csv(self.folder / "swap.csv")
            values = json.loads((self.folder / "verdict.json").read_text(encoding="utf-8"))
            verdict = Verdict.from_dict(values["verdict"])
            ode = math.nan if values["ode"] is None else values["ode"]
            return SwapReport(
                table,
                values["trained"],
                ode,
                values["chance"],
                verdict,
                cost=ReferenceCost.from_dict(values["reference"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                "folder",
                str(self.folder),
                "a run with its swap table",
                "`pynode-jl swap` makes one. (Verdicts of version 0.1 followed another rule: make"
                " them anew.)",
            ) from error

    def _save(self, trained: Trained) -> None:
        save_checkpoint(self.folder / "checkpoint.safetensors", trained)

    def _environment(self) -> dict[str, object]:
        versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
        return {
            "python": sys.version.split()[0],
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "backend": self.backend.name,
            "devices": list(self.backend.devices()),
            "data": self.dataset.fingerprint,
            "packages": versions,
        }

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunFolderError(
                "folder",
                str(self.folder),
                "a run that no other process is training",
                "Wait for the other process, or take another folder.",
            ) from error
        except OSError as error:
            raise OutputError(
                "folder", str(self.folder), "a folder that can be written", f"{error}."
            ) from error
        try:
            yield
        finally:
            lock.release()
