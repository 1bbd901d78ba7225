"""The former name of `pynode_jl.reporting.html`; programs that use it go on running."""

from pynode_jl.reporting.html import *  # noqa: F403
