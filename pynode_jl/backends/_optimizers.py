"""How gradients become updates: the optimisers by name, and the learning rate by iteration.

Plain data. A backend brings the arithmetic: JAX by optax's transformations, torch by torch.optim.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from pynode_jl._display import ShortRepr
from pynode_jl._validation import (
    choice,
    flag,
    mapping,
    number_of_text,
    real_number,
    settings_of_text,
    whole_number,
)
from pynode_jl.backends._registry import BACKENDS, having
from pynode_jl.backends._results import Array
from pynode_jl.errors import InvalidValueError, UnknownNameError

#: The learning rate after the warm-up, as a share of the full one: falling along a cosine, a
#: straight line, or a geometric sequence, from 1 to `Optimizer.final`.
SCHEDULES = ("constant", "cosine", "linear", "exponential")
# Iterations are counted in 32 bits.
_MOST = 2**31 - 1
_HINT = 'Use pn.Adam(1e-3), or a text such as "sgd:learning_rate=0.1,momentum=0.9".'


@dataclass(frozen=True, repr=False)
class Optimizer(ShortRepr, ABC):
    """What turns gradients into updates: `Adam`, `SGD` or `RMSprop`.

    Attributes:
        learning_rate: the full one, which `schedule` and `warmup` lower.
        weight_decay: decoupled, as in AdamW (Loshchilov & Hutter 2019): each iteration also takes
            the learning rate times this share off every weight, whatever its gradient.
        clip_norm: a gradient whose norm over all weights is larger is scaled down to this norm;
            left out, there is no limit.
        schedule: a name of `SCHEDULES`; all but "constant" end with `Recipe.iterations`.
        warmup: iterations in which the rate first rises: 1/warmup of it, 2/warmup, and so on.
        final: the share of the rate that a schedule falls to; "exponential" asks for one above 0.

    Raises:
        InvalidValueError: a number out of range, or options that do not go together.

    Example:
        >>> from pynode_jl.backends import Optimizer
        >>> Optimizer.of("adam:weight_decay=0.01,warmup=10").features
        ('adam', 'weight_decay', 'schedule')
    """

    learning_rate: float = 1e-3
    weight_decay: float = field(default=0.0, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)
    schedule: str = field(default="constant", kw_only=True)
    warmup: int = field(default=0, kw_only=True)
    final: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        self._put_number("learning_rate", "The paper's is 1e-4.", above=0)
        self._put_number("weight_decay", "0.01 is usual.", least=0)
        if self.clip_norm is not None:
            self._put_number("clip_norm", "Leave it out for no limit.", above=0)
        choice("schedule", self.schedule, SCHEDULES)
        hint = "Leave it out for no warm-up."
        object.__setattr__(
            self, "warmup", whole_number("warmup", self.warmup, 0, most=_MOST, hint=hint)
        )
        self._put_number("final", "0.01 ends at a hundredth of the rate.", least=0, below=1)
        if self.schedule == "exponential" and not self.final:
            raise InvalidValueError(
                "final", self.final, 'a share above 0 with schedule="exponential"', "Use 0.01, say."
            )
        if self.schedule == "constant" and self.final:
            raise InvalidValueError(
                "final", self.final, "0 with a constant schedule", 'Use schedule="cosine", say.'
            )
        self._check_own()

    @abstractmethod
    def _check_own(self) -> None:
        """Check the options that are not every optimiser's, and make them plain."""

    def _put_number(self, name: str, hint: str, **limits: float) -> None:
        object.__setattr__(self, name, real_number(name, getattr(self, name), hint, **limits))

    @property
    def name(self) -> str:
        """Its name in `OPTIMIZERS`."""
        return next(name for name, kind in OPTIMIZERS.items() if isinstance(self, kind))

    @property
    def features(self) -> tuple[str, ...]:
        """What a backend needs for it: its name, and the options in use."""
        used = {
            "weight_decay": self.weight_decay,
            "clip_norm": self.clip_norm is not None,
            "schedule": self.warmup or self.decays,
        }
        return (self.name, *(name for name, wanted in used.items() if wanted))

    @property
    def decays(self) -> bool:
        """Whether the learning rate depends on the number of iterations in all."""
        return self.schedule != "constant"

    def check_iterations(self, iterations: int | None) -> None:
        """Refuse a number of iterations in all, if the schedule asks for one, that does not fit.

        Raises:
            InvalidValueError: none is given, or no more than the warm-up's.
        """
        if not self.decays:
            return
        if iterations is None:
            raise InvalidValueError(
                "iterations",
                None,
                f"the number of iterations in all, over which schedule={self.schedule!r} decays",
                "Pass it.",
            )
        if self.warmup >= whole_number("iterations", iterations, most=_MOST):
            raise InvalidValueError(
                "optimizer.warmup",
                self.warmup,
                f"fewer than all {iterations} iterations",
                "Shorten it, or train longer.",
            )

    def rate(self, iteration: int, iterations: int | None = None) -> float:
        """Return the learning rate of one iteration.

        Args:
            iteration: counted from 0.
            iterations: in all; for a schedule that decays.

        Example:
            >>> sgd = pn.SGD(1.0, schedule="linear", warmup=2)
            >>> [sgd.rate(i, 6) for i in range(6)]
            [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
        """
        iteration = whole_number("iteration", iteration, 0)
        if iteration < self.warmup:
            return self.learning_rate * ((iteration + 1) / self.warmup)
        if not self.decays:
            return self.learning_rate
        self.check_iterations(iterations)
        assert iterations is not None
        along = min((iteration - self.warmup) / (iterations - self.warmup), 1.0)
        if self.schedule == "exponential":
            return self.learning_rate * math.pow(self.final, along)
        fallen = along if self.schedule == "linear" else (1.0 - math.cos(math.pi * along)) / 2.0
        return self.learning_rate * (1.0 - (1.0 - self.final) * fallen)

    def rates(self, first: int, count: int, iterations: int | None = None) -> Array:
        """Return the learning rates of `count` iterations from `first` on, ``(count,)`` float64.

        Each depends on its own number alone: chunks of another length have the same.
        """
        self.check_iterations(iterations)
        first, count = whole_number("first", first, 0), whole_number("count", count)
        return np.array([self.rate(i, iterations) for i in range(first, first + count)])

    def at_rate(self, learning_rate: float) -> Optimizer:
        """Return the same rule at one rate: what a program is compiled for."""
        return replace(self, learning_rate=learning_rate, schedule="constant", warmup=0, final=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `of` reads them back.

        Every optimiser's options are left out where they have their defaults.
        """
        shared = {each.name for each in fields(Optimizer)} - {"learning_rate"}
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        default = {each.name: each.default for each in fields(self)}
        return {"name": self.name} | {
            name: value
            for name, value in values.items()
            if name not in shared or value != default[name]
        }

    @staticmethod
    def of(value: Optimizer | str | Mapping[str, Any]) -> Optimizer:
        """Return the optimiser that is meant by itself, by a text, or by a table.

        `value` is an `Optimizer`, ``"sgd:momentum=0.9"``, or ``{"name": "adam"}``.

        Raises:
            UnknownNameError: no optimiser has that name.
            InvalidValueError: it is none of these, or has an option that does not exist.

        Example:
            >>> from pynode_jl.backends import Optimizer
            >>> Optimizer.of("sgd:learning_rate=1/8,nesterov=true,momentum=0.9").momentum
            0.9
            >>> Optimizer.of({"name": "adam", "schedule": "cosine"}) == pn.Adam(schedule="cosine")
            True
        """
        if isinstance(value, Optimizer):
            return value
        if isinstance(value, str):
            kind = _kind(value.partition(":")[0].strip())
            _, texts = settings_of_text(
                "optimizer", value, list(_options(kind)), "key=value", _HINT
            )
            return kind(**{key: _read(value, key, each) for key, each in texts.items()})
        if isinstance(value, Mapping):
            table = mapping("optimizer", value, "a table", 'Write {"name": "adam"}, say.')
            if "name" not in table:
                raise InvalidValueError("optimizer", table, "a table with a name", _HINT)
            kind = _kind(table.pop("name"))
            for key, each in table.items():
                if key not in _options(kind):
                    raise InvalidValueError(
                        f"optimizer.{key}",
                        each,
                        f"one of {', '.join(_options(kind))}",
                        "Remove it.",
                    )
            return kind(**table)
        raise InvalidValueError("optimizer", value, "an Adam, SGD or RMSprop, or its name", _HINT)


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), in the form that torch and optax share; with `weight_decay`, AdamW.

    Attributes:
        b1, b2: how much of the running means of gradients and of their squares is kept, each in [0,
            1).
        eps: added to the root of the mean square, > 0.

    Example:
        >>> pn.Adam(3e-4).b1
        0.9
        >>> pn.Adam(1e-3, weight_decay=0.01, clip_norm=1.0, schedule="cosine", warmup=100).name
        'adam'
    """

    learning_rate: float = 1e-4
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def _check_own(self) -> None:
        self._put_number("eps", "1e-8 is usual.", above=0)
        for name, usual in (("b1", 0.9), ("b2", 0.999)):
            self._put_number(name, f"{usual} is usual.", least=0, below=1)


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum in torch's form: m = momentum m + gradient.

    Attributes:
        momentum: 0 for none.
        nesterov: steps by gradient + momentum m instead of by m (Sutskever et al. 2013).

    Example:
        >>> pn.SGD(0.1, momentum=0.9, nesterov=True).to_dict()
        {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.9, 'nesterov': True}
    """

    learning_rate: float = 1e-2
    momentum: float = 0.0
    nesterov: bool = False

    def _check_own(self) -> None:
        self._put_number("momentum", "0.9 is usual.", least=0, below=1)
        object.__setattr__(self, "nesterov", flag("nesterov", self.nesterov))
        if self.nesterov and not self.momentum:
            raise InvalidValueError(
                "nesterov", True, "False without momentum", "Use momentum=0.9, say."
            )


@dataclass(frozen=True, repr=False)
class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012), in torch's form: not centred, eps outside the root.

    Attributes:
        decay: of the mean of squared gradients; torch calls it alpha.
        eps: added to the root of that mean.
        momentum: of the scaled gradients, m = momentum m + gradient; 0 for none.

    Example:
        >>> pn.RMSprop(1e-3, momentum=0.9).to_dict()["decay"]
        0.99
    """

    learning_rate: float = 1e-3
    decay: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0

    def _check_own(self) -> None:
        self._put_number("decay", "0.99 is usual.", least=0, below=1)
        self._put_number("eps", "1e-8 is usual.", above=0)
        self._put_number("momentum", "0.9 is usual.", least=0, below=1)


#: The optimisers by name, as configurations and texts have it.
OPTIMIZERS: Mapping[str, type[Optimizer]] = {"adam": Adam, "sgd": SGD, "rmsprop": RMSprop}
# What others call them, and how they are written here.
_MEANT = {
    "adamw": {"adam": "adam:weight_decay=0.01"},
    "momentum": {"sgd": "sgd:momentum=0.9"},
    "nesterov": {"sgd": "sgd:momentum=0.9,nesterov=true"},
}


def checked_optimizer(value: object, *, backend: str | None = None) -> Optimizer:
    """Return the optimiser that is meant, if a backend has it.

    `value` is what `Optimizer.of` takes.

    Raises:
        UnknownNameError, InvalidValueError: it is none, or one that `backend` lacks.

    Example:
        >>> from pynode_jl.backends import checked_optimizer
        >>> checked_optimizer("adam:weight_decay=0.01", backend="jax").weight_decay
        0.01
    """
    optimizer = Optimizer.of(value)  # type: ignore[arg-type]  # whatever it is, it is refused there
    wanted = () if backend is None else optimizer.features
    for feature in wanted:
        if feature == "adam":
            continue
        name = choice("backend", backend, tuple(BACKENDS))
        if feature not in BACKENDS[name].capabilities.optimizers:
            raise InvalidValueError(
                "optimizer",
                optimizer.to_dict(),
                f"{'Adam' if feature in OPTIMIZERS else f'no {feature}'} on the {name} backend",
                f'Or use backend="{having("optimizers", feature)[0]}".',
            )
    return optimizer


def _kind(name: object) -> type[Optimizer]:
    known = name.casefold() if isinstance(name, str) else ""
    if known not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS, _MEANT.get(known, {}))
    return OPTIMIZERS[known]


def _options(kind: type[Optimizer]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _read(text: str, key: str, value: str) -> Any:
    """Return the value of an option in a text; what is none is left to the optimiser's checks."""
    if key == "schedule":
        return value
    if key == "nesterov":
        return {"true": True, "false": False}.get(value.casefold(), value)
    number = number_of_text(f"optimizer {text!r}, {key}", value)
    return int(number) if number.is_integer() else number
