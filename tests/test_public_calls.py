"""The public calls with odd values: a right value is taken, any other is refused by a PyNODEError.

Each call has values that are right; one or two of them are replaced by something else: NumPy's
scalars, text, None, nan, infinity, huge and negative numbers, empty and ragged lists, complex
numbers, paths, functions and objects of no meaning. What comes back does not matter here; an error
of another kind is a fault.

The suite runs a few hundred such calls. ``python -m tests.test_public_calls 10000`` runs as many
as that, goes on after a fault, and prints all of them.
"""

from __future__ import annotations

import collections
import faulthandler
import inspect
import random
import sys
import warnings
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pynode_jl as pn
from pynode_jl import backends, datasets, diagnostics, solvers, training
from pynode_jl import jax as frontend
from pynode_jl.backends import PRECISIONS, TrainState, _registry
from pynode_jl.errors import PyNODEError
from pynode_jl.training import step_adaptation

IN_SUITE = 300


class Nothing:
    """An object of no meaning."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take anything, as a callback does."""

    def __repr__(self) -> str:
        return "<Nothing>"


ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, -1, 8, 10**400, 0.0, 0.5, -0.5, 5e-324, 1e-300, 1e300,
    float("nan"), float("inf"), -float("inf"), Fraction(1, 2), Decimal("0.5"), 1j,
    np.int64(8), np.uint8(3), np.float16(0.5), np.float32(0.5), np.float64(0.25), np.bool_(True),
    np.float64("nan"), np.datetime64("2026-11-26"), np.array(2), np.array(0.5), np.array([]),
    np.array([1.0, 2.0]), np.ones((2, 2)), np.ones((3, 2), "f"), np.full((3, 2), np.nan, "f"),
    np.zeros((0, 2), "f"), np.ones((3, 2), ">f8"), np.array([["a", "b"]]), np.array([None, 1.0]),
    np.array([[1j, 2.0]]), np.ma.masked_array([1.0, 2.0], [True, False]),
    "", " ", "RK4", "Euler", "Euler:dt=1/2", "Euler:dt=0", "Tsit5:tol=1e-3", "Tsit5:,", "dopri5",
    "jax", "auto", "gpu", "full", "discrete", "\0", "\ud800", "é", "x" * 10_000, b"RK4",
    Path("runs"), [], [[]], ["RK4"], ["RK4", "Heun"], ("Tsit5",), [None], [1, [2, 3]], [1.0, 2.0],
    [[1.0, 2.0]], (0.0, 1.0), (1.0, 0.0), (0, 0), {}, {"a": 1}, {1: 2}, {"name": "Euler"},
    {"name": 1}, set(), {0.5}, frozenset(), slice(None), Nothing(), Nothing, repr, type,
    lambda *_, **__: None, lambda x: x, range(3), iter(()), ..., NotImplemented, ValueError("no"),
)  # fmt: skip
# Seconds after which a call of the large run hangs: its traceback ends the run.
_LONG = 600
# Numbers that are right for a count, and would keep a machine busy for years.
HUGE = (2**31, 2**62, np.int64(2**40))


class Call(NamedTuple):
    """A public callable, and right values for its parameters."""

    call: Callable[..., Any]
    right: dict[str, Any]


def _registered(name: Any, load: Any) -> None:
    """Register a backend, and forget it again."""
    before = dict(_registry._ROWS)
    try:
        backends.register_backend(name, load)
    finally:
        _registry._ROWS.clear()
        _registry._ROWS.update(before)


def _calls() -> dict[str, Call]:
    """Return the calls by name."""
    euler, heun = pn.Solver("Euler", dt=0.5), pn.Solver("Heun", rtol=1e-2)
    field = pn.LinearField(2)
    weights = {name: 0.5 * value for name, value in field.init(0).items()}
    model = pn.Model(field, classes=2)
    x = np.random.default_rng(0).normal(size=(24, 2)).astype("f")
    labels = (x[:, 0] > 0).astype(int)
    data = pn.Dataset.from_arrays(x, labels)
    trained = pn.TrainedModel(model, model.init(0), euler)
    jax = pn.get_backend("jax")
    y0, batches = x[:3], np.arange(8).reshape(2, 4)
    state = TrainState.start(model.init(0))
    stop = {"on_solve": None, "backend": jax}
    table = solvers.tableau("Heun")
    observed = {"n_train": 8, "n_test": 4, "n_times": 3, "t1": 1.0, "noise": 0.1}
    irregular = {"irregular": True, "missing": 0.5, "seed": 0}
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": labels})
    long = pd.DataFrame({"run": list("abc") * 4, "t": np.repeat(np.arange(4.0), 3), "x": 1.0})
    rows = {"a": table.a, "b": table.b, "c": table.c}
    solve = {"field": field, "weights": weights, "y0": y0, "t_span": (0.0, 1.0), "solver": euler}
    some = {"trained": trained, "x": x[:6], "backend": jax}
    recipe = pn.Recipe(euler, iterations=2, batch_size=8, chunk=2)
    return {
        "Solver": Call(pn.Solver, {
            "name": "Tsit5", "dt": None, "rtol": 1e-3, "atol": 1e-6, "max_steps": 9, "options": {},
        }),
        "Solver.of": Call(pn.Solver.of, {"value": "Euler:dt=1/2"}),
        "Solver.parse": Call(pn.Solver.parse, {"text": "Euler:dt=1/2"}),
        "Solver.from_dict": Call(pn.Solver.from_dict, {"values": {"name": "Euler", "dt": 0.5}}),
        "Solver.grid": Call(euler.grid, {"t0": 0.0, "t1": 1.0}),
        "Solver.scaled": Call(euler.scaled, {"factor": 0.5}),
        "Solver.with_step": Call(euler.with_step, {"dt": 0.5}),
        "Solver.with_tolerance": Call(heun.with_tolerance, {"rtol": 0.5, "atol": 0.5}),
        "Solver.with_stepping": Call(heun.with_stepping, {"stepping": pn.FixedStep(0.5)}),
        "FixedStep": Call(pn.FixedStep, {"dt": 0.5}),
        "Adaptive": Call(pn.Adaptive, {"rtol": 0.5, "atol": 0.5}),
        "Tableau": Call(pn.Tableau, {
            "name": "Mine", **rows, "b_error": None, "order": 2, "embedded_order": None,
            "source": "", "error_rule": "single",
        }),
        "Tableau.from_dict": Call(pn.Tableau.from_dict, {"values": table.to_dict()}),
        "catalogue": Call(pn.catalogue, {
            "family": "verner", "backend": "jax", "adaptive": True, "implicit": False, "order": 7,
        }),
        "info": Call(solvers.info, {"name": "DP5"}),
        "tableau": Call(solvers.tableau, {"name": "DP5"}),
        "controller": Call(solvers.controller, {"solver": "DP5"}),
        "MLP": Call(pn.MLP, {
            "dim": 2, "width": 3, "depth": 1, "activation": "tanh", "time_dependent": False,
        }),
        "ConvField1d": Call(pn.ConvField1d, {"dim": 2, "channels": 3, "activation": "relu"}),
        "ConvField2d": Call(pn.ConvField2d, {"shape": (1, 4, 4), "channels": 3}),
        "LinearField": Call(pn.LinearField, {"dim": 2}),
        "VectorField": Call(pn.VectorField, {"state_shape": (2,), "layers": field.layers}),
        "FunctionField": Call(pn.FunctionField, {
            "function": lambda weights, t, y: -y, "state_shape": (2,), "initial": (),
            "backend": "jax",
        }),
        "field.init": Call(field.init, {"seed": 0}),
        "Model": Call(pn.Model, {
            "field": field, "classes": 2, "t0": 0.0, "t1": 1.0, "augment": 0, "task": None,
        }),
        "Model.init": Call(model.init, {"seed": 0}),
        "ModelWeights.from_dict": Call(pn.ModelWeights.from_dict, {"weights": model.init(0)}),
        "TrainedModel": Call(pn.TrainedModel, {
            "model": model, "weights": model.init(0), "solver": euler, "precision": "full",
            "label_names": ("a", "b"),
        }),
        "predict": Call(trained.predict, {"x": x[:6], "solver": euler, "backend": jax}),
        "predict_proba": Call(trained.predict_proba, {"x": x[:6], "solver": euler, "backend": jax}),
        "score": Call(trained.score, {
            "x": x[:6], "y": labels[:6], "solver": euler, "backend": jax,
        }),
        "History.plot": Call(training.History(*np.ones((4, 2))).plot, {"task": None}),
        "Trained.of": Call(pn.Trained.of, {
            "model": model, "weights": model.init(0), "solver": euler,
        }),
        "Adam": Call(pn.Adam, {"learning_rate": 1e-3, "b1": 0.9, "b2": 0.99, "eps": 1e-8}),
        "learned_initial_states": Call(
            pn.learned_initial_states, {"y0": np.ones((3, 2)), "backend": "jax"}
        ),
        "RMSprop": Call(pn.RMSprop, {"learning_rate": 1e-3, "decay": 0.9, "momentum": 0.5}),
        "SGD": Call(pn.SGD, {
            "learning_rate": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1,
            "clip_norm": 1.0, "schedule": "cosine", "warmup": 2, "final": 0.1,
        }),
        "Optimizer.of": Call(backends.Optimizer.of, {"value": {"name": "adam", "b1": 0.5}}),
        "checked_optimizer": Call(backends.checked_optimizer, {"value": "sgd", "backend": "jax"}),
        "Recipe": Call(pn.Recipe, {
            "solver": euler, "iterations": 2, "batch_size": 8, "optimizer": pn.Adam(), "seed": 0,
            "gradient": "discrete", "precision": next(iter(PRECISIONS)), "chunk": 2,
            "controller": None,
        }),
        "PaperController": Call(step_adaptation.PaperController, {
            "rule": "code", "test": None, "threshold": 0.1, "every": 50, "most_steps": 512,
            "first": "rule",
        }),
        "SteadyController": Call(step_adaptation.SteadyController, {
            "hold": 0.5, "every": 50, "most_steps": 512,
        }),
        "batch_indices": Call(training.batch_indices, {
            "seed": 0, "n": 20, "batch_size": 5, "first": 0, "last": 2,
        }),
        "start": Call(training.start, {"model": model, "recipe": recipe, "weights": None}),
        "train": Call(pn.train, {
            "model": model, "dataset": data, "recipe": recipe, "backend": jax, "resume": None,
            "on_chunk": None,
        }),
        "train_many": Call(pn.train_many, {
            "models": model, "datasets": data, "recipes": [recipe], "backend": jax, "exact": True,
            "resume": None, "on_chunk": None,
        }),
        "get_backend": Call(pn.get_backend, {"name": "jax", "device": "cpu"}),
        "as_backend": Call(backends.as_backend, {"backend": "jax", "field": None}),
        "checked_gradient": Call(backends.checked_gradient, {"text": "discrete"}),
        "checked_precision": Call(backends.checked_precision, {
            "precision": "full", "solver": euler, "gradient": "discrete",
        }),
        "register_backend": Call(_registered, {"name": "mine", "load": lambda device: None}),
        "backend.solve": Call(jax.solve, {
            **solve, "save_at": None, "save_steps": False, "throw": True,
        }),
        "backend.pullback": Call(jax.pullback, {**solve, "save_at": [0.5, 1.0], "keep": True}),
        "backend.vjp": Call(jax.vjp, {**solve, "cotangent": y0, "gradient": "discrete"}),
        "backend.rhs": Call(jax.rhs, {"field": field, "weights": weights, "t": 0.0, "y": y0}),
        "backend.step_jacobian": Call(jax.step_jacobian, {
            "field": field, "weights": weights, "y": y0, "t": 0.0, "dt": 0.5, "solver": euler,
        }),
        "backend.evaluate": Call(jax.evaluate, {
            "model": model, "weights": model.init(0), "x": x, "solver": euler, "precision": "full",
        }),
        "backend.train": Call(jax.train, {
            "model": model, "state": state, "x": x, "targets": labels, "batches": batches,
            "solver": euler, "optimizer": pn.Adam(), "gradient": "discrete", "precision": "full",
        }),
        "swap": Call(pn.swap, {
            "trained": trained, "dataset": data, "tests": ["RK4"], "factors": [1.0],
            "margin": 0.03, "confidence": 0.95, "criterion": "flips", **stop,
        }),
        "swap_matrix": Call(diagnostics.swap_matrix, {
            "models": [(trained, data)], "tests": ["RK4"], "factors": [1.0], "margin": 0.03, **stop,
        }),
        "certify": Call(pn.certify, {
            "trained": trained, "dataset": data, "samples": 4, "margin": 0.03, "confidence": 0.95,
            "criterion": "flips", "diagnostics": (), "backend": jax, "on_stage": None,
            "progress": None,
        }),
        "critical": Call(pn.critical, {
            "train": lambda solver, seed: (trained, data), "coarse": euler,
            "fine": euler.scaled(0.5),
            "method": "grid", "criterion": "flips", "seeds": (0,), "ratio": 2.0, "margin": 0.03,
            "confidence": 0.95, "backend": jax, "on_trial": None,
        }),
        "folds": Call(diagnostics.folds, {**some, "solver": euler}),
        "fold_step": Call(diagnostics.fold_step, {**some, "finest": 2, "on_solve": None}),
        "fold_scan": Call(diagnostics.fold_scan, {**some, "finest": 2, "on_solve": None}),
        "fan": Call(diagnostics.fan, {**some, "solver": euler}),
        "order_test": Call(diagnostics.order_test, {**some, "halvings": 2, "solver": euler}),
        "order_violations": Call(diagnostics.order_violations, {**some, "solver": euler}),
        "flipped_triangles": Call(diagnostics.flipped_triangles, {"start": x, "end": x}),
        "error_share": Call(diagnostics.error_share, {"logits": x, "exact": x}),
        "check_rule": Call(diagnostics.check_rule, {
            "margin": 0.03, "confidence": 0.95, "criterion": "flips",
        }),
        "jax.tree_field": Call(frontend.tree_field, {
            "function": lambda p, t, y: p["rate"] * y, "params": {"rate": np.ones(2)},
            "state_shape": (2,),
        }),
        "jax.as_tree": Call(frontend.as_tree, {
            "weights": {"rate": np.ones(2)}, "like": {"rate": np.ones(2)},
        }),
        "jax.diffrax_solver": Call(frontend.diffrax_solver, {"method": "Tsit5"}),
        "jax.FieldModule": Call(frontend.FieldModule, {"field": field, "seed": 0}),
        "jax.NeuralODE": Call(frontend.NeuralODE, {
            "field": field, "solver": euler, "t_span": (0.0, 1.0), "max_steps": 9,
        }),
        "Dataset.from_arrays": Call(pn.Dataset.from_arrays, {
            "x": x, "y": labels, "labels": "map", "channels": "first", "task": None,
        }),
        "concentric_spheres": Call(pn.concentric_spheres, {
            "dim": 2, "n_train": 8, "n_test": 8, "seed": 0,
        }),
        "three_minima": Call(pn.three_minima, {}),
        "moons": Call(pn.moons, {"n_train": 8, "n_test": 4, "noise": 0.1, "seed": 0}),
        "circles": Call(pn.circles, {"factor": 0.5, "n_train": 8, "n_test": 4, "noise": 0.1}),
        "spirals": Call(pn.spirals, {
            "classes": 2, "turns": 1.5, "n_train": 8, "n_test": 4, "noise": 0.1,
        }),
        "annuli": Call(pn.annuli, {
            "radii": ((0.0, 0.5), (1.0, 1.5)), "dim": 2, "n_train": 8, "n_test": 4, "noise": 0.1,
        }),
        "datasets.load": Call(datasets.load, {"name": "spheres", "normalize": "standard"}),
        "sine": Call(pn.sine, {"n_train": 8, "n_test": 4, "noise": 0.1, "seed": 0}),
        "diabetes": Call(pn.diabetes, {"test_fraction": 0.2, "seed": 0}),
        "lotka_volterra": Call(pn.lotka_volterra, {
            "alpha": 1.3, "beta": 0.9, "gamma": 0.8, "delta": 1.8, **observed, **irregular,
        }),
        "spiral": Call(pn.spiral, {"decay": 0.1, "frequency": 2.0, **observed}),
        "pendulum": Call(pn.pendulum, {"damping": 0.1, **observed}),
        "lorenz63": Call(pn.lorenz63, {"sigma": 10.0, "rho": 28.0, "beta": 2.5, "n_times": 2}),
        "van_der_pol": Call(pn.van_der_pol, {"noise": 0.1, "missing": 0.5, "n_times": 2}),
        "Dataset.from_frame": Call(pn.Dataset.from_frame, {
            "frame": frame, "target": "c", "features": ["a", "b"], "test_frame": frame,
            "task": None, "labels": None, "classes": None,
        }),
        "Dataset.from_frame of trajectories": Call(pn.Dataset.from_frame, {
            "frame": long, "time": "t", "trajectory": "run", "features": ["x"],
        }),
        "Dataset.normalized": Call(data.normalized, {"kind": "standard"}),
        "Dataset.transform": Call(data.transform, {"x": x}),
        "Dataset.restore": Call(data.restore, {"y": labels}),
    }  # fmt: skip


# Parameters whose value is how long a call takes.
COSTLY = {
    "n_train", "n_test", "dim", "width", "depth", "channels", "classes", "halvings", "finest",
    "samples", "last", "shape", "state_shape", "iterations", "max_steps",
}  # fmt: skip


@pytest.fixture(scope="module")
def calls() -> dict[str, Call]:
    return _calls()


def faults(call: Call, changes: dict[str, Any]) -> str:
    """Make a call with some arguments changed; return what is wrong with its error, or ""."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            call.call(**call.right | changes)
    except PyNODEError as error:
        return "" if str(error).strip() else "an error without a text"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    return ""


def test_right_values_are_taken(calls: dict[str, Call]) -> None:
    for call in calls.values():
        call.call(**call.right)


def test_every_parameter_that_is_changed_is_one(calls: dict[str, Call]) -> None:
    for name, call in calls.items():
        assert set(call.right) <= set(inspect.signature(call.call).parameters), name


@settings(
    max_examples=IN_SUITE,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(picks=st.randoms(use_true_random=False))
def test_odd_values_are_taken_or_refused_by_name(
    calls: dict[str, Call], picks: random.Random
) -> None:
    name, changes = draw(calls, picks)
    assert not faults(calls[name], changes), (name, changes)


def draw(calls: dict[str, Call], picks: random.Random) -> tuple[str, dict[str, Any]]:
    """Return a call's name, and one or two arguments of it changed."""
    name = picks.choice(sorted(each for each, call in calls.items() if call.right))
    parameters = sorted(calls[name].right)
    chosen = picks.sample(parameters, min(picks.choice((1, 1, 1, 2)), len(parameters)))
    changes = {}
    for parameter in chosen:
        pool = ODD if parameter in COSTLY else (*ODD, *HUGE)
        changes[parameter] = picks.choice(pool)
    return name, changes


EULER = pn.Solver("Euler", dt=0.5)


def test_other_types_of_right_values_are_taken(calls: dict[str, Call]) -> None:
    trained, data = calls["swap"].right["trained"], calls["swap"].right["dataset"]
    one, many = (pn.swap(trained, data, tests, backend="jax") for tests in ("RK4", ["RK4"]))
    assert one.table["label"].tolist() == many.table["label"].tolist()
    recipe = pn.Recipe("Euler:dt=1/2", np.int64(8), np.uint8(4), seed=np.int32(3))  # type: ignore[arg-type]
    assert recipe == pn.Recipe(EULER, 8, 4, seed=3)
    assert type(recipe.iterations) is int
    assert pn.Adam(np.float32(0.5)) == pn.Adam(0.5)  # type: ignore[arg-type]
    assert pn.Model(pn.MLP(np.int64(2), width=np.array(3)), np.int8(2)).input_shape == (2,)  # type: ignore[arg-type]
    own = pn.TrainedModel(trained.model, trained.weights, "Euler:dt=1/2")  # type: ignore[arg-type]
    assert own.solver == EULER


def _by_front_end(name: str, method: str) -> Any:
    if name == "jax":
        return frontend.odeint(lambda y, t: -y, jnp.ones(2), jnp.arange(2.0), method=method)
    torch = pytest.importorskip("torch")
    from pynode_jl import torch as torch_frontend

    times = torch.tensor([0.0, 1.0])
    return torch_frontend.odeint(lambda t, y: -y, torch.ones(2), times, method=method)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pn.Adam(float("nan")), "learning_rate = nan: expected a number above 0"),
        (lambda: pn.Adam(1e-3, b1=2), "b1 = 2: expected a number of at least 0 and below 1"),
        (lambda: pn.Adam(1e-3, b2=-1), "b2 = -1: expected a number of at least 0"),
        (lambda: pn.Recipe(EULER, optimizer=optax.adam(1e-3)), "optimizer.*an Adam.*pn.Adam"),
        (lambda: pn.Recipe(EULER, np.int64(0)), "iterations = .*an integer of 1 or more"),
        (lambda: pn.Recipe("rk4"), "unknown solver 'rk4': did you mean RK4"),
        (lambda: pn.Recipe(EULER, controller="paper"), "controller = 'paper'.*PaperController"),
        (lambda: pn.Solver("Euler", dt="1/16"), "dt = '1/16': expected a number above 0"),
        (lambda: pn.Solver(Path("Euler"), dt=0.5), "name = .*the name of a solver"),
        (lambda: pn.get_backend(None), "name = None: expected a text"),
        (lambda: pn.Model("mlp", classes=2), "field = 'mlp'.*pn.MLP"),
        (lambda: _by_front_end("jax", "QPRK98"), "weights add up to 1.2e.05.*Solve in float64"),
        (lambda: _by_front_end("torch", "QPRK98"), "weights add up to 1.2e.05.*Solve in float64"),
        (lambda: pn.Density(trace="Hutch"), "trace = 'Hutch'.*Use trace='hutchinson', say"),
        (lambda: pn.Density(trace=3), "trace = 3.*Use trace='exact', say"),
    ],
)
def test_wrong_values_are_refused_with_the_fix(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(PyNODEError, match=said):
        make()


def main(count: int, seed: int = 0) -> int:
    """Make `count` odd calls; print every kind of fault once. Return how many calls were faults."""
    picks, table, found = random.Random(seed), _calls(), collections.Counter[str]()
    first: dict[str, str] = {}
    for _ in range(count):
        name, changes = draw(table, picks)
        faulthandler.dump_traceback_later(_LONG, exit=True)
        if fault := faults(table[name], changes):
            kind = f"{name}({', '.join(sorted(changes))}): {fault}"
            found[kind] += 1
            first.setdefault(kind, str(changes)[:150])
    faulthandler.cancel_dump_traceback_later()
    for kind, times in found.most_common():
        print(f"{times:6} {kind}\n       {first[kind]}")
    print(f"{count} calls of {len(table)} callables, {sum(found.values())} faults")
    return sum(found.values())


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:]))))
