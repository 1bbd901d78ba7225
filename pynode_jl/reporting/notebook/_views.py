"""Objects as HTML for a notebook: a title, a verdict, facts, tables. No script, no network.

Colours and fonts are the notebook's own, light or dark; styles stand in the elements, since some
viewers drop style sheets.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import singledispatch
from typing import Any, NamedTuple

import pandas as pd

from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import Certificate, CriticalReport, SwapMatrix, SwapReport, Verdict
from pynode_jl.errors import PyNODEError
from pynode_jl.fields import FunctionField, LogDensityField
from pynode_jl.models import Model
from pynode_jl.reporting._templates import templates
from pynode_jl.reporting.figures import Measure
from pynode_jl.reporting.formats import Format, formats_for
from pynode_jl.reporting.html import Block, Facts, Table, Text, VerdictCard
from pynode_jl.runs import Run
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Classification
from pynode_jl.training import History, Recipe, Trained, TrainedModel

_TEMPLATES = templates("pynode_jl.reporting.notebook")
# Readable on white and on black alike.
_GREEN, _RED, _GREY, _AMBER = "#1a9870", "#d4500f", "#808890", "#b07d00"
_TONES = {
    "valid": _GREEN,
    "tied": _RED,
    "undecided": _AMBER,
    **dict.fromkeys(("untrained", "overfitted", "non-finite", "failed"), _GREY),
}
_SWAP = {
    "label": "test solver",
    "accuracy": "accuracy",
    "score": "score",
    "flips": "flips",
    "shift": "shift",
    "state_error": "state error",
    "finer": "finer",
    "nf": "evaluations",
    "retcode": "return code",
}
_MATRIX = {
    "train_solver": "trained with",
    "test": "tested with",
    "accuracy": "accuracy",
    "score": "score",
    "damage": "damage",
    "finer": "finer",
    "failed": "failed",
}
# So many rows, and so many names of labels, are shown.
_ROWS = 100
_WORST = 10
_NAMES = 20
_HEX = 12


class View(NamedTuple):
    """A title and what stands under it."""

    title: str
    subtitle: str
    blocks: list[Block]


def html(value: object) -> str:
    """Return an object as a piece of HTML for a notebook.

    `value` is any object; one without a view is shown by its name.

    Example:
        >>> from pynode_jl.reporting.notebook import html
        >>> "Euler h=1/2" in html(pn.Solver("Euler", dt=0.5))
        True
    """
    try:
        found = view(value)
    except PyNODEError as error:  # of a run whose folder is damaged, say
        found = View(type(value).__name__, "", [Text(str(error))])
    return _TEMPLATES.get_template("view.html").render(view=found, tones=_TONES)


@singledispatch
def view(value: object) -> View:
    """Return what is shown of an object: at the least its repr."""
    return View(type(value).__name__, "", [Text(repr(value))])


@view.register
def _(value: Solver) -> View:
    about = value.info
    facts: dict[str, object] = {
        "order": "varies" if about.order is None else about.order,
        "family": about.family,
        "kind": about.kind,
        "backends": ", ".join(about.backends),
    }
    if value.max_steps is not None:
        facts["most steps"] = value.max_steps
    if value.options:
        facts["options"] = dict(value.options)
    same = ", ".join(f"{library}: {name}" for library, name in about.same_as.items())
    near = ", ".join(f"{library}: {name}" for library, name in about.near.items())
    facts |= {"the same in": same} if same else {}
    facts |= {"looks like, is not": near} if near else {}
    facts |= {"note": about.note} if about.note else {}
    return View("Solver", value.label, [Facts(facts)])


@view.register
def _(value: Model) -> View:
    return View("Model", "", [Facts(_model_facts(value))])


def _model_facts(model: Model) -> dict[str, object]:
    field = model.field
    inner = field.field if isinstance(field, LogDensityField) else field
    text = inner.function.__name__ if isinstance(inner, FunctionField) else inner.text
    weights = sum(math.prod(shape) for shape in model.weight_shapes().values())
    task = model.task
    plain = isinstance(task, Classification) and task == Classification(model.classes)
    facts: dict[str, object] = {
        "field": text,
        "input": " x ".join(map(str, model.input_shape)),
        "task": f"{model.classes} classes" if plain else task,
        "time": f"{model.t0:g} to {model.t1:g}",
        "weights": f"{weights:,}",
    }
    facts |= {"appended zeros": model.augment} if model.augment else {}
    if model.encoder is not None:
        facts["encoder"] = model.encoder.function.__name__
    own = not isinstance(model.head, str)
    return facts | ({"head": model.head.function.__name__} if own else {"head": model.head})  # type: ignore[union-attr]


@view.register
def _(value: TrainedModel) -> View:
    return View(
        "TrainedModel", f"trained with {value.solver.label}", [Facts(_trained_facts(value))]
    )


def _trained_facts(value: TrainedModel) -> dict[str, object]:
    facts = _model_facts(value.model) | {"precision": value.precision}
    return facts | _names(value.label_names)


def _names(names: tuple[str, ...] | None) -> dict[str, object]:
    if names is None:
        return {}
    more = ", ..." if len(names) > _NAMES else ""
    return {"labels": ", ".join(names[:_NAMES]) + more}


@view.register
def _(value: Recipe) -> View:
    facts: dict[str, object] = {
        "iterations": f"{value.iterations:,}",
        "batch size": value.batch_size,
        "optimiser": _optimizer(value.optimizer.to_dict()),
        "seed": value.seed,
        "gradient": value.gradient,
        "precision": value.precision,
    }
    if value.controller is not None:
        facts["controller"] = repr(value.controller)
    return View("Recipe", f"with {value.solver.label}", [Facts(facts)])


@view.register
def _(value: Trained) -> View:
    recipe, state = value.recipe, value.state
    facts: dict[str, object] = {"iterations": f"{state.iteration:,} of {recipe.iterations:,}"}
    facts |= _history_facts(value.history)
    facts |= {"optimiser": _optimizer(recipe.optimizer.to_dict()), "seed": recipe.seed}
    facts |= {"seconds": f"{value.seconds:.1f}"}
    if value.ended and not value.finished:
        facts["ended with"] = f"{value.retcode}. {value.retcode.meaning}"
    blocks: list[Block] = [
        Facts(facts, "Training"),
        Facts(_trained_facts(value.trained_model), "Model"),
    ]
    return View("Trained", f"with {value.solver.label}", blocks)


def _optimizer(values: dict[str, Any]) -> str:
    name = values.pop("name")
    return f"{name}: " + ", ".join(f"{key} {each}" for key, each in values.items())


def _history_facts(history: History) -> dict[str, object]:
    if not len(history):
        return {}
    last = slice(-50, None)
    return {
        "loss at the end": f"{history.loss[last].mean():.4g}",
        "evaluations of the field": f"{history.training_nf:,}",
        **({"checks": len(history.checks)} if history.checks else {}),
    }


@view.register
def _(value: History) -> View:
    return View("History", f"of {len(value):,} iterations", [Facts(_history_facts(value))])


@view.register
def _(value: Dataset) -> View:
    task = value.task
    plain = isinstance(task, Classification) and task == Classification(value.classes)
    facts: dict[str, object] = {
        "samples": f"{value.n_train:,} to train, {value.n_test:,} to test",
        "state": " x ".join(map(str, value.state_shape)),
        "task": f"{value.classes} classes" if plain else task,
    }
    if value.classes and value.classes <= _NAMES:
        counts = Counter(value.y_train.tolist())
        names = value.label_names or tuple(map(str, range(value.classes)))
        facts["to train, by label"] = ", ".join(
            f"{name}: {counts[place]:,}" for place, name in enumerate(names)
        )
    else:
        facts |= _names(value.label_names)
    if value.normalization is not None:
        facts["normalised"] = value.normalization.kind
    if value.seed is not None:
        facts["seed"] = value.seed
    facts["fingerprint"] = f"{value.fingerprint[:_HEX]}…"
    return View("Dataset", value.name, [Facts(facts)])


@view.register
def _(value: Verdict) -> View:
    return View("Verdict", "", [_card(value, value.text)])


def _card(verdict: Verdict, text: str) -> VerdictCard:
    return VerdictCard(verdict.kind, text)


@view.register
def _(value: SwapReport) -> View:
    blocks: list[Block] = [_card(value.verdict, value.verdict.text)]
    if len(value.table):
        reading = "finer: at least as near to the ODE as the training solve; the verdict rests on"
        reading += " these rows and on the ODE itself."
        blocks += [_table(value.table, _SWAP, Measure.of(value), reading)]
    if value.cost is not None:
        blocks.append(Text(value.cost.text))
    return View("SwapReport", f"of a model trained with {value.verdict.solver}", blocks)


def _table(
    frame: pd.DataFrame, columns: dict[str, str], measure: Measure, caption: str = ""
) -> Table:
    """Return a table of those columns that there are."""
    headers = {name: heading for name, heading in columns.items() if name in frame}
    shown = frame[list(headers)].head(_ROWS)
    if "score" in headers:
        headers["score"] = measure.metric
    own: dict[str, Format] = {}
    if measure.shifts:
        own = {name: ".4g" for name in ("damage",) if name in shown}
        own |= {"shift": measure.change_text} if "shift" in shown else {}
    if len(frame) > _ROWS:
        caption += f" The first {_ROWS} of {len(frame)} rows."
    return Table(shown, formats_for(shown, own), headers, caption.strip())


@view.register
def _(value: Certificate) -> View:
    found = {f"{each.name} ({each.outcome})": each.text for each in value.findings}
    blocks: list[Block] = [_card(value.verdict, value.text)]
    blocks += [Facts(found, "Diagnostics", prose=True)] if found else []
    about = {
        "model": value.model,
        "trained with": value.solver.label,
        "data": _short_digests(value.data),
    }
    return View("Certificate", "", [*blocks, Facts(about, "What it is of")])


def _short_digests(text: str) -> str:
    return re.sub(
        rf"\b([0-9a-f]{{{_HEX}}})[0-9a-f]{{{_HEX},}}\b", "\\1\N{HORIZONTAL ELLIPSIS}", text
    )


@view.register
def _(value: SwapMatrix) -> View:
    measure = Measure() if value.report is None else Measure.of(value.report)
    trained = value.trained
    finer = value.table[value.table["finer"] & ~value.table["own"]]
    rows, columns = value.grid().shape
    blocks: list[Block] = [
        Table(
            trained,
            formats_for(trained) if not measure.shifts else {},
            {"train_solver": "trained with"},
            "By training solver",
        )
    ]
    if len(finer):
        worst = "The greatest damage among finer solves"
        blocks.append(_table(finer.head(_WORST), _MATRIX, measure, worst))
    return View("SwapMatrix", f"of {rows} training by {columns} test solvers", blocks)


@view.register
def _(value: CriticalReport) -> View:
    brackets = value.brackets
    table = Table(brackets, formats_for(brackets), {}, "By seed: where models fail, and hold")
    return View("CriticalReport", f"by {value.method}, {len(value.trials)} trainings", [table])


@view.register
def _(value: Run) -> View:
    trained = value.trained
    facts: dict[str, object] = {
        "folder": value.folder,
        "data": value.dataset.name,
        "solver": trained.recipe.solver.label,
        "iterations": f"{trained.state.iteration:,} of {trained.recipe.iterations:,}",
    }
    blocks: list[Block] = [Facts(facts | _history_facts(trained.history))]
    if trained.finished:
        try:
            blocks.insert(0, _card(verdict := value.stored_swap().verdict, verdict.text))
        except PyNODEError:
            blocks.append(Text("No swap yet: run.swap() makes one."))
    return View("Run", value.folder.name, blocks)
