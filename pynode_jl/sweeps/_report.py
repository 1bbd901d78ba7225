"""The page of a sweep, written while it runs and at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pynode_jl.reporting.formats import counted, duration
from pynode_jl.reporting.html import Facts, Section, Text
from pynode_jl.reporting.pages import table, write_page
from pynode_jl.sweeps._schedule import Progress
from pynode_jl.sweeps._store import STATES, SweepStore

PAGE = "report.html"
_METRICS = (
    *("verdict", "score", "ode", "change", "change_low", "change_high", "drop"),
    *("loss", "nf", "iterations", "train_seconds", "swap_seconds"),
)
_FORMATS = {
    **dict.fromkeys(("score", "ode", "change", "change_low", "change_high", "drop"), ".4g"),
    **dict.fromkeys(("loss", "nf", "train_seconds", "swap_seconds"), ".3g"),
}
_HEADINGS = {
    "score": "as trained",
    "ode": "as an ODE",
    "change_low": "change, low",
    "change_high": "change, high",
    "nf": "evaluations",
    "train_seconds": "seconds of training",
    "swap_seconds": "of swaps",
}
_READING = (
    "as trained, as an ODE: the test score under the training solver and of the ODE, a share where"
    " it is an accuracy. change: of answers under the ODE, with its interval: the share of labels"
    " that differ, or how far other answers shift, in the unit of the task's verdict. drop: how"
    " much worse the worst finer solve scores. evaluations: of the field, an iteration of training."
)
_SEEDS = ("seed", "data.seed")


def write_report(store: SweepStore, progress: Progress | None = None) -> Path:
    """Write ``report.html`` to a sweep's folder: what is done, what failed, all runs.

    Args:
        store: the sweep's results.
        progress: where it stands, if it is running.

    Returns:
        The page's path.

    Raises:
        OutputError: it cannot be written.

    Example:
        >>> from pynode_jl.sweeps import SweepStore, write_report
        >>> store = SweepStore.create(pn.Sweep(grid={"seed": [0, 1]}), "sweeps/new")
        >>> write_report(store).name
        'report.html'
    """
    runs = store.table()
    counts = {state: int((runs["state"] == state).sum()) for state in STATES}
    keys = [key for key in store.sweep.keys if key in runs]
    name = store.sweep.name or store.folder.name
    *_, page = write_page(
        store.folder / PAGE,
        title=f"Sweep {name}",
        subtitle=", ".join(f"{number} {state}" for state, number in counts.items()),
        found=[
            Section("Where it stands", [Text(_standing(counts, progress))]),
            *_failed(runs, keys),
        ],
        drawings={},
        numbers=[*_configurations(runs, keys), _all_runs(runs, keys)],
        facts=[
            Facts(
                {
                    "folder": str(store.folder),
                    "varied": ", ".join(keys),
                    "written": time.strftime("%Y-%m-%d %H:%M:%S"),
                }
            )
        ],
    )
    return page


def _standing(counts: Mapping[str, int], progress: Progress | None) -> str:
    total = counted(sum(counts.values()), "run")
    text = f"{counts['done']} of {total} done, {counts['failed']} failed."
    if progress is None or not progress.left:
        return text
    text += f" {progress.running} under way"
    if progress.rate:
        text += f", {60 * progress.rate:.3g} a minute, {duration(progress.remaining)} left"
    return f"{text}. This page is written anew as they run: reload it."


def _failed(runs: pd.DataFrame, keys: list[str]) -> list[Section]:
    failed = runs[runs["state"] == "failed"]
    if failed.empty:
        return []
    columns = [*keys, "failure", "error", "attempts", "key"]
    return [Section("What failed", [table(failed, columns)])]


def _configurations(runs: pd.DataFrame, keys: list[str]) -> list[Section]:
    """Return a row for each configuration: seeds together, means, and verdicts counted."""
    done = runs[runs["state"] == "done"]
    names = [key for key in keys if key not in _SEEDS]
    if done.empty or not names or len(names) == len(keys):
        return []
    rows = []
    for values, part in done.groupby(names, sort=False, dropna=False):
        verdicts = part["verdict"].value_counts()
        rows.append(
            dict(zip(names, values if isinstance(values, tuple) else (values,), strict=True))
            | {"seeds": len(part)}
            | {name: part[name].mean() for name in ("score", "ode", "change", "drop")}
            | {str(kind): int(number) for kind, number in verdicts.items()}
        )
    frame = pd.DataFrame(rows)
    kinds = [str(name) for name in frame if name in set(done["verdict"])]
    frame[kinds] = frame[kinds].fillna(0).astype(int)
    shown = {name: form for name, form in _FORMATS.items() if name in frame}
    text = "Means over the seeds of a configuration; the last columns count them by verdict."
    return [Section("By configuration", [Text(text), table(frame, _headed(frame), formats=shown)])]


def _all_runs(runs: pd.DataFrame, keys: list[str]) -> Section:
    shown = runs[[*keys, "state", *_METRICS, "key"]].dropna(axis=1, how="all")
    formats = {name: form for name, form in _FORMATS.items() if name in shown}
    rows = table(shown, _headed(shown), formats=formats, folded=len(shown) > 25)
    return Section("All runs", [Text(_READING), rows])


def _headed(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): _HEADINGS.get(str(name), str(name)) for name in frame}
