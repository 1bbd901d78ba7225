"""Reports, matrices, certificates: what is written is read, and what was not written is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pynode_jl as pn
from pynode_jl.backends import Backend
from pynode_jl.diagnostics import DIAGNOSTICS, SwapMatrix
from pynode_jl.errors import InputError, InvalidValueError


@pytest.fixture(scope="module")
def certificate(backend: Backend) -> pn.Certificate:
    """Of a regression whose coarse solve overflows: its numbers are not all finite."""
    weights = {
        "field.layers.0.weight": np.array([[-3.0]]),
        "field.layers.0.bias": np.zeros(1),
        "head.weight": np.ones((1, 1)),
        "head.bias": np.zeros(1),
    }
    model = pn.Model(pn.LinearField(1), task="regression")
    trained = pn.TrainedModel(model, weights, pn.Solver("Euler", dt=1.0))
    x = np.linspace(-1, 1, 50)[:, None]
    data = pn.Dataset.from_arrays(x, -2 * x, task="regression", x_test=x, y_test=-2 * x)
    chosen = [each for each in DIAGNOSTICS if each.name in ("folds", "order")]
    return pn.certify(trained, data, diagnostics=chosen, backend=backend)


def test_a_report_is_read_as_it_was_written(certificate: pn.Certificate, tmp_path: Path) -> None:
    report = certificate.swap
    table = report.table.assign(shift=np.where(np.arange(len(report.table)) == 1, np.inf, 0.5))
    report = pn.SwapReport(
        table, report.trained, float("nan"), report.chance, report.verdict, cost=report.cost
    )
    report.save(tmp_path / "report.json")
    json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    (tmp_path / "report.json").rename(tmp_path / "renamed.json")
    read = pn.SwapReport.load(tmp_path / "renamed.json")
    pd.testing.assert_frame_equal(read.table, report.table)
    assert read.verdict == report.verdict
    assert read.cost == report.cost
    assert np.isnan(read.ode)
    assert read.plot("steps").axes


def test_a_matrix_is_read_as_it_was_written(certificate: pn.Certificate, tmp_path: Path) -> None:
    table = pd.DataFrame({"train_solver": ["Euler h=1"], "own": [True], "score": [np.nan]})
    trained = pd.DataFrame({"train_solver": ["Euler h=1"], "seeds": [1], "as trained": [np.inf]})
    matrix = SwapMatrix(table, trained, 0.5, certificate.swap)
    matrix.save(tmp_path / "matrix.json")
    read = SwapMatrix.load(tmp_path / "matrix.json")
    pd.testing.assert_frame_equal(read.table, table)
    pd.testing.assert_frame_equal(read.trained, trained)
    assert read.report is not None
    assert (read.seconds, read.report.verdict) == (0.5, certificate.verdict)


def test_a_certificate_is_read_as_it_was_written(
    certificate: pn.Certificate, tmp_path: Path
) -> None:
    certificate.save(tmp_path / "one.json")
    read = pn.Certificate.load(tmp_path / "one.json")
    assert read.to_dict() == certificate.to_dict()
    assert read.text == certificate.text
    assert [each.clause for each in read.findings] == [each.clause for each in certificate.findings]
    assert read.swap.plot().axes
    with pytest.raises(InvalidValueError, match=r"swap\.plot"):
        read.plot()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "{", '{"file": "pynode_jl SwapReport 1"}', '{"file": 3, "table": {}}', "\0"],
)
@pytest.mark.parametrize("kind", [pn.SwapReport, pn.Certificate, SwapMatrix])
def test_other_files_are_refused(kind: Any, content: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(InputError):
        kind.load(tmp_path / "file.json")
    with pytest.raises(InputError):
        kind.load(tmp_path / "none.json")
