"""The numerics of the JAX backend: one step, one forward loop, one trajectory, one reverse sweep.

::

    rk_step.py         one Runge-Kutta step, static or padded, and its reverse derivative
    newton.py          the implicit stage's solution
    trajectory.py      the accepted steps that are saved, and the policy by which
    segment.py         controls, a stepper, a segment between save times and its end
    adaptive.py        a segment at adaptive steps
    loop.py            the forward loop over segments, and a segment at fixed steps
    reverse.py         the reverse sweep: cotangents taken back through a saved trajectory
    differentiable.py  both joined: a solve with a reverse derivative

Training, `Backend.pullback`, torch's and JAX's front ends are uses of these.
"""
