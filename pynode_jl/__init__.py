"""pynode_jl: is a trained Neural ODE an ODE, or a ResNet tied to the solver it was trained with?

Train with one solver, swap in others, see what breaks::

    import pynode_jl as pn

    data = pn.concentric_spheres(seed=0)
    model = pn.Model(pn.ConvField1d(2), classes=2)
    recipe = pn.Recipe(pn.Solver("Euler", dt=1 / 2), iterations=4000, optimizer=pn.Adam(1e-3))
    trained = pn.train(model, data, recipe)
    print(pn.swap(trained, data).verdict.text)

Names are imported on first use, so that importing the package costs no JAX.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from pynode_jl._display import provide
from pynode_jl._version import __version__ as __version__
from pynode_jl.errors import nearest_names

if TYPE_CHECKING:
    from pynode_jl.backends import SGD as SGD
    from pynode_jl.backends import Adam as Adam
    from pynode_jl.backends import Backend as Backend
    from pynode_jl.backends import RetCode as RetCode
    from pynode_jl.backends import RMSprop as RMSprop
    from pynode_jl.backends import Solution as Solution
    from pynode_jl.backends import Stats as Stats
    from pynode_jl.backends import get_backend as get_backend
    from pynode_jl.datasets import Dataset as Dataset
    from pynode_jl.datasets import annuli as annuli
    from pynode_jl.datasets import cifar10 as cifar10
    from pynode_jl.datasets import circles as circles
    from pynode_jl.datasets import concentric_spheres as concentric_spheres
    from pynode_jl.datasets import diabetes as diabetes
    from pynode_jl.datasets import digits as digits
    from pynode_jl.datasets import lorenz63 as lorenz63
    from pynode_jl.datasets import lotka_volterra as lotka_volterra
    from pynode_jl.datasets import mnist as mnist
    from pynode_jl.datasets import moons as moons
    from pynode_jl.datasets import pendulum as pendulum
    from pynode_jl.datasets import sine as sine
    from pynode_jl.datasets import spiral as spiral
    from pynode_jl.datasets import spirals as spirals
    from pynode_jl.datasets import three_minima as three_minima
    from pynode_jl.datasets import van_der_pol as van_der_pol
    from pynode_jl.diagnostics import Certificate as Certificate
    from pynode_jl.diagnostics import SwapMatrix as SwapMatrix
    from pynode_jl.diagnostics import SwapReport as SwapReport
    from pynode_jl.diagnostics import Verdict as Verdict
    from pynode_jl.diagnostics import certify as certify
    from pynode_jl.diagnostics import critical as critical
    from pynode_jl.diagnostics import swap as swap
    from pynode_jl.diagnostics import swap_matrix as swap_matrix
    from pynode_jl.errors import PyNODEError as PyNODEError
    from pynode_jl.fields import MLP as MLP
    from pynode_jl.fields import ConvField1d as ConvField1d
    from pynode_jl.fields import ConvField2d as ConvField2d
    from pynode_jl.fields import FunctionField as FunctionField
    from pynode_jl.fields import LinearField as LinearField
    from pynode_jl.fields import VectorField as VectorField
    from pynode_jl.models import FunctionMap as FunctionMap
    from pynode_jl.models import Model as Model
    from pynode_jl.models import ModelWeights as ModelWeights
    from pynode_jl.models import learned_initial_states as learned_initial_states
    from pynode_jl.reporting.pages import write_certificate as write_certificate
    from pynode_jl.runs import Config as Config
    from pynode_jl.runs import Run as Run
    from pynode_jl.sklearn import NeuralODEClassifier as NeuralODEClassifier
    from pynode_jl.sklearn import NeuralODERegressor as NeuralODERegressor
    from pynode_jl.solvers import Adaptive as Adaptive
    from pynode_jl.solvers import FixedStep as FixedStep
    from pynode_jl.solvers import Solver as Solver
    from pynode_jl.solvers import Tableau as Tableau
    from pynode_jl.solvers import catalogue as catalogue
    from pynode_jl.sweeps import Sweep as Sweep
    from pynode_jl.sweeps import SweepStore as SweepStore
    from pynode_jl.sweeps import run_sweep as run_sweep
    from pynode_jl.tasks import Classification as Classification
    from pynode_jl.tasks import CustomTask as CustomTask
    from pynode_jl.tasks import Density as Density
    from pynode_jl.tasks import Regression as Regression
    from pynode_jl.tasks import Task as Task
    from pynode_jl.tasks import Trajectory as Trajectory
    from pynode_jl.training import Recipe as Recipe
    from pynode_jl.training import Trained as Trained
    from pynode_jl.training import TrainedModel as TrainedModel
    from pynode_jl.training import train as train
    from pynode_jl.training import train_many as train_many

# What notebooks show of objects is made up there; it is loaded when one is shown.
provide("pynode_jl.reporting.notebook")
# Who wants to read messages adds a handler: logging.basicConfig(level="INFO").
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "diagnostics": (
        "Certificate",
        "SwapMatrix",
        "SwapReport",
        "Verdict",
        "certify",
        "critical",
        "swap",
        "swap_matrix",
    ),
    "backends": (
        "Adam",
        "Backend",
        "RMSprop",
        "RetCode",
        "SGD",
        "Solution",
        "Stats",
        "get_backend",
    ),
    "datasets": (
        "Dataset",
        "annuli",
        "cifar10",
        "circles",
        "concentric_spheres",
        "diabetes",
        "digits",
        "lorenz63",
        "lotka_volterra",
        "mnist",
        "moons",
        "pendulum",
        "sine",
        "spiral",
        "spirals",
        "three_minima",
        "van_der_pol",
    ),
    "errors": ("PyNODEError",),
    "fields": ("MLP", "ConvField1d", "ConvField2d", "FunctionField", "LinearField", "VectorField"),
    "models": ("FunctionMap", "Model", "ModelWeights", "learned_initial_states"),
    "sklearn": ("NeuralODEClassifier", "NeuralODERegressor"),
    "solvers": ("Adaptive", "FixedStep", "Solver", "Tableau", "catalogue"),
    "reporting.pages": ("write_certificate",),
    "runs": ("Config", "Run"),
    "sweeps": ("Sweep", "SweepStore", "run_sweep"),
    "tasks": ("Classification", "CustomTask", "Density", "Regression", "Task", "Trajectory"),
    "training": ("Recipe", "Trained", "TrainedModel", "train", "train_many"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        near = ", ".join(nearest_names(name, __all__))
        meant = f"; did you mean {near}?" if near and not name.startswith("_") else ""
        raise AttributeError(f"module 'pynode_jl' has no attribute {name!r}{meant}")
    value = getattr(importlib.import_module(f"pynode_jl.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
