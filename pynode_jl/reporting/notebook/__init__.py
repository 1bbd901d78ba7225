"""What notebooks show: an object as HTML, and as a figure. Each class has its own function here.

`pynode_jl` names this module (`_display.provide`); objects find it when they are shown.
"""

from __future__ import annotations

from pynode_jl.reporting.notebook._figures import figure as figure
from pynode_jl.reporting.notebook._views import html as html

__all__ = ["figure", "html"]
