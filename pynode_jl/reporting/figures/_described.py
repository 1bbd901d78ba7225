"""Figures that carry what is seen in them, in words and as an interactive chart."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.figure import Figure

from pynode_jl.reporting.charts import Chart, Panels


class Description(NamedTuple):
    """What is seen in a figure.

    Attributes:
        alt: in words, for readers who cannot see it; "" if nobody has said it.
        chart: the same as an interactive chart; None if there is none.

    Example:
        >>> from pynode_jl.reporting.figures import Description
        >>> Description("Accuracy falls from 99.9 to 50.0 %.").chart is None
        True
    """

    alt: str = ""
    chart: Chart | Panels | None = None


class DescribedFigure(Figure):
    """A matplotlib figure with its description, which whoever draws it gives it."""

    description: Description = Description()


def described(figure: Figure) -> Description:
    """Return the description of a figure of ours, an empty one of another.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from pynode_jl.reporting.figures import described
        >>> described(Figure())
        Description(alt='', chart=None)
    """
    return figure.description if isinstance(figure, DescribedFigure) else Description()
