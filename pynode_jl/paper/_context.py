"""Where reproductions are made: a folder, a shelf of trained runs in it, and what is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pynode_jl._io import make_folder, write_text
from pynode_jl._validation import choice, whole_number
from pynode_jl.backends import Backend, RetCode, get_backend
from pynode_jl.diagnostics import CRITERIA, Criterion
from pynode_jl.errors import DivergedError
from pynode_jl.reporting import figures
from pynode_jl.reporting.html import Facts, Picture, Section, Table, Text, write_report
from pynode_jl.runs import Config, Run
from pynode_jl.training import Trained

#: What shows a training's progress: by the run's name, a context that gives an `on_chunk`.
Watch = Callable[[str], AbstractContextManager[Callable[[Trained], None] | None]]


@dataclass(frozen=True)
class Plate:
    """A figure or table that was made, before it is written.

    Attributes:
        title: the page's heading.
        caption: what is shown, from which runs, and what is to be seen in it.
        figure: the picture; None for a table alone, or where all pictures have letters.
        numbers: what the figure shows, row by row.
        formats: by column of `numbers`, how it is shown (`report.Table`).
        facts: by name, constants and settings that decide it.
        more: pictures under the same caption by the letter that their names end in.
    """

    title: str
    caption: str
    figure: Figure | None
    numbers: pd.DataFrame
    formats: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    more: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Desk:
    """Where and how reproductions are made.

    Attributes:
        folder: what they are written to.
        seeds: how many seeds stand behind a mean.
        full: the paper's protocol, hours of it, in place of the short one.
        backend: a name of `BACKENDS`.
        watch: shows progress.
        criterion: what verdicts rest on in Table 1 (`analysis.CRITERIA`).
    """

    folder: Path
    seeds: int = 2
    full: bool = False
    backend: str = "auto"
    watch: Watch = lambda name: nullcontext()
    criterion: Criterion = "flips"

    def __post_init__(self) -> None:
        whole_number("seeds", self.seeds, hint="The paper has 5.")
        choice("criterion", self.criterion, CRITERIA)

    @property
    def integrator(self) -> Backend:
        """The backend itself."""
        return get_backend(self.backend)

    def trained(self, name: str, config: Config, *, may_fail: bool = False) -> Run:
        """The run of `config`, trained to its end: the one on the shelf, or a new one.

        Args:
            name: its folder on the shelf. One name, one configuration.
            config: what decides it.
            may_fail: give a run whose training has failed, as it stands, in place of an error.

        Raises:
            DivergedError: training ended before its last iteration.
            DataChangedError: the run's data are not those that it was trained on.
            RunFolderError: the name has another configuration's run.
        """
        run = Run.create(config, self.folder / "runs" / name)
        if not run.trained.finished:
            with self.watch(name) as show:
                trained = run.train(show)
            if trained.retcode != RetCode.Success and not may_fail:
                raise DivergedError(f"run {run.folder}: {trained.retcode.meaning}")
        return run

    def publish(self, name: str, plate: Plate) -> list[Path]:
        """Write a plate: PNG and PDF, its numbers as CSV, constants as JSON, and an HTML page.

        Returns:
            The paths, the page last.
        """
        make_folder(self.folder)
        base = self.folder / name
        paths = [base.with_suffix(".csv"), base.with_suffix(".json")]
        write_text(paths[0], plate.numbers.to_csv(index=False))
        facts = {"title": plate.title, "caption": plate.caption, **plate.facts}
        write_text(paths[1], json.dumps(facts, indent=1, default=str))
        shown: list[Picture | Text] = [Text(plate.caption)]
        pictures = {} if plate.figure is None else {"": plate.figure}
        for letter, figure in (pictures | dict(plate.more)).items():
            paths += figures.save(figure, base.with_name(name + letter))
            shown.append(Picture(figure, f"{plate.title} {letter}".strip(), name + letter))
        page = write_report(
            base.with_suffix(".html"),
            title=plate.title,
            subtitle="Ott et al., ResNet After All?, ICLR 2021, reproduced by pynode_jl",
            sections=[
                Section("What is seen", shown),
                Section(
                    "Numbers",
                    [Table(plate.numbers, plate.formats, folded=len(plate.numbers) > 25)],
                ),
                Section("What decides it", [Facts(plate.facts)]),
            ],
        )
        return [*paths, page]
