"""What a task measures: how figures and tables name, write and scale its scores and changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from pynode_jl.reporting.figures import _style
from pynode_jl.tasks import TASKS

if TYPE_CHECKING:
    from pynode_jl.diagnostics import SwapReport

# Ratios of scores from which on colours, and an axis, of them are logarithmic.
_WIDE = 8.0
_SPREAD = 3.0
# Errors this many times chance's are as bad as can be.
_WORST = 10.0


@dataclass(frozen=True)
class Measure:
    """The scores of a task, and how its answers change; by default a classification's.

    Attributes:
        metric: what the score is called.
        unit: of changes: "" for a share, "of their error" for a share of the model's own error.
        higher_is_better: whether a larger score is the better one.
        shifts: whether answers change by numbers ("shift"); from label to label ("flips") else.
        signed: whether scores may be negative: they are then on linear axes.

    Example:
        >>> from pynode_jl.reporting.figures import Measure
        >>> error = Measure("RMSE", "of their error", higher_is_better=False, shifts=True)
        >>> error.score_column, error.score_text(0.01234), error.change_text(0.1)
        ('score', '0.0123', '10 % of their error')
    """

    metric: str = "accuracy"
    unit: str = ""
    higher_is_better: bool = True
    shifts: bool = False
    signed: bool = False

    @classmethod
    def of(cls, report: SwapReport) -> Measure:
        """Return the measure of a swap's task.

        `report` is the swap.
        """
        verdict = report.verdict
        shifts = "shift" in report.table
        # A task of the user's own has scores of any sign.
        signed = shifts and (verdict.task not in TASKS or TASKS[verdict.task].signed)
        return cls(verdict.metric, verdict.unit, verdict.higher_is_better, shifts, signed)

    @property
    def title(self) -> str:
        """The metric as a sentence begins: "Accuracy", "RMSE"."""
        return self.metric[:1].upper() + self.metric[1:]

    @property
    def score_column(self) -> str:
        """The column of tables that holds scores."""
        return "score" if self.shifts else "accuracy"

    @property
    def change_column(self) -> str:
        """The column of tables that holds changes."""
        return "shift" if self.shifts else "flips"

    @property
    def in_percent(self) -> bool:
        """Whether scores are shares."""
        return self.metric == "accuracy"

    @property
    def changes_in_percent(self) -> bool:
        """Whether changes are shares, of answers or of their error."""
        return self.unit in ("", "of their error")

    @property
    def changes_name(self) -> str:
        """What an axis of changes shows."""
        if not self.shifts:
            return "share of test answers that change"
        unit = {"of their error": "as a share of their error", "": "of the score"}.get(self.unit)
        return f"shift of test answers, {unit or self.unit}"

    def heading(self, name: str) -> str:
        """Return the heading of changes in a table, with their unit where cells have none.

        `name` is what they are called there.
        """
        return name if self.changes_in_percent else f"{name}, {self.unit}"

    def score_text(self, value: float) -> str:
        """Return a score as a cell of a figure has it: "98.6", "0.0123", "2e4".

        `value` is the score.
        """
        if not np.isfinite(value):
            return "?" if np.isnan(value) else f"{value:g}"
        if self.in_percent:
            return _style.percent(value)
        if value and not 1e-3 <= abs(value) < 1e4:
            mantissa, _, power = f"{value:.0e}".partition("e")
            return f"{mantissa}e{int(power)}"
        return f"{value:.3g}"

    def change_text(self, value: float) -> str:
        """Return a change with its unit: "3 %", "10 % of their error".

        `value` is the change.
        """
        if self.changes_in_percent:
            return f"{_plain_percent(value)} % {self.unit}".rstrip()
        return f"{value:.3g} {self.unit}"

    def score_formatter(self) -> FuncFormatter:
        """Return tick labels for scores."""
        if self.in_percent:
            return _style.percent_axis()
        return FuncFormatter(lambda value, _: self.score_text(value))

    def change_formatter(self) -> FuncFormatter:
        """Return tick labels for changes."""
        if self.changes_in_percent:
            return FuncFormatter(lambda value, _: f"{_plain_percent(value)} %")
        return FuncFormatter(lambda value, _: f"{value:.3g}")

    def colours(self, scores: npt.ArrayLike, chance: float) -> ScalarMappable:
        """Return the colours of scores, better ones lighter.

        Of accuracies they run from `chance`, or the least below it, to 100 %. Other scores run from
        the best one to chance's, or to the worst one where there is none; on a logarithmic scale
        where they span much.
        """
        if self.in_percent:
            known = np.asarray(scores, float).ravel()
            least = float(np.min(known[np.isfinite(known)], initial=chance))
            return ScalarMappable(Normalize(least, 1.0), matplotlib.colormaps["cividis"])
        low, high = self.score_range(scores, chance)
        name = "cividis" if self.higher_is_better else "cividis_r"
        log = not self.signed and low > 0 and high > _WIDE * low
        return ScalarMappable(
            (LogNorm if log else Normalize)(low, high), matplotlib.colormaps[name]
        )

    def score_range(self, scores: npt.ArrayLike, chance: float) -> tuple[float, float]:
        """Return the range of scores worth telling apart: nothing worse than chance is."""
        known = np.asarray(scores, float).ravel()
        known = known[np.isfinite(known)]
        ends = known if np.isfinite(chance) or not known.size else _without_outliers(known)
        low, high = (float(ends.min()), float(ends.max())) if ends.size else (0.0, 1.0)
        if np.isfinite(chance):
            low, high = (chance, high) if self.higher_is_better else (low, chance)
        if low >= high:  # nothing is better than chance
            low, high = min(low, high), max(low, high)
        return (low, high) if low < high else (low - 0.5 * abs(low) - 1e-12, low + 1e-12)

    def scale_scores(self, ax: Axes, scores: npt.ArrayLike, chance: float) -> None:
        """Scale the y axis of scores: 0 to 100 %, or logarithmic where errors span much.

        `ax` is scaled; `chance` is the score of chance, which the range takes in.
        """
        ax.yaxis.set_major_formatter(self.score_formatter())
        if self.in_percent:
            ax.set_ylim(0, 1.03)
            return
        known = np.asarray(scores, float).ravel()
        known = known[np.isfinite(known)]
        low, high = self.score_range(known, chance)
        if not self.signed and low > 0 and known.max(initial=high) > _SPREAD * low:
            top = max(high, min(float(known.max(initial=high)), _WORST * high))
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(_style.log_locator(low, top))
            ax.yaxis.set_major_formatter(self.score_formatter())
            ax.yaxis.set_minor_locator(NullLocator())
            ax.set_ylim(low / 1.3, 1.3 * top)
            return
        span = high - low
        below, above = (0.3, 0.06) if self.higher_is_better else (0.06, 0.3)
        # What is worse than chance by no more than that is seen as well.
        low = min(low, max(float(known.min(initial=low)), low - span))
        high = max(high, min(float(known.max(initial=high)), high + span))
        ax.set_ylim(low - below * span, high + above * span)

    def scale_changes(self, ax: Axes, changes: npt.ArrayLike, margin: float, axis: str) -> float:
        """Scale an axis of shifts logarithmically, around the margin, and return its lower end.

        `ax` is scaled.
        """
        known = np.asarray(changes, float).ravel()
        known = known[np.isfinite(known) & (known > 0)]
        least = max(float(known.min(initial=margin)), margin * 1e-3)
        most = min(float(known.max(initial=margin)), margin * 1e6)
        low, high = least / 2, most * 2
        scaled = ax.xaxis if axis == "x" else ax.yaxis
        if axis == "x":
            ax.set_xscale("log")
            ax.set_xlim(low, high)
        else:
            ax.set_yscale("log")
            ax.set_ylim(low, high)
        scaled.set_major_locator(LogLocator(numticks=5))
        scaled.set_major_formatter(self.change_formatter())
        scaled.set_minor_formatter(NullFormatter())
        return low


#: A classification's.
ACCURACY = Measure()


def _plain_percent(share: float) -> str:
    return f"{100 * share:,.0f}" if share >= 1 else f"{100 * share:.3g}"


def _without_outliers(known: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return scores without those that are off by orders of magnitude."""
    middle, spread = np.median(known), np.median(np.abs(known - np.median(known)))
    near = np.abs(known - middle) <= 20 * max(float(spread), 0.05 * abs(float(middle)), 1e-12)
    return np.asarray(known[near])
