"""`pynode_jl.jax`: solves as JAX functions, against closed forms, diffrax and the backend."""

from __future__ import annotations

import functools
import gc
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

import pynode_jl as pn
from pynode_jl.errors import (
    BackendLacksSolverError,
    InvalidValueError,
    SolveError,
    WrongSolverError,
)
from pynode_jl.jax import NeuralODE, as_tree, diffrax_solver, odeint, tree_field

A = np.array([[-0.1, 2.0], [-2.0, -0.1]])


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def spiral(y: Any, t: Any, p: Any) -> Any:
    return {"a": jnp.sin(t) * (y["a"] ** 3) @ p["w"]}


def test_a_known_solution_at_all_times_both_ways() -> None:
    t = jnp.linspace(0.0, 2.0, 5)
    for times in (t, t[::-1]):
        y = odeint(lambda y, t: -y * t, jnp.array([1.0, 2.0]), times, rtol=1e-10, atol=1e-12)
        exact = np.exp(-(times[:, None] ** 2 - times[0] ** 2) / 2) * np.array([1.0, 2.0])
        np.testing.assert_allclose(y, exact, rtol=1e-8)


@pytest.mark.parametrize(
    "method",
    [
        "Tsit5",
        pn.Solver("RK4", dt=0.07),
        pytest.param(pn.Solver("KenCarp4", dt=0.07), marks=pytest.mark.slow),
    ],
    ids=["adaptive", "fixed", "implicit"],
)
def test_gradients_to_everything(method: Any) -> None:
    """Parameters, states and times, trees of them, against finite differences."""
    y0 = {"a": jnp.array([[0.6, 0.1]])}
    times = jnp.array([0.0, 0.33, 0.9])

    def loss(p: Any, y0: Any, t: Any) -> Any:
        y = odeint(spiral, y0, t, p, method=method, rtol=1e-10, atol=1e-12)["a"]
        return jnp.sum(jnp.cos(jnp.arange(y.size)) * y.ravel())

    check_grads(loss, ({"w": jnp.asarray(A)}, y0, times), 1, modes=["rev"], rtol=1e-5, atol=1e-6)


def test_closures_jit_and_vmap() -> None:
    t = jnp.array([0.0, 1.0])

    def end(w: Any, scale: Any) -> Any:
        return odeint(lambda y, t: y @ w, scale * jnp.ones(2), t, method="Vern7")[-1]

    w, scales = jnp.asarray(A), jnp.array([0.5, 1.0, 2.0])
    together = jax.jit(jax.vmap(end, (None, 0)))(w, scales)
    np.testing.assert_allclose(together, [end(w, s) for s in scales], rtol=1e-9)
    slope = jax.grad(lambda w: end(w, 1.0).sum())(w)
    shift = jnp.zeros((2, 2)).at[0, 1].set(1e-6)
    difference = (end(w + shift, 1.0) - end(w - shift, 1.0)).sum() / 2e-6
    assert slope[0, 1] == pytest.approx(float(difference), rel=1e-6)


def test_failures() -> None:
    blows_up = {"func": lambda y, t: y**2, "y0": jnp.ones(2), "t": jnp.array([0.0, 2.0])}
    with pytest.raises(SolveError):
        odeint(**blows_up)
    assert np.isnan(jax.jit(lambda: odeint(**blows_up)[-1])()).all()
    with pytest.raises(SolveError, match="MaxIters"):
        odeint(lambda y, t: -y, jnp.ones(2), jnp.array([0.0, 9.0]), max_steps=3)
    with pytest.raises(InvalidValueError, match="y0"):
        odeint(lambda y, t: y, jnp.arange(3), jnp.array([0.0, 1.0]))
    with pytest.raises(InvalidValueError, match=r"^t = "):
        odeint(lambda y, t: y, jnp.ones(2), 1.0)
    with pytest.raises(WrongSolverError):
        odeint(lambda y, t: y, jnp.ones(2), jnp.array([0.0, 1.0]), method="Euler")
    with pytest.raises(BackendLacksSolverError):
        odeint(lambda y, t: y, jnp.ones(2), jnp.array([0.0, 1.0]), method="Rodas5P")


@pytest.mark.slow
def test_the_module_is_the_backend(backend: Any) -> None:
    """The same field, weights and solver: the same states, and `vjp`'s gradients."""
    field, solver = pn.MLP(2, width=5, time_dependent=True), pn.Solver("Tsit5", rtol=1e-5)
    node = NeuralODE(field, solver, t_span=(0.2, 1.0), seed=4)
    y0 = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    expected = backend.solve(field, field.init(4), y0, (0.2, 1.0), solver).y1
    got = eqx.filter_jit(node)(jnp.asarray(y0))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    slope = eqx.filter_grad(lambda node: jnp.sum(node(jnp.asarray(y0))))(node)
    to_weights, _ = backend.vjp(
        field, field.init(4), y0, (0.2, 1.0), solver, np.ones((4, 2), np.float32)
    )
    for name, value in to_weights.items():
        np.testing.assert_allclose(slope.field.weights[name], value, rtol=1e-3, atol=1e-4)
    assert node(jnp.asarray(y0), jnp.array([0.2, 0.5, 1.0])).shape == (3, 4, 2)


def test_a_module_of_ones_own() -> None:
    net = eqx.nn.MLP(2, 2, 8, 1, key=jax.random.key(0))

    class Field(eqx.Module):
        net: eqx.nn.MLP

        def __call__(self, t: Any, y: Any) -> Any:
            return self.net(y)

    node = NeuralODE(Field(net), pn.Solver("Tsit5", rtol=1e-8, atol=1e-10))
    y0 = jnp.array([0.5, -1.0])
    expected = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: net(y)),
        diffrax.Tsit5(),
        0.0,
        1.0,
        0.1,
        y0,
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-11),
    ).ys[-1]
    np.testing.assert_allclose(node(y0), expected, rtol=1e-6)
    slope = eqx.filter_grad(lambda node: node(y0).sum())(node)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_the_catalogue_in_diffrax() -> None:
    """A diffrax program takes any explicit solver by one changed line."""
    ys = [
        diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y * t),
            solver,
            0.0,
            1.0,
            0.05,
            jnp.array([1.0]),
        ).ys[-1]
        for solver in (diffrax.Tsit5(), diffrax_solver("Vern7"))
    ]
    np.testing.assert_allclose(ys, np.exp(-0.5), rtol=1e-7)


def test_nested_parameters_train_and_come_back() -> None:
    """A tree such as flax's or haiku's, trained by the package's own loop."""
    random = np.random.default_rng(0)
    params = {
        "params": {
            "Dense_0": {"kernel": random.normal(size=(2, 6)).astype("f"), "bias": np.zeros(6, "f")},
            "Dense_1": {"kernel": random.normal(size=(6, 2)).astype("f"), "bias": np.zeros(2, "f")},
        }
    }

    def apply(params: Any, t: Any, y: Any) -> Any:
        first, second = params["params"]["Dense_0"], params["params"]["Dense_1"]
        return jnp.tanh(y @ first["kernel"] + first["bias"]) @ second["kernel"] + second["bias"]

    field = tree_field(apply, params, (2,))
    assert "params/Dense_0/kernel" in field.weight_shapes()
    data = pn.concentric_spheres(dim=2, seed=0)
    recipe = pn.Recipe(pn.Solver("Euler", dt=0.25), iterations=20)
    trained = pn.train(pn.Model(field, classes=2), data, recipe)
    tree = as_tree(trained.weights, params)
    assert jax.tree.structure(tree) == jax.tree.structure(params)
    before, after = (each["params"]["Dense_0"]["kernel"] for each in (params, tree))
    assert 0 < np.abs(after - before).max() < 0.1
    with pytest.raises(InvalidValueError, match="Dense_1"):
        as_tree({"params/Dense_0/bias": 0.0}, params)


def test_integers_masks_indices_and_keys_are_constants() -> None:
    """y' = -a y[i] + n, where the mask holds, plus noise of a key that is 0."""
    t = jnp.array([0.0, 1.0])

    def end(a: Any, y0: Any, n: Any, index: Any, mask: Any, key: Any) -> Any:
        def slope(y: Any, t: Any, a: Any, rest: Any) -> Any:
            n, index, mask, key = rest
            zero = 0.0 * jax.random.normal(key, y.shape)
            return jnp.where(mask, -a * y[index] + n, y) + zero

        return odeint(slope, y0, t, a, (n, index, mask, key), method="RK4:dt=1/16")[-1].sum()

    rest = (jnp.array([1, 0]), jnp.array([True, True]), jax.random.key(0))
    y0 = jnp.ones(2)
    # Both components are y = n/a + (1 - n/a) exp(-a t).
    a, n = 0.5, 1
    to_a, to_y0 = jax.jit(jax.grad(end, (0, 1)), static_argnums=2)(a, y0, n, *rest)
    exact = -n / a**2 + n / a**2 * np.exp(-a) - (1 - n / a) * np.exp(-a)
    assert to_a == pytest.approx(2 * exact, rel=1e-5)
    np.testing.assert_allclose(to_y0, np.exp(-a), rtol=1e-5)


def test_a_gradient_of_vmap_reaches_what_the_field_closes_over() -> None:
    t = jnp.array([0.0, 1.0])

    def total(p: Any) -> Any:
        # y' = 2 x p does not depend on y: y(1) = x + 2 x p.
        one = lambda x: odeint(lambda y, t: 2 * x * p, x, t, method="Euler:dt=1")[-1].sum()  # noqa: E731
        return jax.vmap(one)(jnp.arange(3.0)[:, None]).sum()

    assert jax.grad(total)(1.0) == pytest.approx(6.0)


def test_second_derivatives_are_right_or_refused() -> None:
    t = np.array([0.0, 1.0])

    def end(k: Any) -> Any:
        return odeint(lambda y, t: k * y, 1.0, t, method="Euler:dt=1")[-1] ** 2

    # One step: (1 + k)^2.
    assert jax.hessian(end)(1.0) == pytest.approx(2.0)
    with pytest.raises(InvalidValueError, match=r"jax.hessian"):
        jax.grad(jax.grad(end))(1.0)
    assert jax.jacfwd(end)(1.0) == pytest.approx(4.0)


Derivative = Callable[[Callable[[Any], Any]], Callable[[Any], Any]]

#: How a derivative and the user's own transformations are nested.
NESTED: dict[str, Callable[[Derivative, Any], Any]] = {
    "outside": lambda d, f: d(f),
    "within jit": lambda d, f: jax.jit(d(f)),
    "of jit": lambda d, f: d(jax.jit(f)),
    "within vmap": lambda d, f: lambda x: jax.vmap(d(f))(jnp.stack([x, 2 * x]))[0],
    "of vmap": lambda d, f: d(lambda x: jax.vmap(f)(jnp.stack([2 * x, x]))[1]),
}


def _along(x: Any) -> Any:
    return jnp.cos(jnp.arange(x.size) + 1.0)


#: Name: the derivative, its order, and whether it is one along a vector.
FIRST: dict[str, tuple[Derivative, int, bool]] = {
    "jvp": (lambda f: lambda x: jax.jvp(f, (x,), (_along(x),))[1], 1, True),
    "jacfwd": (jax.jacfwd, 1, False),
    "jacrev": (jax.jacrev, 1, False),
    "linearize": (lambda f: lambda x: jax.linearize(f, x)[1](_along(x)), 1, True),
    "checkpoint": (lambda f: jax.jacrev(jax.checkpoint(f)), 1, False),
    "hessian": (jax.hessian, 2, False),
    "jacfwd(jacfwd)": (lambda f: jax.jacfwd(jax.jacfwd(f)), 2, False),
}
REFUSED: dict[str, Derivative] = {
    "grad(grad)": lambda f: jax.grad(lambda x: jax.grad(lambda x: f(x).sum())(x).sum()),
    "jacrev(jacfwd)": lambda f: jax.jacrev(jax.jacfwd(f)),
    "jacrev(jvp)": lambda f: jax.jacrev(FIRST["jvp"][0](f)),
}
METHODS = ["Euler:dt=0.3", "BS3:rtol=1e-9,atol=1e-11", "ImplicitEuler:dt=0.3"]
_SECOND = {(METHODS[0], "hessian", "within jit"), (METHODS[0], "grad(grad)", "of jit")}


def _cells() -> Iterator[Any]:
    """All methods, derivatives and nestings; each is compiled, so that most are marked `long`."""
    for method, name, nested in itertools.product(METHODS, [*FIRST, *REFUSED], NESTED):
        first = method == METHODS[0] and "vmap" not in nested and name in ("jacfwd", "linearize")
        marks = [pytest.mark.long]
        if first or (method, name, nested) in _SECOND:
            marks = []
        elif name == "jacfwd" and nested in ("of vmap", "within jit"):
            marks = [pytest.mark.slow]
        yield pytest.param(method, name, nested, marks=marks, id=f"{method[:3]} {name} {nested}")


def _solve_of_everything(method: str) -> tuple[Callable[[Any], Any], Any]:
    """States at two times as a function of y0, an argument, times and what the field closes over,
    in one vector; an integer and a key are arguments, too."""
    y0, w = jnp.array([0.7, -0.4]), jnp.array([[-0.3, 1.0], [-1.2, 0.1]])
    point, unravel = ravel_pytree((y0, w, jnp.array([0.0, 0.33, 0.95]), jnp.float64(0.8)))

    def states(x: Any) -> Any:
        y0, w, t, closed = unravel(x)

        def slope(y: Any, t: Any, w: Any, n: Any, key: Any) -> Any:
            return n * jnp.tanh(y @ w) * closed + 0.1 * jnp.sin(3 * t) * y**2

        return odeint(slope, y0, t, w, jnp.array(2), jax.random.key(0), method=method)[1:, 0]

    return states, point


@functools.cache
def _by_differences(method: str, order: int) -> Any:
    """First derivatives of states; or of first ones, which are held to such differences before."""
    states, x = _solve_of_everything(method)
    function = jax.jit(states if order == 1 else jax.jacrev(states))
    h = 1e-5
    shifts = h * np.eye(x.size)
    return np.stack([(function(x + s) - function(x - s)) / (2 * h) for s in shifts], -1)


@pytest.mark.parametrize(("method", "name", "nested"), [*_cells()])
def test_derivatives_in_either_mode(method: str, name: str, nested: str) -> None:
    """The numbers of float64 differences, or the error that says how to get them."""
    with jax.enable_x64(True):
        states, x = _solve_of_everything(method)
        if name in REFUSED:
            with pytest.raises(InvalidValueError, match=r"Use jax.hessian, or jax.jacfwd"):
                NESTED[nested](REFUSED[name], states)(x)
            return
        derivative, order, along = FIRST[name]
        expected = _by_differences(method, order)
        found = NESTED[nested](derivative, states)(x)
        np.testing.assert_allclose(
            found, expected @ _along(x) if along else expected, rtol=1e-5, atol=1e-6
        )


def _forward(function: Any) -> Any:
    return lambda y: jax.jvp(function, (y,), (jnp.ones_like(y),))[1]


@pytest.mark.parametrize("method", ["ImplicitEuler:dt=1/2", "Heun:dt=1/2"])
def test_derivatives_to_the_fourth_order(method: str) -> None:
    """Against differences of the derivative one order below, of y' = -5 y^3: the matrix of Newton's
    iteration is no constant of second derivatives."""
    with jax.enable_x64(True):

        def end(y: Any) -> Any:
            times = np.array([0.0, 1.0])
            return odeint(lambda y, t: -5 * y**3, y[None], times, method=method)[-1, 0]

        function, y, h = jax.grad(end), jnp.float64(0.7), 1e-5
        for _ in range(3):
            lower, function = jax.jit(function), _forward(function)
            differences = float(lower(y + h) - lower(y - h)) / (2 * h)
            assert float(jax.jit(function)(y)) == pytest.approx(differences, rel=1e-7)


def test_second_derivatives_hold_the_steps_that_a_controller_chose() -> None:
    """As first ones do. The oracle is torch's own differentiation of the same steps."""
    from pynode_jl import torch as torch_frontend

    times, settings = [0.0, 1.0], {"method": "BS3", "rtol": 1e-2, "atol": 1e-3}
    y = torch.tensor([0.7], dtype=torch.float64)
    expected = torch.autograd.functional.hessian(
        lambda y: torch_frontend.odeint(
            lambda t, y: -5 * y**3, y, torch.tensor(times, dtype=torch.float64), **settings
        )[-1].sum(),
        y,
    )
    with jax.enable_x64(True):
        end = lambda y: odeint(lambda y, t: -5 * y**3, y[None], np.array(times), **settings)[-1, 0]  # noqa: E731
        found = jax.jit(_forward(jax.grad(end)))(jnp.float64(0.7))
    assert float(found) == pytest.approx(expected.item(), rel=1e-10)


def test_solves_that_are_not_compiled_by_the_user_leave_no_programs() -> None:
    """JAX keeps each loop that it runs by itself, 2 MB of it."""
    y0, times = jnp.ones(3), jnp.array([0.0, 1.0])

    def end(y: Any) -> Any:
        return odeint(lambda y, t: -y, y, times, method="Euler:dt=1").sum()

    def programs() -> int:
        for _ in range(3):
            jax.grad(end)(y0)
        gc.collect()
        return len(jax.devices()[0].client.live_executables())

    programs()
    before = programs()
    assert programs() <= before


Y0, TIMES = jnp.ones(2), jnp.array([0.0, 1.0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"t": jnp.array([0.0, 1.0, 0.5])}, "t = .*increase, or decrease.*jnp.sort"),
        ({"t": [0.0, np.nan]}, "t = .*finite"),
        ({"t": [1e8, 1e8 + 1]}, "float32 resolves"),
        ({"t": "01"}, "t.dtype"),
        ({"y0": {"a": Y0, "n": jnp.arange(2)}}, "y0 = .*not of float32, int32"),
        ({"y0": Y0.astype(jnp.bfloat16)}, "y0 = .*not of bfloat16.*float32"),
        ({"y0": Y0 + 1j}, "y0 = .*complex64"),
        ({"y0": jnp.zeros(0)}, "y0 = .*at least one number"),
        ({"y0": None}, "y0 = None"),
        ({"func": lambda y, t: y.sum()}, r"func\(y, t\) = \(\): expected the shape of y, \(2,\)"),
        ({"func": lambda y, t: 1j * y}, "func.*complex"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_steps": 2**31}, "max_steps"),
        ({"rtol": -1.0}, "rtol"),
        ({"method": 5}, "solver = 5"),
    ],
    ids=lambda each: each if isinstance(each, str) else ",".join(each),
)
def test_arguments_of_no_meaning_are_refused(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"func": lambda y, t: -y, "y0": Y0, "t": TIMES}
    with pytest.raises(InvalidValueError, match=said):
        odeint(**given | change)


def test_what_was_not_finite_is_named() -> None:
    with pytest.raises(SolveError, match="y0 holds 1 NaN of 2 numbers"):
        odeint(lambda y, t: -y, jnp.array([1.0, np.nan]), TIMES)


def test_float64_is_not_narrowed_in_silence() -> None:
    with pytest.warns(UserWarning, match="jax_enable_x64"), jax.enable_x64(False):
        odeint(lambda y, t: -y, np.ones(2), np.array([0.0, 1.0]), method="Euler:dt=1")
