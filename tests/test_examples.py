"""Every example runs as it stands, from another folder, and ends in what it is there to show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

#: What each prints at its end, among other things.
ENDS = {
    "certify_own_model": "certificate.html",
    "diffrax_by_one_line": "the pendulum after ten seconds: [-0.99",
    "own_field_and_data": "valid ODE",
    "swap_in_ten_lines": "tied to its solver",
    "tied_or_an_ode": "valid ODE: RMSE",
    "torch_training": "whole in a backend",
    "torchdiffeq_by_one_line": "KenCarp4 ends at",
}
#: What of an example is run here, where the whole takes minutes.
ARGUMENTS = {"tied_or_an_ode": ["regression"]}
# Julia's solvers are minutes of compilation; `benchmarks/` and the zoo's tests run them.
NEED_JULIA = {"zoo_swap"}


def test_they_are_all_here() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.py")} == set(ENDS) | NEED_JULIA


# Minutes on a cold machine.
LONG = {"tied_or_an_ode", "torch_training"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=getattr(pytest.mark, "long" if each in LONG else "slow"))
        for each in ENDS
    ],
)
def test_it_runs(name: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *ARGUMENTS.get(name, [])],
        cwd=tmp_path,
        env=os.environ | {"PYNODE_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ENDS[name] in ended.stdout
