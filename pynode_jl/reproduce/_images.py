"""Image sets as figures and tables need them: CIFAR-10 as the paper has it, digits for a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pynode_jl.experiments import (
    AdaptConfig,
    Config,
    DataConfig,
    FieldConfig,
    ModelConfig,
    Run,
    TrainConfig,
)
from pynode_jl.reproduce._adapted import CONTROLLERS
from pynode_jl.reproduce._desk import Desk
from pynode_jl.reproduce._subject import Subject, solver_name

#: By protocol, full or not: the paper's, and one for a look at it without a GPU.
CIFAR10_CONFIGS: Mapping[bool, Config] = {
    True: Config(
        data=DataConfig("cifar10"),
        field=FieldConfig("conv2d", {"channels": 128}),
        train=TrainConfig(iterations=7800, batch_size=256, learning_rate=1e-4),
    ),
    False: Config(
        data=DataConfig("cifar10", {"n_train": 2000, "n_test": 200}),
        field=FieldConfig("conv2d", {"channels": 4}),
        train=TrainConfig(iterations=200, batch_size=32, learning_rate=3e-3),
    ),
}
_CIFAR10_WORDS = {
    True: "7,800 iterations on batches of 256 at learning rate 1e-4, the paper's protocol",
    False: "200 iterations on batches of 32 of its first 2,000 images at learning rate 3e-3, with 4"
    " channels for the paper's 128, tested on the first 200: a look, not the paper's protocol",
}
#: The recipe of examples/digits.toml, half as long: one protocol.
DIGITS_CONFIG = Config(
    data=DataConfig("digits"),
    field=FieldConfig("conv2d", {"channels": 8}),
    model=ModelConfig(augment=1),
    train=TrainConfig(iterations=600, batch_size=32, learning_rate=3e-3),
)
_DIGITS_WORDS = (
    "600 iterations on batches of 32 at learning rate 3e-3, with 8 channels and one of zeros beside"
    " the image"
)


def image_subject(
    name: str, configs: Mapping[bool, Config], words: Mapping[bool, str], *, every: int
) -> Subject:
    """A subject whose runs differ from `configs`, by protocol, in solver, seed and controller.

    In the short protocol controllers look after `every` iterations: of their own, meant for long
    runs, there would be few looks.
    """

    def config(desk: Desk, solver: str, seed: int) -> Config:
        base = configs[desk.full]
        train = replace(base.train, solver=solver)
        return replace(base, seed=seed, backend=desk.backend, train=train)

    def trained(desk: Desk, how: str, config: Config) -> Run:
        kind = "full" if desk.full else "short"
        return desk.trained(f"{config.data.name}-{how}-{kind}-s{config.seed}", config)

    def run(desk: Desk, solver: str, seed: int) -> Run:
        return trained(desk, solver_name(solver), config(desk, solver, seed))

    def adapted(desk: Desk, controller: str, seed: int) -> Run:
        start = config(desk, CONTROLLERS[controller], seed)
        adapt = AdaptConfig(controller, {} if desk.full else {"every": every})
        return trained(desk, controller, replace(start, adapt=adapt))

    return Subject(name, run, adapted, words.__getitem__)


CIFAR10 = image_subject("CIFAR-10", CIFAR10_CONFIGS, _CIFAR10_WORDS, every=20)
DIGITS = image_subject(
    "Digits (8x8)",
    dict.fromkeys((True, False), DIGITS_CONFIG),
    dict.fromkeys((True, False), _DIGITS_WORDS),
    every=25,
)


def images(desk: Desk) -> Subject:
    """What the figures for images show: the paper's CIFAR-10 in full, digits in short."""
    return CIFAR10 if desk.full else DIGITS
