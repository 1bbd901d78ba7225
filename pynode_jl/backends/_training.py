"""One call of `Backend.train`: its arguments as given, and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynode_jl._validation import instance
from pynode_jl.backends import _arguments
from pynode_jl.backends._gradients import GradientMethod, parsed_gradient
from pynode_jl.backends._optimizers import Optimizer, checked_optimizer
from pynode_jl.backends._precision import Precision, checked_precision, in_precision, is_mixed
from pynode_jl.backends._results import Array, TrainState
from pynode_jl.models import Model, check_model
from pynode_jl.solvers import DenseMethod, Solver


@dataclass(frozen=True)
class TrainingCall:
    """Arguments of `Backend.train`, for `Backend.train_many`.

    Attributes:
        model, state, x, targets, batches, solver, optimizer, iterations, gradient, precision: as
            `Backend.train` takes them.

    Example:
        >>> from pynode_jl.backends import TrainingCall, TrainState
        >>> state, batches = TrainState.start(trained.weights), np.arange(20).reshape(2, 10)
        >>> x, y = data.x_train, data.y_train
        >>> call = TrainingCall(model, state, x, y, batches, trained.solver, pn.Adam(1e-3))
        >>> [chunk] = pn.get_backend("jax").train_many([call])
        >>> chunk.state.iteration
        2
    """

    model: Model
    state: TrainState
    x: Any
    targets: Any
    batches: Array
    solver: Solver
    optimizer: Optimizer
    iterations: int | None = None
    gradient: GradientMethod = "discrete"
    precision: Precision = "full"


@dataclass(frozen=True)
class TrainingChunk:
    """Checked arguments of one call of `Backend.train`: one iteration per row of `indices`, at a
    learning rate of its own in `rates`, (iterations,) float64."""

    model: Model
    state: TrainState
    x: Array
    targets: Array
    indices: Array
    solver: Solver
    optimizer: Optimizer
    rates: Array
    gradient: GradientMethod
    precision: Precision

    @classmethod
    def of(
        cls,
        call: TrainingCall,
        backend: str,
        check_solver: Callable[[Solver, DenseMethod | None], None],
    ) -> TrainingChunk:
        """Return the checked arguments of a call to a backend.

        Raises:
            InvalidValueError: an argument that cannot be used; and what `check_solver` raises.
        """
        model, state, gradient = call.model, call.state, call.gradient
        check_model(model)
        instance("state", state, TrainState, "a TrainState", "Use TrainState.start(weights).")
        optimizer = checked_optimizer(call.optimizer, backend=backend)
        solver, precision = Solver.of(call.solver), call.precision
        checked_precision(precision, solver, gradient, backend=backend)
        _arguments.check_read_outs(model, parsed_gradient(gradient, backend).method)
        check_solver(solver, None)
        inputs = in_precision(_arguments.batch("x", call.x, model.input_shape), precision)
        asked = _arguments.targets(call.targets, len(inputs), model.task, inputs.dtype)
        indices = _arguments.batches(call.batches, len(inputs))
        _arguments.check_interval(model, solver, inputs.dtype)
        shapes = model.weight_shapes()
        weights, mu, nu = (
            _arguments.weights(each, shapes, inputs.dtype)
            for each in (state.weights, state.mu, state.nu)
        )
        checked = TrainState(weights, mu, nu, state.iteration)
        rates = optimizer.rates(state.iteration, len(indices), call.iterations)
        kept = precision if is_mixed(precision) else "full"
        return cls(model, checked, inputs, asked, indices, solver, optimizer, rates, gradient, kept)
