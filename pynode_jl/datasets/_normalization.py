"""Normalisation: a shift and a scale of each feature, from the training part alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode_jl._validation import choice
from pynode_jl.datasets._arrays import Floats
from pynode_jl.errors import DataError

NORMALIZATIONS = ("standard", "minmax")


@dataclass(frozen=True, eq=False)
class Normalization:
    """The map x -> (x - shift) / scale of states, one shift and one scale for each feature.

    A feature is an entry of a flat state (d,), and a channel of an image (channels, height, width).

    Attributes:
        kind: "standard" (mean 0, standard deviation 1 in the training part), or "minmax" (its least
            value 0, its greatest 1). A feature that is constant there keeps scale 1.
        shift, scale: float64, shape (features, 1, ...), with as many axes as a state.

    Example:
        >>> from pynode_jl.datasets import Normalization
        >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
        >>> unit = Normalization.fit("minmax", x)
        >>> unit.apply(x).tolist(), unit.undo([[0.5, 0.5]]).tolist()
        ([[0.0, 0.0], [1.0, 1.0]], [[2.0, 20.0]])
    """

    kind: str
    shift: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def fit(cls, kind: str, *parts: NDArray[np.floating[Any]]) -> Normalization:
        """Take the statistics of examples (n, *state), all parts together; NaN counts for none.

        Raises:
            InvalidValueError: no such kind.
            DataError: a feature without any number.
        """
        choice("normalize", kind, NORMALIZATIONS)
        columns = np.concatenate(
            [np.moveaxis(part, 1, 0).reshape(part.shape[1], -1) for part in parts], axis=1
        ).astype(np.float64)
        if np.isnan(columns).all(axis=1).any():
            feature = int(np.isnan(columns).all(axis=1).argmax())
            raise DataError(
                "y_train", f"feature {feature} all missing", "a number of each", "Leave it out."
            )
        if kind == "standard":
            shift, scale = np.nanmean(columns, axis=1), np.nanstd(columns, axis=1)
        else:
            shift = np.nanmin(columns, axis=1)
            scale = np.nanmax(columns, axis=1) - shift
        constant = np.nanmin(columns, axis=1) == np.nanmax(columns, axis=1)
        scale = np.where(constant, 1.0, scale)
        shape = (-1, *(1 for _ in parts[0].shape[2:]))
        for each in (shift := shift.reshape(shape), scale := scale.reshape(shape)):
            each.flags.writeable = False
        return cls(kind, shift, scale)

    def apply(self, x: Any) -> Floats:
        """Return x normalised, float32, for an x of shape (..., *state)."""
        with np.errstate(over="ignore"):  # `Dataset` refuses infinity
            return ((np.asarray(x, np.float64) - self.shift) / self.scale).astype(np.float32)

    def undo(self, x: Any) -> Floats:
        """Return normalised x in its own units, float32."""
        with np.errstate(over="ignore"):
            return (np.asarray(x, np.float64) * self.scale + self.shift).astype(np.float32)
