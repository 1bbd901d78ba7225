"""Vector fields as functions of torch tensors.

`FieldModule` is a `VectorField` as a module. `call_with_rhs` gives f(t, y) of any
field with given weights: the layers of a `VectorField`, a `FunctionField`'s module or function.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from functools import partial
from inspect import CO_VARARGS
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from pynode_jl.backends import _arguments
from pynode_jl.backends.torch._call import slope_of
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import (
    Activation,
    ActivationName,
    Conv,
    Dense,
    Field,
    FunctionField,
    Layer,
    LogDensityField,
    VectorField,
)

T = TypeVar("T")
#: f(t, y): t a scalar tensor in y's precision, y ``(batch, *state_shape)``.
RightHandSide: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_ACTIVATIONS: Mapping[ActivationName, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "tanh": torch.tanh,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "elu": functional.elu,
    "silu": functional.silu,
}
# A user's module holds the weights of a solve while it runs: one solve at a time.
_lock = threading.RLock()
# Samples that tell whether a function treats each by itself.
_COMPARED = 16


class _Elementwise(nn.Module):
    def __init__(self, name: ActivationName) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return _ACTIVATIONS[self.name](x)

    def extra_repr(self) -> str:
        return self.name


#: An activation of a `VectorField` as a module.
ElementwiseModule = _Elementwise


class FieldModule(nn.Module):
    """f(t, y) of a `VectorField` for states ``(batch, *state_shape)``.

    Its parameters have the field's names, ``layers.0.weight`` and so on, and start as
    ``field.init(seed)`` draws them.

    Example:
        >>> import torch, pynode_jl as pn
        >>> from pynode_jl.torch import FieldModule
        >>> FieldModule(pn.MLP(2))(torch.tensor(0.0), torch.zeros(5, 2)).shape
        torch.Size([5, 2])
    """

    def __init__(self, field: VectorField, seed: int = 0) -> None:
        super().__init__()
        self.field = field
        self.layers = nn.Sequential(*map(_layer_module, field.layers))
        initial = {k: torch.from_numpy(v) for k, v in field.init(seed).items()}
        self.load_state_dict(initial, assign=True)

    def forward(self, t: Tensor | float, y: Tensor) -> Tensor:
        """Return dy/dt, of y's shape."""
        return _evaluate(self.field, self.layers, t, y)


def _layer_module(layer: Layer) -> nn.Module:
    # Empty: the weights come from the field's own draw.
    if isinstance(layer, Activation):
        return _Elementwise(layer.name)
    if isinstance(layer, Dense):
        return nn.Linear(layer.inputs, layer.outputs, device="meta")
    kind = nn.Conv1d if layer.axes == 1 else nn.Conv2d
    return kind(layer.inputs, layer.outputs, layer.kernel, padding=layer.kernel // 2, device="meta")


def _evaluate(
    field: VectorField, layers: Callable[[Tensor], Tensor], t: Tensor | float, y: Tensor
) -> Tensor:
    """Return the layers' value, with the channel axis and the time that they expect."""
    one_channel = len(field.state_shape) == 1 and any(isinstance(e, Conv) for e in field.layers)
    h = y[:, None] if one_channel else y
    if field.time_dependent:
        time = torch.as_tensor(t, dtype=y.dtype, device=y.device)
        h = torch.cat([h, time.expand(h.shape[0], 1, *h.shape[2:])], dim=1)
    slope = layers(h)
    return slope[:, 0] if one_channel else slope


class _Caller(nn.Module):
    """Passes a module to a function, while `functional_call` holds its weights."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, work: Callable[[nn.Module], T]) -> T:
        return work(self.module)


def call_with_rhs(
    field: Field,
    weights: Mapping[str, Tensor],
    like: Tensor,
    work: Callable[[RightHandSide], T],
) -> T:
    """Return ``work(f)``, f(t, y) of a field with these weights; derivatives pass to them.

    A module holds `weights` in place of its parameters while `work` runs (`call_with_module`).
    """
    if isinstance(field, LogDensityField):
        inner = field.field
        return call_with_rhs(inner, weights, like, lambda f: work(partial(_divergence, field, f)))
    if isinstance(field, VectorField):
        return work(partial(_evaluate, field, partial(_apply_layers, field, weights)))
    _arguments.check_framework(field, "torch")
    function = field.function
    if not isinstance(function, nn.Module):
        bound = partial(function, weights) if field.initial else function
        return work(_checked(field, bound))
    return call_with_module(
        function, weights, like, lambda module: work(_checked(field, as_function_of_time(module)))
    )


def call_with_module(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    like: Tensor,
    work: Callable[[nn.Module], T],
) -> T:
    """Return ``work(module)``, while the module holds `weights` in place of its parameters.

    Its floating-point buffers are copies in the precision of `like`: nothing that `work` does
    changes the module's own.
    """
    buffers = {
        name: each.to(like, copy=True) if each.is_floating_point() else each.to(like.device)
        for name, each in module.named_buffers()
    }
    tensors = {f"module.{name}": each for name, each in {**weights, **buffers}.items()}
    with _lock:
        result: T = functional_call(_Caller(module), tensors, (work,))
    return result


def _divergence(field: LogDensityField, f: RightHandSide, t: Tensor, y: Tensor) -> Tensor:
    """Return a field's slope, its divergence, and zeros for noise."""
    d = field.field.size
    noise = y[:, d + 1 :]
    # Also where nothing else is differentiated: the divergence is a derivative.
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        x = y[:, :d] if wanted and y.requires_grad else y[:, :d].detach().requires_grad_()
        slope = f(t, x.reshape(-1, *field.field.state_shape)).reshape(x.shape)

        def pulled(cotangent: Tensor) -> Tensor:
            (found,) = torch.autograd.grad(
                slope, x, cotangent, retain_graph=True, create_graph=wanted, materialize_grads=True
            )
            return found

        if field.trace == "hutchinson":
            trace = (pulled(noise) * noise).sum(1)
        else:
            axes = torch.eye(d, dtype=y.dtype, device=y.device)
            parts = [pulled(axis.expand_as(x))[:, i] for i, axis in enumerate(axes)]
            trace = torch.stack(parts).sum(0)
        rate = torch.cat([slope, trace[:, None], torch.zeros_like(noise)], dim=1)
    return rate if wanted else rate.detach()


def _apply_layers(field: VectorField, weights: Mapping[str, Tensor], h: Tensor) -> Tensor:
    for i, layer in enumerate(field.layers):
        if isinstance(layer, Activation):
            h = _ACTIVATIONS[layer.name](h)
            continue
        weight, bias = weights[f"layers.{i}.weight"], weights[f"layers.{i}.bias"]
        if isinstance(layer, Dense):
            h = functional.linear(h, weight, bias)
        else:
            convolve = functional.conv1d if layer.axes == 1 else functional.conv2d
            h = convolve(h, weight, bias, padding=layer.kernel // 2)
    return h


def _checked(field: FunctionField, function: Callable[..., Any]) -> RightHandSide:
    """Return the user's function, its results checked."""

    def rhs(t: Tensor, y: Tensor) -> Tensor:
        slope = slope_of(function, t, y, argument="function", value=field.function)
        return slope.to(y.dtype)

    return rhs


def check_samples_apart(
    argument: str, value: object, function: Callable[[Tensor], Tensor], y: Tensor
) -> None:
    """Refuse a function that mixes samples or draws random numbers.

    Args:
        argument, value: what is refused, in the error.
        function: of a batch.
        y: some samples; fewer than two tell nothing.

    Raises:
        InvalidValueError: one sample's value depends on another sample, or on chance.
    """
    half = y[: min(len(y), _COMPARED) // 2]
    if len(half) == 0:
        return
    count = len(half)
    with torch.no_grad():
        beside_others = function(y[: 2 * count])[:count]
        beside_themselves = function(torch.cat([half, half]))[:count]
    if torch.allclose(beside_others, beside_themselves, rtol=1e-4, atol=1e-6, equal_nan=True):
        return
    raise InvalidValueError(
        argument,
        value,
        "a function that treats each sample by itself, without randomness",
        "Call .eval() where it has BatchNorm or Dropout, give BatchNorm running statistics, or use"
        " GroupNorm; keep the batch axis in front.",
    )


def takes_time(module: nn.Module) -> bool:
    """Return whether a module's forward is a function of (t, y), and not of y alone."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # of a scripted module
        schema = getattr(module.forward, "schema", None)
        return schema is None or len(schema.arguments) != 2
    needed = [
        each
        for each in parameters
        if each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) != 1


def as_function_of_time(module: nn.Module) -> Callable[[Any, Tensor], Tensor]:
    """Return a module, a function of (t, y) or of y alone, as a function of (t, y)."""
    return module if takes_time(module) else lambda t, y: module(y)


def as_function_of_call(module: nn.Module) -> Callable[[Any, Tensor], Tensor]:
    """Return a module as `odeint` calls it: with (t, y), unless it takes one argument at most."""
    code = getattr(getattr(type(module), "forward", None), "__code__", None)
    alone = code is not None and code.co_argcount == 2 and not code.co_flags & CO_VARARGS
    return (lambda t, y: module(y)) if alone and "forward" not in vars(module) else module
