"""`NeuralODE`: a torch module whose forward is a solve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pynode_jl._validation import interval
from pynode_jl.backends.torch import FieldModule, as_function_of_time
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import VectorField
from pynode_jl.frontends.torch._methods import described, resolve
from pynode_jl.frontends.torch._odeint import solve_with_stats
from pynode_jl.frontends.torch._translate import UntranslatableError, translate
from pynode_jl.solvers import Solver


class NeuralODE(nn.Module):
    """y(t0) -> y(t1) along a field, trained as any torch module is.

    Args:
        field: a field spec, which brings its initial weights, or a module of the user's own: a
            function of (t, y), or of y alone.
        solver: the method with its step or tolerances: a `Solver`, its text or its table; or a
            method's name as for `odeint`.
        t_span: ``(t0, t1)``.
        backend: as for `odeint`: "auto" runs the whole solve, and its exact gradient, in the
            JAX backend where the field can be read, on the CPU; "torch" runs it here.
        seed: draws the weights of a field spec.

    Attributes:
        nfe: evaluations of the field in the last forward, each on the whole batch.

    Example:
        >>> import torch, pynode_jl as pn
        >>> from pynode_jl.torch import NeuralODE
        >>> node = NeuralODE(pn.MLP(2), pn.Solver("RK4", dt=1 / 4), backend="torch")
        >>> node(torch.zeros(5, 2)).shape, node.nfe
        (torch.Size([5, 2]), 16)
    """

    def __init__(
        self,
        field: VectorField | nn.Module,
        solver: Solver | str | Mapping[str, Any] | None = None,
        *,
        t_span: tuple[float, float] = (0.0, 1.0),
        backend: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(field, VectorField):
            field = FieldModule(field, seed)
        elif not isinstance(field, nn.Module):
            raise InvalidValueError(
                "field", field, "a VectorField or an nn.Module", "Wrap the function in a module."
            )
        self.field = field
        self.solver = Solver("Tsit5") if solver is None else described(solver)
        resolve(self.solver, None, None, None)  # refuse at once what is none
        self.t_span = interval("t_span", t_span)
        self.backend = backend
        self.nfe = 0

    def forward(self, y0: Tensor, t: Tensor | None = None) -> Tensor:
        """Return the state at t1, of y0's shape.

        With times `t`, return the states at all of them, ``(times, *y0.shape)``; the first is `y0`.

        Raises:
            SolveError: the solve failed.
        """
        times = torch.tensor(self.t_span, dtype=y0.dtype, device=y0.device) if t is None else t
        function = as_function_of_time(self.field)
        states, stats = solve_with_stats(
            function, self.field, y0, times, None, None, self.solver, backend=self.backend
        )
        self.nfe = stats.nf
        result: Tensor = states[-1] if t is None else states
        return result

    def where(self, y0: Tensor) -> str:
        """Return one line: where states such as `y0` are solved, and why."""
        if self.backend == "torch":
            return "in torch: backend='torch'"
        try:
            field = translate(self.field, y0).field
        except UntranslatableError as error:
            return f"in torch: {error.reason}"
        return f"whole in a backend, as {field}"

    def extra_repr(self) -> str:
        """Return the solver and the interval."""
        return f"{self.solver}, t_span={self.t_span}, backend={self.backend!r}"
