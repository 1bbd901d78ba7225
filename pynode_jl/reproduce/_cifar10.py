"""CIFAR-10 as Table 1 needs it: one configuration for each training solver or controller."""

from __future__ import annotations

from dataclasses import replace

from pynode_jl.experiments import AdaptConfig, Config, DataConfig, FieldConfig, Run, TrainConfig
from pynode_jl.reproduce._adapted import CONTROLLERS
from pynode_jl.reproduce._desk import Desk
from pynode_jl.solvers import Solver

#: The paper's protocol, and one for a look at it without a GPU.
FULL = Config(
    data=DataConfig("cifar10"),
    field=FieldConfig("conv2d", {"channels": 128}),
    train=TrainConfig(iterations=7800, batch_size=256, learning_rate=1e-4),
)
SHORT = Config(
    data=DataConfig("cifar10", {"n_train": 2000, "n_test": 500}),
    field=FieldConfig("conv2d", {"channels": 16}),
    train=TrainConfig(iterations=400, batch_size=64, learning_rate=1e-3),
)


def protocol(full: bool) -> str:
    """What a caption says of how the runs were trained."""
    if full:
        return "7,800 iterations on batches of 256 at learning rate 1e-4, the paper's protocol"
    return (
        "400 iterations on batches of 64 of its first 2,000 images at learning rate 1e-3, with 16"
        " channels for the paper's 128, tested on the first 500: a look, not the paper's protocol"
    )


def cifar10_run(desk: Desk, solver: str, seed: int) -> Run:
    """CIFAR-10 trained with `solver`, from the shelf or new; a stopped one goes on."""
    parsed = Solver.parse(solver)
    size = f"h{1 / parsed.dt:g}" if parsed.dt is not None else f"tol{parsed.rtol:g}"
    config = _config(desk, solver, seed)
    return desk.trained(f"cifar10-{parsed.name.lower()}-{size}-{_kind(desk)}-s{seed}", config)


def adapted_cifar10(desk: Desk, controller: str, seed: int) -> Run:
    """CIFAR-10, Euler, under `controller`, from the shelf or new; a stopped one goes on."""
    config = replace(_config(desk, CONTROLLERS[controller], seed), adapt=AdaptConfig(controller))
    return desk.trained(f"cifar10-{controller}-{_kind(desk)}-s{seed}", config)


def _config(desk: Desk, solver: str, seed: int) -> Config:
    base = FULL if desk.full else SHORT
    train = replace(base.train, solver=solver)
    return replace(base, seed=seed, backend=desk.backend, train=train)


def _kind(desk: Desk) -> str:
    return "full" if desk.full else "short"
