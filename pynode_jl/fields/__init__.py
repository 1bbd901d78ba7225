"""Vector fields as data: the right-hand side f(t, y) of y' = f(t, y), before any framework."""

from __future__ import annotations

from pynode_jl.fields._named_fields import FIELDS as FIELDS
from pynode_jl.fields._named_fields import MLP, ConvField1d, ConvField2d, LinearField
from pynode_jl.fields._vector_field import ACTIVATIONS as ACTIVATIONS
from pynode_jl.fields._vector_field import (
    Activation,
    Conv,
    Dense,
    FunctionField,
    LogDensityField,
    VectorField,
)
from pynode_jl.fields._vector_field import ActivationName as ActivationName
from pynode_jl.fields._vector_field import Field as Field
from pynode_jl.fields._vector_field import Layer as Layer
from pynode_jl.fields._vector_field import Weights as Weights
from pynode_jl.fields._vector_field import checked_field as checked_field
from pynode_jl.fields._vector_field import checked_initial as checked_initial
from pynode_jl.fields._vector_field import checked_shape as checked_shape
from pynode_jl.fields._vector_field import kaiming_normal as kaiming_normal

__all__ = [
    "MLP",
    "Activation",
    "Conv",
    "ConvField1d",
    "ConvField2d",
    "Dense",
    "FunctionField",
    "LinearField",
    "LogDensityField",
    "VectorField",
]
