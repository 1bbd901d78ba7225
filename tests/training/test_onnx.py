"""Exported fields and heads: onnxruntime computes what torch and JAX do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynode_jl as pn
from pynode_jl.backends import Backend
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import ACTIVATIONS, FunctionField

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
T0 = 0.25


def run(path: Path, **inputs: Any) -> Any:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.asarray(each) for name, each in inputs.items()})[0]


MODELS = {
    **{f"MLP, {name}": lambda name=name: pn.Model(
        pn.MLP(3, width=5, activation=name, time_dependent=True), classes=3, augment=1
    ) for name in ACTIVATIONS},
    "conv 1d": lambda: pn.Model(pn.ConvField1d(4, channels=3, time_dependent=True), classes=2),
    "conv 2d": lambda: pn.Model(
        pn.ConvField2d((2, 4, 5), channels=3, time_dependent=True), task=pn.Regression(2)
    ),
    "one logit": lambda: pn.Model(pn.LinearField(2), task=pn.Classification(2, one_logit=True)),
    "no head": lambda: pn.Model(pn.MLP(3, width=4), task=pn.Trajectory((0.5, 1.0)), augment=1),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_field_and_head_are_those_of_the_model(name: str, tmp_path: Path) -> None:
    """Against torch's modules of the same model."""
    torch = pytest.importorskip("torch")
    from pynode_jl.torch import from_trained

    model = MODELS[name]()
    random = np.random.default_rng(0)
    weights = {
        key: random.normal(size=shape, scale=0.7).astype("f")
        for key, shape in model.weight_shapes().items()
    }
    trained = pn.TrainedModel(model, weights, "Euler:dt=1")
    field_file, head_file = trained.to_onnx(tmp_path)
    y = random.normal(size=(6, *model.field.state_shape)).astype("f")
    found = run(field_file, t=np.float32(T0), y=y)
    expected = from_trained(trained).field(torch.tensor(T0), torch.tensor(y)).numpy(force=True)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())
    field_weights = pn.ModelWeights.from_dict(weights)
    outputs = run(head_file, y=y)
    read = model.logits(y, field_weights)
    np.testing.assert_allclose(outputs, read, atol=2e-5 * np.abs(read).max())


def test_a_model_is_solved_by_a_runtime(backend: Backend, tmp_path: Path) -> None:
    """Steps of one's own between the two files give the model's probabilities, in float64 too."""
    model = pn.Model(pn.MLP(2, width=8), classes=2)
    weights = {name: each.astype("d") for name, each in model.init(0).items()}
    trained = pn.TrainedModel(model, weights, "Euler:dt=1/4", "float64")
    field_file, head_file = trained.to_onnx(tmp_path / "model")
    x = y = np.random.default_rng(0).normal(size=(7, 2))
    for t in (0.0, 0.25, 0.5, 0.75):
        y = y + 0.25 * run(field_file, t=np.float64(t), y=y)
    logits = run(head_file, y=y)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, trained.predict_proba(x, backend=backend), atol=1e-12)


def test_a_density_has_a_field_alone_and_functions_are_refused(tmp_path: Path) -> None:
    flow = pn.Model(pn.MLP(2, width=4), task="density")
    (only,) = pn.TrainedModel(flow, flow.init(0), "Euler:dt=1").to_onnx(tmp_path)
    assert only.name == "field.onnx"
    own = pn.Model(FunctionField(lambda weights, t, y: -y, (1,)), classes=2)
    with pytest.raises(InvalidValueError, match=r"model\.field"):
        pn.TrainedModel(own, own.init(0), "Euler:dt=1").to_onnx(tmp_path)
