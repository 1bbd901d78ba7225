"""Arguments of torch's `odeint` that were taken in silence, and fields that keep their tensors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pynode_jl.errors import InvalidValueError, SolveError
from pynode_jl.fields import MLP
from pynode_jl.solvers import Solver
from pynode_jl.torch import NeuralODE, odeint, odeint_adjoint, translate

F64 = torch.float64
T = torch.tensor([0.0, 1.0], dtype=F64)
Y0 = torch.tensor([1.0, 2.0], dtype=F64)
METHODS: dict[str, dict[str, Any]] = {
    "dopri5": {}, "Tsit5": {}, "rk4": {"step_size": 0.05},
    "implicit_adams": {"step_size": 0.02},
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", ["copied into", "a view", "NumPy's"])
def test_a_field_may_reuse_its_tensor(way: str, method: str) -> None:
    """y' = cos(t) y: all stages of a step would be the last one."""
    kept = torch.zeros(2, dtype=F64)
    array = kept.clone().numpy()

    def field(t: Tensor, y: Tensor) -> Tensor:
        slope = y.detach() * torch.cos(t)
        if way == "NumPy's":
            array[...] = slope.numpy()
            return torch.from_numpy(array)
        kept.copy_(slope)
        return kept if way == "copied into" else kept.view(2)

    with torch.no_grad():
        y1 = odeint(field, Y0, T, method=method, options=METHODS[method], rtol=1e-8, atol=1e-9)[-1]
    torch.testing.assert_close(y1, Y0 * math.exp(math.sin(1.0)), rtol=1e-4, atol=1e-5)


def test_a_field_that_overwrites_its_arguments_is_refused() -> None:
    for field, which in (
        (lambda t, y: y.mul_(-1), "y"),
        (lambda t, y: -y + t.add_(1), "t"),
    ):
        with pytest.raises(InvalidValueError, match=f"leaves {which} as it is"):
            odeint(field, Y0.clone(), T)
    with pytest.raises(InvalidValueError, match="leaves y"):
        odeint(lambda t, y: (y[0].mul_(2),), (Y0.clone(),), T)
    with torch.inference_mode():  # which counts no writing: it gets copies
        y1 = odeint(lambda t, y: y.mul_(-1), Y0.clone(), T)[-1]
    torch.testing.assert_close(y1.clone(), Y0 * math.exp(-1), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits(dtype: torch.dtype) -> None:
    """The state is summed in float32, so that small changes count; f sees 16 bits."""
    y0, seen = torch.tensor([1.0, 2.0], dtype=dtype), set()

    def field(t: Tensor, y: Tensor) -> Tensor:
        seen.add((t.dtype, y.dtype))
        return -y

    t = torch.tensor([0.0, 1.0])
    eps = torch.finfo(dtype).eps
    for method, options in (("dopri5", {}), ("rk4", {"step_size": 0.01}), ("KenCarp4", {})):
        y1 = odeint(field, y0, t, method=method, options=options, rtol=1e-2, atol=1e-3)[-1]
        assert y1.dtype == dtype
        exact = math.exp(-1.0) * y0.float()
        tolerance = 8 * eps if method == "rk4" else 0.05
        torch.testing.assert_close(y1.float(), exact, rtol=tolerance, atol=0.0)
    assert (dtype, dtype) in seen
    with pytest.raises(InvalidValueError, match=r"y0.float\(\)"):
        odeint(field, y0, t)
    w = torch.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    odeint(lambda t, y: -w * y, y0, t, rtol=1e-2, atol=1e-3)[-1].sum().backward()
    assert w.grad is not None
    exact = -torch.tensor([math.exp(-1.0), 2 * math.exp(-2.0)])
    torch.testing.assert_close(w.grad.float(), exact, rtol=0.1, atol=0.0)


def test_wrong_numbers_are_refused() -> None:
    for keywords, name in (
        ({"rtol": -1e-3}, "rtol"),
        ({"atol": math.nan}, "atol"),
        ({"rtol": "small"}, "rtol"),
        ({"rtol": None}, "rtol"),
        ({"method": "rk4", "options": {"step_size": -0.1}}, "step_size"),
        ({"method": "rk4", "options": {"step_size": math.nan}}, "step_size"),
        ({"options": [1]}, "options"),
    ):
        with pytest.raises(InvalidValueError, match=f"^{name}"):
            odeint(lambda t, y: -y, Y0, T, **keywords)
    for value in (torch.tensor(1.0), 1.0, None, Y0[None]):
        with pytest.raises(InvalidValueError, match="shape"):
            odeint(lambda t, y, value=value: value, Y0, T)
    pair = (torch.ones(2, dtype=F64), torch.ones(3, dtype=F64))
    with pytest.raises(InvalidValueError, match="numbers"):
        odeint(lambda t, y: (y[1], y[0]), pair, T)


def test_one_tensor_of_adjoint_params_is_one_tensor() -> None:
    w = torch.tensor([1.0, 2.0], dtype=F64, requires_grad=True)
    odeint_adjoint(lambda t, y: w * y, Y0, T, adjoint_params=w)[-1].sum().backward()
    torch.testing.assert_close(w.grad, Y0 * w.detach().exp(), rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidValueError, match="adjoint_params"):
        odeint_adjoint(lambda t, y: w * y, Y0, T, adjoint_params=[1.0])


def test_options_of_a_module_that_was_read_count() -> None:
    """They went to no one: torchdiffeq warns of those that a method does not know."""

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2, dtype=F64)

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return torch.tanh(self.layer(y))

    field = Field()
    for keywords in ({"method": "dopri5", "options": {"step_size": 0.1}},
                     {"method": "dopri5", "options": {"interp": "cubic"}}):  # fmt: skip
        with pytest.warns(UserWarning, match="Unexpected arguments"):
            odeint(field, Y0[None], T, **keywords)
    with pytest.raises(SolveError, match="MaxIters"):
        odeint(field, Y0[None], T, method="rk4", options={"step_size": 0.1, "max_num_steps": 3})


def test_float64_weights_are_read_in_float64() -> None:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(2, 8, dtype=F64), nn.Tanh(), nn.Linear(8, 2, dtype=F64))
    assert translate(made, Y0[None]).field.layers[0].outputs == 8
    with torch.no_grad():
        made[0].weight.fill_(math.nan)
    assert translate(made, Y0[None])  # numbers for a while


def test_a_step_budget_holds_for_fixed_steps() -> None:
    solver = Solver("Euler", dt=0.01, max_steps=3)
    with pytest.raises(SolveError, match="MaxIters"):
        odeint(lambda t, y: -y, Y0, T, method=solver)


@pytest.mark.parametrize("t_span", [None, (0.0, 0.0), (0.0,), (0.0, float("nan")), "01"])
def test_an_interval_of_no_meaning_is_refused(t_span: Any) -> None:
    with pytest.raises(InvalidValueError, match="t_span = "):
        NeuralODE(MLP(2), t_span=t_span)
