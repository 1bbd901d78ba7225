"""Classification is trained as torch trains by its weighted and its one-logit losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pynode_jl as pn
from pynode_jl.backends import TrainState

RANDOM = np.random.default_rng(0)
X, LABELS = RANDOM.normal(size=(30, 2)), (RANDOM.random(30) < 0.2).astype(int)
BATCHES = RANDOM.integers(0, 30, (8, 10))
WEIGHTS = (1.0, 4.0)


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize(
    ("task", "loss"),
    [
        (
            pn.Classification(2, class_weights=WEIGHTS),
            torch.nn.CrossEntropyLoss(torch.tensor(WEIGHTS, dtype=torch.float64)),
        ),
        (
            pn.Classification(2, one_logit=True),
            lambda logits, y: torch.nn.BCEWithLogitsLoss()(logits[:, 0], y.double()),
        ),
        (
            pn.Classification(2, one_logit=True, class_weights=WEIGHTS),
            # torch weighs the positive samples alone, and divides by their number.
            lambda logits, y: (
                torch.nn.BCEWithLogitsLoss(
                    pos_weight=torch.tensor(WEIGHTS[1] / WEIGHTS[0]), reduction="sum"
                )(logits[:, 0], y.double())
                / torch.tensor(WEIGHTS, dtype=torch.float64)[y].sum()
            ),
        ),
    ],
    ids=["class weights", "one logit", "both"],
)
def test_training_by_the_losses_of_torch(task: pn.Classification, loss: Any, backend: str) -> None:
    model = pn.Model(pn.LinearField(2), task=task)
    start = TrainState.start({k: v.astype(np.float64) for k, v in model.init(0).items()})
    found = pn.get_backend(backend).train(
        model, start, X, LABELS, BATCHES, pn.Solver("Euler", dt=1.0), pn.Adam(0.05)
    )
    weights = {k: torch.tensor(v, requires_grad=True) for k, v in start.weights.items()}
    optimizer, losses = torch.optim.Adam(list(weights.values()), lr=0.05), []
    for batch in BATCHES:
        x, y = torch.from_numpy(X[batch]), torch.from_numpy(LABELS[batch])
        slope = x @ weights["field.layers.0.weight"].T + weights["field.layers.0.bias"]
        value = loss((x + slope) @ weights["head.weight"].T + weights["head.bias"], y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    np.testing.assert_allclose(found.loss, losses, rtol=1e-9)
    for name, weight in weights.items():
        np.testing.assert_allclose(
            found.state.weights[name], weight.detach().numpy(), rtol=1e-8, atol=1e-10
        )
