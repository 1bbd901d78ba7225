"""What each iteration of a training saw, as a table."""

from __future__ import annotations

import numpy as np
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
    history, task = trained.history, trained.model.task
    scores, name = history.accuracy, "accuracy"
    if task.comparison == "shift":
        name = "score"
        scores = np.sqrt(np.maximum(scores, 0.0)) if task.root else scores
    return pd.DataFrame(
        {"loss": history.loss, name: scores, "nf": history.nf, "step": history.step}
    )
