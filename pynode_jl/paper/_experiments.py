"""The experiments behind figures and tables: a data set, and how its runs are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pynode_jl.paper._context import ReproductionContext
from pynode_jl.runs import AdaptConfig, Config, Run
from pynode_jl.solvers import Solver

#: Controllers, each with the solver that it starts from; the paper's begins with Hairer's step
#: instead.
CONTROLLERS = {"paper": "Euler:dt=1/16", "steady": "Euler:dt=1/8"}


@dataclass(frozen=True, kw_only=True)
class ExperimentSpec:
    """A data set, and the configurations that figures train runs of.

    Attributes:
        name: the data set.
        stem: what the names of its runs' folders begin with.
        configs: by protocol, full or not, what the runs have in common.
        words: how a caption says that they are trained, likewise.
        short_controls: settings of the controllers in the short protocol, where their own are meant
            for longer runs.
    """

    name: str
    stem: str
    configs: Mapping[bool, Config]
    words: Mapping[bool, str]
    short_controls: Mapping[str, Any] = field(default_factory=dict)

    def run(
        self, context: ReproductionContext, solver: str, seed: int = 0, *, may_fail: bool = False
    ) -> Run:
        """Return the trained run of a solver, as text; `may_fail` as in `train_run`."""
        config = self._config(context, solver, seed)
        return self._train(context, _folder_name(solver), config, may_fail=may_fail)

    def adapted(self, context: ReproductionContext, controller: str, seed: int) -> Run:
        """Return the trained run under a controller, by name."""
        start = self._config(context, CONTROLLERS[controller], seed)
        adapt = AdaptConfig(controller, {} if context.full else dict(self.short_controls))
        return self._train(context, controller, replace(start, adapt=adapt))

    def _config(self, context: ReproductionContext, solver: str, seed: int) -> Config:
        base = self.configs[context.full]
        train = replace(base.train, solver=solver)
        return replace(base, seed=seed, backend=context.backend, train=train)

    def _train(
        self, context: ReproductionContext, how: str, config: Config, *, may_fail: bool = False
    ) -> Run:
        kind = "full" if context.full else "short"
        name = f"{self.stem}-{how}-{kind}-s{config.seed}"
        return context.train_run(name, config, may_fail=may_fail)


def _folder_name(solver: str) -> str:
    """Return a training solver as part of a folder's name: "Euler:dt=1/16" is "euler-h16"."""
    parsed = Solver.parse(solver)
    size = parsed.stepping.size
    text = f"h{1 / size:g}" if parsed.fixed else f"tol{size:g}"
    return f"{parsed.name.lower()}-{text}"
