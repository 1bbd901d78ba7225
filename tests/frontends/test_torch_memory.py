"""What solves in torch leave behind: nothing of a module that is gone, no hang in a fork."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pynode_jl as pn
from pynode_jl.backends import get_backend
from pynode_jl.backends.jax import jit
from pynode_jl.errors import BackendUnavailableError, InvalidValueError
from pynode_jl.frontends.torch._translate import reading_of
from pynode_jl.torch import NeuralODE, odeint

T = torch.tensor([0.0, 1.0])
STEPS: dict[str, Any] = {"method": "euler", "options": {"step_size": 0.5}}


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)


class Scaled(Chain):
    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return 0.5 * self.net(y)


class Owned(Chain):
    """Its child knows it, which is a circle."""

    def __init__(self) -> None:
        super().__init__()
        self.net.owner = (self,)


def local() -> nn.Module:
    """A module that its class's functions hold."""

    class Local(Chain):
        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return self.net(y)

        def itself(self) -> nn.Module:
            return made

    made = Local()
    return made


@pytest.mark.parametrize("make", [Chain, Scaled, Owned, local], ids=lambda make: make.__name__)
def test_neither_states_nor_modules_stay(make: Callable[[], nn.Module]) -> None:
    made, states = make(), []
    for _ in range(5):
        y0 = torch.randn(3, 2)
        states.append(weakref.ref(y0))
        odeint(made, y0, T, **STEPS)[-1].sum().backward()
    gone = weakref.ref(made)
    del y0
    gc.collect()
    assert [each() for each in states] == [None] * 5
    del made
    gc.collect()
    assert gone() is None


def test_a_reading_is_the_same_while_it_holds_and_no_longer() -> None:
    made, y0 = Chain(), torch.zeros(3, 2)
    first, _ = reading_of(made, y0, timed=True)
    made.unused = 1
    with torch.no_grad():
        made.net[0].weight.add_(1)
    assert reading_of(made, y0, timed=True)[0] is first
    made.net[1] = nn.ReLU()
    again, parameters = reading_of(made, y0, timed=True)
    assert again is not first
    assert parameters["net.0.weight"] is made.net[0].weight


def test_compiled_programs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole kernels go, the ones that have not run for longest first."""
    backend = get_backend("jax")
    jit.drop_compiled(0.0)
    monkeypatch.setattr(jit, "_MOST_PROGRAMS", 2)

    def solve(width: int) -> bool:
        field = pn.MLP(1, width=width, depth=1)
        solver = pn.Solver("Euler", dt=1.0)
        y0 = np.ones((1, 1), np.float32)
        return backend.solve(field, field.init(0), y0, (0, 1), solver).stats.compiled

    assert [solve(width) for width in (1, 2, 1)] == [True, True, False]
    assert solve(3)
    assert sum(kernel._cache_size() for kernel in list(jit._KERNELS)) <= 2
    assert [solve(1), solve(2)] == [False, True]


def in_a_worker(_: int) -> tuple[list[float], str]:
    torch.set_num_threads(1)
    made = NeuralODE(pn.MLP(2, width=4), pn.Solver("Euler", dt=0.5))
    with torch.no_grad():
        y1 = made(torch.ones(2, 2))[0].tolist()
    try:
        NeuralODE(pn.MLP(2, width=4), made.solver, backend="jax")(torch.ones(2, 2))
    except InvalidValueError as error:
        return y1, str(error)
    return y1, ""


@pytest.mark.filterwarnings("ignore")  # JAX's, of the fork
def test_a_forked_worker_solves_in_torch() -> None:
    """XLA's threads are not in it: it hung for ever."""
    made = NeuralODE(pn.MLP(2, width=4), pn.Solver("Euler", dt=0.5))
    expected = made(torch.ones(2, 2))[0].tolist()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        y1, refusal = pool.apply_async(in_a_worker, (0,)).get(timeout=60)
    assert y1 == pytest.approx(expected, rel=1e-5)
    assert "forked" in refusal


@pytest.mark.filterwarnings("ignore")
def test_a_backend_refuses_in_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    from pynode_jl.backends import _forks
    from pynode_jl.backends.julia import _process
    from pynode_jl.jax import odeint as jax_odeint

    monkeypatch.setattr(_forks, "_inherited", {"jax", "julia"})
    field = pn.MLP(1, width=2)
    with pytest.raises(BackendUnavailableError, match="spawn"):
        get_backend("jax").rhs(field, field.init(0), 0.0, np.ones((1, 1)))
    with pytest.raises(BackendUnavailableError, match=r"JAX ran.*spawn"):
        jax_odeint(lambda y, t: -y, np.ones(1, np.float32), [0.0, 1.0])
    for call in (_process.julia, lambda: _process.call(None)):
        with pytest.raises(BackendUnavailableError, match=r"backend = 'julia'.*Julia ran.*spawn"):
            call()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("end", ["return", "sys.exit(3)", "work()"])
def test_a_forked_child_ends_as_it_would(end: str) -> None:
    """JAX's own clean-up crashes there, or waits for threads that the child does not have."""
    program = f"""
import os, sys
import numpy as np
import pynode_jl as pn

backend, field = pn.get_backend("jax"), pn.MLP(2, width=4)
def work():
    euler = pn.Solver("Euler", dt=0.5)
    return backend.solve(field, field.init(0), np.ones((2, 2), np.float32), (0, 1), euler)

def child():
    {end}

work()
if child_id := os.fork():
    code = os.waitstatus_to_exitcode(os.waitpid(child_id, 0)[1])
    print("ended with", code)
    work()
else:
    child()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    code = {"return": 0, "sys.exit(3)": 3, "work()": 1}[end]
    assert f"ended with {code}" in done.stdout, done.stderr
    assert done.returncode == 0
