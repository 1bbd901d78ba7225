"""Normalisation: a shift and a scale of each feature, from the training part alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pynode_jl._validation import choice, numbers
from pynode_jl.datasets._arrays import Floats
from pynode_jl.errors import DataError

_Doubles: TypeAlias = NDArray[np.float64]
# So many numbers are summed up, and so many examples mapped, at once.
_NUMBERS = 2**23
_BLOCK = 1024

#: The names of normalisations.
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
        count, axes = parts[0].shape[1], parts[0].ndim - 1
        shift, scale = np.zeros(count), np.ones(count)
        # Some features at a time: in float64 the data have twice their size.
        some = max(1, _NUMBERS * count // sum(part.size for part in parts))
        for start in range(0, count, some):
            group = slice(start, start + some)
            columns = np.concatenate(
                [np.moveaxis(part[:, group], 1, 0).reshape(-1, part[:, 0].size) for part in parts],
                axis=1,
            ).astype(np.float64)
            if (empty := np.isnan(columns).all(axis=1)).any():
                feature = start + int(empty.argmax())
                raise DataError(
                    "y_train", f"feature {feature} all missing", "a number of each", "Leave it out."
                )
            least, most = np.nanmin(columns, axis=1), np.nanmax(columns, axis=1)
            if kind == "standard":
                shift[group], spread = np.nanmean(columns, axis=1), np.nanstd(columns, axis=1)
            else:
                shift[group], spread = least, most - least
            scale[group] = np.where(most > least, spread, 1.0)
        shape = (count, *(1,) * (axes - 1))
        for each in (shift := shift.reshape(shape), scale := scale.reshape(shape)):
            each.flags.writeable = False
        return cls(kind, shift, scale)

    def apply(self, x: object) -> Floats:
        """Return x normalised, float32, for an x of shape (n, *state) or (n, times, *state).

        Raises:
            InvalidValueError: no numbers, or other features.
        """
        return self._blockwise(x, lambda block: (block - self.shift) / self.scale)

    def undo(self, x: object) -> Floats:
        """Return normalised x in its own units, float32.

        Raises:
            InvalidValueError: no numbers, or other features.
        """
        return self._blockwise(x, lambda block: block * self.scale + self.shift)

    def _blockwise(self, x: object, function: Callable[[_Doubles], _Doubles]) -> Floats:
        values = numbers("x", x)
        axes, features = self.scale.ndim, len(self.scale)
        if values.ndim <= axes or values.shape[-axes] != features:
            raise DataError(
                "x.shape", values.shape, f"(n, ...) of {features} features", "Give whole states."
            )
        mapped = np.empty(values.shape, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # `Dataset` refuses infinity
            for start in range(0, len(values), _BLOCK):
                block = slice(start, start + _BLOCK)
                mapped[block] = function(values[block].astype(np.float64))
        return mapped
