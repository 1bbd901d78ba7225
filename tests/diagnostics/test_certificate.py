"""Certificates: known models get the verdict that theory gives them; the page and JSON say it."""

from __future__ import annotations

import html
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner
from verdict_models import labelled, linear_model, normal

from pynode_jl.backends import get_backend
from pynode_jl.cli._app import app
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import (
    DIAGNOSTICS,
    Certificate,
    Context,
    Diagnostic,
    Finding,
    _certificate,
    _swap,
    certify,
    settled_from,
    swap,
)
from pynode_jl.errors import DataError, InvalidValueError, RunFolderError, SolveError
from pynode_jl.fields import FunctionField
from pynode_jl.models import Model
from pynode_jl.reporting.pages import write_certificate
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedModel

RANDOM = np.random.default_rng(0)


def halves(dim: int, reach: float = 1.0, tests: int = 300) -> Dataset:
    """Two classes: the sign of the first coordinate."""
    n = tests + 40
    x = RANDOM.uniform(0.2, reach, size=(n, dim)) * RANDOM.choice([-1, 1], (n, dim))
    labels = (x[:, 0] > 0).astype(int)
    return Dataset.from_arrays(
        x[:40].astype(np.float32),
        labels[:40],
        x_test=x[40:].astype(np.float32),
        y_test=labels[40:],
        name="halves",
    )


def decay(rates: list[float], solver: Solver, sign: float = 1.0) -> TrainedModel:
    """y_i' = -rates[i] y_i; class 1 where `sign` times the first coordinate is positive at t1."""
    head = [sign] + [0.0] * (len(rates) - 1)
    return linear_model(-np.diag(rates), head, solver)


def outcomes(certificate: Certificate) -> dict[str, str]:
    return {each.name: each.outcome for each in certificate.findings}


def found_by(certificate: Certificate, name: str) -> Finding:
    found = certificate.finding(name)
    assert found is not None
    return found


def test_an_ode_is_certified() -> None:
    found = certify(decay([1.0, 0.5], Solver("Euler", dt=1 / 16)), halves(2), samples=16)
    assert found.verdict.kind == "valid"
    assert found.weakened_by == ()
    assert found.text == found.verdict.text
    said = outcomes(found)
    assert tuple(said) == tuple(each.name for each in DIAGNOSTICS)
    assert said.pop("folds") == "inconclusive"  # no folds prove nothing
    assert set(said.values()) == {"supports"}
    assert found.settled == 1.0 / 2  # one step of h = 1 puts all on zero: answers are a tie
    _, scan = found_by(found, "folds").report
    assert scan.smallest == 1.0  # 1 - h lambda = 0


def test_every_diagnostic_contradicts_a_model_of_reversed_steps() -> None:
    # Euler with h lambda = 3 multiplies by -2: the mirrored answer is right, the ODE's is wrong.
    found = certify(decay([3.0], Solver("Euler", dt=1.0), sign=-1.0), halves(1), samples=16)
    assert found.verdict.kind == "tied"
    assert found.weakened_by == ()  # there is no valid verdict to weaken
    said = outcomes(found)
    for name in ("answers by step", "error share", "folds", "crossings"):
        assert said[name] == "contradicts"
    data = found_by(found, "error share").data
    # The margin 2 |x| in place of -|x| / e^3: its share of error is 1 + 1 / (2 e^3).
    assert data["median"] == pytest.approx(1 + np.exp(-3) / 2, rel=1e-3)
    assert data["all"]["count"] == data["all"]["total"] == 300
    assert data["all"]["high"] == 1.0
    assert found_by(found, "folds").data["count"] == 16
    assert found.swap.ode == 0.0


def test_what_is_valid_by_its_answers_but_folds_is_weakened(tmp_path: Path) -> None:
    # The answers rest on the first coordinate, which is quiet; the second is reversed at each
    # step, which no swap of the answers can show.
    found = certify(decay([0.1, 5.0], Solver("Euler", dt=1 / 4)), halves(2), samples=16)
    assert found.verdict.kind == found.swap.verdict.kind == "valid"
    assert found.weakened_by == ("folds", "crossings")
    assert found.text.startswith("valid by its answers; its trajectories fold (16 of 16 (")
    assert found.verdict.text in found.text
    page = write_certificate(found, tmp_path)
    values = json.loads((tmp_path / "certificate.json").read_text())
    assert values["verdict"]["kind"] == "valid"
    assert values["weakened by"] == ["folds", "crossings"]
    assert found.weakness in html.unescape(page.read_text())


def test_an_error_that_only_shrinks_the_margin_does_not_contradict() -> None:
    # (1 + 10 / 4)^4 = 150 where the flow has e^10 = 22026: the margin is 147 times too small.
    found = certify(decay([-10.0], Solver("Euler", dt=1 / 4)), halves(1), samples=8)
    assert found.verdict.kind == "valid"
    share = found_by(found, "error share")
    assert share.outcome == "supports"
    assert share.data["median"] == pytest.approx(1 - np.exp(10) / 3.5**4, rel=1e-3)
    assert "shrinks" in share.text


def test_the_error_share_is_taken_from_the_whole_test_set() -> None:
    # The second coordinate stays at 0.1 or -0.1. The first is 0 after Euler's step, x / e under the
    # flow: of the margin 0.1 it is -x / e that is error, where the answer is 1.
    side = np.where(np.arange(400) % 2, 1.0, -1.0)
    first = side * np.where(np.arange(400) < 388, 0.01, -0.2)
    x = np.stack([first, 0.1 * side], axis=1)
    trained = linear_model(np.diag([-1.0, 0.0]), (1.0, 1.0), Solver("Euler", dt=1.0))
    data = labelled(x, (side > 0).astype(int))
    share = found_by(certify(trained, data, samples=2), "error share")
    exact = -side * first / np.e / 0.1
    assert share.data["median"] == pytest.approx(np.median(exact), rel=1e-3)
    assert share.data["half or more"]["count"] == np.sum(exact >= 0.5) == 12
    assert share.data["all"]["count"] == 0
    assert share.outcome == "inconclusive"  # 12 of 400 are 3 %, 1.6 to 5.2


@pytest.mark.slow
@pytest.mark.parametrize("rate", [pytest.param(60.0, marks=pytest.mark.long), 1e4])
def test_a_stiff_field_is_looked_at_in_seconds_and_without_odd_numbers(rate: float) -> None:
    trained = linear_model(np.diag([-rate, 1.0]), (0.3, 1.0), Solver("ImplicitEuler", dt=1 / 8))
    x = normal(300, 2)
    began = time.perf_counter()
    found = certify(trained, labelled(x, (x[:, 1] > 0).astype(int)), samples=16)
    assert time.perf_counter() - began < 60
    assert found.verdict.kind == "valid"
    assert "contradicts" not in outcomes(found).values()
    transport = found_by(found, "error transport")
    assert transport.outcome == "supports"
    assert transport.data["gap"] < 0.01
    assert transport.data["method"].startswith("KenCarp5")
    # 1 - h = 0 at h = 1: that solve fails, is named, and is no accuracy of 0.
    table = found_by(found, "answers by step").report
    assert table["accuracy"].isna().tolist() == [True] + [False] * 9
    assert "Solves failed at ImplicitEuler h=1." in found_by(found, "answers by step").text


def test_errors_that_rest_on_large_steps_are_not_said_to_support() -> None:
    # Of a linear field the transport is exact at any step; the answers rest on the error.
    trained = decay([4.5], Solver("Euler", dt=1 / 3), sign=-1.0)  # h lambda = 1.5, three steps
    found = certify(trained, halves(1), samples=8)
    assert found.verdict.kind == "tied"
    transport = found_by(found, "error transport")
    assert transport.data["gap"] < 0.01
    assert transport.outcome == "inconclusive"


def test_few_samples_leave_diagnostics_inconclusive() -> None:
    found = certify(decay([1.0], Solver("Euler", dt=1 / 16)), halves(1, tests=30), samples=8)
    assert found.verdict.kind == "undecided"
    assert found.settled is None
    said = outcomes(found)
    for name in ("answers by step", "error share", "crossings"):
        assert said[name] == "inconclusive"
    assert "0 of 30 answers (0.0 to 11.6%)" in found_by(found, "answers by step").text


@pytest.mark.parametrize(
    ("flips", "settled"),
    [
        ([0.5, 0.0, 0.0], 0.5),
        ([0.0, 0.0, 0.0], 1.0),
        ([0.0, 0.5, 0.0], 0.25),
        ([0.0, 0.0, 0.5], None),
        ([np.nan, 0.0, 0.0], 0.5),
        ([0.0, np.nan, 0.0], 0.25),
        ([0.5, 0.0, np.nan], 0.5),  # the finest is out of float32's reach
        ([np.nan, np.nan, np.nan], None),
    ],
)
def test_settled_is_the_largest_step_without_flips_below(
    flips: list[float], settled: float | None
) -> None:
    table = pd.DataFrame({"setting": [1.0, 0.5, 0.25], "flips": flips})
    assert settled_from(table.assign(flips_high=table["flips"] + 0.01), 0.03) == settled


def test_a_new_row_of_diagnostics_shows_up_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weigh(context: Context) -> Finding:
        n = len(context.dataset.x_test)
        return Finding("", "contradicts", f"It weighs {n} grams.", "", {"grams": n}, "it is heavy")

    toy = Diagnostic("weight", weigh, "Not its volume.")
    idle = Diagnostic("idle", weigh, "", lambda context: False, "a state of nine numbers")

    def broken(context: Context) -> Finding:
        raise SolveError("MaxIters", "too many steps")

    failing = Diagnostic("failing", broken, "")
    trained, stages = decay([1.0], Solver("Euler", dt=1 / 16)), list[str]()
    monkeypatch.setattr(_certificate, "DIAGNOSTICS", (toy, idle, failing))
    found = certify(trained, halves(1), on_stage=stages.append)
    assert stages == ["swaps", "weight", "idle", "failing"]
    assert outcomes(found) == {"weight": "contradicts", "idle": "not run", "failing": "not run"}
    assert "a state of nine numbers; here a state has 1" in found_by(found, "idle").text
    assert "too many steps" in found_by(found, "failing").text
    assert found.weakness == "valid by its answers; it is heavy."
    page = html.unescape(write_certificate(found, tmp_path).read_text())
    assert "It weighs 300 grams." in page
    assert "Not its volume." in page
    values = json.loads((tmp_path / "certificate.json").read_text())
    assert values["diagnostics"][0]["data"] == {"grams": 300}
    assert values["weakened by"] == ["weight"]
    alone = certify(trained, halves(1), diagnostics=[idle])
    assert outcomes(alone) == {"idle": "not run"}


def test_the_reference_is_solved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = _swap.reference_solve

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(_swap, "reference_solve", counted)
    trained = decay([1.0], Solver("Euler", dt=1 / 4))
    found = certify(trained, halves(1), samples=4)
    assert len(calls) == 1
    reference = found.swap.reference
    assert reference is not None
    assert found_by(found, "order").report.floor == reference.error


def test_the_order_is_looked_for_within_the_budget_of_steps() -> None:
    trained = decay([1.0], Solver("Euler", dt=1 / 4, max_steps=20))
    order = [each for each in DIAGNOSTICS if each.name == "order"]
    found = found_by(certify(trained, halves(1), samples=4, diagnostics=order), "order")
    assert found.outcome != "not run"
    assert found.data["steps"] == [1 / 4, 1 / 8, 1 / 16]


@pytest.mark.parametrize("kind", ["untrained", "overfitted", "non-finite"])
def test_diagnostics_are_not_run_on_what_has_not_learned(kind: str, tmp_path: Path) -> None:
    trained, data = decay([1.0, 0.5], Solver("Euler", dt=1 / 4)), halves(2)
    noise = np.random.default_rng(1).integers(0, 2, len(data.x_test))
    if kind == "non-finite":
        trained.weights["head.bias"][0] = np.nan
    else:
        train = data.y_train if kind == "overfitted" else noise[: len(data.y_train)]
        data = Dataset.from_arrays(data.x_train, train, x_test=data.x_test, y_test=noise)
    found = certify(trained, data, samples=4)
    assert found.verdict.kind == kind
    assert set(outcomes(found).values()) == {"not run"}
    assert len(found.findings) == len(DIAGNOSTICS)
    assert found.settled is None
    assert found.swap.reference is not None
    assert found.swap.reference.attempts == ()
    page = html.unescape(
        write_certificate(found, tmp_path, trained=trained, dataset=data).read_text()
    )
    assert found.findings[0].text in page
    assert json.loads((tmp_path / "certificate.json").read_text())["verdict"]["kind"] == kind


@pytest.mark.slow
def test_adaptive_training_solvers_are_looked_at_by_tolerance() -> None:
    trained = decay([1.0, 0.5], Solver("BS3", rtol=1e-3, atol=1e-3))
    found = certify(trained, halves(2), samples=8)
    assert found.verdict.kind == "valid"
    table = found_by(found, "answers by step").report
    assert table["setting"].is_monotonic_decreasing
    assert table["own"].sum() == 1
    assert table["flips"].notna().all()  # the tight ones are solved in float64
    assert found.settled == 0.1
    assert found_by(found, "order").report.solver.fixed


@pytest.mark.slow
def test_a_jax_function_of_ones_own() -> None:
    def slope(weights: Any, t: Any, y: Any) -> Any:
        return -weights["rate"] * jnp.tanh(y)

    field = FunctionField(slope, (2,), (("rate", np.ones(())),))
    model = Model(field, classes=2)
    weights = {"field.rate": np.ones(()), "head.weight": np.array([[0.0, 0], [1, 0]])}
    trained = TrainedModel(model, weights | {"head.bias": np.zeros(2)}, Solver("Heun", dt=1 / 8))
    found = certify(trained, halves(2), samples=8)
    assert found.verdict.kind == "valid"
    assert "FunctionField" in found.model


@pytest.mark.long
def test_states_too_large_for_jacobians_leave_diagnostics_out() -> None:
    dim = 1420  # a Jacobian of more numbers than are made at once
    trained = decay([0.5] * dim, Solver("Euler", dt=1 / 4))
    found = certify(trained, halves(dim, tests=200), samples=4)
    said = outcomes(found)
    assert said["folds"] == said["error transport"] == said["crossings"] == "not run"
    assert said["error share"] == "supports"  # it needs no Jacobians
    assert found.verdict.kind == "valid"
    assert "1420 numbers" in found_by(found, "folds").text


def test_a_report_from_a_file_has_no_reference_to_look_at() -> None:
    trained, data = decay([1.0], Solver("Euler", dt=1 / 4)), halves(1)
    report = swap(trained, data, ["RK4"], factors=[1.0])
    context = Context(trained, data, get_backend("jax"), replace(report, reference=None), 4)
    for diagnostic in DIAGNOSTICS:
        if diagnostic.reference:
            with pytest.raises(InvalidValueError, match="a report with its reference"):
                diagnostic(context)


def test_arguments_are_checked() -> None:
    trained = decay([1.0], Solver("Euler", dt=1 / 4))
    with pytest.raises(InvalidValueError, match="samples"):
        certify(trained, halves(1), samples=0)
    with pytest.raises(DataError, match="state_shape"):
        certify(trained, halves(2))


def test_json_and_page_say_what_was_found(tmp_path: Path) -> None:
    trained, data = decay([1.0, 0.5], Solver("Euler", dt=1 / 16)), halves(2)
    seen: list[str] = []
    found = certify(trained, data, samples=8, on_stage=seen.append)
    assert seen == ["swaps", *(each.name for each in DIAGNOSTICS)]
    page = write_certificate(found, tmp_path, trained=trained, dataset=data)
    values = json.loads((tmp_path / "certificate.json").read_text())
    assert values["verdict"]["kind"] == "valid"
    assert values["weakened by"] == []
    assert values["solver"] == {"name": "Euler", "dt": 1 / 16}
    assert [each["name"] for each in values["diagnostics"]] == seen[1:]
    assert len(values["swaps"]) == len(found.swap.table)
    assert values["settled"] == found.settled
    assert values["reference"]["nf"] > 0
    text = html.unescape(page.read_text())
    assert found.verdict.text in text
    # Nothing is fetched; the chart library names its schema.
    seen = re.sub("<script>.*?</script>", "", page.read_text(), flags=re.DOTALL)
    assert "http" not in seen.replace("http-equiv", "")
    for each in found.findings:
        assert each.text in text
        assert each.limits in text
        assert f">{each.outcome}<" in text
    assert "0 of 300 (0.0 to 1.2%)" in text  # flips with their interval
    assert "witness" not in text
    for name in ("evidence", "swaps", "trajectories", "regions"):
        assert (tmp_path / f"certificate-{name}.pdf").stat().st_size > 0


@pytest.mark.slow
def test_certify_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "sphere.toml").write_text(
        "[data]\nn_train = 100\nn_test = 40\n[field]\nchannels = 4\n[train]\n"
        'solver = "Euler:dt=1/2"\niterations = 5\nbatch_size = 50\n'
    )

    def invoke(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    invoke("train", tmp_path / "sphere.toml", "--out", tmp_path / "run")
    text = invoke("certify", tmp_path / "run", "--samples", 8)
    assert "untrained" in text  # five iterations are none
    assert "folds (not run)" in text
    assert (tmp_path / "run" / "certificate.html").exists()
    kind = json.loads((tmp_path / "run" / "certificate.json").read_text())["verdict"]["kind"]
    assert kind == "untrained"
    with pytest.raises(RunFolderError, match="nowhere"):
        invoke("certify", tmp_path / "nowhere")
