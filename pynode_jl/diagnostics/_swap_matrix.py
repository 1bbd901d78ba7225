"""Swap matrices: many training solvers by many test solvers, over seeds, in one table.

Each row of the matrix is what `swap` says of one training solver. Models of one architecture share
the backend's compiled evaluations, whatever solver they were trained with, so that a matrix costs
its solves and little else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd

from pynode_jl._display import Drawn, ShortRepr, progress_bar
from pynode_jl._validation import instance, items, optional_callable
from pynode_jl.backends import Array, Backend, BackendLike, RetCode, as_backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics._files import read_report, write_report
from pynode_jl.diagnostics._swap import swap
from pynode_jl.diagnostics._swap_report import SwapReport
from pynode_jl.diagnostics._test_solvers import checked_tests, like
from pynode_jl.diagnostics._verdict import Criterion, Kind
from pynode_jl.errors import InvalidValueError, PyNODEError, WrongSolverError
from pynode_jl.fields import VectorField
from pynode_jl.proportions import lower_bound, mean_interval, upper_bound
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained, TrainedLike, as_trained_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Columns of the table of a swap matrix, where answers are labels.
MATRIX_COLUMNS = (
    "train_solver",
    "test",
    "test_solver",
    "factor",
    "order",
    "own",
    "accuracy",
    "low",
    "high",
    "lowest",
    "highest",
    "damage",
    "flips",
    "flips_low",
    "flips_high",
    "agreement",
    "state_error",
    "nf",
    "finer",
    "failed",
    "seeds",
)
# Where answers are numbers.
_SHIFTS = {
    "accuracy": "score",
    "flips": "shift",
    "flips_low": "shift_low",
    "flips_high": "shift_high",
}
#: The same where answers are numbers.
SHIFT_MATRIX_COLUMNS = tuple(
    _SHIFTS.get(name, name) for name in MATRIX_COLUMNS if name != "agreement"
)


@dataclass(frozen=True, repr=False)
class SwapMatrix(ShortRepr, Drawn):
    """Training solvers (rows) by test solvers (columns), seeds aggregated.

    Attributes:
        table: one row for each pair (`MATRIX_COLUMNS`), sorted by damage: the accuracy lost against
            the training solver's own, mean over seeds, solves finer than training first. `low` and
            `high` are Student's 95 % interval of the mean accuracy over seeds; of one seed the
            exact one of its accuracy, over its test samples (scores of one seed have none).
            `flips` is the share of answers that change, mean over seeds, and `flips_low` and
            `flips_high` its interval: of one seed exact, over its test samples, as in `swap`; of
            several Student's, over the seeds. `nf` are evaluations of the field, mean over seeds.
            `own` marks the training solver itself, `failed`
            counts the seeds whose solve failed: their figures are not in the means. Where answers
            are numbers, `score` and `shift` stand in place of accuracy and flips
            (`SHIFT_MATRIX_COLUMNS`), and damage is what the score gets worse by.
        trained: one row for each label, a training solver unless told otherwise: seeds, mean
            accuracy as trained and as an ODE, each with its interval over seeds, worst damage under
            a finer solver, and a column for each kind of verdict that occurs, with the number of
            seeds that have it.
        seconds: wall time of all solves, without compilation where the backend can tell.
        report: of the last model, for what its task measures.

    Example:
        >>> from pynode_jl.diagnostics import swap_matrix
        >>> swap_matrix([(trained, data)], ["RK4"], factors=[1.0], backend="jax").grid().shape
        (1, 1)
    """

    table: pd.DataFrame
    trained: pd.DataFrame
    seconds: float
    report: SwapReport | None = None

    def plot(self) -> Figure:
        """Draw the matrix, rows and columns that behave alike beside each other.

        Example:
            >>> from pynode_jl.diagnostics import swap_matrix
            >>> matrix = swap_matrix([(trained, data)], ["RK4"], factors=[1.0], backend="jax")
            >>> figure = matrix.plot()
        """
        return self._figure()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the matrix to a JSON file; the states of its report's reference are left out.

        `path` is that of the file.

        Raises:
            OutputError: the file cannot be written.

        Example:
            >>> from pynode_jl.diagnostics import SwapMatrix, swap_matrix
            >>> matrix = swap_matrix([(trained, data)], ["RK4"], factors=[1.0], backend="jax")
            >>> matrix.save("matrix.json")
            >>> SwapMatrix.load("matrix.json").table.equals(matrix.table)
            True
        """
        tables = {name: getattr(self, name).to_dict("list") for name in ("table", "trained")}
        report = None if self.report is None else self.report.to_values()
        write_report(path, "SwapMatrix", {**tables, "seconds": self.seconds, "report": report})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SwapMatrix:
        """Return the matrix that `save` wrote.

        `path` is that of the file.

        Raises:
            InputError: no such file, a damaged one, or another.
        """
        return read_report(path, "SwapMatrix", cls._from_values)

    @classmethod
    def _from_values(cls, values: Mapping[str, Any]) -> SwapMatrix:
        report = values["report"]
        return cls(
            pd.DataFrame(values["table"]),
            pd.DataFrame(values["trained"]),
            values["seconds"],
            None if report is None else SwapReport.from_values(report),
        )

    def grid(self, value: str = "") -> pd.DataFrame:
        """Return a column of `table` (default: accuracies, or scores) as a matrix: training solvers
        down, test solvers across.

        `value` is the name of the column.
        """
        value = value or ("accuracy" if "accuracy" in self.table else "score")
        grid = self.table.pivot(index="train_solver", columns="test", values=value)
        # A training solver whose every test was left out has no row in the table.
        return grid.reindex(self.trained["train_solver"].to_list())


@dataclass(frozen=True, repr=False)
class Clusters(ShortRepr):
    """Which rows and which columns of a grid behave alike (average linkage, Euclidean).

    Attributes:
        rows, columns: SciPy linkages, (n - 1, 4); empty for a single row or column.
        row_order, column_order: positions in the order of the leaves, neighbours alike.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.diagnostics import clusters
        >>> clusters(pd.DataFrame([[1.0, 0.5], [0.1, 0.2], [0.9, 0.5]])).rows.shape
        (2, 4)
    """

    rows: Array
    columns: Array
    row_order: tuple[int, ...]
    column_order: tuple[int, ...]


def swap_matrix(
    models: Sequence[tuple[TrainedLike, Dataset]],
    tests: Sequence[str | Solver] | None = None,
    *,
    factors: Sequence[float] | None = None,
    margin: float | None = None,
    confidence: float = 0.95,
    criterion: Criterion = "flips",
    labels: Sequence[str] | None = None,
    backend: BackendLike = None,
    on_solve: Callable[[int, int, str], None] | None = None,
    on_skip: Callable[[int, PyNODEError], None] | None = None,
    progress: bool | None = None,
) -> SwapMatrix:
    """Evaluate many trained models under many solvers.

    Args:
        models: each with the data set whose test part it is asked on. Those of one configuration
            are its seeds.
        tests: as for `swap`; default, by row, the paper's. A name that cannot step as a row's
            training solver does (a tolerance where it has none) leaves that cell empty.
        factors: as for `swap`.
        margin, confidence, criterion: as for `swap`.
        labels: one for each model; those of one label are one configuration. Default: its training
            solver, numbered where model, recipe (the seed apart) or kind of data differ.
        backend: what integrates, or its name; default `get_backend()`.
        on_solve: called before each solve with its model's number, the number of models and a text.
        on_skip: called with the number of a model that `swap` refuses, and the refusal; the others
            go on, if there are any. Without it the first refusal ends the matrix.
        progress: whether to show a progress bar; default: in a notebook.

    Raises:
        InvalidValueError: no model, not as many labels, or what `swap` refuses.

    Example:
        >>> from pynode_jl.diagnostics import swap_matrix
        >>> matrix = swap_matrix([(trained, data)], ["RK4"], factors=[1.0], backend="jax")
        >>> matrix.trained["as trained"].tolist(), matrix.trained["tied"].tolist()
        ([1.0], [1])
    """
    models = _checked_models(models)
    _check_task(models)
    optional_callable("on_solve", on_solve)
    if tests is not None:
        tests = checked_tests(tests)
        if not tests:
            raise InvalidValueError("tests", tests, "one solver or more", "Or leave them out.")
    names = _labels(models) if labels is None else _checked_labels(labels, len(models))
    backend = as_backend(backend)
    rows: list[pd.DataFrame] = []
    summaries, seconds = [], 0.0
    with progress_bar("swap matrix", progress) as advance:
        for number, ((trained, dataset), label) in enumerate(
            zip(models, names, strict=True), start=1
        ):
            mine = (
                None if tests is None else [t for t in tests if _fits(trained.solver, t, backend)]
            )

            def show(_: int, __: int, test: str, number: int = number, label: str = label) -> None:
                if advance is not None:
                    advance(number - 1, len(models), f"{label}: {test}")
                if on_solve is not None:
                    on_solve(number, len(models), f"{label}: {test}")

            try:
                report = swap(
                    trained,
                    dataset,
                    mine,
                    factors=factors,
                    margin=margin,
                    confidence=confidence,
                    criterion=criterion,
                    backend=backend,
                    on_solve=show,
                    progress=False,
                )
            except PyNODEError as error:
                if on_skip is None or (number == len(models) and not rows):
                    raise
                on_skip(number, error)
                continue
            rows.append(
                _scored(report, dataset.n_test).assign(
                    own=report.table["label"] == trained.solver.label,
                    samples=dataset.n_test,
                    train_solver=label,
                )
            )
            seconds += float(report.table["seconds"].sum())
            summaries.append(
                {
                    "train_solver": label,
                    "as trained": report.trained,
                    "as an ODE": report.ode,
                    "worst damage": report.verdict.drop,
                    "verdict": report.verdict.kind,
                    "samples": dataset.n_test,
                }
            )
        if advance is not None:
            advance(len(models), len(models), "")
    table = _aggregated(pd.concat(rows))
    shares = "accuracy" in table
    return SwapMatrix(table, _summary(pd.DataFrame(summaries), shares), seconds, report)


def _scored(report: SwapReport, samples: int) -> pd.DataFrame:
    """Return a swap's table with the damage, and with shares of flips in place of their counts."""
    table = report.table
    if "shift" not in table:
        damage = report.trained - table["accuracy"]
        return table.assign(damage=damage, flips=table["flips"] / samples)
    sign = 1.0 if report.verdict.higher_is_better else -1.0
    return table.assign(damage=sign * (report.trained - table["score"]))


def clusters(grid: pd.DataFrame) -> Clusters:
    """Order a grid's rows and columns so that those that behave alike are neighbours.

    Empty cells count as their column's mean (a column without any as 0).

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.diagnostics import clusters
        >>> clusters(pd.DataFrame([[1.0, 0.5], [0.1, 0.2], [0.9, 0.5]])).row_order
        (1, 2, 0)
    """
    values = grid.fillna(grid.mean()).fillna(0.0).to_numpy(float)
    rows, row_order = _linked(values)
    columns, column_order = _linked(values.T)
    return Clusters(rows, columns, row_order, column_order)


def _linked(values: Array) -> tuple[Array, tuple[int, ...]]:
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(values) < 2:
        return np.zeros((0, 4)), tuple(range(len(values)))
    tree = linkage(values, "average", optimal_ordering=True)
    return tree, tuple(int(i) for i in leaves_list(tree))


def _checked_models(models: object) -> list[tuple[TrainedLike, Dataset]]:
    """Return trained models with their data, at least one."""
    expected, hint = "pairs of a trained model and its data, one or more", "Train one."
    pairs = [
        tuple(items("models", each, expected, hint))
        for each in items("models", models, expected, hint)
    ]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise InvalidValueError("models", models, expected, hint)
    for trained, dataset in pairs:
        as_trained_model(trained)
        instance("models", dataset, Dataset, expected, hint)
    return [(trained, dataset) for trained, dataset in pairs]


def _check_task(models: Sequence[tuple[TrainedLike, Dataset]]) -> None:
    """Refuse models of several tasks: their scores are no columns of one table."""
    kinds = sorted({trained.model.task.kind for trained, _ in models})
    if len(kinds) > 1:
        hint = "Make a matrix of each task."
        raise InvalidValueError("models", ", ".join(kinds), "models of one task", hint)


def _checked_labels(labels: object, count: int) -> list[str]:
    """Return one text for each of `count` models."""
    expected = f"{count} texts, one a model"
    found = items("labels", labels, expected, "Leave them out.")
    if len(found) != count or not all(isinstance(label, str) for label in found):
        raise InvalidValueError("labels", labels, expected, "Add or remove some.")
    return found


def _labels(models: Sequence[tuple[TrainedLike, Dataset]]) -> list[str]:
    """Return each model's training solver; numbered from the second configuration with it on."""
    known: dict[str, list[object]] = {}
    labels = []
    for trained, dataset in models:
        label, found = trained.solver.label, _configuration(trained, dataset)
        others = known.setdefault(label, [])
        if found not in others:
            others.append(found)
        number = others.index(found) + 1
        labels.append(label if number == 1 else f"{label} ({number})")
    return labels


def _configuration(trained: TrainedLike, dataset: Dataset) -> tuple[object, ...]:
    """Return what the seeds of one configuration have in common."""
    model, how = trained.model, None
    # A function has no form to compare.
    field = model.field if isinstance(model.field, VectorField) else model.field.state_shape
    if isinstance(trained, Trained):
        how = replace(trained.recipe, seed=0, chunk=1)
    data = (dataset.name, dataset.state_shape, dataset.classes, dataset.n_train, dataset.n_test)
    return field, model.classes, model.t0, model.t1, model.augment, how, data


def _fits(train_solver: Solver, test: str | Solver, backend: Backend) -> bool:
    if isinstance(test, Solver) or ":" in test:
        return True
    try:
        solver = like(train_solver, test)
    except WrongSolverError:
        return False
    # Julia adapts some methods by residuals; the JAX backend needs error weights.
    table = solver.info.tableau
    return (
        solver.fixed or backend.name != "jax" or (table is not None and table.b_error is not None)
    )


def _aggregated(rows: pd.DataFrame) -> pd.DataFrame:
    several = rows["factor"].nunique() > 1
    factor = rows["factor"]
    scaled = rows["test_solver"] + (" x" + factor.map("{:g}".format) if several else "")
    rows = rows.assign(
        test=scaled.where(factor.notna(), rows["label"]),
        failed=rows["retcode"] != RetCode.Success,
        factor=factor.fillna(0.0),  # groupby would drop NaN
    )
    shares = "accuracy" in rows
    score, change = ("accuracy", "flips") if shares else ("score", "shift")
    means = [
        change,
        f"{change}_low",
        f"{change}_high",
        *["agreement"] * shares,
        "state_error",
        "nf",
    ]
    measured = [score, "damage", *means]
    rows[measured] = rows[measured].where(~rows["failed"])
    grouped = rows.groupby(
        ["train_solver", "test", "test_solver", "factor", "order", "own"],
        as_index=False,
        dropna=False,
    )
    table = grouped.agg(
        lowest=(score, "min"),
        highest=(score, "max"),
        **{name: (name, "mean") for name in measured},
        finer=("finer", "all"),
        failed=("failed", "sum"),
        seeds=(score, "size"),
    )
    parts = [part for _, part in grouped]  # in the order of `table`
    table[["low", "high"]] = [_interval(part[score], part["samples"], shares) for part in parts]
    for i, part in enumerate(parts):
        # One seed keeps the exact interval of its own samples.
        if part[change].notna().sum() > 1:
            table.loc[i, [f"{change}_low", f"{change}_high"]] = _interval(
                part[change], part["samples"], shares
            )
    table["factor"] = table["factor"].replace(0.0, np.nan)
    table = table.sort_values(
        ["finer", "damage", "train_solver", "test"], ascending=[False, False, True, True]
    )
    return table[list(MATRIX_COLUMNS if shares else SHIFT_MATRIX_COLUMNS)].reset_index(drop=True)


def _summary(models: pd.DataFrame, shares: bool) -> pd.DataFrame:
    grouped = models.groupby("train_solver", sort=False)
    summary = grouped.agg(
        seeds=("verdict", "size"),
        **{
            "as trained": ("as trained", "mean"),
            "as an ODE": ("as an ODE", "mean"),
            "worst damage": ("worst damage", "max"),
        },
    )
    for place, name in ((2, "as trained"), (5, "as an ODE")):
        ends = [_interval(part[name], part["samples"], shares) for _, part in grouped]
        for offset, end in enumerate(("low", "high")):
            summary.insert(place + offset, f"{name}, {end}", [each[offset] for each in ends])
    occurring = set(models["verdict"])
    for kind in get_args(Kind):
        if kind in occurring:
            found = (models["verdict"] == kind).groupby(models["train_solver"], sort=False)
            summary[kind] = found.sum().astype(int)
    return summary.reset_index()


def _interval(
    values: pd.Series[float], samples: pd.Series[int], shares: bool
) -> tuple[float, float]:
    """Return the 95 % interval of a mean: Student's over seeds, of shares cut off at 0 and 1; of
    one seed's share the exact one over its samples; nan of one seed's score."""
    known = values.notna()
    if shares and known.sum() == 1:
        n = float(samples[known].iloc[0])
        right = round(float(values[known].iloc[0]) * n)
        return float(lower_bound(right, n, 0.025)), float(upper_bound(right, n, 0.025))
    _, low, high = mean_interval(values)
    if not shares:
        return float(low), float(high)
    return float(np.clip(low, 0.0, 1.0)), float(np.clip(high, 0.0, 1.0))
