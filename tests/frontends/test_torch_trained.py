"""torch modules as `TrainedModel`: the same answers as torch's own, and a certificate of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pynode_jl.backends import get_backend
from pynode_jl.datasets import concentric_spheres
from pynode_jl.diagnostics import certify
from pynode_jl.errors import InvalidValueError
from pynode_jl.solvers import Solver
from pynode_jl.torch import NeuralODE, to_trained

EULER = Solver("Euler", dt=1 / 4)


def parts() -> tuple[nn.Module, nn.Linear]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)), nn.Linear(2, 2)


def test_answers_are_torchs_own() -> None:
    data = concentric_spheres(n_train=8, n_test=40, seed=0)
    field, head = parts()
    x = torch.from_numpy(data.x_test.copy())
    y = x
    for _ in range(4):
        y = y + field(y) / 4
    trained = to_trained(NeuralODE(field, EULER, t_span=(0.0, 1.0)), head, x)
    found = get_backend().evaluate(trained.model, trained.weights, data.x_test, trained.solver)
    np.testing.assert_allclose(found.logits, head(y).detach().numpy(), atol=1e-5)
    # Copies: training on in torch does not change what was handed over.
    before = trained.weights["head.weight"].copy()
    with torch.no_grad():
        head.weight.zero_()
    np.testing.assert_array_equal(trained.weights["head.weight"], before)


@pytest.mark.slow
def test_a_torch_module_is_certified() -> None:
    data = concentric_spheres(n_train=8, n_test=40, seed=0)
    field, head = parts()
    found = certify(
        to_trained(field, head, torch.from_numpy(data.x_test.copy()), solver=EULER), data, samples=8
    )
    assert found.verdict.kind == "untrained"
    assert {each.outcome for each in found.findings} == {"not run"}


def test_what_does_not_fit_is_refused() -> None:
    field, head = parts()
    with pytest.raises(InvalidValueError, match="solver"):
        to_trained(field, head, torch.zeros(1, 2))
    with pytest.raises(InvalidValueError, match="head"):
        to_trained(field, nn.Linear(3, 2), torch.zeros(1, 2), solver=EULER)
