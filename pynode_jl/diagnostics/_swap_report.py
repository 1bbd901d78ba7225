"""A swap's report: every test solve, the ODE, and the verdict on them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pynode_jl._display import Drawn
from pynode_jl.diagnostics._files import read_report, write_report
from pynode_jl.diagnostics._reference import Reference, ReferenceCost
from pynode_jl.diagnostics._verdict import Rounding, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class SwapReport(Drawn):
    """A trained model under many solvers.

    Attributes:
        table: one row per test solve (`COLUMNS`, or `SHIFT_COLUMNS`); rows of failed solves hold
            what the last state gives, and their return code. A solver that the backend cannot run
            has a row of its own, with the return code "NotRun" and the reason. Seconds are those of
            the solve, without compilation where the backend can tell.
        trained: accuracy (or the task's score) under the training solver.
        ode: the same under the reference solve, of the ODE itself (nan where there is none).
        chance: that of the best answer that looks at no input: the share of the most frequent
            label (nan of a task without any).
        verdict: what it means.
        reference: the reference solve, with its states; not part of a report that was read from a
            file, where it is None.
        cost: the reference's error and cost.

    Example:
        >>> report = pn.swap(trained, data, ["RK4"], backend="jax")
        >>> report.table[["label", "accuracy", "flips"]].head(1).to_dict("records")
        [{'label': 'RK4 h=1/2', 'accuracy': 0.0, 'flips': 200}]
    """

    table: pd.DataFrame
    trained: float
    ode: float
    chance: float
    verdict: Verdict
    reference: Reference | None = None
    cost: ReferenceCost | None = None

    def __repr__(self) -> str:
        return f"SwapReport({self.verdict!r}, {len(self.table)} test solves)"

    def plot(self, kind: str = "solvers") -> Figure:
        """Draw the test solves.

        Args:
            kind: "solvers", a table of scores by solver and step; "steps", scores against the step;
                "flips", the changes that the verdict rests on, with their intervals.

        Raises:
            InvalidValueError: another kind, or a report without test solves.

        Example:
            >>> figure = pn.swap(trained, data, ["RK4"], backend="jax").plot("flips")
        """
        return self._figure(kind=kind)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report to a JSON file; the reference's states are left out.

        `path` is that of the file.

        Raises:
            OutputError: the file cannot be written.

        Example:
            >>> report = pn.swap(trained, data, ["RK4"], backend="jax")
            >>> report.save("report.json")
            >>> pn.SwapReport.load("report.json").verdict == report.verdict
            True
        """
        write_report(path, "SwapReport", self.to_values())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SwapReport:
        """Return the report that `save` wrote.

        `path` is that of the file.

        Raises:
            InputError: no such file, a damaged one, or another.
        """
        return read_report(path, "SwapReport", cls.from_values)

    def to_values(self) -> dict[str, Any]:
        """Return `to_dict` and the table's columns; `from_values` reads them back."""
        return {**self.to_dict(), "table": self.table.to_dict("list")}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> SwapReport:
        """Return what `to_values` wrote.

        Raises:
            KeyError, TypeError: values that it did not write.
        """
        cost = values["reference"]
        return cls(
            pd.DataFrame(values["table"]),
            values["trained"],
            math.nan if values["ode"] is None else values["ode"],
            values["chance"],
            Verdict.from_dict(values["verdict"]),
            cost=None if cost is None else ReferenceCost.from_dict(cost),
        )

    @property
    def rounding(self) -> Rounding | None:
        """Of a model trained in mixed precision, what that does to the answers."""
        return self.verdict.rounding

    @property
    def comparisons(self) -> pd.DataFrame:
        """One row for each solve that the verdict rests on, the ODE first: label, flips, share,
        low, high, lost, won, p_value, accuracy; or, where answers are numbers, label, share, low,
        high, score, difference. Empty where nothing was compared."""
        change = "shift" if "shift" in self.table else "flips"
        finer = self.table[self.table["finer"] & (self.table["label"] != self.verdict.solver)]
        renamed = finer.rename(columns={f"{change}_low": "low", f"{change}_high": "high"})
        if change == "shift":
            renamed = renamed.rename(columns={"shift": "share"})
            columns = ["label", "share", "low", "high", "score", "difference"]
        else:
            renamed = renamed.assign(share=renamed["flips"] / self.verdict.samples)
            columns = ["label", "flips", "share", "low", "high", "lost", "won", "p_value"]
            columns += ["accuracy"]
        ode = self.verdict.ode
        first = [] if ode is None else [{**vars(ode), "share": ode.share}]
        return pd.concat(
            [pd.DataFrame(first, columns=columns), renamed[columns]], ignore_index=True
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values for JSON: verdict, accuracies, reference; the table is apart.

        The ODE's accuracy is None where there is no reference.
        """
        return {
            "verdict": self.verdict.to_dict(),
            "trained": self.trained,
            "ode": None if np.isnan(self.ode) else self.ode,
            "chance": self.chance,
            "reference": None if self.cost is None else self.cost.to_dict(),
        }
