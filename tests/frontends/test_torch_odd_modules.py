"""Odd torch modules: torchdiffeq's numbers and side effects, or a refusal that says the fix.

Each is solved twice, so that what is remembered of it is used, then changed, and solved again.
"""

from __future__ import annotations

import copy
import itertools
import os
import random
import time
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchdiffeq
from torch import Tensor, nn
from torch.nn import functional

from pynode_jl.errors import PyNODEError
from pynode_jl.torch import NeuralODE, odeint

F64 = torch.float64
FIXED: dict[str, Any] = {"method": "rk4", "options": {"step_size": 0.5}}
Change = Callable[[Any], object]

FLAG, DEPTH = True, 1
SETTINGS = {"on": True}
CLOCK = types.SimpleNamespace(ends=1e12)
SEEN: list[int] = []


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))


class Two(nn.Module):
    """Two chains, of which forward may choose one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = chain(), chain()


def module(forward: Callable[..., Any], **attributes: Any) -> Any:
    """A module of a class of its own with this forward, and these attributes."""
    made: Any = type("Made", (Two,), {"forward": forward})()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def plain(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return self.a(y)


def helper(self: Any, y: Tensor) -> Tensor:
    return self.a(y) if FLAG else self.b(y)


def counts(self: Any, t: Tensor, y: Tensor) -> Tensor:
    self._nfe += 1
    return self.a(y)


def logs(self: Any, t: Tensor, y: Tensor) -> Tensor:
    self.log.append(1)
    return self.a(y)


def logs_outside(self: Any, t: Tensor, y: Tensor) -> Tensor:
    SEEN.append(1)
    return self.a(y)


def tries(self: Any, t: Tensor, y: Tensor) -> Tensor:
    try:
        return self.a(y)
    finally:
        self._nfe += 1


def deep(self: Any, t: Tensor, y: Tensor) -> Tensor:
    for _ in range(DEPTH):
        y = self.a(y)
    return y


def with_default(self: Any, t: Tensor, y: Tensor, on: bool = True) -> Tensor:
    return self.a(y) if on else self.b(y)


def with_list(self: Any, t: Tensor, y: Tensor, on: list[bool] = [True]) -> Tensor:  # noqa: B006
    return self.a(y) if on[0] else self.b(y)


def writes_y(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return self.a(y.mul_(0.5))


def over_state(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return self.a[2](functional.relu(self.a[0](functional.relu(y, inplace=True))))


def overwrites(self: Any, t: Tensor, y: Tensor) -> Tensor:
    h = self.a[0](y)
    functional.relu(h, inplace=True)
    return self.a[2](h)


def keywords(self: Any, t: Tensor, y: Tensor) -> Tensor:
    column = torch.full_like(input=y[:, :1], fill_value=t)
    return self.c(torch.tanh(input=self.d(input=torch.cat(tensors=[y, column], dim=1))))


def closure() -> tuple[Any, Change]:
    on = True

    def forward(self: Any, t: Tensor, y: Tensor) -> Tensor:
        return self.a(y) if on else self.b(y)

    def turn_off(_: Any) -> None:
        nonlocal on
        on = False

    return module(forward), turn_off


class Property(Two):
    on = True

    @property
    def chosen(self) -> nn.Module:
        return self.a if self.on else self.b

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.chosen(y)


class Called(Two):
    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        return 2 * self.a(y)


class Slotted(Two):
    __slots__ = ("kept",)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.a(y)


class Equal(Two):
    __hash__ = nn.Module.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.a(y)


class Inherits(Two):
    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.a(y)


class Inheriting(Inherits):
    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return super().forward(t, y)


def set_global(name: str, value: object) -> Change:
    return lambda _: globals().__setitem__(name, value)


def set_attribute(name: str, value: object) -> Change:
    return lambda made: setattr(made, name, value)


def by_attribute(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return self.a(y) if self.on else self.b(y)


Odd = Callable[[], tuple[Any, list[Change]]]
ODD: dict[str, Odd] = {
    "nothing odd": lambda: (module(plain), []),
    "a global": lambda: (
        module(lambda self, t, y: self.a(y) if FLAG else self.b(y)),
        [set_global("FLAG", False), set_global("FLAG", True)],
    ),
    "a global in a helper": lambda: (
        module(lambda self, t, y: helper(self, y)),
        [set_global("FLAG", False), set_global("FLAG", True)],
    ),
    "a global number of layers": lambda: (
        module(deep), [set_global("DEPTH", 2), set_global("DEPTH", 1)]
    ),
    "a global dictionary": lambda: (
        module(lambda self, t, y: self.a(y) if SETTINGS["on"] else self.b(y)),
        [lambda _: SETTINGS.update(on=False), lambda _: SETTINGS.update(on=True)],
    ),
    "a dictionary": lambda: (
        module(lambda self, t, y: self.a(y) if self.o["on"] else self.b(y), o={"on": True}),
        [lambda made: made.o.update(on=False)],
    ),
    "a list": lambda: (
        module(lambda self, t, y: self.a(y) if len(self.o) else self.b(y), o=[1]),
        [lambda made: made.o.clear()],
    ),
    "a tuple": lambda: (
        module(lambda self, t, y: self.a(y) if 1 in self.o else self.b(y), o=(1,)),
        [set_attribute("o", (2,)), set_attribute("o", (True,))],
    ),
    "an object": lambda: (
        module(
            lambda self, t, y: self.a(y) if self.o.on else self.b(y),
            o=types.SimpleNamespace(on=True),
        ),
        [lambda made: setattr(made.o, "on", False)],
    ),
    "an attribute": lambda: (
        module(by_attribute, on=True), [set_attribute("on", 0), set_attribute("on", 1)]
    ),
    "an attribute of the class": lambda: (
        module(by_attribute, on=True),
        [
            lambda made: (delattr(made, "on"), setattr(type(made), "on", False)),
            set_attribute("on", True),
        ],
    ),
    "training": lambda: (
        module(lambda self, t, y: self.a(y) if self.training else self.b(y)),
        [lambda made: made.eval(), lambda made: made.train()],
    ),
    "a closure": lambda: (lambda made: (made[0], [made[1]]))(closure()),
    "a default": lambda: (
        module(with_default),
        [lambda _: setattr(with_default, "__defaults__", (False,)),
         lambda _: setattr(with_default, "__defaults__", (True,))],
    ),
    "a default that is a list": lambda: (
        module(with_list), [lambda _: with_list.__defaults__[0].__setitem__(0, False)]  # type: ignore[index]
    ),
    "a buffer": lambda: (
        (lambda made: (made.register_buffer("o", torch.ones(())), made)[1])(
            module(lambda self, t, y: self.a(y) if self.o > 0 else self.b(y))
        ),
        [lambda made: made.o.neg_()],
    ),
    "a weight's value": lambda: (
        module(lambda self, t, y: self.a(y) if self.a[0].bias.sum() > 0 else self.b(y)),
        [lambda made: made.a[0].bias.data.neg_()],
    ),
    "requires_grad": lambda: (
        module(lambda self, t, y: self.a(y) if self.a[0].bias.requires_grad else self.b(y)),
        [lambda made: made.a[0].bias.requires_grad_(False)],
    ),
    "a property": lambda: (Property(), [set_attribute("on", False)]),
    "hasattr": lambda: (
        module(lambda self, t, y: self.a(y) if hasattr(self, "o") else self.b(y)),
        [set_attribute("o", 1)],
    ),
    "getattr": lambda: (
        module(lambda self, t, y: getattr(self, "a" if self.on else "b")(y), on=True),
        [set_attribute("on", False)],
    ),
    "the clock": lambda: (
        module(lambda self, t, y: self.a(y) if time.time() < CLOCK.ends else self.b(y)),
        [lambda _: setattr(CLOCK, "ends", 0.0)],
    ),
    "chance": lambda: (module(lambda self, t, y: self.a(y) if random.random() < 2 else y), []),
    "the state's sum": lambda: (
        module(lambda self, t, y: self.a(y) if y.sum() > 0 else self.b(y)), []
    ),
    "the time": lambda: (module(lambda self, t, y: self.a(y) if t < 0.3 else self.b(y)), []),
    "a counter": lambda: (module(counts, _nfe=0), []),
    "a log": lambda: (module(logs, log=[]), []),
    "a log outside": lambda: (module(logs_outside), []),
    "try": lambda: (module(tries, _nfe=0), []),
    "y overwritten": lambda: (module(writes_y), []),
    "y overwritten by relu": lambda: (module(over_state), []),
    "a layer overwritten": lambda: (module(overwrites), []),
    "an activation": lambda: (
        module(lambda self, t, y: self.a[2](self.act(self.a[0](y))), act=torch.tanh),
        [set_attribute("act", torch.relu), set_attribute("act", lambda x: x.tanh())],
    ),
    "forward replaced": lambda: (
        module(plain),
        [
            lambda made: setattr(type(made), "forward", lambda self, t, y: self.b(y)),
            lambda made: setattr(made, "forward", lambda t, y: made.a(y)),
        ],
    ),
    "code replaced": lambda: (
        module(lambda self, t, y: self.a(y)),
        [lambda made: setattr(
            type(made).forward, "__code__", (lambda self, t, y: self.b(y)).__code__
        )],
    ),
    "layers replaced": lambda: (
        module(plain),
        [
            lambda made: setattr(made, "a", made.b),
            lambda made: made.a.__setitem__(1, nn.Identity()),
            lambda made: made.a.append(nn.Tanh()),
            lambda made: vars(made).__setitem__("a", chain().to(F64)),
        ],
    ),
    "weights replaced": lambda: (
        module(plain),
        [
            lambda made: made.a[0].weight.data.mul_(2),
            lambda made: setattr(made.a[0], "weight", nn.Parameter(torch.ones(4, 2, dtype=F64))),
            lambda made: nn.utils.parametrizations.spectral_norm(made.a[0]),
        ],
    ),
    "hooks": lambda: (
        module(plain), [lambda made: made.a[0].register_forward_hook(lambda m, a, out: 2 * out)]
    ),
    "called otherwise": lambda: (Called(), []),
    "slots": lambda: (Slotted(), []),
    "equal to all": lambda: (Equal(), []),
    "a format": lambda: (
        module(lambda self, t, y: self.a(y) if "{0.o}".format(self) == "1" else self.b(y), o=1),  # noqa: UP030, UP032
        [set_attribute("o", 2)],
    ),
    "another format": lambda: (
        module(lambda self, t, y: self.a(y) if "%s" % self.o == "1" else self.b(y), o=1),  # noqa: UP031
        [set_attribute("o", 2)],
    ),
    "super": lambda: (
        Inheriting(),
        [
            lambda _: setattr(Inherits, "forward", lambda self, t, y: self.b(y)),
            lambda _: setattr(Inherits, "forward", lambda self, t, y: self.a(y)),
        ],
    ),
    "keywords": lambda: (
        module(keywords, c=nn.Linear(4, 2, bias=False), d=nn.Linear(3, 4)), []
    ),
    "lazy": lambda: (
        module(lambda self, t, y: self.a(y), a=nn.Sequential(nn.LazyLinear(2, dtype=F64))), []
    ),
    "dropout": lambda: (
        module(lambda self, t, y: self.o(self.a(y)), o=nn.Dropout(0.5)), [lambda made: made.eval()]
    ),
    "batch norm": lambda: (
        module(lambda self, t, y: self.o(self.a(y)), o=nn.BatchNorm1d(2)),
        [lambda made: made.eval()],
    ),
    "traced by fx": lambda: (torch.fx.symbolic_trace(module(plain)), []),
    "scripted": lambda: (torch.jit.trace(
        module(plain).to(F64), (torch.zeros((), dtype=F64), torch.zeros(3, 2, dtype=F64))
    ), []),
    "in parallel": lambda: (nn.DataParallel(module(plain)), []),
}  # fmt: skip


def outcome(solve: Any, made: Any, y0: Tensor) -> list[Tensor] | Exception:
    """States and gradients of a solve, or its error. The generators start the same."""
    torch.manual_seed(1)
    random.seed(1)
    y0 = y0.clone().requires_grad_()
    t = torch.tensor([0.0, 0.5, 1.0], dtype=F64)
    try:
        states = solve(made, y0 * 1.0, t, **FIXED)
        parameters = [each for each in made.parameters() if each.requires_grad]
        inputs = [y0, *parameters]
        gradients = torch.autograd.grad(states.sin().sum(), inputs, allow_unused=True)
    except Exception as error:
        return error
    return [states.detach(), *(torch.zeros(()) if g is None else g for g in gradients)]


def effects(made: Any) -> tuple[Any, ...]:
    buffers = [each.clone() for each in made.buffers()]
    return getattr(made, "_nfe", 0), len(getattr(made, "log", ())), len(SEEN), buffers


def compare(made: Any, y0: Tensor) -> str:
    """Hold both libraries against each other on twins of a module; say what came of it."""
    state = copy.deepcopy(made.state_dict()) if made.state_dict() else {}
    results, changes = [], []
    for solve in (torchdiffeq.odeint, odeint, odeint):
        if not any(isinstance(e, nn.parameter.UninitializedParameter) for e in state.values()):
            made.load_state_dict(state)
        before = effects(made)
        results.append(outcome(solve, made, y0))
        after = effects(made)
        changes.append([a - b for a, b in zip(after[:3], before[:3], strict=True)] + [after[3]])
    expected, *ours = results
    for got, changed in zip(ours, changes[1:], strict=True):
        if isinstance(got, Exception):
            assert isinstance(got, PyNODEError) or type(got) is type(expected), repr(got)
            return "refused"
        assert not isinstance(expected, Exception), repr(expected)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
        assert changed[:3] == changes[0][:3]
        for a, b in zip(changed[3], changes[0][3], strict=True):
            torch.testing.assert_close(a, b)
    return "equal"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ODD)
def test_odd_modules_are_torchdiffeqs_or_refused(name: str) -> None:
    torch.manual_seed(0)
    made, changes = ODD[name]()
    made = made if name == "lazy" else made.to(F64)
    y0 = torch.randn(3, 2, dtype=F64)
    # torch itself refuses the wrapper of a module in the host's memory where GPUs are.
    refused = "y overwritten" in name or (name == "in parallel" and torch.cuda.is_available())
    assert compare(made, y0) == ("refused" if refused else "equal")
    for change in changes:
        change(made)
        assert compare(made, y0) == "equal"


# Made systematically: what forward asks, how it uses time, its activation, and where it stands.

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.tanh": torch.tanh,
    "method": lambda x: x.tanh(),
    "functional": functional.tanh,
    "relu": torch.relu,
    "sine": torch.sin,
}


def no_time(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return y


def time_last(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return torch.cat([y, t.expand(y.shape[0], 1)], dim=1)


def time_first(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return torch.cat(tensors=(torch.ones_like(y[:, :1]) * t, y), dim=-1)


def time_scaled(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return torch.cat([y, (2 * t).expand(len(y), 1)], 1)


def nothing(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return self.c(self.act(self.d(self.timed(t, y))))


def a_flag(self: Any, t: Tensor, y: Tensor) -> Tensor:
    h = self.act(self.d(self.timed(t, y)))
    return self.c(h) if self.on else -self.c(h)


def a_kept_flag(self: Any, t: Tensor, y: Tensor) -> Tensor:
    h = self.act(self.d(self.timed(t, y)))
    return self.c(h) if self.kept["on"] else -self.c(h)


def a_loop(self: Any, t: Tensor, y: Tensor) -> Tensor:
    h = self.act(self.d(self.timed(t, y)))
    for layer in self.layers:
        h = layer(h)
    return h


def a_scale(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return self.scale * self.c(self.act(self.d(self.timed(t, y))))


def a_skip(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return y + self.c(self.act(self.d(self.timed(t, y))))


def a_buffer(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return self.c(self.act(self.d(self.timed(t, y)))) * self.factor


def a_counter(self: Any, t: Tensor, y: Tensor) -> Tensor:
    self.nfe += 1
    return self.c(self.act(self.d(self.timed(t, y))))


def a_product(self: Any, t: Tensor, y: Tensor) -> Tensor:
    return self.c(self.act(self.d(self.timed(t, y)))) * y


def functions(self: Any, t: Tensor, y: Tensor) -> Tensor:
    h = functional.linear(self.timed(t, y), self.d.weight, bias=self.d.bias)
    return functional.linear(input=self.act(h), weight=self.c.weight, bias=self.c.bias)


ASKED = {each.__name__: each for each in (
    nothing, a_flag, a_kept_flag, a_loop, a_scale, a_skip, a_buffer, a_counter, a_product,
    functions,
)}  # fmt: skip
TIMED = {each.__name__: each for each in (no_time, time_last, time_first, time_scaled)}
CHANGES: list[Change] = [
    set_attribute("on", False),
    lambda made: made.kept.update(on=False),
    set_attribute("act", torch.tanh),
    lambda made: made.layers.append(nn.Tanh()),
    set_attribute("scale", 3.0),
    lambda made: made.factor.mul_(3),
    lambda made: setattr(made.c, "bias", None),
]


def made_module(asks: str, time: str, activation: str) -> Any:
    """One of the systematic modules, of a class of its own."""
    made = nn.Module.__new__(
        type("Made", (nn.Module,), {"forward": ASKED[asks], "timed": TIMED[time]})
    )
    nn.Module.__init__(made)
    made.c, made.d = nn.Linear(4, 2), nn.Linear(2 if time == "no_time" else 3, 4)
    made.act, made.layers = ACTIVATIONS[activation], nn.ModuleList([made.c])
    made.scale, made.on, made.nfe, made.kept = 2.0, True, 0, {"on": True}
    made.register_buffer("factor", torch.full((), 0.5))
    return made.to(F64)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_hundred_odd_modules() -> None:
    """Each combination (a part of them, unless PYNODE_FUZZ is set), and after a change."""
    draw = random.Random(0)
    every = list(itertools.product(ASKED, TIMED, ACTIVATIONS))
    assert len(every) == 200
    whole = 0
    for asks, timed, activation in every if "PYNODE_FUZZ" in os.environ else every[::5]:
        torch.manual_seed(0)
        made, y0 = made_module(asks, timed, activation), torch.randn(3, 2, dtype=F64)
        note = f"{asks}, {timed}, {activation}"
        assert compare(made, y0) == "equal", note
        whole += NeuralODE(made).where(y0).startswith("whole")
        draw.choice(CHANGES)(made)
        assert compare(made, y0) == "equal", note
    assert 48 * len(every) / 200 / 5 <= whole <= 48
