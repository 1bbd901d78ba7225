"""torch models as they are, swapped and certified: the answers are torchdiffeq's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torchdiffeq
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pynode_jl as pn
from pynode_jl import diagnostics
from pynode_jl.backends import as_backend
from pynode_jl.errors import PyNODEError
from pynode_jl.fields import FunctionField, VectorField
from pynode_jl.torch import NeuralODE, certify, from_trained, swap, to_trained

EULER = pn.Solver("Euler", dt=1 / 2)
METHODS = {"Euler": "euler", "Midpoint": "midpoint"}


class TimeConv(nn.Module):
    """A convolution with time as one more channel."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs + 1, outputs, kernel, padding=kernel // 2)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.conv(torch.cat([torch.full_like(y[:, :1], float(t)), y], dim=1))


class NormedField(nn.Module):
    """The shape of torchdiffeq's ODE-net example: norms, time in each convolution, a counter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(2, channels) for _ in range(3))
        self.convs = nn.ModuleList(TimeConv(channels, channels, 3) for _ in range(2))
        self.relu = nn.ReLU(inplace=True)
        self.nfe = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.nfe += 1
        for norm, conv in zip(self.norms, self.convs, strict=False):
            y = conv(t, self.relu(norm(y)))
        return self.norms[-1](y)


class AugmentedField(nn.Module):
    """The shape of ANODE's convolutional field: time first, a counter, a skip connection."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = TimeConv(channels, width, 1)
        self.middle = TimeConv(width, width, 3)
        self.last = TimeConv(width, channels, 1)
        self.nfe = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.nfe += 1
        out = torch.relu(self.first(t, y))
        out = torch.relu(self.middle(t, out))
        return self.last(t, out) - 0.1 * y


class ZeroChannels(nn.Module):
    """Append channels of zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros_like(x).repeat(1, 2, 1, 1)], dim=1)


class Parts(NamedTuple):
    encoder: nn.Module | None
    field: nn.Module
    head: nn.Module


def ode_net() -> Parts:
    encoder = nn.Sequential(
        nn.Conv2d(1, 4, 3, 1, 1), nn.GroupNorm(2, 4), nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 2, 2),
    )  # fmt: skip
    head = nn.Sequential(
        nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(),
        nn.Linear(4, 10),
    )  # fmt: skip
    return Parts(encoder, NormedField(4), head)


def augmented_net() -> Parts:
    head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 10))
    return Parts(ZeroChannels(), AugmentedField(3, 6), head)


def papers_net() -> Parts:
    field = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1)
    )
    return Parts(None, field, nn.Sequential(nn.Flatten(), nn.Linear(16, 10)))


@cache
def digits() -> tuple[Tensor, Tensor]:
    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return nn.functional.avg_pool2d(images, 2), torch.tensor(y)


def solved(parts: Parts, x: Tensor, method: str, **settings: Any) -> Tensor:
    """The logits that torchdiffeq's own solve gives."""
    y0 = x if parts.encoder is None else parts.encoder(x)
    field = parts.field
    alone = isinstance(field, nn.Sequential)
    f: Callable[..., Tensor] = (lambda t, y: field(y)) if alone else field
    logits: Tensor = parts.head(
        torchdiffeq.odeint(f, y0, torch.tensor([0.0, 1.0]), method=method, **settings)[-1]
    )
    return logits


def fitted(make: Callable[[], Parts], iterations: int = 40) -> Parts:
    torch.manual_seed(0)
    parts, (x, y) = make(), digits()
    weights = [each for part in parts if part is not None for each in part.parameters()]
    for i in range(iterations):
        rows = slice(64 * (i % 20), 64 * (i % 20) + 64)
        logits = solved(parts, x[rows], "euler", options={"step_size": 0.5})
        loss = nn.functional.cross_entropy(logits, y[rows])
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 1e-2 * gradient.sign()  # torch.optim imports torch's compiler
    return parts


@pytest.mark.parametrize("make", [ode_net, augmented_net, papers_net])
def test_the_table_is_torchdiffeqs(make: Callable[[], Parts]) -> None:
    """Accuracies under each solver are those of torchdiffeq's own solves, to one sample."""
    parts, (x, y) = fitted(make), digits()
    x, y = x[1400:1500], y[1400:1500]
    counted = getattr(parts.field, "nfe", 0)
    report = swap(
        parts.field, parts.head, x, y, solver=EULER, encoder=parts.encoder,
        tests=["Euler", "Midpoint", "DP5:tol=1e-5"], factors=[0.5, 1, 2],
    )  # fmt: skip
    assert getattr(parts.field, "nfe", 0) == counted
    assert report.table["flips"].max() > 0
    for row in report.table.to_dict("records"):
        if row["fixed"]:
            method, settings = METHODS[row["test_solver"]], {"options": {"step_size": row["step"]}}
        else:
            method, settings = "dopri5", {"rtol": 1e-5, "atol": 1e-5}
        with torch.no_grad():
            answers = solved(parts, x, method, **settings).argmax(1)
        assert row["retcode"] == "Success"
        assert row["accuracy"] == pytest.approx(
            float((answers == y).double().mean()), abs=1.01 / len(x)
        )


def test_a_readable_field_with_a_linear_head_becomes_plain_data() -> None:
    """So that every backend runs it; a head of another kind stays in torch, with its field."""
    torch.manual_seed(0)
    parts, x = papers_net(), digits()[0]
    plain = to_trained(parts.field, parts.head, x, solver=EULER)
    assert isinstance(plain.model.field, VectorField)
    assert plain.model.head == "linear"
    pooled = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 10))
    own = to_trained(parts.field, pooled, x, solver=EULER)
    assert isinstance(own.model.field, FunctionField)
    assert isinstance(own.model.head, pn.FunctionMap)
    assert as_backend(None, own.model).name == "torch"
    mixed = pn.Model(plain.model.field, task=own.model.task, head=own.model.head)
    assert as_backend(None, mixed).name == "torch"


class Plane(nn.Module):
    """Counts, normalises, drops out, skips: in the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2)
        )
        self.nfe = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.nfe += 1
        return self.net(torch.cat([y, t * torch.ones(len(y), 1).to(y)], dim=1)) - y


def plane() -> tuple[Plane, nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    field, head = (
        Plane(),
        nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1)),
    )
    x = torch.randn(120, 2)
    for _ in range(5):  # running statistics of their own
        field(torch.tensor(0.0), 2 * x + 1)
    with torch.no_grad():
        logits = answers_of(field, head, x)
        head[-1].bias -= logits.median()
    return field, head, x, (logits > logits.median()).ravel().long()


def answers_of(field: Plane, head: nn.Module, x: Tensor) -> Tensor:
    """Two steps of Euler in eval mode."""
    training, count = field.training, field.nfe
    field.eval(), head.eval()
    y = x
    for t in (0.0, 0.5):
        y = y + 0.5 * field(torch.tensor(t), y)
    logits: Tensor = head(y)
    field.train(training), head.train(training)
    field.nfe = count
    return logits


def test_modules_answer_in_eval_mode_and_stay_as_they_are() -> None:
    field, head, x, y = plane()
    before = {name: each.clone() for name, each in field.state_dict().items()}
    count, random = field.nfe, torch.get_rng_state()
    chosen = [e for e in diagnostics.DIAGNOSTICS if e.name in ("error share", "error transport")]
    found = certify(field, head, x, y, solver=EULER, samples=4, diagnostics=chosen)
    assert found.backend == "torch"
    answers = (answers_of(field, head, x).ravel() > 0).long()
    assert found.swap.trained == pytest.approx(float((answers == y).double().mean()))
    assert all(each.training for each in (field, head, field.net[1]))
    assert field.nfe == count
    torch.testing.assert_close(field.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(each.outcome != "not run" for each in found.findings)


def test_examples_are_taken_as_arrays_lists_data_sets_and_loaders() -> None:
    field, head, x, y = plane()
    x, y = x[:40], y[:40]
    pairs = TensorDataset(x, y)
    given: list[tuple[Any, ...]] = [
        (x, y), (x.numpy(), y.numpy()), (x.tolist(), y.tolist()), (x.double(), y[:, None].float()),
        (pairs,), (DataLoader(pairs, batch_size=16),), ([(x[:10], y[:10]), (x[10:], y[10:])],),
    ]  # fmt: skip
    tables = [swap(field, head, *each, solver=EULER, tests=["Euler"]).table for each in given]
    for table in tables[1:]:
        np.testing.assert_array_equal(table["accuracy"], tables[0]["accuracy"])
    loaded = Plane()
    other = swap(
        (loaded, field.state_dict()), head, x, y, solver="Euler:dt=1/2", tests=["Euler"]
    ).table
    np.testing.assert_array_equal(other["accuracy"], tables[0]["accuracy"])


class Narrow(nn.Module):
    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return y @ torch.eye(2)


class Chance(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y + torch.rand(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"field": nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False))}, "running stat"),
        ({"head": nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False))}, "running stat"),
        ({"encoder": nn.BatchNorm1d(2, track_running_stats=False)}, "running stat"),
        ({"encoder": Chance()}, "randomness"),
        ({"head": nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())}, "sigmoid"),
        ({"head": nn.Linear(2, 3), "task": pn.Classification(2)}, "head"),
        ({"field": Narrow()}, "float64"),
        ({"field": nn.Linear(3, 3)}, "field"),
        ({"field": (nn.Linear(2, 2), {"w": torch.zeros(1)})}, "state_dict"),
        ({"field": nn.Linear}, "nn.Module"),
        ({"head": lambda y: None}, "row a sample"),
        ({"y": torch.linspace(0, 1, 40)}, "Regression"),
        ({"y": torch.zeros(3)}, "one target a sample"),
        ({"x": 3, "y": None}, "DataLoader"),
        ({"x": [torch.zeros(3, 2), 4], "y": None}, "DataLoader"),
        ({"solver": None}, "solver"),
    ],
)
def test_what_cannot_be_certified_is_refused_with_the_fix(
    change: dict[str, Any], message: str
) -> None:
    torch.manual_seed(0)
    right = {"field": nn.Linear(2, 2), "head": nn.Linear(2, 2), "x": torch.randn(40, 2)}
    right |= {"y": torch.arange(40) % 2, "solver": EULER, "backend": "torch"}
    with pytest.raises(PyNODEError, match=message):
        swap(**(right | change))


def test_modules_of_other_kinds_are_copied() -> None:
    """Parametrised ones, those in 16 bits, which NumPy has not; a NeuralODE brings a solver."""
    x, y = torch.randn(30, 2), torch.arange(30) % 2
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    half = nn.Linear(2, 2).to(torch.bfloat16)
    for field in (NeuralODE(normed, EULER), NeuralODE(half, EULER)):
        report = swap(field, nn.Linear(2, 2), x, y, tests=["Euler"], backend=None)
        assert (report.table["retcode"] == "Success").all()


def test_a_regression_is_swapped_too() -> None:
    torch.manual_seed(0)
    field, x = Plane(), torch.randn(60, 2)
    head = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    with torch.no_grad():
        y = answers_of(field, head, x) + 0.1 * torch.randn(60, 1)
    report = swap(field, head, x, y, solver=EULER, task=pn.Regression(1), tests=["Euler"])
    own = report.table[report.table["label"] == EULER.label]
    assert len(own) == 1
    assert report.trained == pytest.approx(0.1, abs=0.03)


def test_parts_come_back_as_modules_with_equal_outputs() -> None:
    """Plain data, own modules, and functions: the module's numbers are those of the model."""
    torch.manual_seed(0)
    x = digits()[0][:8]
    for parts in (papers_net(), ode_net()):
        y0 = x if parts.encoder is None else parts.encoder(x).detach()
        back = from_trained(to_trained(parts.field, parts.head, y0, solver=EULER))
        field = parts.field
        slope = field(y0) if isinstance(field, nn.Sequential) else field(torch.tensor(0.5), y0)
        torch.testing.assert_close(back.field(torch.tensor(0.5), y0), slope)
        assert back.head is not None
        torch.testing.assert_close(back.head(y0), parts.head(y0))


def test_saved_models_load_as_they_were_and_damaged_ones_do_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts, x = papers_net(), digits()[0]
    trained = to_trained(parts.field, parts.head, x, solver=EULER)
    path = tmp_path / "model.safetensors"
    trained.save(path)
    loaded = pn.TrainedModel.load(path)
    assert (loaded.model, loaded.solver) == (trained.model, trained.solver)
    for name, weight in trained.weights.items():
        np.testing.assert_array_equal(loaded.weights[name], weight)
    content = bytearray(path.read_bytes())
    for place in (20, len(content) // 2, len(content) - 3):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(PyNODEError, match=r"TrainedModel\.save wrote"):
            pn.TrainedModel.load(path)
    own = to_trained(lambda t, y: -y, parts.head, x, solver=EULER)
    with pytest.raises(PyNODEError, match="weights"):
        own.save(path)
