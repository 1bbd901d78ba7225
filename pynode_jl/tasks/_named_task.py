"""A task by its name, as a configuration has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, TypeAlias

from pynode_jl._validation import mapping, text
from pynode_jl.errors import InvalidValueError, UnknownNameError
from pynode_jl.tasks._classification import Classification
from pynode_jl.tasks._density import Density
from pynode_jl.tasks._regression import Regression
from pynode_jl.tasks._task import Task, check_task
from pynode_jl.tasks._trajectory import Trajectory

#: Every task that a configuration can name, by its `Task.kind`.
TASKS: Mapping[str, type[Task]] = MappingProxyType(
    {made.kind: made for made in (Classification, Regression, Trajectory, Density)}
)

#: A task, the name of one, or its name and options as `Task.to_dict` gives them.
AnyTask: TypeAlias = Task | str | Mapping[str, Any]


def named_task(task: AnyTask | None, targets: int = 1) -> Task | None:
    """Return the task that is given or named; None for the default, a classification.

    Args:
        task: ``"regression"``, say, or ``{"kind": "trajectory", "times": [0.5, 1.0]}``.
        targets: the numbers in one answer of a regression that names none.

    Raises:
        UnknownNameError: no task has that name.
        InvalidValueError: options that it does not have, or lacks.

    Example:
        >>> from pynode_jl.tasks import named_task
        >>> named_task("regression"), named_task({"kind": "density", "trace": "hutchinson"})
        (Regression(targets=1), Density(trace='hutchinson'))
    """
    if task is None or (isinstance(task, str) and task == "classification"):
        return None
    if not isinstance(task, str | Mapping):
        return check_task(task)
    hint = 'Use task="regression", say.'
    options: dict[str, Any] = (
        {"kind": task} if isinstance(task, str) else mapping("task", task, "options", hint)
    )
    kind = text("task", options.pop("kind", None), hint)
    if kind not in TASKS:
        raise UnknownNameError("task", kind, TASKS)
    made = TASKS[kind]
    if made is Regression:
        options.setdefault("targets", targets)
    known = [item.name for item in fields(made)]  # type: ignore[arg-type]
    try:
        return made(**options)
    except TypeError as cause:
        raise InvalidValueError(
            "task", task, f"the options of {kind}: {', '.join(known)}", f"Correct them: {cause}."
        ) from cause
