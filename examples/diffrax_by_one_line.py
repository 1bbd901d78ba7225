"""A diffrax program with one line changed: any explicit solver of the catalogue steps in it."""

import diffrax
import jax.numpy as jnp

from pynode_jl.jax import diffrax_solver

solver = diffrax_solver("Vern7")  # was: solver = diffrax.Tsit5()
solution = diffrax.diffeqsolve(
    diffrax.ODETerm(lambda t, y, args: jnp.stack([y[1], -jnp.sin(y[0])])),
    solver,
    t0=0.0,
    t1=10.0,
    dt0=0.1,
    y0=jnp.array([1.0, 0.0]),
    stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
)
print(f"the pendulum after ten seconds: {solution.ys[-1]}, in {solution.stats['num_steps']} steps")
