"""What figures and tables are made of: a data set, and how its runs are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pynode_jl.paper._context import Desk
from pynode_jl.runs import AdaptConfig, Config, Run
from pynode_jl.solvers import Solver

#: Controllers, each with the solver that it starts from; the paper's begins with Hairer's step
#: instead.
CONTROLLERS = {"paper": "Euler:dt=1/16", "steady": "Euler:dt=1/8"}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A data set, as a figure asks for its runs: from the desk's shelf, or new.

    Attributes:
        name: the data set.
        stem: what the names of its runs' folders begin with.
        configs: by protocol, full or not, what the runs have in common.
        words: what a caption says of how they are trained, likewise.
        short_controls: settings of the controllers in the short protocol, where their own are meant
            for longer runs.
    """

    name: str
    stem: str
    configs: Mapping[bool, Config]
    words: Mapping[bool, str]
    short_controls: Mapping[str, Any] = field(default_factory=dict)

    def run(self, desk: Desk, solver: str, seed: int = 0, *, may_fail: bool = False) -> Run:
        """The run with a training solver, as text; `may_fail` as in `Desk.trained`."""
        config = self._config(desk, solver, seed)
        return self._trained(desk, _folder_name(solver), config, may_fail=may_fail)

    def adapted(self, desk: Desk, controller: str, seed: int) -> Run:
        """The run under a controller, by name."""
        start = self._config(desk, CONTROLLERS[controller], seed)
        adapt = AdaptConfig(controller, {} if desk.full else dict(self.short_controls))
        return self._trained(desk, controller, replace(start, adapt=adapt))

    def _config(self, desk: Desk, solver: str, seed: int) -> Config:
        base = self.configs[desk.full]
        train = replace(base.train, solver=solver)
        return replace(base, seed=seed, backend=desk.backend, train=train)

    def _trained(self, desk: Desk, how: str, config: Config, *, may_fail: bool = False) -> Run:
        kind = "full" if desk.full else "short"
        name = f"{self.stem}-{how}-{kind}-s{config.seed}"
        return desk.trained(name, config, may_fail=may_fail)


def _folder_name(solver: str) -> str:
    """A training solver in the name of a run's folder: ``"Euler:dt=1/16"`` is ``euler-h16``."""
    parsed = Solver.parse(solver)
    size = parsed.stepping.size
    text = f"h{1 / size:g}" if parsed.fixed else f"tol{size:g}"
    return f"{parsed.name.lower()}-{text}"
