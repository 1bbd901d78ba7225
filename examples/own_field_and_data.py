"""Your own arrays and your own vector field, written in jax.numpy.

The field is a damped pendulum whose damping and frequency are learned; the label says whether the
pendulum points left after three seconds.
"""

import jax.numpy as jnp
import numpy as np

import pynode_jl as pn


def pendulum(weights, t, y):
    angle, speed = y[:, 0], y[:, 1]
    pull = -(weights["frequency"] ** 2) * jnp.sin(angle) - weights["damping"] * speed
    return jnp.stack([speed, pull], axis=1)


field = pn.FunctionField(
    pendulum,
    state_shape=(2,),
    initial=(("frequency", np.float32(1.7)), ("damping", np.float32(0.1))),
)
model = pn.Model(field, classes=2, t0=0.0, t1=3.0)

# The truth that made the labels, solved by the same backend.
random = np.random.default_rng(0)
y0 = random.uniform(-2, 2, (1200, 2)).astype(np.float32)
truth = {"frequency": np.float32(2.0), "damping": np.float32(0.3)}
end = pn.get_backend().solve(field, truth, y0, (0.0, 3.0), pn.Solver("Tsit5", rtol=1e-6)).y1
data = pn.Dataset.from_arrays(y0, (end[:, 0] < 0).astype(int), name="pendulum")

recipe = pn.Recipe(pn.Solver("RK4", dt=1 / 8), iterations=3000, optimizer=pn.Adam(1e-2))
trained = pn.train(model, data, recipe)
learned = {name: float(trained.field_weights[name]) for name in truth}
print(f"learned {learned}")
print(pn.swap(trained, data, ["RK4", "Vern7", "KenCarp4", "Tsit5:tol=1e-6"]).verdict.text)
