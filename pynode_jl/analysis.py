"""The former name of `pynode_jl.diagnostics`; programs that use it go on running."""

from pynode_jl.backends.conformance import OrderRow as OrderRow
from pynode_jl.backends.conformance import measure_orders as measure_orders
from pynode_jl.diagnostics import *  # noqa: F403
