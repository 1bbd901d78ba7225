"""Data sets: functions that return a `Dataset`, seeded where chance has a part, and their table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType

from pynode_jl._validation import choice, text
from pynode_jl.datasets._annuli import annuli as annuli
from pynode_jl.datasets._cifar10 import cifar10 as cifar10
from pynode_jl.datasets._circles import circles as circles
from pynode_jl.datasets._columns import csv_columns as csv_columns
from pynode_jl.datasets._dataset import Dataset as Dataset
from pynode_jl.datasets._diabetes import diabetes as diabetes
from pynode_jl.datasets._digits import digits as digits
from pynode_jl.datasets._labels import checked_names as checked_names
from pynode_jl.datasets._mnist import mnist as mnist
from pynode_jl.datasets._moons import moons as moons
from pynode_jl.datasets._normalization import NORMALIZATIONS
from pynode_jl.datasets._normalization import Normalization as Normalization
from pynode_jl.datasets._npz import arrays as arrays
from pynode_jl.datasets._sine import sine as sine
from pynode_jl.datasets._spheres import concentric_spheres as concentric_spheres
from pynode_jl.datasets._spirals import spirals as spirals
from pynode_jl.datasets._systems import lorenz63 as lorenz63
from pynode_jl.datasets._systems import lotka_volterra as lotka_volterra
from pynode_jl.datasets._systems import pendulum as pendulum
from pynode_jl.datasets._systems import spiral as spiral
from pynode_jl.datasets._systems import van_der_pol as van_der_pol
from pynode_jl.datasets._three_minima import three_minima as three_minima
from pynode_jl.errors import InvalidValueError, UnknownNameError, nearest_names

__all__ = [
    "DATASETS",
    "NORMALIZATIONS",
    "Dataset",
    "Normalization",
    "annuli",
    "arrays",
    "checked_names",
    "cifar10",
    "circles",
    "concentric_spheres",
    "csv_columns",
    "diabetes",
    "digits",
    "load",
    "lorenz63",
    "lotka_volterra",
    "mnist",
    "moons",
    "pendulum",
    "sine",
    "spiral",
    "spirals",
    "takes_seed",
    "three_minima",
    "van_der_pol",
]

#: Every data set that a configuration can name. A new one is one row here.
DATASETS: Mapping[str, Callable[..., Dataset]] = MappingProxyType(
    {
        "spheres": concentric_spheres,
        "three_minima": three_minima,
        "moons": moons,
        "circles": circles,
        "spirals": spirals,
        "annuli": annuli,
        "sine": sine,
        "diabetes": diabetes,
        "lotka_volterra": lotka_volterra,
        "spiral": spiral,
        "pendulum": pendulum,
        "lorenz63": lorenz63,
        "van_der_pol": van_der_pol,
        "digits": digits,
        "mnist": mnist,
        "cifar10": cifar10,
        "arrays": arrays,
        "csv": Dataset.from_csv,
    }
)


def load(name: str, *, normalize: str | None = None, **options: object) -> Dataset:
    """Return the data set `name` of `DATASETS`, built with the options of its function.

    Args:
        name: a name of `DATASETS`.
        normalize: "standard" or "minmax": as `Dataset.normalized`; None for no normalisation.
        options: those of its function.

    Raises:
        UnknownNameError: no data set has that name.
        InvalidValueError: an option that this data set does not have, lacks, or does not allow.
        DataError: the data themselves cannot be used.

    Example:
        >>> from pynode_jl.datasets import load
        >>> load("spheres", n_train=40, n_test=20).x_test.shape
        (20, 2)
    """
    if text("name", name, 'Use "spheres", say.') not in DATASETS:
        raise UnknownNameError("data set", name, DATASETS)
    build = DATASETS[name]
    parameters = inspect.signature(build).parameters
    listing = f"an option of data set {name!r}: {', '.join([*parameters, 'normalize'])}"
    for option, value in options.items():
        if option not in parameters:
            near = nearest_names(option, [*parameters, "normalize"])
            hint = f"Did you mean {', '.join(near)}?" if near else "Leave it out."
            raise InvalidValueError(option, value, listing, hint)
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            expected = f"a value: data set {name!r} needs it"
            raise InvalidValueError(option, None, expected, f"Set {option}.")
    if normalize is not None:
        choice("normalize", normalize, NORMALIZATIONS)  # before the data are made
    data = build(**options)
    return data if normalize is None else data.normalized(normalize)


def takes_seed(name: str) -> bool:
    """Whether chance has a part in the data set `name` of `DATASETS`.

    Example:
        >>> from pynode_jl.datasets import takes_seed
        >>> takes_seed("spheres"), takes_seed("mnist")
        (True, False)
    """
    return "seed" in inspect.signature(DATASETS[name]).parameters
