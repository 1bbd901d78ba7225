"""Certificates: known models get the verdict that theory gives them; the page and JSON say it."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from pynode_jl.analysis import Certificate, certify
from pynode_jl.cli._app import app
from pynode_jl.datasets import Dataset
from pynode_jl.errors import DataError, InvalidValueError, RunFolderError
from pynode_jl.experiments import write_certificate
from pynode_jl.fields import FunctionField, LinearField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained

RANDOM = np.random.default_rng(0)


def halves(dim: int, reach: float = 1.0) -> Dataset:
    """Two classes: the sign of the first coordinate."""
    x = RANDOM.uniform(0.2, reach, size=(80, dim)) * RANDOM.choice([-1, 1], (80, dim))
    labels = (x[:, 0] > 0).astype(int)
    return Dataset.from_arrays(
        x[:40].astype(np.float32),
        labels[:40],
        x_test=x[40:].astype(np.float32),
        y_test=labels[40:],
        name="halves",
    )


def decay(rates: list[float], solver: Solver, sign: float = 1.0) -> Trained:
    """y_i' = -rates[i] y_i; class 1 where `sign` times the first coordinate is positive at t1."""
    dim = len(rates)
    model = Model(LinearField(dim), classes=2)
    weights = model.init(0)
    weights["field.layers.0.weight"] = -np.diag(rates).astype(np.float32)
    weights["head.weight"] = np.zeros((2, dim), np.float32)
    weights["head.weight"][1, 0] = sign
    return Trained.of(model, weights, solver)


def speaking(certificate: Certificate) -> dict[str, str]:
    return {each.name: each.speaks for each in certificate.evidence}


def test_an_ode_is_certified() -> None:
    found = certify(decay([1.0, 0.5], Solver("Euler", dt=1 / 16)), halves(2), samples=16)
    assert found.verdict.kind == "valid"
    said = speaking(found)
    assert "against" not in said.values()
    assert said["swaps"] == said["order"] == said["error share"] == said["crossings"] == "for"
    assert said["folds"] == "neither"  # no folds prove nothing
    assert found.critical == 1.0 / 2  # one step of h = 1 puts all on zero: answers are a tie
    assert found.scan is not None
    assert found.scan.smallest == 1.0  # 1 - h lambda = 0


def test_a_model_of_reversed_steps_is_tied_by_every_witness() -> None:
    # Euler with h lambda = 3 multiplies by -2: the mirrored answer is right, the ODE's is wrong.
    found = certify(decay([3.0], Solver("Euler", dt=1.0), sign=-1.0), halves(1), samples=16)
    assert found.verdict.kind == "tied"
    said = speaking(found)
    assert [said[k] for k in ("swaps", "answers by step", "folds", "crossings")] == ["against"] * 4
    assert said["error share"] == "against"
    assert found.fan is not None
    assert found.fan.decided == 1.0
    assert found.swap.ode == 0.0
    assert found.crossing is not None
    assert found.crossing.share == 1.0


@pytest.mark.slow
def test_what_passes_its_swaps_but_folds_is_undecided() -> None:
    # The answers stand on the first coordinate, which is quiet; the second is reversed at each
    # step, which no swap of the answers can show.
    found = certify(decay([0.1, 5.0], Solver("Euler", dt=1 / 4)), halves(2), samples=16)
    assert found.swap.verdict.kind == "valid"
    assert found.verdict.kind == "undecided"
    assert "folds" in found.verdict.text
    assert "passes its swaps" in found.verdict.text


@pytest.mark.slow
def test_adaptive_training_solvers_are_asked_by_tolerance() -> None:
    trained = decay([1.0, 0.5], Solver("BS3", rtol=1e-3, atol=1e-3))
    found = certify(trained, halves(2), samples=8)
    assert found.verdict.kind == "valid"
    assert found.by_step["setting"].is_monotonic_decreasing
    assert found.by_step["own"].sum() == 1
    assert found.critical == 0.1
    assert found.order is not None
    assert found.order.solver.fixed


def test_a_jax_function_of_ones_own() -> None:
    def slope(weights: Any, t: Any, y: Any) -> Any:
        return -weights["rate"] * jnp.tanh(y)

    field = FunctionField(slope, (2,), (("rate", np.ones(())),))
    model = Model(field, classes=2)
    weights = {"field.rate": np.ones(()), "head.weight": np.array([[0.0, 0], [1, 0]])}
    trained = Trained.of(model, weights | {"head.bias": np.zeros(2)}, Solver("Heun", dt=1 / 8))
    found = certify(trained, halves(2), samples=8)
    assert found.verdict.kind == "valid"
    assert "FunctionField" in found.model


@pytest.mark.slow
def test_states_too_large_for_jacobians_leave_witnesses_silent() -> None:
    dim = 1500
    trained = decay([0.5] * dim, Solver("Euler", dt=1 / 4))
    found = certify(trained, halves(dim), samples=4)
    said = speaking(found)
    assert said["folds"] == said["error share"] == "silent"
    assert found.verdict.kind == "valid"
    assert "1500 numbers" in next(e.text for e in found.evidence if e.name == "folds")


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
    assert seen == ["swaps", "answers by step", "folds", "crossings", "order", "error share"]
    page = write_certificate(found, tmp_path, trained=trained, dataset=data)
    values = json.loads((tmp_path / "certificate.json").read_text())
    assert values["verdict"]["kind"] == "valid"
    assert values["solver"] == {"name": "Euler", "dt": 1 / 16}
    assert {e["name"] for e in values["evidence"]} == set(seen)
    assert len(values["swaps"]) == len(found.swap.table)
    assert values["order"]["holds from"] == found.order.holds_from() if found.order else False
    text = html.unescape(page.read_text())
    assert found.verdict.text in text
    assert "http" not in text.replace("http-equiv", "")  # nothing is fetched
    for each in found.evidence:
        assert each.limits.split(".")[0] in text
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
    assert "folds (" in text
    assert (tmp_path / "run" / "certificate.html").exists()
    kind = json.loads((tmp_path / "run" / "certificate.json").read_text())["verdict"]["kind"]
    assert kind == "untrained"
    with pytest.raises(RunFolderError, match="nowhere"):
        invoke("certify", tmp_path / "nowhere")
