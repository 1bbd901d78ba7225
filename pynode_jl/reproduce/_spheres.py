"""Sphere 2D as the paper's figures need it: one configuration for each training solver and seed."""

from __future__ import annotations

from typing import Any

from pynode_jl.experiments import Config, Run, TrainConfig
from pynode_jl.reproduce._desk import Desk
from pynode_jl.reproduce._subject import solver_name

#: The two models of Figures 1 and 2: what a solver's error has made, and what an ODE can do.
COARSE, FINE = "Euler:dt=1/2", "Euler:dt=1/256"

_SHORT: dict[str, Any] = {"iterations": 3000, "learning_rate": 3e-4}


def protocol(full: bool) -> str:
    """What a caption says of how the runs were trained."""
    if full:
        return "10,000 iterations at learning rate 1e-4, the paper's protocol"
    return "3,000 iterations at learning rate 3e-4"


def sphere_run(desk: Desk, solver: str, seed: int = 0) -> Run:
    """Sphere 2D trained with `solver`, from the shelf or new."""
    training = TrainConfig(solver=solver) if desk.full else TrainConfig(solver=solver, **_SHORT)
    kind = "full" if desk.full else "short"
    name = f"sphere2-{solver_name(solver)}-{kind}-s{seed}"
    return desk.trained(name, Config(seed=seed, backend=desk.backend, train=training))
