"""What each iteration of a training saw, as a table."""

from __future__ import annotations

import pandas as pd

from pynode_jl.training import Trained


def history_table(trained: Trained) -> pd.DataFrame:
    """Return loss, accuracy (or the task's score), nf and step, one row an iteration.

    `trained` is the training.

    Example:
        >>> from pynode_jl.runs import history_table
        >>> from pynode_jl.training import start
        >>> list(history_table(start(model, pn.Recipe(pn.Solver("Euler", dt=0.5)))))
        ['loss', 'accuracy', 'nf', 'step']
    """
    return trained.history.table(trained.model.task)
