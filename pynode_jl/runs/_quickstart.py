"""The main job in one call: the same model trained with a coarse and with a fine solver, swapped.

Sphere 2D with the paper's field (Ott et al. 2021, Figures 1 and 4a), made short by a learning rate
above the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pynode_jl.runs._config import Config, SwapConfig, TrainConfig

COARSE, FINE = "coarse", "fine"

_SOLVERS = (
    "Euler",
    "Midpoint",
    "Heun",
    "Ralston",
    "BS3",
    "SSPRK33",
    "RK4",
    "RK38",
    "DP5",
    "Tsit5",
    "Vern7",
    "KenCarp4",
    "Tsit5:tol=1e-4",
    "DP5:tol=1e-4",
)
_FACTORS = (0.5, 1.0, 2.0)
_TRAINING: Mapping[str, tuple[str, int]] = MappingProxyType(
    {COARSE: ("Euler:dt=1/2", 3000), FINE: ("Euler:dt=1/256", 1500)}
)


def quickstart_configs(seed: int = 0) -> dict[str, Config]:
    """Return the two configurations of `pynode-jl quickstart`, by name.

    `seed` decides data, weights and batches of both.

    Example:
        >>> from pynode_jl.runs import quickstart_configs
        >>> {name: config.train.solver for name, config in quickstart_configs().items()}
        {'coarse': 'Euler:dt=1/2', 'fine': 'Euler:dt=1/256'}
    """
    return {
        name: Config(
            seed=seed,
            backend="jax",
            train=TrainConfig(solver=solver, iterations=iterations, learning_rate=3e-4),
            swap=SwapConfig(_SOLVERS, _FACTORS),
        )
        for name, (solver, iterations) in _TRAINING.items()
    }
