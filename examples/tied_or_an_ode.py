"""Ask four tasks the same question: is the trained model an ODE, or tied to its solver?

    python examples/tied_or_an_ode.py [regression|lotka-volterra|lorenz|moons ...]

Each model is trained twice, by a coarse and by a fine solver, and then solved by others:

- a regression (Coelho et al. 2024 ask this of fitted data);
- Lotka-Volterra and Lorenz 63 trajectories (Krishnapriyan et al. 2022): the error against data by
  test step has its minimum at the training step where a model is tied, and a plateau where it is an
  ODE;
- a flow of two moons, scored in bits per dimension.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np

import pynode_jl as pn
from pynode_jl.diagnostics import Context, by_step
from pynode_jl.tasks import bits_per_dimension


class Question(NamedTuple):
    """Data, a model, and the two solvers that it is trained with."""

    data: pn.Dataset
    model: pn.Model
    coarse: str
    fine: str
    iterations: int
    rate: float


def regression() -> Question:
    """y = sin(2 x1) x2, with noise."""
    random = np.random.default_rng(0)
    x = random.normal(size=(2500, 2))
    y = np.sin(2 * x[:, 0]) * x[:, 1] + 0.05 * random.normal(size=len(x))
    task = pn.Regression()
    data = pn.Dataset.from_arrays(x, y, task=task, name="a product of waves")
    model = pn.Model(pn.MLP(2, width=32), task=task)
    return Question(data, model, "Euler:dt=1/2", "RK4:dt=1/8", 4000, 3e-3)


def trajectories(data: pn.Dataset, width: int, coarse: str, fine: str) -> Question:
    """A field without a head, fitted to states at the data's times."""
    data = data.normalized("standard")
    model = pn.Model(pn.MLP(data.state_shape[0], width=width), task=data.task)
    return Question(data, model, coarse, fine, 4000, 3e-3)


def moons() -> Question:
    """A continuous normalising flow of two moons."""
    drawn = pn.moons(n_train=2000, n_test=1000, noise=0.08).normalized("standard")
    task = pn.Density()
    data = pn.Dataset.from_arrays(
        drawn.x_train, None, x_test=drawn.x_test, task=task, name="two moons"
    )
    model = pn.Model(pn.MLP(2, width=32, time_dependent=True), task=task)
    return Question(data, model, "Euler:dt=1/4", "RK4:dt=1/8", 3000, 2e-3)


QUESTIONS = {
    "regression": regression,
    "lotka-volterra": lambda: trajectories(
        pn.lotka_volterra(noise=0.02), 32, "Euler:dt=1/2", "RK4:dt=1/8"
    ),
    "lorenz": lambda: trajectories(pn.lorenz63(noise=0.1), 64, "Euler:dt=1/20", "RK4:dt=1/50"),
    "moons": moons,
}


def ask(name: str, question: Question) -> None:
    """Train by both solvers, swap, and print the verdicts and the score by test step."""
    backend, data = pn.get_backend("jax"), question.data
    print(f"\n{name}: {data}")
    for solver in (question.coarse, question.fine):
        recipe = pn.Recipe(pn.Solver.of(solver), question.iterations, 128, pn.Adam(question.rate))
        trained = pn.train(question.model, data, recipe, backend=backend)
        if not trained.finished:
            print(f"{solver}: training ended early: {trained.retcode.meaning}")
            continue
        report = pn.swap(trained, data, backend=backend)
        print(f"\n{report.verdict.text}")
        if name == "moons":
            own, ode = (bits_per_dimension(each) for each in (report.trained, report.ode))
            print(f"as trained {own:.3f} bits per dimension, as an ODE {ode:.3f}")
        context = Context(trained.trained_model, data, backend, report, samples=16)
        if report.reference is not None and report.reference.solved:
            table = by_step(context)
            columns = ["label", "own", "score", "shift", "shift_low", "shift_high"]
            print(table[columns].to_string(index=False))


for chosen in sys.argv[1:] or QUESTIONS:
    ask(chosen, QUESTIONS[chosen]())
