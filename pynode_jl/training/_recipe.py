"""What decides a training: solver, iterations, batches, optimiser, seed, step adaptation."""

from __future__ import annotations

from dataclasses import dataclass, field

from pynode_jl._display import ShortRepr, Viewed
from pynode_jl._validation import whole_number
from pynode_jl.backends import (
    Adam,
    GradientMethod,
    Optimizer,
    Precision,
    checked_gradient,
    checked_optimizer,
    checked_precision,
)
from pynode_jl.errors import InvalidValueError
from pynode_jl.seeding import checked_seed
from pynode_jl.solvers import Solver
from pynode_jl.training.step_adaptation import StepAdapter

# Iterations and samples are counted in 32 bits.
_MOST = 2**31 - 1


@dataclass(frozen=True, repr=False)
class Recipe(ShortRepr, Viewed):
    """How to train: the paper's protocol by default (Ott et al. 2021).

    Attributes:
        solver: the solver to train with; with a step adapter, the one to start from.
        iterations: updates in all.
        batch_size: samples in a batch; an epoch's last, smaller batch is left out.
        optimizer: an `Adam`, `SGD` or `RMSprop`, its text ("sgd:learning_rate=0.1,momentum=0.9") or
            its table ({"name": "adam", "weight_decay": 0.01}).
        seed: decides the initial weights and the batches.
        gradient: "discrete" (through the solver's own steps) or another of `GRADIENTS`.
        precision: a name of `PRECISIONS`: "full", that of the data, float32; "float64", in which
            the model is evaluated afterwards too; or "bfloat16" for the field's layers while
            training, after which it is evaluated in full.
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
    optimizer: Optimizer = field(default_factory=Adam)
    seed: int = 0
    gradient: GradientMethod = "discrete"
    precision: Precision = "full"
    chunk: int = 50
    controller: StepAdapter | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "solver", Solver.of(self.solver))
        object.__setattr__(self, "optimizer", checked_optimizer(self.optimizer))
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
        self.optimizer.check_iterations(self.iterations)

    @property
    def bound_to_iterations(self) -> bool:
        """Whether the first iterations depend on the number of all: by the phases of a step
        adapter, or by a learning rate that decays. Such a training cannot be prolonged.
        """
        return self.controller is not None or self.optimizer.decays
