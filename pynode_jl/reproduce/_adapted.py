"""Models trained under each controller: the runs behind Table 1 and Figure 5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from pynode_jl.experiments import AdaptConfig, Config, Run, TrainConfig, adaptation_row
from pynode_jl.reproduce._desk import Desk

#: Each with the solver that it starts from; the paper's begins with Hairer's step instead.
CONTROLLERS = {"paper": "Euler:dt=1/16", "steady": "Euler:dt=1/8"}
_SHORT: dict[str, Any] = {"iterations": 3000, "learning_rate": 3e-4}


def adapted_run(desk: Desk, controller: str, seed: int) -> Run:
    """Sphere 2D, Euler, under `controller`, from the shelf or new."""
    training = {} if desk.full else _SHORT
    config = Config(
        seed=seed,
        backend=desk.backend,
        train=TrainConfig(solver=CONTROLLERS[controller], **training),
        adapt=AdaptConfig(controller),
    )
    kind = "" if desk.full else "-short"
    return desk.trained(f"table1-sphere2-{controller}{kind}-s{seed}", config)


def adapted_rows(desk: Desk, adapted: Callable[[Desk, str, int], Run]) -> pd.DataFrame:
    """One row for each controller and seed (`adaptation_row`) of the runs that `adapted` gives."""
    rows = []
    for seed in range(desk.seeds):
        for controller in CONTROLLERS:
            run = adapted(desk, controller, seed)
            row = adaptation_row(run.trained, run.dataset, run.backend)
            rows.append({"controller": controller, **row})
    return pd.DataFrame(rows)
