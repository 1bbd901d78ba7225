"""A certificate for a model of one's own: a JAX function, weights from anywhere. Half a minute."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

import pynode_jl as pn


def slope(weights, t, y):
    """A pendulum with friction; y is (batch, 2): angle and speed."""
    angle, speed = y[:, 0], y[:, 1]
    return jnp.stack([speed, -weights["pull"] * jnp.sin(angle) - 0.2 * speed], axis=1)


random = np.random.default_rng(0)
x = random.uniform(-2, 2, size=(400, 2)).astype(np.float32)
labels = (x @ np.array([0.3, 1.0]) > 0).astype(int)
data = pn.Dataset.from_arrays(x, labels, seed=0, name="pendulum")

pull = np.float32(1.0)
field = pn.FunctionField(slope, (2,), (("pull", pull),))
model = pn.Model(field, classes=2)
head = np.array([[0.0, 0.0], [1.0, 1.0]], np.float32)
weights = pn.ModelWeights({"pull": pull}, head, np.zeros(2, np.float32)).to_dict()

# Weights that were found elsewhere, with this solver; the certificate says what they rest on.
trained = pn.TrainedModel(model, weights, pn.Solver("Midpoint", dt=1 / 8))
certificate = pn.certify(trained, data)
page = pn.write_certificate(certificate, Path("runs/pendulum"), trained=trained, dataset=data)
print(certificate.text)
for each in certificate.findings:
    print(f"{each.name} ({each.outcome}): {each.text}")
print(page)
