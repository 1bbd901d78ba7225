"""Table ``[task]`` of a configuration: what is asked of the data, and how."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, cast

from pydantic import Field
from pydantic.dataclasses import dataclass

from pynode_jl.datasets import DATASETS, Dataset
from pynode_jl.errors import ConfigError
from pynode_jl.runs._config_table import CHECKED, NameOf, Options, Table, Text, with_named_refusals
from pynode_jl.runs._makers import Maker
from pynode_jl.tasks import TASKS, Density


@with_named_refusals
@dataclass(frozen=True, config=CHECKED)
class TaskConfig(Table):
    """Table ``[task]``: the task's kind (`TASKS`) and its options; "" takes the data set's own.

    Data sets read from files become data of this task. Every data set can be asked for the density
    of its inputs. Of all others the kind must be the data set's, and options change its task.

    Example:
        >>> from pynode_jl.runs import TaskConfig
        >>> weighted = TaskConfig("classification", {"class_weights": (1, 4)})
        >>> pn.Config(task=weighted).dataset().task
        Classification(classes=2, one_logit=False, class_weights=(1.0, 4.0))
    """

    MAKERS = cast(Mapping[str, Maker], TASKS)

    kind: Annotated[Text, NameOf("task", TASKS, ("",))] = Field(
        default="", description=f'One of {", ".join(TASKS)}; "" for the data set\'s own.'
    )
    options: Options = Field(default_factory=dict)

    def data_options(self, name: str) -> dict[str, Any]:
        """Return the option by which the data set `name` learns of the task, if it can."""
        # Of labels the data set counts the classes first.
        if self.kind in ("", "classification"):
            return {}
        known = inspect.signature(DATASETS[name]).parameters
        return {"task": {"kind": self.kind, **self.options}} if "task" in known else {}

    def has_times(self, name: str) -> bool:
        """Return whether times of the data set `name`, known only with it, may end the interval."""
        known = inspect.signature(DATASETS[name]).parameters
        return self.kind == "trajectory" or not {"n_times", "time"}.isdisjoint(known)

    def applied(self, dataset: Dataset) -> Dataset:
        """Return the data with this task.

        Raises:
            ConfigError: the data are of another kind.
            PyNODEError: options that the data do not fit.
        """
        own = dataset.task
        if self.kind in ("", own.kind):
            task = replace(cast(Any, own), **self.options)
            classes = getattr(task, "classes", 0)
            return dataset if task == own else replace(dataset, task=task, classes=classes)
        if self.kind != Density.kind:
            raise ConfigError(
                "task.kind",
                self.kind,
                f'"{own.kind}", the task of data set {dataset.name}, or "density"',
                "Leave out [task], or take other data.",
            )
        task = Density(**self.options)
        targets = ("y_train", "y_test", "target_normalization", "label_names")
        without: dict[str, Any] = dict.fromkeys(targets)
        return replace(dataset, **without, task=task, classes=0)
