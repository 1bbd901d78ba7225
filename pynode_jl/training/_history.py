"""What each iteration of a training saw."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pynode_jl._display import Drawn, ShortRepr
from pynode_jl.backends import Array, ChunkResult
from pynode_jl.solvers import Solver
from pynode_jl.tasks import AnyTask, named_task
from pynode_jl.training.step_adaptation import Check

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class History(ShortRepr, Drawn):
    """What each iteration saw: `loss`, `accuracy` of its batch before the update, `nf`, the
    evaluations of the right-hand side in its forward solve, and `step`, the solver's fixed step or
    relative tolerance. Each ``(iterations,)``. `checks` are the step adapter's, in their order.

    Example:
        >>> from pynode_jl.training import History
        >>> len(History())
        0
    """

    loss: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    accuracy: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    nf: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    step: Array = field(default_factory=lambda: np.zeros(0, np.float64))
    checks: tuple[Check, ...] = ()

    def __len__(self) -> int:
        return int(self.loss.shape[0])

    @property
    def training_nf(self) -> int:
        """Evaluations of the right-hand side in all forward solves of training."""
        return int(self.nf.sum(dtype=np.int64))

    @property
    def check_nf(self) -> int:
        """Evaluations of the right-hand side in all checks, the start's among them."""
        return sum(check.nf for check in self.checks)

    def table(self, task: AnyTask | None = None) -> pd.DataFrame:
        """Return one row an iteration: loss, accuracy, nf, step.

        Args:
            task: what the scores are of; default a classification. Of a task whose answers are
                numbers the column is "score", a root of means of squares where the task has one.

        Example:
            >>> from pynode_jl.training import History
            >>> list(History().table(pn.Regression()))
            ['loss', 'score', 'nf', 'step']
        """
        import pandas as pd

        task = named_task(task)
        scores, name = self.accuracy, "accuracy"
        if task is not None and task.comparison == "shift":
            name = "score"
            scores = np.sqrt(np.maximum(scores, 0.0)) if task.root else scores
        return pd.DataFrame({"loss": self.loss, name: scores, "nf": self.nf, "step": self.step})

    def plot(self, task: AnyTask | None = None) -> Figure:
        """Draw loss, score, evaluations and step against the iteration.

        Args:
            task: as in `table`. `Trained.plot` knows it.

        Raises:
            InvalidValueError: no iteration yet.

        Example:
            >>> from pynode_jl.training import History
            >>> ones = np.ones(2)
            >>> figure = History(loss=ones, accuracy=ones / 2, nf=ones, step=ones).plot()
        """
        return self._figure(task=named_task(task))

    def extended(self, chunk: ChunkResult, solver: Solver) -> History:
        """Return this history, followed by that of a chunk trained with `solver`."""
        return replace(
            self,
            loss=np.concatenate([self.loss, chunk.loss]),
            accuracy=np.concatenate([self.accuracy, chunk.accuracy]),
            nf=np.concatenate([self.nf, chunk.nf]),
            step=np.concatenate(
                [self.step, np.full(chunk.loss.shape, solver.stepping.size, np.float64)]
            ),
        )

    def checked(self, check: Check) -> History:
        """Return this history and one more check."""
        return replace(self, checks=(*self.checks, check))
