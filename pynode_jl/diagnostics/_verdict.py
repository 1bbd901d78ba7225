"""The verdict: what a swap's answers bear out, at a stated confidence.

A model is an ODE where any discretisation of similar or smaller error gives the same predictions
(Ott et al. 2021). So answers are compared sample by sample, under the training solver and under the
ODE and every finer solve. Each comparison counts *flips*, samples whose answer changes, and has an
exact interval for the share of flips in the data's distribution:

- *tied* if the lower end is above the margin, for the ODE or a finer solve, over all samples or
  those of one class. One such comparison is enough, so the lower ends hold together (Bonferroni):
  half of their error probability belongs to the ODE, the rest is shared equally by all others.
- *valid* if the upper end is within the margin for the ODE and every finer solve. All must be, so
  that each upper end needs no more than its own error probability (Berger 1982).
- *undecided* otherwise.

At a confidence of 95 % either end is wrong with a probability of at most 2.5 %. Answers that the
reference's own error leaves open count as flips in upper ends and as none in lower ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from pynode_jl import proportions
from pynode_jl._display import Viewed
from pynode_jl._validation import choice, real_number
from pynode_jl.backends import Array
from pynode_jl.diagnostics._equality import NanEqual
from pynode_jl.diagnostics._sentences import rounding_text, verdict_text
from pynode_jl.diagnostics._shifts import ODE as ODE
from pynode_jl.diagnostics._shifts import Shift, ShiftComparisons
from pynode_jl.diagnostics._skill import Skill
from pynode_jl.errors import InvalidValueError
from pynode_jl.tasks import Task

#: Comparisons of either kind.
AnyComparisons: TypeAlias = "Comparisons | ShiftComparisons"

#: What a verdict says, in one word.
Kind = Literal["valid", "tied", "undecided", "untrained", "overfitted", "non-finite", "failed"]
#: How a verdict is reached: by flips as above, or by one of the paper's own rules on accuracies.
Criterion = Literal["flips", "three-points", "ten-points"]
#: The names of the criteria.
CRITERIA: tuple[Criterion, ...] = ("flips", "three-points", "ten-points")


def checked_margin(margin: float | None, task: Task | None = None) -> float:
    """Return a margin, or the task's (0.03 without one) for None."""
    if margin is not None:
        return margin
    return 0.03 if task is None else task.margin


def check_rule(
    margin: float | None, confidence: float, criterion: str, task: Task | None = None
) -> None:
    """Refuse settings that no verdict can be made with.

    Raises:
        InvalidValueError: a margin that is not positive, or of a share of answers not below 1; a
            confidence outside (0.5, 1); an unknown criterion, or a rule about accuracies for
            another task than a classification.

    Example:
        >>> from pynode_jl.diagnostics import check_rule
        >>> check_rule(margin=0.03, confidence=0.95, criterion="flips")
    """
    share = task is None or task.comparison == "flips"
    if margin is not None:
        most = 1 if share else math.inf
        real_number("margin", margin, "0.03 is three points.", above=0, below=most)
    real_number("confidence", confidence, "0.95 is usual.", above=0.5, below=1)
    choice("criterion", criterion, CRITERIA)
    if not share and criterion != "flips":
        raise InvalidValueError(
            "criterion", criterion, '"flips" for a task without accuracies', "Leave it out."
        )


@dataclass(frozen=True, eq=False)
class Flips(NanEqual):
    """The answers of one solve beside those of the training solver, on the same samples.

    Attributes:
        label: the solve.
        samples: how many samples.
        flips: how many answers change.
        unsure: how many answers the reference's own error leaves open; 0 for other solves.
        low, high: interval of the share of flips.
        lost, won: answers that only the training solver, and only this solve, gives right.
        p_value: of McNemar's exact test, that both are equally accurate.
        accuracy: of this solve.

    Example:
        >>> ode = pn.swap(trained, data, ["RK4"], backend="jax").verdict.ode
        >>> ode.flips, ode.samples, ode.share
        (200, 200, 1.0)
    """

    label: str
    samples: int
    flips: int
    unsure: int
    low: float
    high: float
    lost: int
    won: int
    p_value: float
    accuracy: float

    @property
    def share(self) -> float:
        """The share of flips among the samples."""
        return self.flips / self.samples


@dataclass(frozen=True)
class ClassFlips:
    """Flips among the samples of one class (by label) under one solve; `low` as in `Flips`.

    Example:
        >>> from pynode_jl.diagnostics import ClassFlips
        >>> ClassFlips("RK4 h=1", class_=1, samples=100, flips=7, low=0.03).flips
        7
    """

    label: str
    class_: int
    samples: int
    flips: int
    low: float


@dataclass(frozen=True, eq=False)
class Rounding(NanEqual):
    """What the arithmetic of training does to the answers, beside what finer solvers do.

    A table is made in full precision, whatever a model was trained in: otherwise rounding changes
    would be attributed to the solver.

    Attributes:
        precision: the field's, in training.
        accuracy: under the training solver in that precision.
        changed: share of answers that full precision changes, the solver being the same.
        swapped: the largest share that a finer solver, or the reference, changes (None if there was
            none).
        margin: of the verdict.

    Example:
        >>> from pynode_jl.diagnostics import Rounding
        >>> print(Rounding("bfloat16", 0.98, changed=0.002, swapped=0.214, margin=0.03).text)
        Trained in bfloat16: ...
    """

    precision: str
    accuracy: float
    changed: float
    swapped: float | None
    margin: float

    @property
    def text(self) -> str:
        """One sentence with its figures, and a warning where they are too large."""
        return rounding_text(self)


@dataclass(frozen=True, repr=False, eq=False)
class Verdict(Viewed, NanEqual):
    """What a swap says of a model. `text` is made from these values and from nothing else.

    Attributes:
        kind: "valid": an ODE, as far as these solves and samples tell; "tied": surely more than
            `margin` of the answers change; "undecided": neither is borne out; "untrained": not
            surely more accurate than the most frequent label; "overfitted": that, but surely more
            accurate on its training data; "non-finite": weights with NaN or infinity; "failed": the
            training solve did not reach its end.
        reason: what decided: "ode", "finer", "class" (tied); "samples", "reference" (undecided);
            the arrays that are not finite, or the return code of the failed solve; else "".
        criterion: the rule (`Criterion`).
        solver: the training solver's label.
        samples: test samples.
        confidence, margin: of the rule.
        trained: accuracy (or score) as trained.
        ode: comparison with the ODE; None where there was no reference.
        decisive: the comparison that decides, or that is nearest to deciding; None where none was
            made.
        decisive_class: the class that makes a model tied; None else.
        finer: how many finer solves were compared, the ODE not counted.
        skill: accuracy against the most frequent label, on the test samples.
        train_skill: the same on training samples, asked only where `skill` is not sure.
        needed: how many test samples would decide at the rate seen; None where it is decided, or
            where no number would.
        drop: how much worse the worst of the ODE and the finer solves scores (nan without).
        worst: the label of the solve that has it ("" without).
        rounding: for a model trained in mixed precision; None for all others.
        task, metric, unit, higher_is_better: of the task: its kind, what its score is called, what
            a change of answers is measured in, and which scores are good.

    Example:
        >>> verdict = pn.swap(trained, data, ["RK4"], backend="jax").verdict
        >>> verdict.kind, verdict.samples
        ('tied', 200)
        >>> print(verdict.text.split(".")[0])
        tied to its solver: 100
    """

    kind: Kind
    reason: str
    criterion: Criterion
    solver: str
    samples: int
    confidence: float
    margin: float
    trained: float
    ode: Flips | Shift | None = None
    decisive: Flips | Shift | None = None
    decisive_class: ClassFlips | None = None
    finer: int = 0
    skill: Skill | None = None
    train_skill: Skill | None = None
    needed: int | None = None
    drop: float = math.nan
    worst: str = ""
    rounding: Rounding | None = None
    task: str = "classification"
    metric: str = "accuracy"
    unit: str = ""
    higher_is_better: bool = True

    def __repr__(self) -> str:
        ode = "" if self.ode is None else f", its ODE changes {self.ode.share:.4g}"
        return f"Verdict({self.kind!r}, {self.solver}, {self.metric} {self.trained:.4g}{ode})"

    @property
    def text(self) -> str:
        """The verdict in one or two sentences, with its figures."""
        return verdict_text(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values for JSON, `text` among them; `from_dict` reads them back.

        A drop of nan (nothing was compared) is None.
        """
        values = {**asdict(self), "text": self.text}
        return values | {"drop": None if math.isnan(self.drop) else self.drop}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """Return the verdict that `to_dict` wrote.

        Raises:
            KeyError, TypeError: values that it did not write.
        """
        compared = Flips if values.get("task", "classification") == "classification" else Shift
        parts: dict[str, Any] = {
            "ode": compared,
            "decisive": compared,
            "decisive_class": ClassFlips,
            "skill": Skill,
            "train_skill": Skill,
            "rounding": Rounding,
        }
        given = {key: value for key, value in values.items() if key in cls.__dataclass_fields__}
        for key, part in parts.items():
            given[key] = None if values[key] is None else part(**values[key])
        if given["drop"] is None:
            given["drop"] = math.nan
        return cls(**given)


@dataclass(frozen=True)
class Comparisons:
    """Every solve's answers against the training solver's: arrays over the solves, the ODE last.

    Attributes:
        labels: of the solves.
        unsure: (n,), answers of the ODE that its own error leaves open.
        flips, lost, won, p_value, accuracy, low, high: (solves,), as in `Flips`.
        classes: labels that occur.
        class_samples: (classes,), and `class_flips`, `class_low`: (solves, classes).
        lower_error, upper_error: (solves,), error probabilities of the ends.
    """

    labels: tuple[str, ...]
    samples: int
    unsure: Array
    flips: Array
    lost: Array
    won: Array
    p_value: Array
    accuracy: Array
    low: Array
    high: Array
    classes: Array
    class_samples: Array
    class_flips: Array
    class_low: Array
    lower_error: Array
    upper_error: float
    solved: bool = field(default=True)

    @property
    def changed(self) -> Array:
        """(solves,), the share of answers that change."""
        return self.flips / self.samples

    def worst(self, rows: Array) -> int:
        """Return the least accurate of `rows`."""
        return int(rows[np.argmin(self.accuracy[rows])])

    def settled(self, i: int, margin: float) -> bool:
        """Whether a solve would be within the margin if every open answer stayed as it is."""
        if i < len(self.labels) - 1 or not self.unsure.any():
            return False
        return (
            float(proportions.upper_bound(self.flips[i], self.samples, self.upper_error)) <= margin
        )

    def needed(self, i: int, margin: float) -> int | None:
        """Return about how many samples would decide at the rate seen."""
        return proportions.samples_to_decide(
            float(self.flips[i]) / self.samples,
            margin,
            lower_error=float(self.lower_error[i]),
            upper_error=self.upper_error,
        )

    def of(self, i: int) -> Flips:
        """One solve's comparison."""
        last = i == len(self.labels) - 1
        return Flips(
            self.labels[i],
            self.samples,
            int(self.flips[i]),
            int(self.unsure.sum()) if last else 0,
            float(self.low[i]),
            float(self.high[i]),
            int(self.lost[i]),
            int(self.won[i]),
            float(self.p_value[i]),
            float(self.accuracy[i]),
        )

    def class_of(self, i: int, c: int) -> ClassFlips:
        """One class under one solve."""
        return ClassFlips(
            self.labels[i],
            int(self.classes[c]),
            int(self.class_samples[c]),
            int(self.class_flips[i, c]),
            float(self.class_low[i, c]),
        )


def compare(
    labels: Sequence[str],
    answers: Array,
    own: Array,
    ode: Array | None,
    unsure: Array,
    truth: Array,
    *,
    counted: Array,
    confidence: float = 0.95,
) -> Comparisons:
    """Compare the answers of many solves with the training solver's.

    Args:
        labels: of the solves, without the ODE's.
        answers: (solves, n), their answers.
        own: (n,), the training solver's.
        ode: (n,), the ODE's; None where there is no reference.
        unsure: (n,), answers of the ODE that are open.
        truth: (n,), the labels of the samples.
        counted: (solves,), which solves the verdict rests on: they share the error probability.
        confidence: of the intervals.

    Returns:
        `Comparisons`, with the ODE as the last solve. All have intervals at the level of those
        that count.
    """
    solved = ode is not None
    given = np.concatenate([answers.reshape(-1, own.size), (own if ode is None else ode)[None]])
    n, rows = own.size, len(given)
    own, truth = own.astype(given.dtype), truth.astype(given.dtype)
    changed = given != own
    right, own_right = given == truth, own == truth
    # Both right, or both wrong, where the two masks agree.
    lost = np.count_nonzero(own_right > right, axis=1)
    won = np.count_nonzero(right > own_right, axis=1)

    classes, of_class = np.unique(truth, return_inverse=True)
    member = np.zeros((n, classes.size), np.float32)
    member[np.arange(n), of_class] = 1.0
    class_samples = member.sum(axis=0)
    class_flips = changed.astype(np.float32) @ member
    # An open answer is no flip for the lower end, and a flip for the upper one.
    at_least, at_most = changed.sum(axis=1), changed.sum(axis=1)
    at_least[-1] = np.sum(changed[-1] & ~unsure)
    at_most[-1] = np.sum(changed[-1] | unsure)
    class_at_least = class_flips.copy()
    class_at_least[-1] = (changed[-1] & ~unsure).astype(np.float32) @ member

    tail = (1.0 - confidence) / 2.0
    finer = int(np.sum(counted))
    shared = tail / 2.0 / (finer + classes.size * (finer + 1))
    lower_error = np.full(rows, shared)
    lower_error[-1] = tail / 2.0
    return Comparisons(
        (*labels, ODE),
        n,
        unsure if solved else np.zeros(n, bool),
        changed.sum(axis=1),
        lost,
        won,
        proportions.mcnemar(lost, won),
        right.mean(axis=1),
        proportions.lower_bound(at_least, n, lower_error),
        proportions.upper_bound(at_most, n, tail),
        classes,
        class_samples,
        class_flips,
        proportions.lower_bound(class_at_least, class_samples, shared),
        lower_error,
        tail,
        solved,
    )


def judge(base: Verdict, found: AnyComparisons, counted: Array) -> Verdict:
    """Decide valid, tied or undecided by flips, or by shifts.

    Args:
        base: the verdict's context: solver, margin, accuracies; its kind is replaced.
        found: all comparisons.
        counted: (solves,), the finer ones.
    """
    margin = base.margin
    ode = len(found.labels) - 1
    finer = np.flatnonzero(counted)
    rows = np.append(finer, ode)
    lowest = found.worst(rows)
    score = found.score if isinstance(found, ShiftComparisons) else found.accuracy
    lost = base.trained - float(score[lowest])
    base = replace(
        base,
        ode=found.of(ode),
        finer=finer.size,
        drop=lost if base.higher_is_better else -lost,
        worst=found.labels[lowest],
    )
    worst = int(rows[np.argmax(found.changed[rows])])
    if found.low[ode] > margin:
        return replace(base, kind="tied", reason="ode", decisive=found.of(ode))
    if finer.size and found.low[finer].max() > margin:
        decisive = int(finer[np.argmax(found.low[finer])])
        return replace(base, kind="tied", reason="finer", decisive=found.of(decisive))
    if isinstance(found, Comparisons) and found.class_low[rows].max() > margin:
        row, c = np.unravel_index(np.argmax(found.class_low[rows]), found.class_low[rows].shape)
        i = int(rows[row])
        return replace(
            base,
            kind="tied",
            reason="class",
            decisive=found.of(i),
            decisive_class=found.class_of(i, int(c)),
        )
    if found.high[rows].max() <= margin:
        return replace(base, kind="valid", reason="", decisive=found.of(worst))
    widest = int(rows[np.argmax(found.high[rows])])
    # With every open answer settled the other way it would be decided: samples are not what lacks.
    reason = "reference" if found.settled(widest, margin) else "samples"
    return replace(
        base,
        kind="undecided",
        reason=reason,
        decisive=found.of(widest),
        needed=found.needed(widest, margin) if reason == "samples" else None,
    )
