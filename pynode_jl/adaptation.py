"""The former name of `pynode_jl.training.step_adaptation`; programs that use it go on running."""

from pynode_jl.training.step_adaptation import *  # noqa: F403
from pynode_jl.training.step_adaptation import StepAdapter as Controller  # noqa: F401
