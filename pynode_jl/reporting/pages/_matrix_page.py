"""The page of a swap matrix."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pynode_jl._io import make_folder, write_text
from pynode_jl.diagnostics import SwapMatrix, clusters
from pynode_jl.reporting import figures
from pynode_jl.reporting.figures import Measure
from pynode_jl.reporting.formats import counted
from pynode_jl.reporting.html import (
    VERDICTS,
    Facts,
    Layer,
    Matrix,
    Section,
    Table,
    Text,
    shades,
    texts,
)
from pynode_jl.reporting.pages._layout import table, write_page
from pynode_jl.runs import Run

_COLUMNS = {
    "train_solver": "trained with",
    "test": "tested with",
    "order": "order",
    "damage": "damage",
    "accuracy": "accuracy",
    "score": "score",
    "low": "low",
    "high": "high",
    "shift": "shift",
    "shift_low": "shift, low",
    "shift_high": "shift, high",
    "flips": "flips",
    "flips_low": "flips, low",
    "flips_high": "flips, high",
    "state_error": "state error",
    "nf": "evaluations",
    "finer": "finer",
    "failed": "failed",
    "seeds": "seeds",
}
_WORST = 20
# Scores that span more than this are coloured by their logarithm.
_WIDE = 8.0
_OWN = {"flips": ".1%"}
_OWN_SHIFTS = {"low": ".4g", "high": ".4g"}
_TRAINED = (
    "valid, tied and the like count the seeds by verdict. as trained, as an ODE: mean {} with its"
    " 95 % interval: Student's over several seeds; {}. worst damage: under a solve as near to the"
    " ODE as the training solver's."
)
_DAMAGE = (
    "damage: points of accuracy lost against the training solver's own, mean over seeds. Solves"
    " finer than training (measured: final states at least as near to the ODE's) come first: there"
    " an ODE loses nothing. low, high: 95 % interval of the mean accuracy; flips: share of answers"
    " that change, with its interval. Intervals are exact, over test samples, for one seed, and"
    " Student's, over seeds, for several. evaluations: of the field, mean over seeds."
)
_DAMAGE_SHIFTS = (
    "damage: what the score gets worse by against the training solver's own, mean over seeds."
    " Solves finer than training (measured: final states at least as near to the ODE's) come first:"
    " there an ODE loses nothing. low, high: Student's 95 % interval of the mean score over seeds;"
    " none for one seed. shift: how far answers are from those as trained; its interval is"
    " bootstrapped over test samples for one seed, and Student's, over seeds, for several."
)


def write_matrix_report(
    runs: Sequence[Run],
    matrix: SwapMatrix,
    folder: Path,
    *,
    skipped: Mapping[Path, str] | None = None,
) -> Path:
    """Write ``matrix.html``, ``matrix.csv`` and the heat map, as PNG and PDF, to `folder`.

    Args:
        runs: those that the matrix was asked of.
        matrix: what `runs_matrix` gave.
        folder: where to write.
        skipped: by folder, why a run is not in the matrix: unfinished, failed, damaged.

    Returns:
        The page's path.
    """
    make_folder(folder)
    write_text(folder / "matrix.csv", matrix.table.to_csv(index=False))
    grid, measure, left_out = matrix.grid(), _measure(matrix), dict(skipped or {})
    chance = math.nan if matrix.report is None else matrix.report.chance
    chance = 1.0 / runs[0].dataset.classes if measure.in_percent else chance
    trees = clusters(_comparable(grid, measure))
    figure = figures.swap_matrix_heatmap(
        grid,
        row_tree=trees.rows,
        column_tree=trees.columns,
        own=matrix.grid("own"),
        failed=matrix.grid("failed"),
        chance=chance,
        measure=measure,
    )
    figures.save(figure, folder / "matrix")
    used = [run for run in runs if run.folder not in left_out]
    trainings = counted(len(grid), "training solver")
    tests = counted(grid.shape[1], "test solver")
    caption = (
        f"Test {measure.metric} of {counted(len(used), 'run')}: {trainings} under {tests}, means"
        " over seeds. The pointer, or the arrow keys, tell a cell. A frame marks the training"
        " solver; \N{MULTIPLICATION X} on hatching: the solve failed for every seed; empty: no such"
        " solve. For paper it is beside this page as matrix.png and matrix.pdf."
    )
    # Intervals that no row has are no columns of the page.
    damage = matrix.table.dropna(axis=1, how="all")
    own = _OWN_SHIFTS if measure.shifts else _OWN
    formats = {name: form for name, form in own.items() if name in damage}
    shown: dict[str, Any] = {"formats": formats, "measure": measure}
    finer = damage[damage["finer"]]
    left = pd.DataFrame({"folder": map(str, left_out), "reason": left_out.values()})
    *_, page = write_page(
        folder / "matrix.html",
        title=f"Swap matrix: {trainings} by {tests}",
        subtitle="What becomes of a model's answers when its solver changes?",
        found=[
            Section("Matrix", [matrix_block(matrix, measure, chance, caption=caption)]),
            *([Section("Left out", [Table(left, caption="Runs left out")])] if left_out else []),
        ],
        drawings={},
        numbers=[
            _by_training_solver(matrix, measure),
            Section(
                "By damage",
                [
                    Text(_DAMAGE_SHIFTS if measure.shifts else _DAMAGE),
                    table(finer.head(_WORST), _COLUMNS, "The worst among finer solves", **shown),
                    table(damage, _COLUMNS, "Every pair", folded=True, **shown),
                ],
            ),
        ],
        facts=[
            Facts(
                {
                    "evaluations of test sets": int(matrix.table["seeds"].sum()),
                    "seconds in them": f"{matrix.seconds:.1f}",
                    "runs": "\n".join(str(run.folder) for run in used),
                }
            )
        ],
    )
    return page


def _by_training_solver(matrix: SwapMatrix, measure: Measure) -> Section:
    trained = matrix.trained.rename(columns={"train_solver": "trained with"})
    trained = trained.dropna(axis=1, how="all")
    # Verdicts stand where they are seen without scrolling.
    first = ["trained with", "seeds", *(name for name in trained if name in VERDICTS)]
    trained = trained[[*first, *(name for name in trained if name not in first)]]
    single = (
        "none for one seed"
        if measure.shifts
        else "of one seed's accuracy the exact one, over its test samples"
    )
    text = Text(_TRAINED.format(measure.metric, single))
    return Section("By training solver", [text, table(trained, measure=measure)])


def matrix_block(
    matrix: SwapMatrix, measure: Measure, chance: float = math.nan, *, caption: str = ""
) -> Matrix:
    """Return a swap matrix as a block of a page: its values and orders can be chosen there.

    Args:
        matrix: what `swap_matrix` gave.
        measure: of its task.
        chance: the score of an answer without an input, where colours begin.
        caption: the text over it.

    Example:
        >>> from pynode_jl.diagnostics import swap_matrix
        >>> from pynode_jl.reporting.figures import Measure
        >>> from pynode_jl.reporting.pages import matrix_block
        >>> matrix = swap_matrix([(trained, data)], ["RK4"], factors=[1.0], backend="jax")
        >>> [layer.name for layer in matrix_block(matrix, Measure()).layers]
        ['accuracy, %', 'damage, points', 'flips, %', 'state error', 'evaluations']
    """
    grid = matrix.grid()
    trees = clusters(_comparable(grid, measure))
    failed = matrix.grid("failed").to_numpy(float)
    seeds = matrix.grid("seeds").to_numpy(float)
    return Matrix(
        _layers(matrix, measure, chance),
        list(map(str, grid.index)),
        list(map(str, grid.columns)),
        ("trained with", "tested with"),
        caption,
        _details(matrix, measure),
        own=np.asarray(matrix.grid("own").fillna(False), bool),
        failed=(failed > 0) & (failed == seeds),
        orders={
            "likeness": (trees.row_order, trees.column_order),
            "name": (_by_name(grid.index), _by_name(grid.columns)),
            "damage": _by_damage(matrix.grid("damage")),
            "order of the method": (
                _by_name(grid.index),
                tuple(np.argsort(matrix.grid("order").max().fillna(99), kind="stable")),
            ),
        },
    )


def _layers(matrix: SwapMatrix, measure: Measure, chance: float) -> list[Layer]:
    """Return what cells can show: score, damage, changes, state error, evaluations."""
    change = measure.change_column
    grid, damage, changed, error, nf = (
        matrix.grid(name) for name in ("", "damage", change, "state_error", "nf")
    )
    least, most = measure.score_range(grid, chance)
    if measure.in_percent:
        least, most = min(least, float(grid.min().min())), 1.0
    worst, best = (least, most) if measure.higher_is_better else (most, least)
    log = not measure.signed and least > 0 and most > _WIDE * least
    hundred = 100 if measure.in_percent else 1
    percent = 100 if measure.changes_in_percent else 1
    unit = ", %" if measure.changes_in_percent else ""
    top = _top(damage)
    return [
        Layer(
            f"{measure.metric}, %" if measure.in_percent else measure.metric,
            texts(grid * hundred, ".0f" if measure.in_percent else ".3g"),
            shades(grid, worst, best, log=log),
            (_with_chance(measure, worst, chance), measure.score_text(best)),
        ),
        Layer(
            "damage, points" if measure.in_percent else f"damage, {measure.metric}",
            texts(damage * hundred, "+.0f" if measure.in_percent else "+.2g"),
            shades(damage, top, 0.0),
            (f"{hundred * top:.3g}", "0"),
        ),
        Layer(
            f"{change}{unit}",
            texts(changed * percent, ".0f" if measure.changes_in_percent else ".2g"),
            shades(changed, _top(changed), 0.0),
            (f"{percent * _top(changed):.3g}", "0"),
        ),
        _log_layer("state error", error, ".0e"),
        _log_layer("evaluations", nf, ".0f"),
    ]


def _log_layer(name: str, grid: pd.DataFrame, form: str) -> Layer:
    """Return a layer of a quantity that spans decades, the least of it the lightest."""
    known = grid.to_numpy(float)
    known = known[np.isfinite(known) & (known > 0)]
    low, high = (known.min(), known.max()) if known.size else (1.0, 1.0)
    shown = texts(grid, form)
    return Layer(name, shown, shades(grid, high, low, log=True), (f"{high:.2g}", f"{low:.2g}"))


def _top(grid: pd.DataFrame) -> float:
    values = grid.to_numpy(float)
    return max(float(np.max(values[np.isfinite(values)], initial=0.0)), 1e-12)


def _with_chance(measure: Measure, worst: float, chance: float) -> str:
    text = measure.score_text(worst)
    return f"{text} (chance)" if worst == chance else text


def _details(matrix: SwapMatrix, measure: Measure) -> dict[str, list[list[str]]]:
    """Return what the box beside a cell tells, text by cell."""
    score, change = measure.score_column, measure.change_column
    score_form = ".1%" if measure.in_percent else ".4g"
    change_form = ".1%" if measure.changes_in_percent else ".3g"
    table = matrix.table

    def interval(name: str, low: str, high: str, form: str) -> pd.Series[str]:
        return pd.Series(
            [
                "" if pd.isna(row[0]) else format(row[0], form)
                + ("" if pd.isna(row[1]) else f" ({row[1]:{form}} to {row[2]:{form}})")
                for row in table[[name, low, high]].to_numpy(float)
            ],
            index=table.index,
        )  # fmt: skip

    damage = table["damage"]
    told = {
        measure.metric: interval(score, "low", "high", score_form),
        "damage": (100 * damage).map("{:+.1f} points".format)
        if measure.in_percent
        else damage.map("{:+.3g}".format),
        change: interval(change, f"{change}_low", f"{change}_high", change_form),
        "state error": table["state_error"].map("{:.1e}".format),
        "evaluations": table["nf"].map("{:,.0f}".format),
        "as near to the ODE": table["finer"].map({True: "yes", False: "no"}),
        "order": table["order"].map(lambda order: "" if pd.isna(order) else str(int(order))),
        "seeds": table["seeds"].astype(str),
        "failed solves": table["failed"].map(lambda count: str(count) if count else ""),
    }
    rows, columns = matrix.grid().index, matrix.grid().columns
    return {
        name: (
            table.assign(told=told[name].where(~told[name].str.startswith(("nan", "+nan")), ""))
            .pivot(index="train_solver", columns="test", values="told")
            .reindex(index=rows, columns=columns)
            .fillna("")
            .to_numpy(object)
            .tolist()
        )
        for name in told
    }


def _by_name(names: Iterable[object]) -> tuple[int, ...]:
    """Return positions in the order of names, numbers in them by their size."""

    def key(place: int) -> list[tuple[int, float, str]]:
        parts = re.split(r"(\d+(?:/\d+)?(?:\.\d+)?)", listed[place].casefold())
        return [(1, _number(part), "") if i % 2 else (0, 0.0, part) for i, part in enumerate(parts)]

    listed = list(map(str, names))
    return tuple(sorted(range(len(listed)), key=key))


def _number(text: str) -> float:
    over, _, under = text.partition("/")
    return float(over) / float(under or 1) if float(under or 1) else math.inf


def _by_damage(grid: pd.DataFrame) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return positions of rows and columns, those with the largest mean damage first."""
    down, across = (-grid.mean(axis=axis).fillna(-np.inf).to_numpy(float) for axis in (1, 0))
    return tuple(np.argsort(down, kind="stable")), tuple(np.argsort(across, kind="stable"))


def _measure(matrix: SwapMatrix) -> Measure:
    return Measure() if matrix.report is None else Measure.of(matrix.report)


def _comparable(grid: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Return what rows and columns are compared by: of errors, which may span decades, the log."""
    if measure.in_percent:
        return grid
    known = grid.where(np.isfinite(grid))
    if known.min().min() <= 0:
        return known
    logs = np.log10(known.to_numpy(float))
    return pd.DataFrame(logs, index=known.index, columns=known.columns)
