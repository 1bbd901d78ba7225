"""Lady Windermere's fan: local errors, carried to the end, and their sum against the global error.

Each step of a solver leaves the exact flow by a local error; the flow carries it on to t1, where
all of them add up (Hairer, Norsett & Wanner, Solving ODEs I, II.3; Ott et al. 2021, Fig. 3). To
first order the transport is linear, by the variational equation along the numerical trajectory. A
classifier can learn to read the sum; its share of the margin says how far it has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pynode_jl.analysis._swap import REFERENCE
from pynode_jl.backends import Array, Backend, get_backend
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained

# One step of it over each of the solver's own: the variational equation to order 7.
_VARIATIONAL = Solver("Vern7", dt=1.0)


@dataclass(frozen=True)
class Fan:
    """The errors of one solve, sample by sample; states flattened to `size` numbers, float64.

    Attributes:
        solver: whose errors.
        t: (steps,), where each step ends.
        local: (steps, n, size), the error that each step makes alone.
        transported: (steps, n, size), the same where the flow has carried it to t1.
        global_error: (n, size), the final state minus the exact one.
        margin: (n,), the lead of the first logit over the second under the solver.
        margin_error: (n,), the part of that lead that is made by the global error.
    """

    solver: Solver
    t: Array
    local: Array
    transported: Array
    global_error: Array
    margin: Array
    margin_error: Array

    @property
    def gap(self) -> float:
        """How far the sum of transported errors is from the global error: norm over norm."""
        rest = self.transported.sum(axis=0) - self.global_error
        return float(np.linalg.norm(rest)) / max(float(np.linalg.norm(self.global_error)), 1e-300)

    @property
    def share(self) -> float:
        """The median over samples of |margin_error| / margin: 0 for an ODE, 1 where the answer
        rests on the solver's error alone."""
        return float(np.median(np.abs(self.margin_error) / np.maximum(self.margin, 1e-300)))

    @property
    def decided(self) -> float:
        """The share of samples whose leading class leads by the error alone: without it, as the
        ODE has it, the second class would be level or ahead."""
        return float(np.mean(self.margin_error >= self.margin))

    @property
    def text(self) -> str:
        """What was found, in a sentence."""
        share = f"{self.share:.1%}" if self.share < 10 else "over ten times the size"
        return (
            f"numerical error is {share} of the margin (median of {len(self.margin)}"
            f" samples) under {self.solver.label}, and all of it for {self.decided:.1%} of them;"
            f" carried to the end, the local errors of {len(self.t)} steps sum to the global error"
            f" but for {self.gap:.1%}."
        )


def fan(
    trained: Trained,
    x: npt.ArrayLike,
    *,
    solver: Solver | None = None,
    backend: Backend | None = None,
) -> Fan:
    """Decompose a solve's global error into the local errors of its steps.

    Args:
        trained: the model.
        x: samples, ``(n, *input_shape)``; each step makes n Jacobians of size x size numbers.
        solver: whose errors; default the training solver.
        backend: what integrates; default `get_backend()`.

    Raises:
        SolveError: a solve failed, the solver's or the reference's.
    """
    backend = get_backend() if backend is None else backend
    solver = trained.solver if solver is None else solver
    model, weights = trained.model, trained.field_weights
    y0 = model.augmented(x).astype(np.float64)
    n = y0.shape[0]
    span = (model.t0, model.t1)
    path = backend.solve(model.field, weights, y0, span, solver, save_steps=True)
    exact = backend.solve(model.field, weights, y0, span, REFERENCE).y1
    t, y = path.t, path.y

    local = [
        y[i + 1] - backend.solve(model.field, weights, y[i], (t[i], t[i + 1]), REFERENCE).y1
        for i in range(len(t) - 1)
    ]
    transport = np.broadcast_to(np.eye(model.field.size), (n, model.field.size, model.field.size))
    transported = [local[-1].reshape(n, -1)]
    for i in range(len(t) - 2, 0, -1):
        # The flow's Jacobian over step i, from where the numerical solution stood.
        over_step = backend.step_jacobian(
            model.field, weights, y[i], t[i], t[i + 1] - t[i], _VARIATIONAL
        )
        transport = transport @ over_step
        transported.append(np.einsum("nij,nj->ni", transport, local[i - 1].reshape(n, -1)))
    global_error = (y[-1] - exact).reshape(n, -1)

    head = trained.weights["head.weight"].astype(np.float64)
    logits = y[-1].reshape(n, -1) @ head.T + trained.weights["head.bias"]
    second, first = np.argsort(logits, axis=1)[:, -2:].T
    rows = np.arange(n)
    return Fan(
        solver,
        t[1:],
        np.stack(local).reshape(len(local), n, -1),
        np.stack(transported[::-1]),
        global_error,
        logits[rows, first] - logits[rows, second],
        np.einsum("ni,ni->n", head[first] - head[second], global_error),
    )
