"""A NeuralODE in DistributedDataParallel: two processes have the gradients of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pynode_jl.solvers import Solver
from pynode_jl.torch import NeuralODE

WORLD = 2


def model(backend: str) -> nn.Module:
    torch.manual_seed(0)
    field = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    return nn.Sequential(NeuralODE(field, Solver("RK4", dt=0.25), backend=backend), nn.Linear(2, 2))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 2, generator=generator), torch.arange(8) % 2


def train(node: nn.Module, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Three iterations; return the last gradients and the weights that came of them."""
    optimizer = torch.optim.SGD(node.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(node(x), labels).backward()
        optimizer.step()
    found = {}
    for name, each in node.named_parameters():
        assert each.grad is not None
        name = name.removeprefix("module.")
        found |= {name: each.detach(), f"{name}, gradient": each.grad}
    return found


def worker(rank: int, backend: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD
    )
    x, labels = batch()
    node = DistributedDataParallel(model(backend))
    part = slice(rank, None, WORLD)
    torch.save(train(node, x[part], labels[part]), f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.mark.long
@pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_two_processes_have_the_gradients_of_one(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over two halves of a batch is the mean over the batch."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    expected = train(model(backend), *batch())
    torch.multiprocessing.spawn(worker, (backend, str(tmp_path)), nprocs=WORLD)
    for rank in range(WORLD):
        found = torch.load(tmp_path / str(rank))
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
