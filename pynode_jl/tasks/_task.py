"""What every task is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from pynode_jl._validation import instance, rounded
from pynode_jl.errors import DataError, InvalidValueError

Array = npt.NDArray[Any]


class Task(ABC):
    """What a model answers, and how one answer is scored.

    `outputs` are what a model's read-out gives, ``(n, *output_shape)``; `targets` are what the data
    say of the same samples. Every function takes and returns arrays of one framework: NumPy, JAX
    (traced, too) or torch.

    Attributes:
        kind: its name in configurations, "regression" for one.
        metric: what its score is called: "accuracy".
        unit: of changes: "" for a share of the answers, "of their error", "nats per dimension".
        higher_is_better: whether a larger score is the better one.
        comparison: "flips" where answers are equal or not; "shift" where they differ by a number.
        signed: whether losses may be negative.
        root: whether score and shift are roots of means of squares.
        default_margin: the change of answers up to which a model still holds.

    Example:
        >>> task = pn.Regression()
        >>> isinstance(task, pn.Task), task.metric, task.margin
        (True, 'RMSE', 0.1)
    """

    kind: ClassVar[str]
    metric: ClassVar[str]
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = False
    comparison: ClassVar[Literal["flips", "shift"]] = "shift"
    root: ClassVar[bool] = False
    signed: ClassVar[bool] = False
    default_margin: ClassVar[float] = 0.1

    @property
    def default_head(self) -> Literal["linear", "none"]:
        """The read-out of a model that names none."""
        return "linear"

    @property
    def margin(self) -> float:
        """The change of answers up to which a model still holds, unless told otherwise."""
        return self.default_margin

    def stops(self, t1: float) -> tuple[float, ...]:
        """Return the times at which a model is read out; the last ends its solve.

        `t1` is the end of the model's interval.
        """
        return (t1,)

    @abstractmethod
    def outputs(self, observed: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one sample's output at one time.

        Args:
            observed: the shape of one state, appended zeros left out.
        """

    @abstractmethod
    def checked_targets(self, argument: str, y: Any, n: int) -> Array:
        """Return the targets of `n` samples as a read-only array.

        Args:
            argument: what an error calls them.
            y: the targets as given.
            n: the number of samples.

        Raises:
            DataError: targets that cannot be used.
        """

    @abstractmethod
    def losses(self, outputs: Any, targets: Any) -> Any:
        """Return each sample's loss, ``(n,)``, whose mean training minimises."""

    def loss(self, outputs: Any, targets: Any) -> Any:
        """Return what training minimises: the mean of `losses`."""
        return namespace(outputs).mean(self.losses(outputs, targets))

    @abstractmethod
    def scores(self, outputs: Any, targets: Any) -> Any:
        """Return each sample's score, ``(n,)``: 1 and 0 for right and wrong, a squared error."""

    def score(self, scores: Any) -> float:
        """Return the score of many samples from theirs: their mean, or its root (`root`).

        Args:
            scores: ``(n,)``.
        """
        mean = float(np.mean(np.asarray(scores, np.float64)))
        return mean**0.5 if self.root and mean >= 0 else mean

    def chance_scores(self, x: Array, targets: Array) -> Array | None:
        """Return the scores of the best answer that looks at no input; None where there is none.

        Args:
            x: inputs, ``(n, *input_shape)``.
            targets: those of the same samples.
        """
        return None

    @abstractmethod
    def changes(self, own: Array, other: Array, targets: Array) -> Array:
        """Return how much each answer changes from `own` to `other` outputs, ``(n,)``, 0 or more.

        The shift is the mean of changes over the mean of `scale`, or the root of that (`root`).
        """

    def scale(self, own: Array, targets: Array) -> Array:
        """Return what changes are measured against, ``(n,)``: ones, or squared errors.

        Args:
            own: outputs as trained, ``(n, *output_shape)``.
            targets: those of the same samples.
        """
        return np.ones(len(own))

    def shift(self, changes: Array, scale: Array) -> float:
        """Return the shift of many samples from their `changes` and their `scale`.

        No change is no shift, whatever the scale; an answer that is not finite is an infinite one.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            over, under = float(np.mean(changes)), float(np.mean(scale))
        if over == 0.0:
            return 0.0
        ratio = over / under if under else math.inf
        if not math.isfinite(ratio):
            return math.inf
        return math.sqrt(ratio) if self.root else ratio

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: its kind and its options."""
        options = {item.name: _plain(getattr(self, item.name)) for item in fields(cast(Any, self))}
        return {"kind": self.kind, **options}


def check_task(task: object) -> Task:
    """Return a task as it is; refuse what is none.

    Raises:
        InvalidValueError: it is none.

    Example:
        >>> from pynode_jl.tasks import check_task
        >>> check_task(pn.Regression(2)).metric
        'RMSE'
    """
    expected = "a Task: Classification, Regression, Trajectory, Density or CustomTask"
    found: Task = instance("task", task, cast(Any, Task), expected, "pn.Regression(1), say.")
    return found


def namespace(array: Any) -> Any:
    """Return the module of array functions that goes with an array."""
    return array_namespace(array)


def float_targets(
    argument: str, y: Any, n: int, shape: tuple[int | None, ...], *, missing: bool = False
) -> Array:
    """Return targets as a read-only float32 copy of shape ``(n, *shape)``.

    Args:
        argument: what they are called.
        y: the targets.
        n: how many samples there are.
        shape: lengths of the further axes; None for any.
        missing: whether NaN marks what was not observed.

    Raises:
        DataError: another shape, or numbers that are not finite.
    """
    given = np.asarray(y) if isinstance(y, (list, tuple)) else y
    try:
        targets = np.array(rounded(argument, given, np.float32), order="C")
    except InvalidValueError as error:
        raise DataError(argument, type(y).__name__, "real numbers", str(error)) from error
    if len(shape) == 1 and shape[0] == 1 and targets.shape == (n,):
        targets = targets[:, None]
    fits = targets.ndim == 1 + len(shape) and len(targets) == n
    if not fits or any(
        s is not None and s != t for s, t in zip(shape, targets.shape[1:], strict=True)
    ):
        lengths = ", ".join("*" if each is None else str(each) for each in shape)
        raise DataError(
            f"{argument}.shape", targets.shape, f"({n}, {lengths})", "Give one target a sample."
        )
    bad = np.isinf(targets) if missing else ~np.isfinite(targets)
    if bad.any():
        place = ", ".join(str(int(i)) for i in np.argwhere(bad)[0])
        raise DataError(
            f"{argument}[{place}]",
            float(targets[tuple(np.argwhere(bad)[0])]),
            "a finite number" + (", or NaN where nothing was observed" if missing else ""),
            f"{int(bad.sum())} of {bad.size} are refused. Correct or drop them.",
        )
    targets.flags.writeable = False
    return targets


def sample_mean(values: Any) -> Any:
    """Return the mean of each sample's numbers, ``(n,)``."""
    xp = namespace(values)
    return xp.mean(xp.reshape(values, (values.shape[0], -1)), axis=1)


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
