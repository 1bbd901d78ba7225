"""What decides a training: solver, iterations, batches, optimiser, seed, step adaptation."""

from __future__ import annotations

from dataclasses import dataclass, field

from pynode_jl._validation import instance, whole_number
from pynode_jl.backends import (
    Adam,
    GradientMethod,
    Precision,
    checked_gradient,
    checked_precision,
)
from pynode_jl.errors import InvalidValueError
from pynode_jl.seeding import checked_seed
from pynode_jl.solvers import Solver
from pynode_jl.training.step_adaptation import StepAdapter

# Iterations and samples are counted in 32 bits.
_MOST = 2**31 - 1


@dataclass(frozen=True)
class Recipe:
    """How to train: the paper's protocol by default (Ott et al. 2021).

    Attributes:
        solver: the solver to train with; with a step adapter, the one to start from.
        iterations: updates in all.
        batch_size: samples in a batch; an epoch's last, smaller batch is left out.
        optimizer: Adam's constants.
        seed: decides the initial weights and the batches.
        gradient: "discrete" (through the solver's own steps) or another of `GRADIENTS`.
        precision: "full", or "bfloat16" for the field's layers while training (`PRECISIONS`); what
            is evaluated afterwards is evaluated in full.
        chunk: iterations per compiled call; between two of them progress is shown and state kept.
            With a step adapter its check interval stands for it.
        controller: a step adapter: sets the solver's step or tolerance between chunks; None leaves
            the solver as it is.

    Example:
        >>> recipe = pn.Recipe(pn.Solver("Euler", dt=1 / 16), iterations=200, batch_size=64)
        >>> recipe.gradient, recipe.precision
        ('discrete', 'full')
    """

    solver: Solver
    iterations: int = 10_000
    batch_size: int = 128
    optimizer: Adam = field(default_factory=Adam)
    seed: int = 0
    gradient: GradientMethod = "discrete"
    precision: Precision = "full"
    chunk: int = 50
    controller: StepAdapter | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "solver", Solver.of(self.solver))
        instance(
            "optimizer", self.optimizer, Adam, "an Adam", "Training has Adam: pn.Adam(1e-3), say."
        )
        if self.controller is not None:
            if not isinstance(self.controller, StepAdapter):
                raise InvalidValueError(
                    "controller",
                    self.controller,
                    "a step adapter: PaperController(), SteadyController() or your own, or None",
                    "Make one of them.",
                )
            self.controller.check_solver(self.solver)
        object.__setattr__(self, "seed", checked_seed(self.seed))
        checked_gradient(self.gradient)
        checked_precision(self.precision, self.solver, self.gradient)
        for name in ("iterations", "batch_size", "chunk"):
            number = whole_number(name, getattr(self, name), most=_MOST)
            object.__setattr__(self, name, number)
