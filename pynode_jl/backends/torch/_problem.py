"""An initial value problem in torch, in one form: one tensor for a state, times that increase.

A tuple of tensors becomes one flat tensor and a decreasing time its negative, at this edge only;
the user's function, norm, event and callbacks keep seeing their own shapes and times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pynode_jl.backends._results import RetCode, Stats
from pynode_jl.backends.torch._call import slope_of
from pynode_jl.errors import InvalidValueError

State: TypeAlias = Tensor | tuple[Tensor, ...]
Norm: TypeAlias = Callable[[Any], Any]
Event: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_WIDER = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.complex32: torch.complex64,
}
CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")
_SIGNED_TIME_OPTIONS = ("step_t", "jump_t")
# Of derivatives through implicit stages. Beyond, one would have to pay for them at each step.
_ORDERS = 3


@dataclass
class Counts:
    """The cost of a solve so far, as in `pynode_jl.backends.Stats`."""

    nf: int = 0
    njac: int = 0
    naccept: int = 0
    nreject: int = 0

    def stats(self, code: RetCode) -> Stats:
        """Return the cost of a solve that has ended with this code."""
        return Stats(self.nf, self.njac, self.naccept, self.nreject, code)


@dataclass
class Problem:
    """y' = f(t, y) from `y0` over the times `t`, which increase.

    Attributes:
        rhs: ``(t, y, side) -> f`` in the precision of the state: at t itself (side 0), or just
            after (1) or just before it (-1).
        y0: the state at the first time.
        t: the times where states are wanted.
        rtol, atol: tolerances, numbers or tensors.
        norm: of an error estimate in units of the tolerance.
        options: torchdiffeq's options.
        shapes: those of a tuple's tensors, or None.
        reversed: whether the user's times decrease.
        event: zero at the event.
        callbacks: those that the user's function has, by name.
        samples: how many independent systems `y0` holds along its first axis; see `rk_step`.
        strict: a backend's solve: the option `max_num_steps` bounds fixed steps too, and a state
            that is not finite ends them.
        dtype: the user's, where `y0` is wider.
        counts: the cost so far.
    """

    rhs: Callable[..., Tensor]
    y0: Tensor
    t: Tensor
    rtol: Any
    atol: Any
    norm: Norm
    options: dict[str, Any]
    shapes: list[torch.Size] | None = None
    reversed: bool = False
    event: Event | None = None
    callbacks: dict[str, Callable[..., Any]] = field(default_factory=dict)
    samples: int = 1
    strict: bool = False
    dtype: torch.dtype | None = None
    counts: Counts = field(default_factory=Counts)

    @property
    def orders(self) -> int:
        """The orders of derivatives that are to be right; a backend's are gradients."""
        return 1 if self.strict else _ORDERS

    def f(self, t: Tensor, y: Tensor, side: int = 0) -> Tensor:
        """Return f(t, y), and count the evaluation."""
        self.counts.nf += 1
        return self.rhs(t, y, side)

    def call_back(self, name: str, t: Any, y: Tensor, dt: Any) -> None:
        """Invoke a callback if the user's function has it."""
        if name in self.callbacks:
            time, step = (torch.as_tensor(each, dtype=torch.float64) for each in (t, dt))
            self.callbacks[name](time, y, step)

    def shaped(self, solution: Tensor) -> State:
        """Return a flat solution, (times, numbers), as the tuple that the user gave."""
        if self.dtype is not None:
            solution = solution.to(self.dtype)
        if self.shapes is None:
            return solution
        return split(solution, self.shapes)


def split(flat: Tensor, shapes: Sequence[torch.Size]) -> tuple[Tensor, ...]:
    """Return views of the last axis of `flat` in the given shapes."""
    ends, start = [], 0
    for shape in shapes:
        ends.append((start, start + shape.numel(), shape))
        start += shape.numel()
    return tuple(flat[..., a:b].view((*flat.shape[:-1], *shape)) for a, b, shape in ends)


def join(parts: Sequence[Tensor]) -> Tensor:
    """Return the tensors of a tuple as one flat tensor."""
    return torch.cat([part.reshape(-1) for part in parts])


def rms_norm(x: Tensor) -> Tensor:
    """Return the root mean square of all numbers; 0 of none."""
    squares = x.abs().pow(2)
    return (squares.mean() if x.numel() else squares.sum()).sqrt()


def mixed_norm(parts: Sequence[Tensor]) -> Any:
    """Return the largest of the tensors' root mean squares."""
    return max((rms_norm(part) for part in parts), default=0.0)


def normalise(
    func: Callable[..., Any],
    y0: Any,
    t: Any,
    rtol: Any,
    atol: Any,
    options: Mapping[str, Any],
    event_fn: Callable[..., Any] | None,
) -> Problem:
    """Return the problem of a call of `odeint`.

    Raises:
        InvalidValueError: `y0`, `t` or a tolerance is not what `odeint` takes.
    """
    given = dict(options)
    times = checked_times(t, endless=event_fn is not None)
    if event_fn is not None and len(times) != 2:
        raise InvalidValueError(
            "t", times, "two times where event_fn is given", "The second says the direction only."
        )
    shapes, flat, rhs = _flatten(func, y0)
    flat_norm = given.pop("norm", mixed_norm if shapes is not None else rms_norm)
    if shapes is not None:
        rtol, atol = (_flat_tolerance(n, v, shapes) for n, v in (("rtol", rtol), ("atol", atol)))
    for name, value in (("rtol", rtol), ("atol", atol)):
        _check_tolerance(name, value)
    dtype = flat.dtype
    if dtype in _WIDER:
        # Sums of small changes are lost in 16 bits: the state has more, and f is given 16.
        flat, rhs = flat.to(_WIDER[dtype]), _narrowed(rhs, dtype)
        event_fn = None if event_fn is None else _narrowed_event(event_fn, dtype)
    reverse = len(times) > 1 and bool(times[0] > times[1])
    problem = Problem(
        _one_sided(rhs, reverse, func),
        flat,
        (-times if reverse else times).to(flat.device),
        rtol,
        atol,
        flat_norm if shapes is None else lambda x: flat_norm(split(x, shapes)),
        _negate_times(given) if reverse else given,
        shapes,
        reverse,
        None if event_fn is None else _event(event_fn, times[0], y0, shapes, reverse),
    )
    problem.dtype = dtype
    for name in CALLBACKS:
        if hasattr(func, name):
            problem.callbacks[name] = _callback(getattr(func, name), shapes, reverse)
    return problem


def checked_times(t: Any, *, endless: bool = False) -> Tensor:
    """Return `t` if it is a vector of times that increase or decrease strictly.

    The last may be infinite where it is `endless`: there it says the direction only.
    """
    if not isinstance(t, Tensor) or not t.is_floating_point() or t.ndim != 1 or len(t) == 0:
        raise InvalidValueError(
            "t", t, "a one-dimensional tensor of floats", "Use torch.tensor([0.0, 1.0]), say."
        )
    steps = t.detach().diff()
    if not bool((steps > 0).all() or (steps < 0).all()):
        raise InvalidValueError(
            "t", t, "times that increase strictly, or decrease strictly", "Sort them."
        )
    finite = t.detach()[: 1 if endless else None].isfinite()
    if not bool(finite.all()):
        raise InvalidValueError("t", t, "finite times", "End at a large time, or give event_fn.")
    return t


def _flatten(
    func: Callable[..., Any], y0: Any
) -> tuple[list[torch.Size] | None, Tensor, Callable[[Tensor, Tensor], Tensor]]:
    if isinstance(y0, Tensor):
        if not (y0.is_floating_point() or y0.is_complex()):
            raise InvalidValueError(
                "y0.dtype", y0.dtype, "floats or complex numbers", "Use y0.float()."
            )
        return None, y0, func
    if not isinstance(y0, tuple) or not y0 or not all(isinstance(part, Tensor) for part in y0):
        raise InvalidValueError("y0", y0, "a tensor, or a tuple of tensors", "Convert it.")
    shapes = [part.shape for part in y0]

    def flat_func(t: Tensor, y: Tensor) -> Tensor:
        slopes = func(t, split(y, shapes))
        sizes = [each.numel() for each in slopes if isinstance(each, Tensor)]
        if sizes != [shape.numel() for shape in shapes]:
            raise InvalidValueError(
                "func",
                func,
                f"one that returns a tuple of tensors of y's shapes {[*map(tuple, shapes)]}",
                f"Theirs have {sizes} numbers.",
            )
        return join(slopes)

    return shapes, join(y0), flat_func


def _flat_tolerance(name: str, tolerance: Any, shapes: Sequence[torch.Size]) -> Any:
    """Return one tolerance for all tensors of a tuple, or one for each of its numbers."""
    if isinstance(tolerance, (int, float)) or (
        isinstance(tolerance, Tensor) and tolerance.ndim == 0
    ):
        return tolerance
    parts = tuple(tolerance)
    if len(parts) != len(shapes):
        raise InvalidValueError(
            name, tolerance, f"one number, or {len(shapes)}, as y0", "Give one for each tensor."
        )
    return torch.cat(
        [
            torch.as_tensor(part).expand(shape.numel())
            for part, shape in zip(parts, shapes, strict=True)
        ]
    )


def _check_tolerance(name: str, value: Any) -> None:
    if value is None:  # of fixed steps
        return
    if isinstance(value, Tensor) and value.requires_grad:
        raise InvalidValueError(name, value, "numbers without gradient", "Detach it.")
    try:
        numbers = torch.as_tensor(value)
        fits = not numbers.is_complex() and bool((numbers >= 0).all())
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits or isinstance(value, bool):
        raise InvalidValueError(
            name, value, "a number of 0 or more, or a tensor of such", f"Use {name}=1e-7, say."
        )


def _narrowed(
    rhs: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function that computes in these 16 bits, on the wider states of a solve."""

    def evaluate(t: Tensor, y: Tensor) -> Tensor:
        narrow = y.to(dtype)
        return slope_of(rhs, t.to(narrow.real.dtype), narrow).to(y.dtype)

    return evaluate


def _narrowed_event(event_fn: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
    def evaluate(t: Tensor, y: State) -> Any:
        return event_fn(t, y.to(dtype) if isinstance(y, Tensor) else tuple(e.to(dtype) for e in y))

    return evaluate


def _one_sided(
    rhs: Callable[[Tensor, Tensor], Tensor], reverse: bool, func: Callable[..., Any]
) -> Callable[..., Tensor]:
    def evaluate(t: Tensor, y: Tensor, side: int = 0) -> Tensor:
        time = t.to(y.real.dtype)
        if side:
            here = time.detach()
            beyond = torch.nextafter(here, torch.full_like(here, side * math.inf))
            # An exact sum: neighbours differ by a float. The gradient to t passes.
            time = time + (beyond - here)
        slope = slope_of(rhs, -time if reverse else time, y, value=func)
        return -slope if reverse else slope

    return evaluate


def _event(
    event_fn: Callable[..., Any],
    t0: Tensor,
    y0: State,
    shapes: list[torch.Size] | None,
    reverse: bool,
) -> Event:
    """Return the least of the user's event values, each made positive where the solve begins."""

    def values(t: Tensor, state: State) -> Tensor:
        found: Tensor = event_fn(t, state)
        if bool(found.isnan().any()):  # it has no sign that could change
            raise InvalidValueError(
                "event_fn",
                f"NaN at t = {float(t):g}",
                "numbers at all times",
                "Return, say, one that is defined for all states.",
            )
        return found

    with torch.no_grad():
        signs = torch.sign(values(t0, y0))

    def event(t: Tensor, y: Tensor) -> Tensor:
        state = y if shapes is None else split(y, shapes)
        return torch.min(values(-t if reverse else t, state) * signs)

    return event


def _callback(
    callback: Callable[..., Any], shapes: list[torch.Size] | None, reverse: bool
) -> Callable[..., Any]:
    def call(t: Tensor, y: Tensor, dt: Tensor) -> None:
        callback(-t if reverse else t, y if shapes is None else split(y, shapes), dt)

    return call


def _negate_times(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the times in them negated."""
    negated = dict(options)
    for name in _SIGNED_TIME_OPTIONS:
        if negated.get(name) is not None:
            negated[name] = -torch.as_tensor(negated[name])
    constructor = negated.get("grid_constructor")
    if constructor is not None:
        negated["grid_constructor"] = lambda func, y0, t: -constructor(func, y0, -t)
    return negated
