"""Every tableau: row sums, rooted-tree order conditions, and equality with its named peers."""

import copy
import json
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pynode_jl.errors import InvalidValueError, UnknownSolverError
from pynode_jl.frontends.torch._methods import dense_method, find_method
from pynode_jl.solvers import (
    TORCHDIFFEQ_TABLEAUS,
    Tableau,
    collocation,
    info,
    tableau,
    tableau_names,
)
from pynode_jl.solvers._order_conditions import order_misses, rooted_trees, satisfied_order
from pynode_jl.solvers._tableau import row

# Up to here every rooted tree is checked for every tableau; above it, those of the high-order ones.
FULL_ORDER = 8
ALL = (*tableau_names(), *TORCHDIFFEQ_TABLEAUS)


def test_the_trees_are_all_there():
    assert [len(rooted_trees(n)) for n in range(1, 11)] == [1, 1, 2, 4, 9, 20, 48, 115, 286, 719]


def named(name: str) -> Tableau:
    return TORCHDIFFEQ_TABLEAUS.get(name) or tableau(name)


def tolerance(name: str) -> float:
    return 1e-14 if name in TORCHDIFFEQ_TABLEAUS else float(row(name).get("accuracy", 1e-14))


@pytest.mark.parametrize("name", ALL)
def test_c_is_the_row_sums(name):
    table = named(name)
    scale = 1.0 + np.abs(table.a).sum(axis=1)
    assert np.max(np.abs(table.a.sum(axis=1) - table.c) / scale) < 1e-14


@pytest.mark.parametrize("name", ALL)
def test_the_order_is_what_the_row_says_and_no_more(name):
    table = named(name)
    checked = min(table.order, FULL_ORDER)
    missed = order_misses(table.a, table.b, checked + (table.order < FULL_ORDER))
    assert satisfied_order(missed[:checked], tolerance(name)) == checked
    if table.order < FULL_ORDER:
        assert missed[-1] > 1e-10


@pytest.mark.parametrize("name", [n for n in tableau_names() if tableau(n).order > FULL_ORDER])
def test_high_orders(name):
    table = tableau(name)
    order = min(table.order, 10)
    assert satisfied_order(order_misses(table.a, table.b, order), 1e-14) == order
    for k in range(1, table.order + 1):
        assert table.b @ table.c ** (k - 1) == pytest.approx(1 / k, abs=1e-14 * sum(abs(table.b)))


@pytest.mark.parametrize("name", ["Feagin12", "Feagin14"])
def test_the_highest_orders_tree_by_tree(name):
    table = tableau(name)
    assert satisfied_order(order_misses(table.a, table.b, table.order), 1e-14) == table.order


@pytest.mark.parametrize("name", [n for n in tableau_names() if tableau(n).b_error is not None])
def test_the_companion_has_the_embedded_order(name):
    table = tableau(name)
    order = min(table.embedded_order, FULL_ORDER)
    companions = (table.b + table.b_error, table.b - table.b_error)
    misses = [order_misses(table.a, b, order + 1) for b in companions]
    reached = [satisfied_order(each, tolerance(name)) for each in misses]
    assert max(reached) >= order
    if table.embedded_order < FULL_ORDER:
        assert max(reached) == order
    # An error estimate vanishes where both methods are exact.
    both = min(order, table.order)
    missed = order_misses(table.a, table.b_error, both, vanishing=True)
    assert satisfied_order(missed, tolerance(name)) == both


def test_two_error_estimates():
    dp8, bs5 = tableau("DP8"), tableau("BS5")
    assert (dp8.error_rule, bs5.error_rule) == ("hairer", "max")
    assert satisfied_order(order_misses(dp8.a, dp8.b_error2, 5, vanishing=True), 1e-14) == 3
    assert satisfied_order(order_misses(bs5.a, bs5.b_error2, 6, vanishing=True), 1e-14) == 4
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


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"c": [0.0, 0.5]}, "c\\[1\\] = 0.5: .*0.666.*row sums"),
        ({"b": [0.25, 0.75, 0.0]}, "shape of a = \\(2, 2\\): .*\\(3, 3\\), as b has 3 stages"),
        ({"a": [[0.0, 0.0], [2 / 3]]}, "a = .*an array of numbers"),
        ({"a": [0.0, 2 / 3]}, "a = \\(2,\\): .*\\(stages, stages\\)"),
        ({"b": [0.25, math.nan]}, "b = .*finite numbers.*NaN"),
        ({"b_error": [1.0]}, "shape of b_error"),
        ({"b_error": [math.inf, 0.0]}, "b_error = .*finite"),
        ({"b": []}, "b = \\(0,\\)"),
        ({"order": -1}, "order = -1: .*1 or more"),
        ({"order": 2.5}, "order = 2.5"),
        ({"b": [0.5, 0.75]}, "order = 0: .*1 or more"),  # not even consistent
        ({"name": ""}, "name = ''"),
        ({"name": None}, "name = None"),
        ({"error_rule": "max"}, "error_rule = 'max'.*b_error2"),
        ({"error_rule": "mean", "b_error2": [1.0, -1.0]}, "error_rule = 'mean'"),
    ],
)
def test_a_wrong_tableau_is_refused(changed: dict[str, Any], text: str) -> None:
    given = {"name": "X", "c": [0.0, 2 / 3], "a": [[0.0, 0.0], [2 / 3, 0.0]], "b": [0.25, 0.75]}
    with pytest.raises(InvalidValueError, match=text):
        Tableau(**(given | changed))


def test_kinds_and_blocks() -> None:
    assert {tableau(name).kind for name in tableau_names()} == {"explicit", "dirk"}
    euler, trapezoid, gauss = tableau("Euler"), tableau("Trapezoid"), TORCHDIFFEQ_TABLEAUS["gl6"]
    lobatto = collocation("Lobatto IIIA", [0.0, 0.5, 1.0])
    assert [each.kind for each in (euler, trapezoid, gauss, lobatto)] == [
        "explicit", "dirk", "full", "full"
    ]  # fmt: skip
    assert [trapezoid.coupled(i) for i in range(2)] == [0, 2]
    assert [gauss.coupled(i) for i in range(3)] == [3, 3, 3]
    assert [lobatto.coupled(i) for i in range(3)] == [0, 3, 3]
    assert (lobatto.implicit_stages, gauss.implicit_stages) == ((1, 2), (0, 1, 2))
    assert (lobatto.fsal, lobatto.order, gauss.fsal) == (True, 4, False)


@pytest.mark.parametrize("nodes", [[], [0.5, 0.5], [1.5], [[0.5]], [-0.1, 1.0]])
def test_collocation_needs_different_nodes_in_the_step(nodes: Any) -> None:
    with pytest.raises(InvalidValueError, match="nodes"):
        collocation("X", nodes)


def test_equality_is_that_of_the_numbers() -> None:
    tsit5 = tableau("Tsit5")
    again = Tableau.from_dict(json.loads(json.dumps(tsit5.to_dict())))
    assert again is not tsit5
    assert (again, hash(again)) == (tsit5, hash(tsit5))
    assert replace(tsit5, source="elsewhere") == tsit5
    renamed = replace(tsit5, name="Mine")
    assert renamed != tsit5
    assert renamed.same_method(tsit5)
    assert not tsit5.same_method(tableau("DP5"))
    moved = tsit5.b.copy()
    moved[0] = np.nextafter(moved[0], 1)
    assert replace(tsit5, b=moved) != tsit5
    for copied in (pickle.loads(pickle.dumps(tsit5)), copy.deepcopy(tsit5)):
        assert copied == tsit5
        assert not copied.a.flags.writeable


def test_the_arrays_are_copies() -> None:
    b = np.array([1.0])
    table = Tableau("X", [0.0], [[0.0]], b)
    b[0] = 2.0
    assert table.b[0] == 1.0
    assert b.flags.writeable


@pytest.mark.parametrize(
    "values", [{"name": "X"}, {"name": "X", "c": 0, "a": 0, "b": 0, "d": 0}, 5]
)
def test_from_dict_refuses_what_it_does_not_know(values: Any) -> None:
    with pytest.raises(InvalidValueError, match="a table with name, c, a, b"):
        Tableau.from_dict(values)


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
