"""Every tableau: row sums, rooted-tree order conditions, and equality with its named peers."""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from pynode_jl.errors import UnknownSolverError
from pynode_jl.frontends.torch._methods import dense_method, find_method
from pynode_jl.solvers import Tableau, info, tableau, tableau_names
from pynode_jl.solvers._tableau import row

# Up to here every rooted tree is checked for every tableau; above it, those of the high-order ones.
FULL_ORDER = 8


@cache
def trees(order):
    """The rooted trees of `order` vertices: (children, gamma), children as (order, index) pairs."""
    if order == 1:
        return (((), 1),)
    found = []

    def extend(left, largest, children):
        if left == 0:
            gamma = order * math.prod(trees(o)[i][1] for o, i in children)
            found.append((tuple(children), gamma))
            return
        for o in range(min(left, largest[0]), 0, -1):
            last = largest[1] if o == largest[0] else len(trees(o)) - 1
            for i in range(last, -1, -1):
                extend(left - o, (o, i), [*children, (o, i)])

    extend(order - 1, (order - 1, len(trees(order - 1)) - 1), [])
    return tuple(found)


def test_the_trees_are_all_there():
    assert [len(trees(n)) for n in range(1, 11)] == [1, 1, 2, 4, 9, 20, 48, 115, 286, 719]


def weights(a, order):
    """The elementary weight vectors of all trees up to `order`: a list of (trees, s) arrays."""
    phi = [None]
    images = [None]
    for n in range(1, order + 1):
        rows = np.ones((len(trees(n)), a.shape[0]))
        for t, (children, _) in enumerate(trees(n)):
            for o, i in children:
                rows[t] *= images[o][i]
        phi.append(rows)
        images.append(rows @ a.T)
    return phi


def misses(table: Tableau, b, order, target=True):
    """By order, the largest miss of sum(b phi) = 1/gamma (or 0), over its rounding scale."""
    phi, size = weights(table.a, order), weights(np.abs(table.a), order)
    out = []
    for n in range(1, order + 1):
        gamma = np.array([g for _, g in trees(n)], dtype=float)
        wanted = 1.0 / gamma if target else 0.0
        scale = 1.0 + size[n] @ np.abs(b)
        out.append(float(np.max(np.abs(phi[n] @ b - wanted) / scale)))
    return out


def tolerance(name):
    return row(name).get("accuracy", 1e-14)


def satisfied(missed, allowed):
    """The order up to which no condition is missed by more than `allowed`."""
    return next((n for n, miss in enumerate(missed) if miss > allowed), len(missed))


@pytest.mark.parametrize("name", tableau_names())
def test_c_is_the_row_sums(name):
    table = tableau(name)
    scale = 1.0 + np.abs(table.a).sum(axis=1)
    assert np.max(np.abs(table.a.sum(axis=1) - table.c) / scale) < 1e-14


@pytest.mark.parametrize("name", tableau_names())
def test_the_order_is_what_the_row_says_and_no_more(name):
    table = tableau(name)
    checked = min(table.order, FULL_ORDER)
    missed = misses(table, table.b, checked + (table.order < FULL_ORDER))
    assert satisfied(missed[:checked], tolerance(name)) == checked
    if table.order < FULL_ORDER:
        assert missed[-1] > 1e-10


@pytest.mark.parametrize("name", [n for n in tableau_names() if tableau(n).order > FULL_ORDER])
def test_high_orders(name):
    table = tableau(name)
    order = min(table.order, 10)
    assert satisfied(misses(table, table.b, order), 1e-14) == order
    for k in range(1, table.order + 1):
        assert table.b @ table.c ** (k - 1) == pytest.approx(1 / k, abs=1e-14 * sum(abs(table.b)))


@pytest.mark.parametrize("name", ["Feagin12", "Feagin14"])
def test_the_highest_orders_tree_by_tree(name):
    table = tableau(name)
    assert satisfied(misses(table, table.b, table.order), 1e-14) == table.order


@pytest.mark.parametrize("name", [n for n in tableau_names() if tableau(n).b_error is not None])
def test_the_companion_has_the_embedded_order(name):
    table = tableau(name)
    order = min(table.embedded_order, FULL_ORDER)
    reached = [
        satisfied(misses(table, table.b + sign * table.b_error, order + 1), tolerance(name))
        for sign in (1.0, -1.0)
    ]
    assert max(reached) >= order
    if table.embedded_order < FULL_ORDER:
        assert max(reached) == order
    # An error estimate vanishes where both methods are exact.
    both = min(order, table.order)
    assert satisfied(misses(table, table.b_error, both, target=False), tolerance(name)) == both


def test_two_error_estimates():
    dp8, bs5 = tableau("DP8"), tableau("BS5")
    assert (dp8.error_rule, bs5.error_rule) == ("hairer", "max")
    assert satisfied(misses(dp8, dp8.b_error2, 5, target=False), 1e-14) == 3
    assert satisfied(misses(bs5, bs5.b_error2, 6, target=False), 1e-14) == 4
    others = [n for n in tableau_names() if tableau(n).b_error2 is not None]
    assert sorted(others) == ["BS5", "DP8"]


def test_known_shapes():
    assert tableau("Tsit5").fsal
    assert not tableau("Fehlberg21").fsal
    assert not tableau("RK4").fsal
    assert tableau("Tsit5").explicit
    assert tableau("KenCarp4").implicit_stages == (1, 2, 3, 4, 5)
    assert tableau("ImplicitEuler").implicit_stages == (0,)
    assert tableau("Feagin14").stages == 35
    np.testing.assert_array_equal(tableau("Fehlberg21").b, [1 / 512, 255 / 256, 1 / 512])
    np.testing.assert_array_equal(tableau("Fehlberg21").b_error, [-1 / 512, 0.0, 1 / 512])


def test_a_tableau_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        tableau("Tsit5").a[1, 0] = 0.0


def test_unknown_tableau():
    with pytest.raises(UnknownSolverError, match="Tsit5"):
        tableau("tsit5")


def test_a_wrong_tableau_is_refused():
    one = np.ones(1)
    with pytest.raises(ValueError, match="row sums"):
        Tableau("wrong", one, np.zeros((1, 1)), one, None, 1, None, "nowhere")
    with pytest.raises(ValueError, match="does not fit"):
        Tableau("wrong", one, np.zeros((1, 1)), np.ones(2), None, 1, None, "nowhere")
    with pytest.raises(ValueError, match="above its diagonal"):
        Tableau("wrong", np.ones(2), np.eye(2)[::-1], np.ones(2), None, 1, None, "nowhere")


# Peers. Their arrays as (c, a, b, b_error), padded with idle stages where theirs has fewer or more.


def from_diffrax(name):
    diffrax = pytest.importorskip("diffrax")
    table = getattr(diffrax, name).tableau
    table = table.tableaus[-1] if hasattr(table, "tableaus") else table
    stages = len(table.b_sol)
    a = np.zeros((stages, stages))
    for i, lower in enumerate(table.a_lower, start=1):
        a[i, :i] = lower
    if table.a_diagonal is not None:
        a += np.diag(table.a_diagonal)
    return np.array([table.c1, *table.c]), a, np.array(table.b_sol), np.array(table.b_error)


def from_torchdiffeq(name):
    solvers = pytest.importorskip("torchdiffeq._impl.odeint").SOLVERS
    table = solvers[name].tableau
    stages = len(table.c_sol)
    a = np.zeros((stages, stages))
    for i, lower in enumerate(table.beta, start=1):
        a[i, : len(lower)] = lower.numpy()
    return np.array([0.0, *table.alpha.tolist()]), a, table.c_sol.numpy(), table.c_error.numpy()


def from_scipy(name):
    integrate = pytest.importorskip("scipy.integrate")
    method = getattr(integrate, name)
    used = method.n_stages  # SciPy leaves out the stage at the end of the step
    a = np.zeros((used + 1, used + 1))
    rows = method.A[:used, :used]
    a[:used, : rows.shape[1]] = rows
    a[used, :used] = method.B
    c = np.array([*method.C[:used], 1.0])
    return c, a, np.array([*method.B, 0.0]), np.array(method.E5 if name == "DOP853" else method.E)


READERS = {"diffrax": from_diffrax, "torchdiffeq": from_torchdiffeq, "scipy": from_scipy}
# Without a tableau to read: compared by the steps they take, below.
BY_STEP = {("torchdiffeq", n) for n in ("euler", "midpoint", "rk4")} | {("diffrax", "Euler")}
PEERS = [
    (name, library, peer)
    for name in tableau_names()
    for library, peer in info(name).same_as.items()
    if (library, peer) not in BY_STEP
]


def cut(rows, stages):
    """`rows` padded with zeros or cut, where only idle stages fall away, to `stages`."""
    grown = np.zeros((stages,) * rows.ndim)
    kept = tuple(slice(min(stages, n)) for n in rows.shape)
    grown[kept] = rows[kept]
    return grown


@pytest.mark.parametrize(("name", "library", "peer"), PEERS)
def test_same_means_the_same_tableau_and_error_weights(name, library, peer):
    ours, theirs = tableau(name), READERS[library](peer)
    c, a, b, error = (cut(rows, ours.stages) for rows in theirs)
    for rows in theirs[2:]:
        assert not np.any(rows[ours.stages :])
    close = {"rtol": 1e-13, "atol": 2e-15}
    used = ours.stages if ours.stages <= len(theirs[0]) else len(theirs[0])
    np.testing.assert_allclose(ours.c[:used], c[:used], **close)
    # diffrax's KenCarp5 has one entry that is off, its row sum too, by 2e-12.
    np.testing.assert_allclose(ours.a[:used], a[:used], rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(ours.b, b, **close)
    same_sign = np.sign(ours.b_error @ error)
    np.testing.assert_allclose(ours.b_error, same_sign * error, rtol=1e-11, atol=1e-14)


def test_dop853_has_both_error_rows():
    method = pytest.importorskip("scipy.integrate").DOP853
    ours = tableau("DP8").b_error2
    np.testing.assert_allclose(ours, method.E3[: ours.size], rtol=1e-12, atol=1e-15)


def explicit_step(table, f, t, y, dt):
    k = np.zeros(table.stages)
    for i in range(table.stages):
        k[i] = f(t + table.c[i] * dt, y + dt * table.a[i, :i] @ k[:i])
    return y + dt * table.b @ k


@pytest.mark.parametrize(
    ("name", "peer"), [("Euler", "euler"), ("Midpoint", "midpoint"), ("RK38", "rk4")]
)
def test_torchdiffeq_fixed_steps_are_ours(name, peer):
    torch = pytest.importorskip("torch")
    torchdiffeq = pytest.importorskip("torchdiffeq")
    assert info(name).same_as["torchdiffeq"] == peer
    ours = explicit_step(tableau(name), lambda t, y: math.sin(3 * t + 1) * y * y, 0.2, 0.7, 0.5)
    times = torch.tensor([0.2, 0.7], dtype=torch.float64)
    start = torch.tensor(0.7, dtype=torch.float64)
    theirs = torchdiffeq.odeint(
        lambda t, y: torch.sin(3 * t + 1) * y * y, start, times, method=peer
    )
    assert ours == pytest.approx(float(theirs[-1]), rel=1e-14)


def test_near_is_not_same():
    dp5, shampine = tableau("DP5"), tableau("DP5Shampine")
    np.testing.assert_array_equal(dp5.a, shampine.a)
    np.testing.assert_array_equal(dp5.b, shampine.b)
    np.testing.assert_allclose(-2 / 3 * dp5.b_error, shampine.b_error, rtol=1e-13)
    assert "dopri5" in info("DP5").near["torchdiffeq"]
    assert "torchdiffeq" not in info("DP5").same_as
    assert "rk4" in info("RK4").near["torchdiffeq"]
    assert not np.array_equal(tableau("RK4").a, tableau("RK38").a)
    assert tableau("DP8").stages != tableau("Dopri8").stages
    assert "Dopri8" in info("DP8").near["diffrax"]


def test_no_library_is_both_same_and_near():
    for name in tableau_names():
        assert not set(info(name).same_as) & set(info(name).near), name


@pytest.mark.parametrize("name", ["dopri5", "dopri8", "tsit5", "bosh3", "fehlberg2"])
def test_states_inside_a_step(name: str) -> None:
    """torchdiffeq's interpolants: the step's end and both slopes at its ends, whatever the stages,
    and the slopes of the weights are their derivatives."""
    method = dense_method(find_method(name, {}))
    assert method is not None
    b, s = method.tableau.b, method.tableau.stages
    first, last = np.eye(s)[[0, -1]]

    def numbers(weights: list[Any]) -> np.ndarray:
        return np.array([0.0 if each is None else each for each in weights])

    np.testing.assert_allclose(numbers(method.weights(0.0)), 0.0, atol=0)
    np.testing.assert_array_equal(numbers(method.weights(1.0)), b)
    np.testing.assert_allclose(numbers(method.slopes(0.0)), first, atol=1e-13)
    np.testing.assert_allclose(numbers(method.slopes(1.0)), last, atol=1e-13)
    eps = 1e-5
    for x in (0.2, 0.5, 0.9, 1.1):
        rise = numbers(method.weights(x + eps)) - numbers(method.weights(x - eps))
        np.testing.assert_allclose(numbers(method.slopes(x)), rise / (2 * eps), atol=1e-8)
        # On y' = 1 all are exact, on y' = t those whose state half-way through is of order 2.
        for p in (1,) if name in ("bosh3", "fehlberg2") else (1, 2):
            integral = numbers(method.weights(x)) @ method.tableau.c ** (p - 1)
            assert integral == pytest.approx(x**p / p, abs=1e-12)
