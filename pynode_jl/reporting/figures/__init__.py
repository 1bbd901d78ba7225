"""Figures: plain data in, a `matplotlib.figure.Figure` out. Nothing here solves or trains.

Every figure is made by matplotlib's object interface, so that no pyplot state, window or backend
of the caller's is touched, and in one style, whatever the caller's matplotlibrc says. `save` writes
one as PNG and PDF whose bytes depend on nothing but the figure.
"""

from __future__ import annotations

from pynode_jl.reporting.figures._accuracy_against_count import (
    accuracy_against_count as accuracy_against_count,
)
from pynode_jl.reporting.figures._accuracy_against_step import (
    accuracy_against_step as accuracy_against_step,
)
from pynode_jl.reporting.figures._adaptation_trace import adaptation_trace as adaptation_trace
from pynode_jl.reporting.figures._curve_fit import CurvePanel as CurvePanel
from pynode_jl.reporting.figures._curve_fit import curve_fit as curve_fit
from pynode_jl.reporting.figures._decision_regions import DecisionPanel as DecisionPanel
from pynode_jl.reporting.figures._decision_regions import decision_regions as decision_regions
from pynode_jl.reporting.figures._described import Description as Description
from pynode_jl.reporting.figures._described import described as described
from pynode_jl.reporting.figures._evidence import evidence as evidence
from pynode_jl.reporting.figures._evidence_description import MarginPanel as MarginPanel
from pynode_jl.reporting.figures._evidence_description import OrderPanel as OrderPanel
from pynode_jl.reporting.figures._fan_plot import EndsPanel as EndsPanel
from pynode_jl.reporting.figures._fan_plot import FanPanel as FanPanel
from pynode_jl.reporting.figures._fan_plot import windermere_fan as windermere_fan
from pynode_jl.reporting.figures._flip_intervals import flip_intervals as flip_intervals
from pynode_jl.reporting.figures._measure import Measure as Measure
from pynode_jl.reporting.figures._phase_portrait import PhasePanel as PhasePanel
from pynode_jl.reporting.figures._phase_portrait import phase_portrait as phase_portrait
from pynode_jl.reporting.figures._style import drawable as drawable
from pynode_jl.reporting.figures._style import png_bytes as png_bytes
from pynode_jl.reporting.figures._style import save as save
from pynode_jl.reporting.figures._swap_heatmap import swap_heatmap as swap_heatmap
from pynode_jl.reporting.figures._swap_matrix_plot import swap_matrix_heatmap as swap_matrix_heatmap
from pynode_jl.reporting.figures._training_history import training_history as training_history
from pynode_jl.reporting.figures._trajectories import TrajectoryPanel as TrajectoryPanel
from pynode_jl.reporting.figures._trajectories import trajectories as trajectories
from pynode_jl.reporting.figures._trajectory_fit import FitPanel as FitPanel
from pynode_jl.reporting.figures._trajectory_fit import trajectory_fit as trajectory_fit
from pynode_jl.reporting.figures._value_maps import MapPanel as MapPanel
from pynode_jl.reporting.figures._value_maps import value_maps as value_maps

__all__ = [
    "CurvePanel",
    "DecisionPanel",
    "Description",
    "EndsPanel",
    "FanPanel",
    "FitPanel",
    "MapPanel",
    "MarginPanel",
    "Measure",
    "OrderPanel",
    "PhasePanel",
    "TrajectoryPanel",
    "accuracy_against_count",
    "accuracy_against_step",
    "adaptation_trace",
    "curve_fit",
    "decision_regions",
    "described",
    "drawable",
    "evidence",
    "flip_intervals",
    "phase_portrait",
    "png_bytes",
    "save",
    "swap_heatmap",
    "swap_matrix_heatmap",
    "training_history",
    "trajectories",
    "trajectory_fit",
    "value_maps",
    "windermere_fan",
]
