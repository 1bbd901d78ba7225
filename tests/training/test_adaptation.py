"""Controllers: their rules on models of known answers, exact resume, accounting, refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pynode_jl import adaptation
from pynode_jl.backends import Adam, ChunkResult, get_backend
from pynode_jl.backends.jax import JaxBackend
from pynode_jl.datasets import Dataset, concentric_spheres
from pynode_jl.errors import DataError, InvalidValueError, WrongSolverError
from pynode_jl.fields import ConvField1d, ConvField2d, LinearField
from pynode_jl.models import Model
from pynode_jl.proportions import upper_bound
from pynode_jl.runs._checkpoint import load_checkpoint, save_checkpoint
from pynode_jl.solvers import Solver, info
from pynode_jl.training import Recipe, Trained, train
from pynode_jl.training._adaptation import adaptation_of
from pynode_jl.training.step_adaptation import (
    ControlState,
    PaperController,
    Probe,
    SteadyController,
    StepAdapter,
    finer_step,
    finer_tolerance,
    initial_step,
)

EULER = Solver("Euler", dt=1.0)
SIGN = Model(LinearField(1), classes=2)


def sign_weights(rate: float) -> dict[str, np.ndarray]:
    """y' = -rate y, class 1 where y(1) > 0. One Euler step of h turns the sign if rate h > 1."""
    return {
        "field.layers.0.weight": np.array([[-rate]], np.float32),
        "field.layers.0.bias": np.zeros(1, np.float32),
        "head.weight": np.array([[-1.0], [1.0]], np.float32),
        "head.bias": np.zeros(2, np.float32),
    }


def sign_probe(
    backend: JaxBackend, rate: float, *, iteration: int = 50, recent: Sequence[int] = ()
) -> Probe:
    x = np.linspace(-1.0, 1.0, 40, dtype=np.float32)[:, None]
    labels = (x[:, 0] > 0).astype(np.int32)
    part = (x, labels)
    return Probe(
        backend,
        SIGN,
        {name: value for name, value in sign_weights(rate).items() if name in SIGN.weight_shapes()},
        seed=0,
        iteration=iteration,
        iterations=100,
        batch=part,
        pool=part,
        held=part,
        recent_nf=recent,
    )


def begun(controller: StepAdapter, solver: Solver, probe: Probe) -> ControlState:
    return replace(controller.start(solver, probe)[0], solver=solver)


# Pairs


def test_test_steps_are_the_papers() -> None:
    for h in (1 / 2, 1 / 16, 1 / 50):
        assert finer_step(Solver("Euler", dt=h), "Midpoint").dt == pytest.approx((h / 50) ** 0.5)
    assert finer_step(Solver("Euler", dt=1 / 64), "Midpoint").dt == 1 / 64
    assert finer_step(Solver("Midpoint", dt=1 / 4), "RK4").dt == pytest.approx(
        (1 / 16 / 50) ** 0.25
    )
    assert finer_step(Solver("Midpoint", dt=1 / 8), "RK4").dt == 1 / 8  # 1/h^2 > 50


@given(
    h=st.floats(1e-3, 1.0),
    pair=st.sampled_from([("Euler", "RK4"), ("Midpoint", "RK4"), ("RK4", "Tsit5")]),
)
def test_test_steps_expect_an_error_fifty_times_smaller(h: float, pair: tuple[str, str]) -> None:
    finer = finer_step(Solver(pair[0], dt=h), pair[1])
    assert finer.dt is not None
    p, q = (info(name).order or 0 for name in pair)
    assert finer.dt <= h
    assert finer.dt**q <= h**p / 50 * (1 + 1e-9) or finer.dt == h


def test_test_tolerances_are_the_papers() -> None:
    dp5 = finer_tolerance(Solver("DP5", rtol=1e-4, atol=1e-4), "DP5")
    fehlberg = finer_tolerance(Solver("Fehlberg21", rtol=1e-4, atol=1e-5), "DP5")
    assert (dp5.rtol, dp5.atol) == pytest.approx((1e-5, 1e-5))
    assert (fehlberg.rtol, fehlberg.atol) == pytest.approx((2e-5, 2e-6))


def test_a_step_and_tolerances_each_have_their_own_finer_solver() -> None:
    with pytest.raises(WrongSolverError, match=r"DP5 tol=1e-3': expected a fixed step"):
        finer_step(Solver("DP5", rtol=1e-3, atol=1e-3), "Vern7")
    with pytest.raises(WrongSolverError, match=r"RK4 h=1/4': expected tolerances"):
        finer_tolerance(Solver("RK4", dt=1 / 4), "DP5")


def test_the_protocol_keeps_its_former_name_at_its_former_place() -> None:
    assert adaptation.Controller is StepAdapter
    assert isinstance(PaperController(), StepAdapter)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (PaperController, {"threshold": 0.0}, "threshold = 0.0: .*between 0 and 1"),
        (PaperController, {"threshold": 1.0}, "threshold"),
        (PaperController, {"every": 0}, "every = 0: .*1 or more"),
        (PaperController, {"rule": "other"}, "rule"),
        (PaperController, {"first": "other"}, "first"),
        (PaperController, {"most_steps": 0}, "most_steps"),
        (SteadyController, {"every": 0}, "every = 0"),
        (SteadyController, {"allowed": 1.5}, "allowed"),
        (SteadyController, {"holdout": 0}, "holdout"),
        (SteadyController, {"explore": 0.6}, "hold = 0.5: expected a share above explore = 0.6"),
        (SteadyController, {"samples": True}, "samples"),
    ],
)
def test_bad_settings_are_refused(kind: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        kind(**settings)


@pytest.mark.parametrize("kind", [PaperController, SteadyController])
@pytest.mark.parametrize(
    ("solver", "test", "message"),
    [
        ("RK4:dt=1/4", "Euler", "less accurate than RK4"),
        ("Midpoint:dt=1/4", "Heun", "no order gap"),
        ("RK4:dt=1/4", "RK4", "no order gap"),
        ("DP5:tol=1e-3", "BS3", "less accurate than DP5"),
        ("Feagin10:dt=1/4", None, "order 1 to 8"),
    ],
)
def test_pairs_that_show_no_error_are_refused(
    kind: Any, solver: str, test: str | None, message: str
) -> None:
    with pytest.raises(WrongSolverError, match=message):
        Recipe(Solver.parse(solver), controller=kind(test=test))


def test_every_order_has_a_test_method() -> None:
    for name in ("Euler", "Midpoint", "BS3", "RK4", "Tsit5", "Vern6", "Vern7", "Vern8"):
        PaperController().check_solver(Solver(name, dt=1 / 8))
        SteadyController().check_solver(Solver(name, dt=1 / 8))
    for name in ("Fehlberg21", "BS3", "DP5", "Tsit5", "Vern7"):
        PaperController().check_solver(Solver(name, rtol=1e-3))


# The first step


@pytest.mark.parametrize("rate", [0.25, 3.0, 40.0])
def test_first_step_of_a_linear_field(backend: JaxBackend, rate: float) -> None:
    probe = sign_probe(backend, rate)
    mean = float(np.abs(probe.x).mean())
    largest = mean * max(rate, rate**2)
    for order in (1, 4):
        expected = min(1 / rate, (0.01 / largest) ** (1 / (order + 1)), 1.0)
        assert initial_step(probe, order) == pytest.approx(expected, rel=1e-6)
    assert probe.nf == 4


def test_first_step_takes_norms_over_whole_samples(backend: JaxBackend) -> None:
    """An image: the field doubles it, so |f| = 2 |y| and h0 = 0.01 / 2 whatever its rows."""
    field = ConvField2d((1, 3, 4), channels=2)
    model = Model(field, classes=2)
    weights = {name: np.zeros_like(value) for name, value in model.init(0).items()}
    x = np.random.default_rng(0).normal(size=(5, 1, 3, 4)).astype(np.float32)
    part = (x, np.zeros(5, np.int32))
    last = max(name for name in weights if name.startswith("field.") and name.endswith("bias"))
    weights[last] = np.full_like(weights[last], 0.5)  # a constant slope: |f| = 0.5 sqrt(12)
    probe = Probe(
        backend,
        model,
        weights,
        seed=0,
        iteration=0,
        iterations=1,
        batch=part,
        pool=part,
        held=part,
    )
    d0 = np.linalg.norm(x.reshape(5, -1), axis=1).mean()
    d1 = 0.5 * math.sqrt(12)
    expected = min(d0 / d1, math.sqrt(0.01 / d1), 1.0)
    assert initial_step(probe, 1) == pytest.approx(expected, rel=1e-5)


# The paper's rule


def test_paper_halves_where_a_finer_solver_disagrees(backend: JaxBackend) -> None:
    probe = sign_probe(backend, 3.0)  # h = 1 turns every sign, the test solver none
    controller = PaperController()
    state, check = controller.check(begun(controller, EULER, probe), probe)
    assert (check.accuracy, check.test_accuracy, check.statistic) == (0.0, 1.0, 1.0)
    assert (check.action, state.solver.dt) == ("shrink", 0.5)
    assert check.test_solver is not None
    assert check.test_solver.dt == pytest.approx(math.sqrt(1 / 50))
    # One Euler step, eight midpoint steps of two evaluations, and the start's two.
    assert check.nf == probe.nf == 1 + 2 * 8 + 2


def test_paper_never_exceeds_its_most_steps(backend: JaxBackend) -> None:
    probe = sign_probe(backend, 3.0)
    controller = PaperController(most_steps=1)
    assert controller.check(ControlState(EULER), probe)[0].solver.dt == 1.0


@pytest.mark.parametrize(
    ("rule", "action", "step"), [("text", "grow", 1.0), ("code", "hold", 0.95)]
)
def test_only_the_codes_rule_tries_before_it_grows(
    backend: JaxBackend, rule: Any, action: str, step: float
) -> None:
    # 0.95 and a rest of 0.05 keep the sign at rate 1.02; one step of 1 turns it.
    probe = sign_probe(backend, 1.02)
    state, check = PaperController(rule=rule).check(ControlState(EULER.with_step(0.95)), probe)
    assert check.statistic == 0.0
    assert (check.action, state.solver.dt) == (action, pytest.approx(step))


def test_both_rules_grow_by_a_tenth(backend: JaxBackend) -> None:
    for rule in ("text", "code"):
        probe = sign_probe(backend, 0.5)
        state, _ = PaperController(rule=rule).check(  # type: ignore[arg-type]
            ControlState(EULER.with_step(0.5)), probe
        )
        assert state.solver.dt == pytest.approx(0.55)


def test_paper_tolerance(backend: JaxBackend) -> None:
    solver = Solver("DP5", rtol=1e-3, atol=1e-3)
    controller = PaperController()
    first, start = controller.start(solver, sign_probe(backend, 1.0))
    assert (first.solver.rtol, first.solver.atol, start.nf) == (1e-6, 1e-6, 0)
    probe = sign_probe(backend, 3.0, recent=(5, 6, 7, 8, 9))
    state, check = controller.check(ControlState(solver), probe)
    assert check.action == "grow"
    assert state.solver.rtol == pytest.approx(1.1e-3)
    own = backend.evaluate(SIGN, sign_weights(3.0), probe.x, solver).stats.nf
    assert check.test_solver is not None
    test = backend.evaluate(
        SIGN, sign_weights(3.0), probe.x.astype(np.float64), check.test_solver
    ).stats.nf
    assert test > own  # or it would be no finer
    # A larger tolerance that changes no step is not taken.
    grown = backend.evaluate(SIGN, sign_weights(3.0), probe.x, state.solver).stats.nf
    idle = sign_probe(backend, 3.0, recent=(grown,) * 5)
    assert controller.check(ControlState(solver), idle)[1].action == "hold"


# Ours


def turned(probe: Probe) -> Probe:
    """With labels that call h = 1 right, so that a finer solver has answers to lose."""
    probe.pool_labels = 1 - probe.pool_labels
    return probe


def test_steady_explores_refines_and_holds(backend: JaxBackend) -> None:
    controller = SteadyController(every=3, samples=30)
    early = sign_probe(backend, 3.0, iteration=20)
    start = controller.start(EULER, early)[0]
    state, check = controller.check(start, early)
    assert (check.action, check.nf, check.best, state) == ("hold", 0, False, start)
    probe = turned(sign_probe(backend, 3.0, iteration=45))
    state, check = controller.check(start, probe)
    assert (check.accuracy, check.test_accuracy, check.statistic) == (1.0, 0.0, 1.0)
    assert check.action == "shrink"
    # Of 100 iterations 15 refine, with a check every 3: five together divide it by 16.
    assert state.solver.dt == pytest.approx(16 ** (-1 / 5))
    # A model that is an ODE is left alone, however often it is asked: every second time here.
    steady = ControlState(EULER.with_step(0.5), start.memory)
    asked = []
    for iteration in range(50, 100, 10):
        steady, check = controller.check(steady, sign_probe(backend, 1.0, iteration=iteration))
        assert check.action == "hold"
        asked.append(check.test_solver is not None)
    assert steady.solver.dt == 0.5
    assert asked == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("checks", "text", "pace"),
    [
        (1, "Euler:dt=1", 0.5),  # never a jump
        (8, "Euler:dt=1", 16 ** (-1 / 8)),
        (8, "SSPRK33:dt=1", 16 ** (-1 / 8)),
        (1000, "Euler:dt=1", 0.91),  # never a crawl
    ],
)
def test_steadys_pace_divides_the_step_over_refining(
    backend: JaxBackend, checks: int, text: str, pace: float
) -> None:
    controller = SteadyController(explore=0.25, hold=0.75, every=1)
    probe = turned(sign_probe(backend, 3.0))
    probe.iteration, probe.iterations = checks, 2 * checks
    state, check = controller.check(ControlState(Solver.parse(text)), probe)
    assert check.action == "shrink"
    assert state.solver.dt == pytest.approx(pace)


def test_steady_holds_unless_the_violation_is_clear(backend: JaxBackend) -> None:
    """Three quarters are lost: above 20 %, not above five times that."""
    x = np.linspace(-1.0, 1.0, 40, dtype=np.float32)[:, None]
    labels = (x[:, 0] < 0).astype(np.int32)
    labels[::4] = 1 - labels[::4]
    controller = SteadyController(allowed=0.2)
    for iteration, action in ((40, "shrink"), (60, "hold")):
        probe = sign_probe(backend, 3.0, iteration=iteration)
        probe.pool_labels = labels
        _, check = controller.check(ControlState(EULER), probe)
        assert check.statistic == 0.75
        assert check.action == action


def test_steady_marks_what_the_finer_solver_answers_best(backend: JaxBackend) -> None:
    controller = SteadyController(explore=0.1, hold=0.2)
    state = ControlState(EULER)
    marks = []
    for right in (30, 20, 30, 40, 39):
        probe = sign_probe(backend, 1.0)
        probe.pool_labels = np.where(np.arange(40) < right, probe.pool_labels, 5)
        state, check = controller.check(state, probe)
        assert check.test_accuracy == right / 40
        marks.append(check.best)
        state = replace(state, memory={**state.memory, "waiting": False})
    assert marks == [True, False, True, True, False]


def test_steady_sums_small_samples_up(backend: JaxBackend) -> None:
    """Three samples a check cannot tell a share of 40 % by themselves; several checks can."""
    controller = SteadyController(samples=3, allowed=0.4, explore=0.1)
    state = controller.start(EULER, sign_probe(backend, 3.0))[0]
    actions = []
    for iteration in range(30, 34):
        probe = turned(sign_probe(backend, 3.0, iteration=iteration))
        state, check = controller.check(state, probe)
        actions.append(check.action)
    assert actions[:2] == ["hold", "shrink"]


def test_steady_tightens_at_the_end_and_says_so(backend: JaxBackend) -> None:
    controller = SteadyController(margin=0.2)
    probe = sign_probe(backend, 3.0)
    probe.held_labels = 1 - probe.held_labels
    found = controller.validate(ControlState(EULER), probe)
    # h = 1 turns signs, which the labels call right; at h = 1/2 nothing is lost any more.
    assert found is not None
    assert found.passed
    assert (found.solver.dt, found.lost, found.samples) == (0.5, 0, 40)
    assert found.bound == pytest.approx(upper_bound(0, 40, 0.05 / 4))
    assert "tightened" in found.text
    assert found.text.startswith("passed")
    assert found.nf == probe.nf > 0


def test_steady_does_not_promise_what_it_cannot(backend: JaxBackend) -> None:
    found = SteadyController(margin=0.01).validate(ControlState(EULER), sign_probe(backend, 1.0))
    assert found is not None
    assert not found.passed  # nothing lost, but 40 samples cannot show 1 %
    assert found.lost == 0
    assert found.text.startswith("NOT passed")


def test_steady_says_at_once_that_so_few_samples_cannot_pass() -> None:
    """A margin of 3 % with 95 % confidence takes 122 held-out samples, a fifth of 610."""
    model = Model(ConvField1d(2, channels=8), classes=2)
    few, enough = (concentric_spheres(2, n_train=n, n_test=4) for n in (604, 612))
    adapted = Recipe(EULER, iterations=10, batch_size=32, controller=SteadyController())
    with pytest.raises(DataError, match=r"held-out samples = 121: expected 122.*Take 610 training"):
        train(model, few, adapted)
    assert adaptation_of(adapted, enough, get_backend("jax")).held_out.size == 122


def test_steady_does_not_halve_where_no_attempt_can_pass(backend: JaxBackend) -> None:
    probe = sign_probe(backend, 3.0)
    probe.held_labels = 1 - probe.held_labels
    # 40 samples can pass at a margin of 9 % once, and not with half the chance of being wrong.
    found = SteadyController(margin=0.09).validate(ControlState(EULER), probe)
    assert found is not None
    assert (found.passed, found.solver) == (False, EULER)


def test_a_memory_that_is_no_memory_is_refused(backend: JaxBackend) -> None:
    probe = sign_probe(backend, 1.0, iteration=45)
    for memory in ({"lost": 1}, {"lost": "1", "seen": 0, "best": 0.0, "waiting": False}, {"x": 1}):
        with pytest.raises(InvalidValueError, match=r"control\.memory"):
            SteadyController().check(ControlState(EULER, memory), probe)


# In training

CONTROLLERS = {
    "paper": PaperController(every=10),
    "text": PaperController(rule="text", every=10, first="given"),
    "steady": SteadyController(every=10, samples=40, explore=0.2, allowed=0.001, margin=0.5),
}


def recipe(name: str, solver: Solver = EULER, iterations: int = 60) -> Recipe:
    return Recipe(
        solver,
        iterations=iterations,
        batch_size=32,
        optimizer=Adam(1e-2),
        controller=CONTROLLERS[name],
    )


@pytest.fixture(scope="module")
def data() -> Dataset:
    return concentric_spheres(2, n_train=160, n_test=40, seed=3)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(ConvField1d(2, channels=8), classes=2)


def equal(a: Trained, b: Trained) -> bool:
    return (
        all(np.array_equal(a.weights[name], b.weights[name]) for name in a.weights)
        and all(np.array_equal(a.state.nu[name], b.state.nu[name]) for name in a.weights)
        and np.array_equal(a.history.step, b.history.step)
        and a.control == b.control
        and a.validation == b.validation
        and json.dumps([str(c) for c in a.history.checks])
        == json.dumps([str(c) for c in b.history.checks])
    )


@pytest.mark.parametrize("name", CONTROLLERS)
def test_killed_and_resumed_equals_uninterrupted(
    model: Model, data: Dataset, backend: JaxBackend, tmp_path: Path, name: str
) -> None:
    whole = train(model, data, recipe(name), backend=backend)
    assert len(whole.history) == 60
    path = tmp_path / "checkpoint.safetensors"

    def kill(trained: Trained) -> None:
        save_checkpoint(path, trained)
        if trained.state.iteration == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, data, recipe(name), backend=backend, on_chunk=kill)
    kept = load_checkpoint(path, model, recipe(name))
    assert kept.state.iteration == 30
    resumed = train(model, data, recipe(name), backend=backend, resume=kept)
    assert equal(whole, resumed)
    save_checkpoint(path, resumed)
    assert equal(whole, load_checkpoint(path, model, recipe(name)))


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_evaluation_is_counted_and_checks_apart(
    model: Model, data: Dataset, name: str
) -> None:
    class Counting(JaxBackend):
        """The backend, adding up what its solves report."""

        evaluations = 0
        trainings = 0

        def evaluate(self, *args: Any, **kwargs: Any) -> Any:
            result = super().evaluate(*args, **kwargs)
            self.evaluations += result.stats.nf
            return result

        def rhs(self, *args: Any, **kwargs: Any) -> Any:
            self.evaluations += 1
            return super().rhs(*args, **kwargs)

        def train(self, *args: Any, **kwargs: Any) -> ChunkResult:
            result = super().train(*args, **kwargs)
            self.trainings += int(result.nf.sum())
            return result

    counting = Counting("cpu")
    trained = train(model, data, recipe(name), backend=counting)
    validation = trained.validation.nf if trained.validation else 0
    assert trained.history.training_nf == counting.trainings > 0
    assert trained.history.check_nf + validation == counting.evaluations > 0


@pytest.mark.parametrize("name", CONTROLLERS)
def test_history_holds_the_steps_in_force(
    model: Model, data: Dataset, backend: JaxBackend, name: str
) -> None:
    trained = train(model, data, recipe(name), backend=backend)
    checks = trained.history.checks
    assert [check.iteration for check in checks] == [0, 10, 20, 30, 40, 50]
    for number, check in enumerate(checks):
        step = trained.history.step[10 * number : 10 * number + 10]
        assert (step == check.chosen.dt).all()
    assert trained.control is not None
    marked = [check.solver.dt for check in checks if check.best]
    assert trained.control.solver.dt == (marked[-1] if marked else trained.history.step[-1])
    assert (trained.history.nf == np.ceil(1 / trained.history.step - 1e-6)).all()
    in_force = trained.validation.solver if trained.validation else trained.control.solver
    assert trained.solver == in_force


def test_a_new_step_compiles_nothing(model: Model, data: Dataset, backend: JaxBackend) -> None:
    compiled: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    first = train(model, data, recipe("paper"), backend=backend)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x + 1)(np.ones(3)).block_until_ready()
        assert compiled  # the event is still called that
        compiled.clear()
        again = train(model, data, replace(recipe("paper"), seed=1), backend=backend)
    finally:
        jax.monitoring.clear_event_listeners()
    assert len(set(first.history.step.tolist()) ^ set(again.history.step.tolist())) > 3
    assert not compiled


def test_the_best_marked_weights_are_returned(
    model: Model, data: Dataset, backend: JaxBackend
) -> None:
    seen: dict[int, Trained] = {}
    trained = train(
        model,
        data,
        recipe("steady"),
        backend=backend,
        on_chunk=lambda t: seen.setdefault(t.state.iteration, t) and None,
    )
    best = [check for check in trained.history.checks if check.best][-1]
    assert best.iteration < 60
    for name, value in trained.weights.items():
        assert np.array_equal(value, seen[best.iteration].state.weights[name])
    # The finer solver's accuracy on the samples of that check is what the returned weights have.
    assert best.test_solver is not None
    assert best.test_accuracy == max(check.test_accuracy for check in trained.history.checks[2:])
    assert trained.best_weights is None


def test_held_out_samples_are_never_trained_on(model: Model, data: Dataset) -> None:
    class Watching(JaxBackend):
        """The backend, noting which samples it is given."""

        seen: set[int] = set()  # noqa: RUF012
        validated: set[bytes] = set()  # noqa: RUF012

        def train(self, *args: Any, **kwargs: Any) -> ChunkResult:
            self.seen.update(kwargs["batches"].ravel().tolist())
            return super().train(*args, **kwargs)

        def evaluate(self, model: Any, weights: Any, x: Any, solver: Solver) -> Any:
            if solver.name == "Tsit5":
                self.validated.update(row.tobytes() for row in x.astype(np.float32))
            return super().evaluate(model, weights, x, solver)

    watching = Watching("cpu")
    train(model, data, recipe("steady"), backend=watching)
    trained_on = {data.x_train[i].tobytes() for i in watching.seen}
    assert len(watching.validated) == 32  # a fifth of 160
    assert len(trained_on) == 128
    assert not trained_on & watching.validated


def test_batches_that_no_longer_fit_are_refused(model: Model, data: Dataset) -> None:
    with pytest.raises(DataError, match=r"at most 128: .*holds out 32"):
        train(model, data, replace(recipe("steady"), batch_size=140))


@pytest.mark.parametrize("name", ["paper", "steady"])
@pytest.mark.parametrize("solver", ["DP5:tol=1e-2", "Fehlberg21:tol=1e-2", "RK4:dt=1/2"])
def test_tolerances_and_rk4_adapt(
    model: Model, data: Dataset, backend: JaxBackend, name: str, solver: str
) -> None:
    trained = train(model, data, recipe(name, Solver.parse(solver), 30), backend=backend)
    assert trained.finished
    assert trained.history.check_nf > 0
    assert all(np.isfinite(check.accuracy) for check in trained.history.checks[1:])


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), iteration=st.integers(0, 10_000))
def test_a_checks_samples_depend_on_seed_and_iteration_alone(seed: int, iteration: int) -> None:
    x = np.arange(20, dtype=np.float32)[:, None]
    part = (x, np.zeros(20, np.int32))

    def draw() -> np.ndarray:
        probe = Probe(
            JaxBackend("cpu"),
            SIGN,
            {},
            seed=seed,
            iteration=iteration,
            iterations=1,
            batch=part,
            pool=part,
            held=part,
        )
        return probe.sample(7)[0]

    assert np.array_equal(draw(), draw())
    assert len(set(draw().ravel().tolist())) == 7
