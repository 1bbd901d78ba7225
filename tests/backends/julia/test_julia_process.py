"""Julia in this process: start-up, interruption, threads, the cost of a call, callbacks."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from julia_problems import distance, needs_julia, problem

from pynode_jl.backends import get_backend
from pynode_jl.backends.julia import julia_solver, lux_field, sublibrary
from pynode_jl.errors import UnknownSolverError
from pynode_jl.fields import FunctionField
from pynode_jl.solvers import Solver

pytestmark = needs_julia

FIRST_SOLVE = """
import time, numpy as np
begun = time.perf_counter()
import pynode_jl as pn
backend = pn.get_backend("julia")
field = pn.ConvField1d(2)
y = backend.solve(field, field.init(0), np.ones((4, 2)), (0.0, 1.0), pn.Solver("Tsit5")).y1
assert np.isfinite(y).all()
print(time.perf_counter() - begun)
"""


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | variables,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def julia() -> Any:
    return get_backend("julia")


def test_start_to_first_solve(record_property: Any) -> None:
    done = run(FIRST_SOLVE)
    assert done.returncode == 0, done.stderr
    seconds = float(done.stdout)
    record_property("julia start to first solve", f"{seconds:.1f} s")
    assert seconds < 60  # 20 s on a quiet machine; `benchmarks/julia_backend.py` reports it


# Every order of import, and each framework at work in the end. Julia's turn is its first use here:
# a bare `import juliacall` would start juliapkg.
IMPORTS = {
    "torch": "import torch; torch.ones(3, requires_grad=True).sum().backward()",
    "jax": "import jax; assert float(jax.numpy.ones(3).sum()) == 3",
    "juliacall": "import pynode_jl; b = pynode_jl.get_backend('julia')",
}
AFTERWARDS = """
from pynode_jl.torch import NeuralODE
node = NeuralODE(pynode_jl.MLP(2, width=3), pynode_jl.Solver("Euler", dt=0.5), backend="julia")
node(torch.ones(1, 2)).sum().backward()
assert all(each.grad is not None for each in node.parameters())
assert jax.grad(lambda x: x**2)(3.0) == 6.0
print(b.name)
"""
#: The others are slow: each starts a Julia.
FEW_ORDERS = ("torch", "jax", "juliacall"), ("juliacall", "torch", "jax")


@pytest.mark.parametrize(
    "order",
    [
        order if order in FEW_ORDERS else pytest.param(order, marks=pytest.mark.slow)
        for order in itertools.permutations(IMPORTS)
    ],
    ids="-".join,
)
def test_import_orders(order: tuple[str, ...]) -> None:
    done = run("\n".join([*(IMPORTS[name] for name in order), AFTERWARDS]))
    assert (done.returncode, done.stdout.split()) == (0, ["julia"]), done.stderr


TRAINING = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits "ignore"
import numpy as np, pynode_jl as pn
from pynode_jl.training import train
data = pn.concentric_spheres(seed=0, n_train=256, n_test=64)
model = pn.Model(pn.ConvField1d(2), classes=2)
recipe = pn.Recipe(pn.Solver("Euler", dt=1 / 64), iterations=10**6, chunk=10)
seen = []
def on_chunk(trained):
    if not seen:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    seen.append(trained.state.iteration)
try:
    train(model, data, recipe, backend=pn.get_backend("julia"), on_chunk=on_chunk)
except KeyboardInterrupt:
    y = pn.get_backend("julia").evaluate(model, model.init(0), data.x_test, recipe.solver)
    print("interrupted after", seen[-1], np.isfinite(y.logits).all())
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_ctrl_c_interrupts_between_chunks(threads: str) -> None:
    done = run(TRAINING, PYTHON_JULIACALL_THREADS=threads)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("interrupted after")
    assert done.stdout.strip().endswith("True")


def test_python_runs_on_while_julia_solves(julia: Any) -> None:
    import threading

    field, weights, y0 = problem("conv2d", np.float32)
    solver = Solver("Euler", dt=1 / 4096)
    julia.solve(field, weights, y0, (0.0, 1.0), Solver("Euler", dt=0.5))
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begun = time.perf_counter()
    julia.solve(field, weights, np.repeat(y0, 20, axis=0), (0.0, 1.0), solver)
    ended = time.perf_counter()
    done.set()
    thread.join()
    during = [t for t in ticks if begun < t < ended]
    assert ended - begun > 0.02
    assert len(during) >= 3


def test_a_call_costs_little(julia: Any, record_property: Any) -> None:
    field, weights, y0 = problem("mlp")
    solver = Solver("Euler", dt=1.0)
    for _ in range(20):
        julia.solve(field, weights, y0, (0.0, 1.0), solver)
    times = []
    for _ in range(200):
        begun = time.perf_counter()
        julia.solve(field, weights, y0, (0.0, 1.0), solver)
        times.append(time.perf_counter() - begun)
    record_property("julia call", f"{1e6 * np.median(times):.0f} us")
    assert np.median(times) < 3e-3  # under 1 ms on a quiet machine


@pytest.mark.zoo
def test_fifty_start_ups_in_a_row() -> None:
    code = "import pynode_jl as pn; print(len(pn.get_backend('julia').devices()))"
    failures = [done.stderr for done in (run(code) for _ in range(50)) if done.returncode]
    assert not failures


# Python called back, Julia's own objects


def test_a_python_right_hand_side(julia: Any) -> None:
    calls: list[float] = []

    def decay(weights: Any, t: float, y: np.ndarray) -> np.ndarray:
        calls.append(t)
        return weights["rate"] * y

    field = FunctionField(decay, (2,), (("rate", np.array([-1.0, 0.5])),), backend="numpy")
    y0 = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    tight = Solver("Tsit5", rtol=1e-10, atol=1e-10)
    solution = julia.solve(field, field.init(0), y0, (0.0, 1.0), tight)
    np.testing.assert_allclose(solution.y1, y0 * np.exp([-1.0, 0.5]), rtol=1e-8)
    assert len(calls) >= solution.stats.nf > 0


def test_a_python_error_comes_through(julia: Any) -> None:
    def broken(weights: Any, t: float, y: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("mine")

    field = FunctionField(broken, (1,), backend="numpy")
    with pytest.raises(Exception, match="mine"):
        julia.solve(field, {}, np.ones((1, 1)), (0.0, 1.0), Solver("Euler", dt=0.5))
    again = FunctionField(lambda w, t, y: -y, (1,), backend="numpy")
    assert julia.solve(again, {}, np.ones((1, 1)), (0.0, 1.0), Solver("Euler", dt=1.0)).y1 == 0


def test_a_users_algorithm(julia: Any) -> None:
    import juliacall

    field, weights, y0 = problem("mlp")
    made = sublibrary("OrdinaryDiffEqTsit5").Tsit5()
    ours = julia.solve(field, weights, y0, (0.0, 1.0), julia_solver(made, dt=1 / 8))
    named = julia.solve(field, weights, y0, (0.0, 1.0), Solver("Tsit5", dt=1 / 8))
    np.testing.assert_array_equal(ours.y1, named.y1)
    with pytest.raises(UnknownSolverError):
        julia_solver(juliacall.Main.seval("Ref(1)"), dt=0.1)


def test_a_named_tableau(julia: Any) -> None:
    field, weights, y0 = problem("mlp")
    named = Solver("ExplicitRK", dt=1 / 8, options={"tableau": "DormandPrince"})
    ours = julia.solve(field, weights, y0, (0.0, 1.0), named)
    theirs = julia.solve(field, weights, y0, (0.0, 1.0), Solver("DP5", dt=1 / 8))
    assert distance(ours.y1, theirs.y1) < 1e-12


def test_a_users_lux_layer(julia: Any) -> None:
    import juliacall

    from pynode_jl.backends.julia import _process

    _process.need("lux")
    layer = juliacall.Main.seval(
        "import Lux; Lux.Chain(Lux.Dense(2 => 8, tanh), Lux.Dense(8 => 2))"
    )
    field = lux_field(layer, (2,), seed=3)
    (name, start), *_ = field.initial
    assert (name, start.shape) == ("parameters", (2 * 8 + 8 + 8 * 2 + 2,))
    y0, cotangent = np.random.default_rng(0).normal(size=(2, 5, 2))
    weights = {name: start.astype(np.float64)}
    solver, h = Solver("RK4", dt=1 / 4), 1e-6
    to_weights, to_y0 = julia.vjp(field, weights, y0, (0.0, 1.0), solver, cotangent)
    along = np.random.default_rng(1).normal(size=start.shape)

    def value(by: float, shift: float = 0.0) -> float:
        moved = {name: weights[name] + by * along}
        y1 = julia.solve(field, moved, y0 + shift, (0.0, 1.0), solver).y1
        return float(np.sum(cotangent * y1))

    slope = (value(h) - value(-h)) / (2 * h)
    assert np.sum(along * to_weights[name]) == pytest.approx(slope, rel=1e-6)
    assert np.sum(to_y0) == pytest.approx((value(0, h) - value(0, -h)) / (2 * h), rel=1e-6)


def test_the_catalogues_backends_are_the_doctors(julia: Any) -> None:
    found = run("from pynode_jl.cli import main; import sys; sys.argv[1:] = ['doctor']; main()")
    assert "backend julia" in found.stdout
    assert f"{len(julia.solvers())} solvers" in found.stdout.replace("\n", " ")
