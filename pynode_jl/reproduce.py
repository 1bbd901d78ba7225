"""The former name of `pynode_jl.paper`; programs that use it go on running."""

from pynode_jl.paper import *  # noqa: F403
