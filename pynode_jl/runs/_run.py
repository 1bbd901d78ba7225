"""A run: a configuration and the folder that holds all that came of it.

::

    config.toml               what decides it
    environment.json          versions, machine and backend that it ran with
    checkpoint.safetensors    where training stands: weights, the optimiser's moments, history
    metrics.csv               loss, accuracy, evaluations and step by iteration
    checks.csv                what a controller saw and did, check by check
    swap.csv, verdict.json    the last swap's table and what it says
    swaps/                    those of every swap, by its settings
    report.html, *.png, *.pdf

Every figure can be drawn again from the folder. Starting a run again goes on from its checkpoint.

A run is held to the data that it was trained on: their fingerprint is in the checkpoint and in
environment.json, and data with another one are refused, whatever the run is used for.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pynode_jl._display import Drawn
from pynode_jl._io import check_room, read_json, user_path, write_json, write_text
from pynode_jl._version import __version__
from pynode_jl.backends import Backend, BackendLike, RetCode, get_backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import SwapReport, swap
from pynode_jl.errors import InputError, RunFolderError
from pynode_jl.models import Model
from pynode_jl.runs._adaptation_tables import checks_table
from pynode_jl.runs._checkpoint import (
    checkpoint_bytes,
    load_checkpoint,
    recorded_fingerprint,
    save_checkpoint,
)
from pynode_jl.runs._config import Config, SwapConfig
from pynode_jl.runs._folder import (
    CHECKPOINT,
    ENVIRONMENT,
    confirm_run,
    ensure_run,
    has_file,
    locked,
    read_config,
)
from pynode_jl.runs._history_table import history_table
from pynode_jl.runs._swap_files import load_swap, save_swap, swap_folder
from pynode_jl.training import (
    Predicting,
    Trained,
    TrainedModel,
    check_same_data,
    start,
    train,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Between two checkpoints: what a kill costs at most.
_SECONDS_BETWEEN_SAVES = 5.0
# A swap's files are smaller.
_SWAP_BYTES = 2**16
_PACKAGES = ("jax", "jaxlib", "diffrax", "optax", "numpy", "pandas", "matplotlib")


class Run(Drawn, Predicting):
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

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def trained_model(self) -> TrainedModel:
        """The model where training stands; `predict` and `score` answer with it."""
        return self.trained.trained_model

    def _backend(self, given: BackendLike) -> Backend:
        return self.backend if given is None else super()._backend(given)

    def plot(self, data: Dataset | None = None, kind: str = "") -> Figure:
        """Draw the history of the training; with `data` as `TrainedModel.plot`.

        `kind` is what `TrainedModel.plot` takes.

        Raises:
            InvalidValueError: nothing is trained yet, or as in `TrainedModel.plot`.
            RunFolderError: a damaged checkpoint.
        """
        return self.trained.plot(data, kind, backend=self.backend)

    @classmethod
    def create(cls, config: Config, folder: str | Path) -> Run:
        """Make the run of `config` in `folder`, or open it if it is there already.

        A folder in which nothing was trained yet takes any configuration. A run that was trained
        takes other settings of the swap, data that were moved, and more iterations, unless a step
        adapter's phases or a learning rate that decays rest on their number.

        Raises:
            RunFolderError: the folder holds another configuration's run, or something else.
            OutputError: it cannot be written.
        """
        path = user_path("folder", folder)
        # A run must open from any working folder.
        return cls(ensure_run(path, config.with_paths_from(Path.cwd())), path)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open the run that is in `folder`.

        Raises:
            RunFolderError: there is none, or its configuration is damaged.
        """
        path = user_path("folder", folder)
        if not has_file(path):
            raise RunFolderError(
                "folder",
                str(folder),
                "a run's folder, with its config.toml",
                "`pynode-jl train` makes one.",
            )
        return cls(read_config(path), path)

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
        recorded = self._checkpoint_fingerprint()
        if recorded or not has_file(self.folder, ENVIRONMENT):
            return recorded
        return str(self.environment.get("data", ""))

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, machine and backend that the run was trained with.

        Raises:
            RunFolderError: a damaged environment.json, or none, or that of other data.
        """
        try:
            found = read_json(self.folder / ENVIRONMENT)
        except InputError as error:
            raise RunFolderError(
                ENVIRONMENT,
                str(self.folder / ENVIRONMENT),
                "a readable record of the run's data",
                f"{error} Restore it, or train a new run in another folder.",
            ) from error
        recorded = self._checkpoint_fingerprint()
        if recorded and found.get("data", recorded) != recorded:
            raise RunFolderError(
                ENVIRONMENT,
                str(self.folder / ENVIRONMENT),
                f"the record of the checkpoint's data, {recorded}",
                f"It is of {found['data']}. Restore it, or delete it.",
            )
        return found

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
        path = self.folder / CHECKPOINT
        recipe = self.config.recipe()
        if not has_file(self.folder, CHECKPOINT):
            return replace(start(self.model, recipe), label_names=self.dataset.label_names)
        loaded = load_checkpoint(path, self.model, recipe)
        # The data may have been read before another process has trained the run.
        recorded = self.recorded_fingerprint
        check_same_data(recorded, self.dataset)
        return replace(loaded, fingerprint=recorded, label_names=self.dataset.label_names)

    def trained_to_its_end(self) -> Trained:
        """Return the training, which has come to its end.

        Raises:
            RunFolderError: it has not: it was interrupted, or it failed.
            DataChangedError: the data are not those that it was trained on.
        """
        trained = self.trained
        reason = unfinished(trained)
        if not reason:
            return trained
        fix = (
            "A smaller train.learning_rate or step may get further, in a new folder."
            if trained.ended
            else "`pynode-jl train` goes on with it."
        )
        raise RunFolderError(
            "folder",
            str(self.folder),
            "a run that is trained to its end",
            f"Its {reason.removesuffix('.')}. {fix}",
        )

    def train(self, on_chunk: Callable[[Trained], None] | None = None) -> Trained:
        """Train from where the run stands to its end, saving on the way.

        A run that has finished, or has ended with a failure, is returned as it is. What ends the
        training early, raised by `on_chunk` or by an interrupted kernel, leaves the state after the
        last chunk.

        `on_chunk` is called after each chunk of iterations, with the training so far.

        Raises:
            RunFolderError: another process is training this run.
            DataChangedError: the data are not those that it was trained on. Nothing is written.
            OutputError: the folder cannot be written; what was written before stays.
        """
        last_save = time.monotonic()
        recorded = False
        unsaved: Trained | None = None

        def save(trained: Trained) -> None:
            nonlocal recorded
            if not recorded:
                # Not before: a start that is refused leaves nothing that is held to it.
                write_json(self.folder / ENVIRONMENT, self._environment())
                recorded = True
            save_checkpoint(self.folder / CHECKPOINT, trained)

        def keep(trained: Trained) -> None:
            nonlocal last_save, unsaved
            # The last state is saved below, once a step adapter has concluded.
            pause = time.monotonic() - last_save
            due = pause >= _SECONDS_BETWEEN_SAVES and not trained.finished
            unsaved = None if due or trained.finished else trained
            if due:
                save(trained)
                last_save = time.monotonic()
            if on_chunk is not None:
                on_chunk(trained)

        with locked(self.folder, 0, "a run that no other process is training"):
            confirm_run(self.folder, self.config)
            begun = self.trained
            check_same_data(self.recorded_fingerprint, self.dataset)
            if not begun.ended:
                check_room(self.folder, checkpoint_bytes(self.model, begun.recipe))
            if on_chunk is not None:
                on_chunk(begun)
            try:
                trained = train(
                    self.model,
                    self.dataset,
                    self.config.recipe(),
                    backend=self.backend,
                    resume=begun,
                    on_chunk=keep,
                )
            except BaseException:  # KeyboardInterrupt, say, in whatever is under way
                if unsaved is not None:
                    save(unsaved)
                raise
            if not begun.ended or trained.validation != begun.validation:
                save(trained)
            table = history_table(trained)
            write_text(self.folder / "metrics.csv", table.to_csv(index_label="iteration"))
            if trained.history.checks:
                checks = checks_table(trained.history).to_csv(index=False)
                write_text(self.folder / "checks.csv", checks)
        return trained

    def swap(self, on_solve: Callable[[int, int, str], None] | None = None) -> SwapReport:
        """Swap the solver of the trained model as the configuration's ``[swap]`` says.

        `on_solve` is called before each solve: its number, the number of all, its label.

        Raises:
            RunFolderError: the run is not trained to its end.
            DataChangedError: the data are not those that it was trained on.
            OutputError: the folder cannot be written; this is found before the first solve.
        """
        trained = self.trained_to_its_end()
        check_room(self.folder, _SWAP_BYTES)
        settings = self._swap_settings
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
        save_swap(self.folder, settings, report, trained)
        return report

    def stored_swap(self) -> SwapReport:
        """Read the report of the swap that the configuration asks for; else the last one's.

        Raises:
            RunFolderError: there is none, it is damaged, or the run was trained on since.
            DataChangedError: the data are not those that the run was trained on.
        """
        check_same_data(self.recorded_fingerprint, self.dataset)
        return load_swap(self.folder, self._swap_settings, self.trained)

    @property
    def swap_folder(self) -> Path:
        """The folder of this swap's results: that of another swap is another one."""
        return swap_folder(self.folder, self._swap_settings)

    @property
    def _swap_settings(self) -> SwapConfig:
        """The settings of the swap; without a margin, with the task's."""
        settings = self.config.swap
        if settings.margin is not None:
            return settings
        return replace(settings, margin=self.model.task.margin)

    def _checkpoint_fingerprint(self) -> str:
        path = self.folder / CHECKPOINT
        return recorded_fingerprint(path) if has_file(self.folder, CHECKPOINT) else ""

    def _environment(self) -> dict[str, object]:
        remarks = self.dataset.remarks
        return {
            "python": sys.version.split()[0],
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "backend": self.backend.name,
            "devices": list(self.backend.devices()),
            "data": self.dataset.fingerprint,
            **({"data_remarks": remarks} if remarks else {}),
            "packages": dict(_versions()),
        }


@cache
def _versions() -> dict[str, str]:
    """Return the packages' versions: they stay while a process lives, and take a while to find."""
    # Its own from the source: that may be on the path and not installed.
    own = {"pynode-jl": __version__}
    return own | {name: importlib.metadata.version(name) for name in _PACKAGES}


def unfinished(trained: Trained) -> str:
    """Say why a training has not come to its end; "" if it has."""
    stand = f"iteration {trained.state.iteration} of {trained.recipe.iterations}"
    if trained.retcode != RetCode.Success:
        return f"training failed at {stand}: {trained.retcode.meaning}"
    return "" if trained.finished else f"training stands at {stand}"
