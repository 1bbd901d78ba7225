"""Image sets, as figures and tables train them: the paper's CIFAR-10, and digits for a CPU."""

from __future__ import annotations

from collections.abc import Mapping

from pynode_jl.paper._context import ReproductionContext
from pynode_jl.paper._experiments import ExperimentSpec
from pynode_jl.runs import Config, DataConfig, FieldConfig, ModelConfig, TrainConfig

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


CIFAR10 = ExperimentSpec(
    name="CIFAR-10",
    stem="cifar10",
    configs=CIFAR10_CONFIGS,
    words=_CIFAR10_WORDS,
    short_controls={"every": 20},
)
DIGITS = ExperimentSpec(
    name="Digits (8x8)",
    stem="digits",
    configs=dict.fromkeys((True, False), DIGITS_CONFIG),
    words=dict.fromkeys((True, False), _DIGITS_WORDS),
    short_controls={"every": 25},
)


def image_experiment(context: ReproductionContext) -> ExperimentSpec:
    """Return what the figures for images show: CIFAR-10 in the full protocol, digits in short."""
    return CIFAR10 if context.full else DIGITS
