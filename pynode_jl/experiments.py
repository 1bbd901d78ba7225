"""The former name of `pynode_jl.runs` and `pynode_jl.reporting.pages`."""

from pynode_jl.reporting.pages import *  # noqa: F403
from pynode_jl.runs import *  # noqa: F403
