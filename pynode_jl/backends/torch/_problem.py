"""What a call of `odeint` asks for, in one form: one tensor for a state, times that increase.

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

from pynode_jl.errors import InvalidValueError

State: TypeAlias = Tensor | tuple[Tensor, ...]
Norm: TypeAlias = Callable[[Any], Any]
Event: TypeAlias = Callable[[Tensor, Tensor], Tensor]

CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")
_SIGNED_TIME_OPTIONS = ("step_t", "jump_t")


@dataclass
class Problem:
    """y' = rhs(t, y) from `y0` over the times `t`, which increase.

    `rhs(t, y, nudge)` calls the user's function at t as it is (0), just after it (1) or just
    before (-1), in the precision of the state. `shapes` are those of a tuple's tensors, or None.
    `callbacks` holds those that the user's function has, by name.
    """

    rhs: Callable[..., Tensor]
    y0: Tensor
    t: Tensor
    rtol: Any
    atol: Any
    norm: Norm
    options: dict[str, Any]
    shapes: list[torch.Size] | None
    reversed: bool
    event: Event | None = None
    callbacks: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def call_back(self, name: str, t: Any, y: Tensor, dt: Any) -> None:
        """Tell the user's function, if it listens."""
        if name in self.callbacks:
            time, step = (torch.as_tensor(each, dtype=torch.float64) for each in (t, dt))
            self.callbacks[name](time, y, step)

    def shaped(self, solution: Tensor) -> State:
        """A flat solution, (times, numbers), as the tuple that the user gave."""
        if self.shapes is None:
            return solution
        return split(solution, self.shapes)


def split(flat: Tensor, shapes: Sequence[torch.Size]) -> tuple[Tensor, ...]:
    """Views of the last axis of `flat` in the given shapes."""
    ends, start = [], 0
    for shape in shapes:
        ends.append((start, start + shape.numel(), shape))
        start += shape.numel()
    return tuple(flat[..., a:b].view((*flat.shape[:-1], *shape)) for a, b, shape in ends)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The tensors of a tuple as one flat tensor."""
    return torch.cat([part.reshape(-1) for part in parts])


def rms_norm(x: Tensor) -> Tensor:
    """Root mean square of all numbers."""
    return x.abs().pow(2).mean().sqrt()


def mixed_norm(parts: Sequence[Tensor]) -> Any:
    """The largest of the tensors' root mean squares."""
    return max((rms_norm(part) for part in parts), default=0.0)


def normalised(
    func: Callable[..., Any],
    y0: Any,
    t: Any,
    rtol: Any,
    atol: Any,
    options: Mapping[str, Any],
    event_fn: Callable[..., Any] | None,
) -> Problem:
    """The problem that a call of `odeint` poses.

    Raises:
        InvalidValueError: `y0`, `t` or a tolerance is not what `odeint` takes.
    """
    given = dict(options)
    times = checked_times(t)
    if event_fn is not None and len(times) != 2:
        raise InvalidValueError(
            "t", times, "two times where event_fn is given", "The second says the direction only."
        )
    shapes, flat, rhs = _flattened(func, y0)
    flat_norm = given.pop("norm", mixed_norm if shapes is not None else rms_norm)
    if shapes is not None:
        rtol, atol = (_joined_tolerance(n, v, shapes) for n, v in (("rtol", rtol), ("atol", atol)))
    for name, value in (("rtol", rtol), ("atol", atol)):
        if isinstance(value, Tensor) and value.requires_grad:
            raise InvalidValueError(name, value, "numbers without gradient", "Detach it.")
    reverse = len(times) > 1 and bool(times[0] > times[1])
    problem = Problem(
        _nudging(rhs, reverse),
        flat,
        (-times if reverse else times).to(flat.device),
        rtol,
        atol,
        flat_norm if shapes is None else lambda x: flat_norm(split(x, shapes)),
        _turned(given) if reverse else given,
        shapes,
        reverse,
        None if event_fn is None else _event(event_fn, times[0], y0, shapes, reverse),
    )
    for name in CALLBACKS:
        if hasattr(func, name):
            problem.callbacks[name] = _callback(getattr(func, name), shapes, reverse)
    return problem


def checked_times(t: Any) -> Tensor:
    """`t` if it is a vector of times that increase or decrease strictly."""
    if not isinstance(t, Tensor) or not t.is_floating_point() or t.ndim != 1 or len(t) == 0:
        raise InvalidValueError(
            "t", t, "a one-dimensional tensor of floats", "Use torch.tensor([0.0, 1.0]), say."
        )
    steps = t.detach().diff()
    if not bool((steps > 0).all() or (steps < 0).all()):
        raise InvalidValueError(
            "t", t, "times that increase strictly, or decrease strictly", "Sort them."
        )
    return t


def _flattened(
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
        return joined(func(t, split(y, shapes)))

    return shapes, joined(y0), flat_func


def _joined_tolerance(name: str, tolerance: Any, shapes: Sequence[torch.Size]) -> Any:
    """One tolerance for all tensors of a tuple, or one for each."""
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


def _nudging(rhs: Callable[[Tensor, Tensor], Tensor], reverse: bool) -> Callable[..., Tensor]:
    def nudged(t: Tensor, y: Tensor, nudge: int = 0) -> Tensor:
        time = t.to(y.real.dtype)
        if nudge:
            here = time.detach()
            beyond = torch.nextafter(here, torch.full_like(here, nudge * math.inf))
            # An exact sum: neighbours differ by a float. The gradient to t passes.
            time = time + (beyond - here)
        slope = rhs(-time if reverse else time, y)
        if slope.shape != y.shape:
            raise InvalidValueError(
                "func",
                rhs,
                f"a function whose values have y's shape {tuple(y.shape)}",
                f"It returned {tuple(slope.shape)}.",
            )
        return -slope if reverse else slope

    return nudged


def _event(
    event_fn: Callable[..., Any],
    t0: Tensor,
    y0: State,
    shapes: list[torch.Size] | None,
    reverse: bool,
) -> Event:
    """The least of the user's event values, each counted positive where the solve begins."""
    with torch.no_grad():
        signs = torch.sign(event_fn(t0, y0))

    def event(t: Tensor, y: Tensor) -> Tensor:
        state = y if shapes is None else split(y, shapes)
        return torch.min(event_fn(-t if reverse else t, state) * signs)

    return event


def _callback(
    callback: Callable[..., Any], shapes: list[torch.Size] | None, reverse: bool
) -> Callable[..., Any]:
    def told(t: Tensor, y: Tensor, dt: Tensor) -> None:
        callback(-t if reverse else t, y if shapes is None else split(y, shapes), dt)

    return told


def _turned(options: dict[str, Any]) -> dict[str, Any]:
    """Options about time, for the negative of time."""
    turned = dict(options)
    for name in _SIGNED_TIME_OPTIONS:
        if turned.get(name) is not None:
            turned[name] = -torch.as_tensor(turned[name])
    constructor = turned.get("grid_constructor")
    if constructor is not None:
        turned["grid_constructor"] = lambda func, y0, t: -constructor(func, y0, -t)
    return turned
