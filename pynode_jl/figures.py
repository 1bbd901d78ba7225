"""The former name of `pynode_jl.reporting.figures`; programs that use it go on running."""

from pynode_jl.reporting.figures import *  # noqa: F403
