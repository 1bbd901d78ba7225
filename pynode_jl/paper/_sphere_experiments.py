"""Sphere 2D, as the paper's figures train it."""

from __future__ import annotations

from pynode_jl.paper._experiments import ExperimentSpec
from pynode_jl.runs import Config, TrainConfig

#: The two models of Figures 1 and 2: what a solver's error has made, and what an ODE can do.
COARSE, FINE = "Euler:dt=1/2", "Euler:dt=1/256"

SPHERE = ExperimentSpec(
    name="Sphere 2D",
    stem="sphere2",
    configs={
        True: Config(),
        False: Config(train=TrainConfig(iterations=3000, learning_rate=3e-4)),
    },
    words={
        True: "10,000 iterations at learning rate 1e-4, the paper's protocol",
        False: "3,000 iterations at learning rate 3e-4",
    },
)
