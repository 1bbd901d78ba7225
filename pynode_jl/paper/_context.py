"""What a reproduction is made in, and what it gives.

A `ReproductionContext` has the settings of all reproductions, the folder that they are written to,
and in it the run cache: trained runs by name. A `FigureResult` is a figure or table before it is
written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pynode_jl._io import make_folder, user_path, write_text
from pynode_jl._validation import choice, whole_number
from pynode_jl.backends import Backend, RetCode, get_backend
from pynode_jl.diagnostics import CRITERIA, Criterion
from pynode_jl.errors import DivergedError
from pynode_jl.reporting.html import Facts, Section, Text
from pynode_jl.reporting.pages import Drawing, table, write_page
from pynode_jl.runs import Config, Run, RunIdentity
from pynode_jl.training import Trained

#: Shows the progress of a training: by the run's name, a context that gives an `on_chunk`.
ShowProgress = Callable[[str], AbstractContextManager[Callable[[Trained], None] | None]]

_MOST_ROWS_OPEN = 25


@dataclass(frozen=True)
class FigureResult:
    """A figure or table that was made, before it is written.

    Attributes:
        title: the page's heading.
        caption: what is shown, from which runs, and what is to be seen in it.
        figure: the figure; None for a table alone, or where all figures have letters.
        numbers: what the figure shows, row by row.
        formats: by column of `numbers`, how it is shown, where not as `reporting.formats` has it.
        facts: by name, constants and settings that decide it.
        more: figures under the same caption, by the letter that their names end in.
        subtitle: where it is from.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.paper import FigureResult
        >>> FigureResult("A table", "One number.", None, pd.DataFrame({"x": [1]})).facts
        {}
    """

    title: str
    caption: str
    figure: Figure | None
    numbers: pd.DataFrame
    formats: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    more: Mapping[str, Figure] = field(default_factory=dict)
    subtitle: str = "Ott et al., ResNet After All?, ICLR 2021, reproduced by pynode_jl"


@dataclass(frozen=True)
class ReproductionContext:
    """Where and how reproductions are made.

    Attributes:
        folder: what they are written to; its folder ``runs`` is the run cache.
        seeds: how many seeds stand behind a mean.
        full: the paper's protocol, hours of it, in place of the short one.
        backend: a name of `BACKENDS`.
        show_progress: shows the progress of a training.
        criterion: what verdicts rest on in Table 1 (`diagnostics.CRITERIA`).

    Raises:
        InvalidValueError: no seed, or an unknown criterion.

    Example:
        >>> from pathlib import Path
        >>> from pynode_jl.paper import ReproductionContext
        >>> ReproductionContext(Path("runs/reproduce"), seeds=5, full=True).criterion
        'flips'
    """

    folder: Path
    seeds: int = 2
    full: bool = False
    backend: str = "auto"
    show_progress: ShowProgress = lambda name: nullcontext()
    criterion: Criterion = "flips"

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", user_path("folder", self.folder))
        whole_number("seeds", self.seeds, hint="The paper has 5.")
        choice("criterion", self.criterion, CRITERIA)

    @property
    def integrator(self) -> Backend:
        """The backend itself."""
        return get_backend(self.backend)

    def train_run(self, name: str, config: Config, *, may_fail: bool = False) -> Run:
        """Return the run of `config`, trained to its end: from the run cache, or a new one.

        In the folder of a sweep that has the run, it is the sweep's.

        Args:
            name: its folder in the run cache. One name, one configuration.
            config: what decides it.
            may_fail: return a run whose training has failed, as it stands, and raise no error.

        Raises:
            DivergedError: training ended before its last iteration.
            DataChangedError: the run's data are not those that it was trained on.
            RunFolderError: the name has another configuration's run.
        """
        named = self.folder / "runs" / name
        swept = named.with_name(RunIdentity.of(config).training)
        run = Run.create(config, swept if swept.exists() and not named.exists() else named)
        if not run.trained.finished:
            with self.show_progress(name) as on_chunk:
                trained = run.train(on_chunk)
            if trained.retcode != RetCode.Success and not may_fail:
                raise DivergedError(f"run {run.folder}: {trained.retcode.meaning}")
        return run

    def publish(self, name: str, result: FigureResult) -> list[Path]:
        """Write a result: figures as PNG and PDF, numbers as CSV, constants as JSON, and a page.

        Returns:
            The paths, the page last.
        """
        make_folder(self.folder)
        base = self.folder / name
        paths = [base.with_suffix(".csv"), base.with_suffix(".json")]
        write_text(paths[0], result.numbers.to_csv(index=False))
        facts = {"title": result.title, "caption": result.caption, **result.facts}
        write_text(paths[1], json.dumps(facts, indent=1, default=str))
        figures = {} if result.figure is None else {"": result.figure}
        drawings = {
            name + letter: Drawing(figure, f"{result.title} ({letter})" if letter else result.title)
            for letter, figure in (figures | dict(result.more)).items()
        }
        long = len(result.numbers) > _MOST_ROWS_OPEN
        caption = "Every value" if long else ""
        numbers = [table(result.numbers, None, caption, formats=result.formats, folded=long)]
        records = {key: rows for key, value in result.facts.items() if (rows := _records(value))}
        for key, value in records.items():
            numbers.append(table(pd.DataFrame(value), caption=key, folded=True))
        written = write_page(
            base.with_suffix(".html"),
            title=result.title,
            subtitle=result.subtitle,
            found=[Section("What is seen", [Text(result.caption)])],
            drawings=drawings,
            numbers=[Section("Numbers", numbers)],
            facts=[Facts({k: v for k, v in result.facts.items() if k not in records})],
        )
        return [*paths, *written]


def _records(value: object) -> list[dict[str, object]]:
    """Return the rows of a fact that is a table; none of another."""
    rows = value if isinstance(value, list) else []
    return rows if all(isinstance(row, dict) for row in rows) else []
