"""What is refused before a sweep works: settings that fit no data or model."""

from __future__ import annotations

from collections.abc import Iterable

from pynode_jl.datasets import Dataset
from pynode_jl.errors import DataError, PyNODEError, SweepError
from pynode_jl.runs import Config
from pynode_jl.sweeps._definition import PlannedRun

_OF_THE_MODEL = ("data", "task", "field", "model", "seed")


def check_runs(runs: Iterable[PlannedRun]) -> None:
    """Make the data and the model of each kind of run once, whatever the seed.

    Raises:
        SweepError: settings of which none can be made; the message says which and why.
    """
    seen: set[str] = set()
    for run in runs:
        kind = shape_of(run)
        if kind in seen:
            continue
        seen.add(kind)
        try:
            dataset = run.config.dataset()
            run.config.make_model(dataset)
            _check_batch(run.config, dataset)
        except PyNODEError as error:
            raise SweepError(
                "sweep", dict(run.settings), "settings that fit", f"{error}"
            ) from error


def shape_of(run: PlannedRun) -> str:
    """Return what decides a run's data and model, the seed apart, and its batch, as text."""
    settings = run.identity.settings
    kept = {
        key: value
        for key, value in settings.items()
        if key.partition(".")[0] in _OF_THE_MODEL and not key.endswith("seed")
    }
    return repr(sorted([*kept.items(), ("batch", settings["train.batch_size"])], key=str))


def _check_batch(config: Config, dataset: Dataset) -> None:
    if config.train.batch_size > dataset.n_train:
        raise DataError(
            "train.batch_size",
            config.train.batch_size,
            f"at most the {dataset.n_train} training samples of {dataset.name}",
            "Make the batches smaller.",
        )
