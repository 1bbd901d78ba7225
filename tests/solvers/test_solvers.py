"""`Solver`, the catalogue and the controllers."""

import copy
import dataclasses
import json
import math
import pickle
import subprocess
import sys

import diffrax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pynode_jl.solvers as solvers_package
from pynode_jl.errors import (
    InvalidValueError,
    PyNODEError,
    UnknownSolverError,
    WrongProblemError,
    WrongSolverError,
)
from pynode_jl.frontends.torch._methods import TORCHDIFFEQ
from pynode_jl.solvers import (
    Adaptive,
    FixedStep,
    Solver,
    catalogue,
    controller,
    info,
    peers,
    solver_names,
    tableau,
    tableau_names,
)
from pynode_jl.solvers._peers import _by_spelling

# --- Solver: which steps it takes ---------------------------------------------------------------


def test_fixed_and_adaptive():
    euler, tsit5 = Solver("Euler", dt=1 / 16), Solver("Tsit5", rtol=1e-4, atol=1e-8)
    assert (euler.fixed, euler.dt, euler.rtol, euler.atol) == (True, 1 / 16, None, None)
    assert (tsit5.fixed, tsit5.dt, tsit5.rtol, tsit5.atol) == (False, None, 1e-4, 1e-8)
    assert euler.info is info("Euler")


@pytest.mark.parametrize(
    ("given", "rtol", "atol"),
    [({}, 1e-3, 1e-6), ({"rtol": 1e-5}, 1e-5, 1e-6), ({"atol": 1e-9}, 1e-3, 1e-9)],
)
def test_tolerances_left_out_are_those_of_julia(given, rtol, atol):
    solver = Solver("Tsit5", **given)
    assert (solver.rtol, solver.atol) == (rtol, atol)


def test_an_adaptive_method_takes_fixed_steps_too():
    assert Solver("Tsit5", dt=0.1).fixed


@pytest.mark.parametrize(
    ("name", "given", "error", "texts"),
    [
        ("Euler", {}, WrongSolverError, ["dt = None", "Euler has no error estimate", "dt=1/16"]),
        ("Euler", {"rtol": 1e-3}, WrongSolverError, ["rtol = 0.001", "Euler", "dt=1/16"]),
        ("Euler", {"atol": 1e-3}, WrongSolverError, ["atol = 0.001", "dt=1/16"]),
        ("QNDF", {"dt": 0.1}, WrongSolverError, ["dt = 0.1", "QNDF", "rtol=1e-3"]),
        ("Tsit5", {"dt": 0.1, "rtol": 1e-3}, InvalidValueError, ["not both", "Leave out rtol"]),
        ("VelocityVerlet", {"dt": 0.1}, WrongProblemError, ["VelocityVerlet", "DynamicalODE"]),
        ("FunctionMap", {"dt": 0.1}, WrongProblemError, ["DiscreteProblem"]),
        ("DImplicitEuler", {}, WrongProblemError, ["DAEProblem"]),
        ("MagnusGauss4", {"dt": 0.1}, WrongProblemError, ["linear operator"]),
        ("tsit5", {}, UnknownSolverError, ["'tsit5'", "did you mean Tsit5"]),
        ("Eular", {"dt": 0.1}, UnknownSolverError, ["Euler", "pynode-jl solvers"]),
    ],
)
def test_what_a_solver_refuses(name, given, error, texts):
    with pytest.raises(error) as caught:
        Solver(name, **given)
    for text in texts:
        assert text in str(caught.value)
    assert isinstance(caught.value, PyNODEError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("argument", ["dt", "rtol", "atol"])
@pytest.mark.parametrize("value", [0.0, -1e-3, math.inf, math.nan, True, "1e-3", [1.0]])
def test_steps_and_tolerances_are_positive_numbers(argument, value):
    with pytest.raises(InvalidValueError, match=f"{argument} = .*a number above 0"):
        Solver("Tsit5", **{argument: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_max_steps_is_a_count(value):
    with pytest.raises(InvalidValueError, match=r"max_steps = .*an integer of 1 or more"):
        Solver("Tsit5", max_steps=value)


def test_numpy_numbers_become_plain_ones():
    solver = Solver("Euler", dt=np.float32(0.25), max_steps=np.int64(7))
    assert type(solver.dt) is float
    assert type(solver.max_steps) is int


def test_every_plain_solver_of_the_catalogue_can_be_asked_for():
    asked = 0
    for each in catalogue():
        if not each.plain:
            with pytest.raises(WrongProblemError):
                Solver(each.name, dt=0.1)
            continue
        asked += 1
        if each.fixed_step:
            assert Solver(each.name, dt=0.1).fixed
        if each.adaptive:
            assert not Solver(each.name).fixed
        assert each.fixed_step or each.adaptive
    assert asked > 280


# --- Solver: options, identity, text ------------------------------------------------------------


def test_options_are_kept_sorted_and_hashable():
    one = Solver("BS5", options={"lazy": False, "a": 1})
    two = Solver("BS5", options={"a": 1, "lazy": False})
    assert one == two
    assert hash(one) == hash(two)
    assert dict(one.options) == {"lazy": False, "a": 1}
    assert one != Solver("BS5")


@pytest.mark.parametrize(
    "options", [{"lazy now": 1}, {"lazy": None}, {"lazy": [1]}, {"lazy": {"a": 1}}]
)
def test_options_are_plain_values(options):
    with pytest.raises(InvalidValueError, match="options"):
        Solver("BS5", options=options)


@pytest.mark.parametrize("options", [5, "lazy", [1]])
def test_options_are_a_mapping(options):
    with pytest.raises(InvalidValueError, match="a mapping of keywords"):
        Solver("BS5", options=options)


@pytest.mark.parametrize("name", [None, 5, info("Tsit5")])
def test_a_name_is_text(name):
    with pytest.raises(InvalidValueError, match="the name of a solver"):
        Solver(name)


def test_scaled_and_changed():
    assert Solver("Euler", dt=0.1).scaled(0.5) == Solver("Euler", dt=0.05)
    tightened = Solver("Tsit5", rtol=1e-3, atol=1e-6).scaled(0.1)
    assert (tightened.rtol, tightened.atol) == pytest.approx((1e-4, 1e-7))
    assert Solver("Tsit5", rtol=1e-4).with_step(0.1) == Solver("Tsit5", dt=0.1)
    assert Solver("Tsit5", dt=0.1).with_tolerance(1e-4, 1e-4).label == "Tsit5 tol=1e-4"
    assert Solver("Tsit5", dt=0.1).with_tolerance(1e-4).atol == 1e-6
    kept = Solver("BS5", dt=0.1, max_steps=9, options={"lazy": False}).scaled(2.0)
    assert (kept.dt, kept.max_steps, kept.options) == (0.2, 9, (("lazy", False),))
    with pytest.raises(InvalidValueError, match="factor = 0"):
        Solver("Euler", dt=0.1).scaled(0)
    with pytest.raises(InvalidValueError, match="factor = None"):
        Solver("Euler", dt=0.1).scaled(None)
    with pytest.raises(WrongSolverError, match="no error estimate"):
        Solver("Euler", dt=0.1).with_tolerance(1e-3)


@pytest.mark.parametrize(
    ("solver", "label"),
    [
        (Solver("Euler", dt=1 / 16), "Euler h=1/16"),
        (Solver("Euler", dt=1.0), "Euler h=1"),
        (Solver("Euler", dt=0.3), "Euler h=0.3"),
        (Solver("Euler", dt=float(np.float32(1 / 3))), "Euler h=1/3"),
        (Solver("RK4", dt=7.5), "RK4 h=7.5"),
        (Solver("Tsit5", rtol=1e-3, atol=1e-3), "Tsit5 tol=1e-3"),
        (Solver("Tsit5", rtol=2.5e-7, atol=2.5e-7), "Tsit5 tol=2.5e-7"),
        (Solver("Tsit5"), "Tsit5 rtol=1e-3 atol=1e-6"),
    ],
)
def test_labels(solver, label):
    assert solver.label == label


positive = st.floats(min_value=1e-300, max_value=1e300, allow_nan=False, allow_infinity=False)
solvers = st.one_of(
    st.builds(
        Solver,
        st.sampled_from(["Euler", "RK4", "Tsit5"]),
        dt=positive,
        max_steps=st.none() | st.integers(1, 10**9),
    ),
    st.builds(
        Solver,
        st.sampled_from(["BS3", "Tsit5", "KenCarp4"]),
        rtol=positive,
        atol=positive,
        options=st.dictionaries(st.sampled_from(["lazy", "order"]), st.integers() | st.booleans()),
    ),
)


@given(solvers)
def test_round_trips(solver):
    assert Solver.from_dict(json.loads(json.dumps(solver.to_dict()))) == solver
    assert pickle.loads(pickle.dumps(solver)) == solver
    assert copy.deepcopy(solver) == solver
    assert Solver.parse(str(solver)) == dataclasses.replace(solver, options=())


def test_to_dict_leaves_out_what_is_not_set():
    assert Solver("Euler", dt=0.5).to_dict() == {"name": "Euler", "dt": 0.5}


@pytest.mark.parametrize(
    "values", [{"dt": 0.1}, {"name": "Euler", "dt": 0.1, "step": 3}, {"name": "Euler", "h": 0.1}]
)
def test_from_dict_refuses_what_it_does_not_know(values):
    with pytest.raises(InvalidValueError, match="a table with name and any of dt, rtol"):
        Solver.from_dict(values)


@pytest.mark.parametrize(
    ("text", "solver"),
    [
        ("Euler:dt=1/16", Solver("Euler", dt=1 / 16)),
        (" Euler : dt = 0.25 ", Solver("Euler", dt=0.25)),
        ("Tsit5", Solver("Tsit5")),
        ("Tsit5:", Solver("Tsit5")),
        ("Tsit5:rtol=1e-6,atol=1e-8", Solver("Tsit5", rtol=1e-6, atol=1e-8)),
        ("Tsit5:tol=1e-4", Solver("Tsit5", rtol=1e-4, atol=1e-4)),
        ("Tsit5:tol=1e-4,max_steps=50", Solver("Tsit5", rtol=1e-4, atol=1e-4, max_steps=50)),
    ],
)
def test_parse(text, solver):
    assert Solver.parse(text) == solver


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("Euler:h=0.1", "h=0.1.*dt, rtol, atol, tol, max_steps"),
        ("Euler:0.1", "key=number"),
        ("Euler:dt=0.1,dt=0.2", "once"),
        ("Euler:dt=a", "dt = 'a'.*1/16"),
        ("Euler:dt=1/0", "dt = '1/0'"),
        ("Euler:dt=-1", "dt = -1.0"),
        ("Tsit5:tol=1e-3,rtol=1e-3", "keep one"),
        ("Tsit5:max_steps=1.5", "an integer"),
        ("", "unknown solver ''"),
    ],
)
def test_parse_says_what_is_wrong(text, match):
    with pytest.raises(PyNODEError, match=match):
        Solver.parse(text)


# --- Solver: fixed grids ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_of_one_nth_makes_n_equal_steps(dtype):
    for n in [*range(1, 513), *range(513, 4097, 7), 4096]:
        grid = Solver("Euler", dt=dtype(1) / dtype(n)).grid(0.0, 1.0)
        assert grid == (n, 1.0 / n, 1.0 / n)


@given(
    st.floats(-100, 100, allow_nan=False),
    st.floats(0.01, 100),
    st.integers(1, 4096),
    st.booleans(),
)
def test_a_step_that_divides_the_span_makes_equal_steps(t0, span, n, back):
    t1 = t0 - span if back else t0 + span
    grid = Solver("Euler", dt=abs(t1 - t0) / n).grid(t0, t1)
    assert grid.n == n
    assert grid.dt == grid.dt_last == (t1 - t0) / n


@given(st.floats(1e-3, 1.0), st.floats(0.01, 100), st.booleans())
def test_grids_end_where_they_should(share, span, back):
    t0, t1 = (span, 0.0) if back else (0.0, span)
    solver = Solver("Euler", dt=share * span)
    grid = solver.grid(t0, t1)
    assert (grid.n - 1) * grid.dt + grid.dt_last == pytest.approx(t1 - t0, rel=1e-12)
    assert abs(grid.dt) == pytest.approx(solver.dt, rel=2e-6)
    # No step of nearly no length, and none longer than the others.
    assert 1e-7 < abs(grid.dt_last) / abs(grid.dt) <= 1.0 + 1e-12
    assert math.copysign(1.0, grid.dt) == math.copysign(1.0, grid.dt_last) == (-1.0 if back else 1)


def test_a_shortened_last_step():
    grid = Solver("Euler", dt=0.3).grid(0.0, 1.0)
    assert (grid.n, grid.dt) == (4, 0.3)
    assert grid.dt_last == pytest.approx(0.1)
    assert Solver("Euler", dt=np.float32(0.1)).grid(0.0, 1.0).n == 10


@pytest.mark.parametrize("interval", [(0.0, 0.0), (0.0, math.inf), (math.nan, 1.0)])
def test_grids_need_an_interval(interval):
    with pytest.raises(InvalidValueError, match=r"finite number|two finite times"):
        Solver("Euler", dt=0.1).grid(*interval)


def test_a_step_longer_than_the_interval():
    with pytest.raises(InvalidValueError, match=r"dt = 1.5: .*at most .* = 1\. Use dt=1"):
        Solver("Euler", dt=1.5).grid(0.0, 1.0)


def test_a_step_that_no_count_of_steps_holds():
    for dt in (1e-12, 1e-300):
        with pytest.raises(InvalidValueError, match=rf"dt = {dt}: .*at least .* = 4.65661e-10"):
            Solver("Euler", dt=dt).grid(0.0, 1.0)


@given(st.floats(0.01, 10.0), st.floats(1e-3, 1.0), st.booleans())
def test_a_traced_grid_is_the_solver_s(span, share, back):
    span, dt = (-span if back else span), share * span
    n, step, last = solvers_package.fixed_grid(np, dt, np.float64(span))
    assert Solver("Euler", dt=dt).grid(0.0, span) == (n, step, last)


def test_an_adaptive_solver_has_no_grid():
    with pytest.raises(WrongSolverError, match="Tsit5 adapts its steps"):
        Solver("Tsit5").grid(0.0, 1.0)


# --- The catalogue ------------------------------------------------------------------------------


def test_the_catalogue_is_whole():
    julia = catalogue(backend="julia")
    assert len(julia) == 374
    assert len({each.name for each in catalogue()}) == len(catalogue())
    assert len(catalogue(backend="jax")) >= 140
    ours = {each.name for each in catalogue() if "julia" not in each.backends}
    assert ours == {"Fehlberg21", "RK38", "RKF45", "CashKarp54", "DP5Shampine", "Dopri8"}


def test_the_jax_backend_has_the_tableaus():
    assert {each.name for each in catalogue(backend="jax")} == set(tableau_names())
    for each in catalogue(backend="jax"):
        assert each.tableau is not None
        assert each.implicit != each.tableau.explicit
        assert each.fsal == each.tableau.fsal
        assert each.order == each.tableau.order or each.measured_order == each.tableau.order
        if each.adaptive and each.tableau.b_error is None:
            assert "only in the JAX backend" in each.note or "no error estimate here" in each.note
        if each.tableau.b_error is not None:
            assert each.adaptive


def test_orders_that_the_coefficients_do_not_have_are_told():
    told = {e.name: (e.order, e.measured_order) for e in catalogue() if e.measured_order}
    assert told == {"RKM": (4, 3), "SIR54": (5, 4), "CKLLSRK95_4C": (5, 1)}


def test_filters():
    assert {e.name for e in catalogue(order=1, implicit=True, backend="jax")} == {"ImplicitEuler"}
    assert all("SSP" in e.sublibrary for e in catalogue(family="strong-stability"))
    assert not any(e.adaptive for e in catalogue(adaptive=False))
    assert catalogue(order=99) == ()
    with pytest.raises(InvalidValueError, match="explicit RK: Verner"):
        catalogue(family="Vernor")
    with pytest.raises(InvalidValueError, match="'jax' or 'julia'"):
        catalogue(backend="torch")


def test_rows_are_hashable():
    assert len(set(catalogue())) == len(catalogue())


def test_what_julia_has_wrong_is_in_the_notes():
    for name in ("Kvaerno3", "Kvaerno4", "Kvaerno5"):
        assert "2 gamma" in info(name).note
        assert "julia" in info(name).near
    assert "49/353" in info("ESDIRK547L2SA2").note
    assert "Broken" in info("EPIRK5s3").note


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TSIT5", "did you mean Tsit5"),
        ("Eular", "did you mean Euler, "),
        ("dopri5", r"DP5Shampine \(the same as Dopri5 of diffrax, dopri5 of torchdiffeq\), DP5"),
        ("dopri5", r"not Dopri5 of diffrax, dopri5 of torchdiffeq: same a, b, c; other error w"),
        ("dopri8", r"Dopri8 \(the same as Dopri8 of diffrax"),
        ("rk4", r"RK4 \(not rk4 of torchdiffeq: the 3/8 rule: RK38\), RK38 \(the same"),
        ("RK45", r"DP5 \(the same as RK45 of scipy\), DP5Shampine \(not RK45 of scipy: same a"),
        ("scipy.integrate.RK23", r"mean BS3 \(the same as RK23 of scipy\)\?"),
        ("LSODA", r"VCABM \(not LSODA of scipy: it switches between Adams"),
        ("adaptive_heun", r"Heun \(the same as adaptive_heun of torchdiffeq\)"),
        ("Tsit5()", r"Tsit5 \(the same as Tsit5 of diffrax; not tsit5 of torchdiffeq: it goes on"),
        ("diffrax.Tsit5()", r"Tsit5 \(the same as Tsit5 of diffrax\)\?"),
        ("DOP853", "did you mean DP8"),
        ("ode45", r"DP5 \(the same as ode45 of MATLAB\)"),
        ("backward_euler", "mean ImplicitEuler"),
        ("Crank-Nicolson", "mean Trapezoid"),
        ("heun3", r"heun3 of torchdiffeq: Solver\(TORCHDIFFEQ_TABLEAUS"),
        ("diffrax.ShARK", "it solves stochastic equations"),
    ],
)
def test_unknown_names_are_told_what_they_are_here(name, text):
    """What another library calls a method, and what differs; else what is spelt alike."""
    with pytest.raises(UnknownSolverError, match=text):
        Solver(name, dt=0.1)


@pytest.mark.parametrize("make", [Solver, Solver.of])
def test_another_librarys_solver_is_told_its_name_here(make):
    with pytest.raises(UnknownSolverError, match=r"'diffrax.Dopri5': did you mean DP5Shampine"):
        make(diffrax.Dopri5())


def test_peers_are_solvers_of_the_catalogue():
    found = {each for several in _by_spelling().values() for each in several}
    assert {each.ours for each in found if each.ours} <= set(solver_names())
    assert all(each.ours or each.differs for each in found)
    for each in found:
        assert each in peers(each.name), each


@pytest.mark.parametrize("name", TORCHDIFFEQ)
def test_every_method_of_torchdiffeq_is_told_what_it_is_here(name):
    """The same where the front end runs torchdiffeq's method by the same tableau."""
    method = TORCHDIFFEQ[name]
    found = [each for each in peers(name) if each.library == "torchdiffeq"]
    assert found
    for each in found:
        if each.same:
            assert method.tableau == tableau(each.ours)


# --- Controllers --------------------------------------------------------------------------------


def test_the_rule():
    pi = controller("Tsit5")
    assert (pi.kind, pi.beta1, pi.beta2) == ("PI", pytest.approx(7 / 50), pytest.approx(2 / 25))
    assert (pi.gamma, pi.qmin, pi.qmax, pi.qoldinit) == (0.9, 0.2, 10.0, 1e-4)
    assert (pi.qsteady_min, pi.qsteady_max, pi.qmax_first_step) == (1.0, 1.0, 1e4)


def test_what_differs_from_it():
    dp5, dp8 = controller("DP5"), controller("DP8")
    assert (dp5.beta1, dp5.beta2) == pytest.approx((0.17, 0.04))
    assert (dp8.beta1, dp8.beta2, dp8.qmin, dp8.qmax) == pytest.approx((1 / 8, 0.0, 1 / 3, 6.0))
    assert controller("KenCarp4").qsteady_max == 1.2
    assert controller("Rodas5P").qsteady_max == 1.2
    assert controller("RadauIIA5").qmax == 8.0
    assert controller("RKC").gamma == 0.8
    assert (controller("ABDF2").kind, controller("ABDF2").beta1) == ("I", 0.5)
    assert controller("RDPK3Sp35").kind == "PID"
    assert controller("RDPK3Sp35").beta3 == 0.04
    assert controller("Dopri8").beta1 == pytest.approx(7 / 80)


@pytest.mark.parametrize("name", ["Euler", "QNDF", "AutoTsit5", "JVODE", "GaussLegendre"])
def test_solvers_without_these_numbers(name):
    with pytest.raises(WrongSolverError, match=name):
        controller(name)


def test_every_adaptive_tableau_has_a_controller():
    for each in catalogue(backend="jax", adaptive=True):
        assert 0 < controller(each.name).beta1 <= 1


# --- Import -------------------------------------------------------------------------------------


def test_import_brings_no_framework():
    code = (
        "import sys, pynode_jl.solvers as s; s.Solver('Tsit5'); s.catalogue()\n"
        "heavy = {'jax', 'diffrax', 'torch', 'scipy', 'juliacall'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- Stepping -----------------------------------------------------------------------------------


def test_a_solver_is_a_method_and_a_stepping():
    fixed, adaptive = FixedStep(1 / 16), Adaptive(1e-4)
    assert Solver("Euler", fixed) == Solver("Euler", dt=1 / 16) == Solver.parse("Euler:dt=1/16")
    assert Solver("Tsit5", adaptive) == Solver("Tsit5", rtol=1e-4) == Solver("Tsit5", None, 1e-4)
    assert Solver("Euler", dt=1 / 16).stepping == fixed
    assert Solver("Tsit5", rtol=1e-4).stepping == Adaptive(1e-4, 1e-6)
    assert (fixed.size, adaptive.size, fixed.fixed, adaptive.fixed) == (1 / 16, 1e-4, True, False)
    assert Solver("Tsit5").with_stepping(fixed) == Solver("Tsit5", dt=1 / 16)
    assert Solver("Tsit5", dt=0.1, max_steps=9).with_stepping(adaptive).max_steps == 9
    assert dataclasses.replace(Solver("Tsit5"), dt=fixed, rtol=None, atol=None).stepping == fixed


@pytest.mark.parametrize("stepping", [FixedStep(0.1), Adaptive()])
def test_a_stepping_and_tolerances_are_not_both_given(stepping):
    with pytest.raises(InvalidValueError, match="not both"):
        Solver("Tsit5", stepping, rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FixedStep(0), "dt = 0"),
        (lambda: Adaptive(rtol=math.nan), "rtol = nan"),
        (lambda: Adaptive(atol=-1.0), "atol = -1"),
        (lambda: FixedStep(0.1).scaled(0), "factor = 0"),
        (lambda: Adaptive().scaled(math.inf), "factor = inf"),
    ],
)
def test_steppings_are_positive(make, text):
    with pytest.raises(InvalidValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Euler:dt=1/256", {"name": "Euler", "dt": 0.00390625}),
        ("Euler:dt=1/3", Solver("Euler", dt=1 / 3)),
        ("Tsit5", {"name": "Tsit5"}),
        ("Tsit5:tol=1e-4", "Tsit5:rtol=0.0001,atol=1e-4"),
    ],
)
def test_one_solver_written_in_two_ways(one, other):
    assert Solver.of(one) == Solver.of(other)
    assert hash(Solver.of(one)) == hash(Solver.of(other))


def test_what_is_no_solver():
    with pytest.raises(InvalidValueError, match="a Solver, a text or a table"):
        Solver.of(5)


def test_the_order_is_a_number_or_an_error():
    assert Solver("Euler", dt=0.1).order == 1
    with pytest.raises(WrongSolverError, match="QNDF varies its order"):
        Solver("QNDF").order  # noqa: B018
