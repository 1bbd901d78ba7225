"""From pandas' frames to arrays: one example a row, or trajectories in long form."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from pynode_jl.datasets._arrays import check_size
from pynode_jl.datasets._columns import (
    Columns,
    check_frame,
    columns_of,
    feature_names,
    known_column,
    numbers_of,
    refuse_missing,
)
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.tasks import AnyTask, Classification, Density, Trajectory, named_task

if TYPE_CHECKING:  # it takes a second to import
    import pandas as pd


@dataclass(frozen=True, eq=False)
class FrameArrays:
    """Inputs and targets of both parts, and the task."""

    x: Any
    y: Any
    x_test: Any
    y_test: Any
    task: AnyTask | None


def arrays_of_frames(
    frame: pd.DataFrame,
    test_frame: pd.DataFrame | None,
    target: Columns | None,
    features: Columns | None,
    task: AnyTask | None,
) -> FrameArrays:
    """Return features and targets of frames with one example a row.

    Raises:
        InvalidValueError: names of no columns, or a task that such a table cannot have.
        DataError: columns that cannot be used.
    """
    asked = named_task(task)
    if isinstance(asked, Trajectory):
        raise InvalidValueError(
            "task", task, "another one: a trajectory has many rows", 'Pass time="t", say, instead.'
        )
    if target is None and not isinstance(asked, Density):
        raise InvalidValueError(
            "target", None, "the name of a column", "Only a density has none: task='density'."
        )
    numeric = asked is not None and not isinstance(asked, Classification)
    check_frame("frame", frame)
    table = columns_of("frame", frame, target, features, numeric=numeric)
    if test_frame is None:
        return FrameArrays(table.x, table.y, None, None, task)
    check_frame("test_frame", test_frame)
    test = columns_of("test_frame", test_frame, target, list(table.features), numeric=numeric)
    return FrameArrays(table.x, table.y, test.x, test.y, task)


def arrays_of_trajectories(
    frame: pd.DataFrame,
    test_frame: pd.DataFrame | None,
    time: Hashable,
    trajectory: Hashable | None,
    states: Columns | None,
    task: AnyTask | None,
) -> FrameArrays:
    """Return initial states and observations of frames in long form.

    A row is one trajectory at one time. The times of all trajectories are joined; what one lacks
    there, or has as NaN, is missing.

    Args:
        frame, test_frame: the rows, in any order.
        time: the column of times.
        trajectory: the column that tells trajectories apart; None for one trajectory a frame.
        states: the columns of the state; default all others.
        task: None or "trajectory".

    Raises:
        InvalidValueError: names of no columns, another task.
        DataError: columns that cannot be used; a time that a trajectory has twice; one that is not
            observed at the first time of all.
    """
    if not (task is None or (isinstance(task, str) and task == "trajectory")):
        raise InvalidValueError(
            "task", task, "'trajectory' beside time=", "Leave it out: its times are the table's."
        )
    frames = [("frame", frame)] + ([] if test_frame is None else [("test_frame", test_frame)])
    parts = [_LongTable.of(*each, time, trajectory, states) for each in frames]
    times = np.unique(np.concatenate([part.times for part in parts]))
    if len(times) < 2:
        raise DataError(f"column {time!r}", times.tolist(), "two times or more", "Give more rows.")
    if test_frame is None and len(parts[0].names) < 2:
        raise DataError(
            "frame",
            "one trajectory",
            "two trajectories or more, since some are kept for the test",
            "Name the column that tells them apart: trajectory='id', say; or give another as test"
            " part.",
        )
    (x, y), *rest = [part.arrays(times) for part in parts]
    x_test, y_test = rest[0] if rest else (None, None)
    return FrameArrays(x, y, x_test, y_test, Trajectory(cast(Any, times[1:].tolist())))


@dataclass(frozen=True, eq=False)
class _LongTable:
    """Rows of a frame: the number of its trajectory, its time, its state."""

    names: tuple[Any, ...]
    numbers: NDArray[np.intp]
    times: NDArray[np.float64]
    states: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        argument: str,
        frame: pd.DataFrame,
        time: Hashable,
        trajectory: Hashable | None,
        states: Columns | None,
    ) -> _LongTable:
        check_frame(argument, frame)
        keys = [known_column("time", time, argument, frame)]
        if trajectory is not None:
            keys.append(known_column("trajectory", trajectory, argument, frame))
        if len(set(keys)) < len(keys):
            raise InvalidValueError(
                "trajectory", trajectory, "another column than time", "Name it."
            )
        chosen = feature_names(argument, frame, keys, states)
        times = numbers_of(frame[keys[0]], time, "time")
        values = [numbers_of(frame[name], name, "state", missing=True) for name in chosen]
        names: tuple[Any, ...] = (None,)
        numbers = np.zeros(len(frame), np.intp)
        if trajectory is not None:
            import pandas as pd

            refuse_missing(frame[keys[1]], trajectory, "trajectory")
            numbers, found = pd.factorize(frame[keys[1]])
            names = tuple(found)
        return cls(names, numbers, times, np.stack(values, axis=1))

    def arrays(self, times: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Return initial states (n, d) and observations (n, times - 1, d), NaN where missing."""
        n, d = len(self.names), self.states.shape[1]
        check_size(n, len(times) * d)
        places = self.numbers * len(times) + np.searchsorted(times, self.times)
        found, counts = np.unique(places, return_counts=True)
        if (counts > 1).any():
            number, at = divmod(int(found[counts > 1][0]), len(times))
            raise DataError(
                self._called(number),
                f"two rows at time {times[at]:g}",
                "one row at each time",
                "Drop one, or name the column that tells trajectories apart: trajectory='id', say.",
            )
        rows = np.full((n * len(times), d), np.nan)
        rows[places] = self.states
        y = rows.reshape(n, len(times), d)
        unknown = np.isnan(y[:, 0]).any(axis=1)
        if unknown.any():
            number = int(unknown.argmax())
            raise DataError(
                self._called(number),
                f"not observed at time {times[0]:g}",
                "an initial state at the first time of all trajectories, whole",
                f"{int(unknown.sum())} of {n} have none. Count the times of each from its own"
                " start, or drop it.",
            )
        return y[:, 0], y[:, 1:]

    def _called(self, number: int) -> str:
        name = self.names[number]
        return "trajectory" if name is None else f"trajectory {name!r}"
