"""Reading a torch module as a `VectorField`, so that a backend can run the whole solve.

`torch.fx` gives the graph of the module's forward, and a small interpreter follows the state
through it. What it knows: Linear, Conv1d on one channel, Conv2d, the common activations as modules,
functions or methods, Sequential and any nesting of these, and time joined to the input of the first
layer. Anything else, and anything that makes the module more than a function of (t, y) and its
parameters (hooks, attributes that forward changes), is refused with the reason. What is read is
then run in torch beside the module and has to give the same numbers.
"""

from __future__ import annotations

import inspect
import operator
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from pynode_jl.backends.torch._fields import FieldModule
from pynode_jl.errors import InvalidValueError, PyNODEError
from pynode_jl.fields import Activation, ActivationName, Conv, Dense, Layer, VectorField, Weights
from pynode_jl.frontends.torch._structure import Survey, surveyed


class UntranslatableError(InvalidValueError):
    """A module that does more than a `VectorField` can say; the message says what."""

    def __init__(self, module: object, reason: str) -> None:
        self.reason = reason
        super().__init__(
            "func",
            type(module).__name__,
            "a module of Linear, Conv1d, Conv2d and common activations in a chain",
            f"{reason}. Leave backend out to run it in torch.",
        )


@dataclass(frozen=True)
class Translation:
    """A module as data.

    Attributes:
        field: the vector field.
        parameters: for each of the field's weights, the name of the module's parameter that holds
            it; None for a bias that the module has not.
        time_first: the module puts time before the state's features; the field puts it behind.
    """

    field: VectorField
    parameters: tuple[tuple[str, str | None], ...]
    time_first: bool = False

    def weights(self, module: nn.Module) -> Weights:
        """The module's parameters as the field's weights; they share memory where they can."""
        return self.read({k: v.detach().cpu() for k, v in module.named_parameters()})

    def read(self, tensors: Mapping[str, Tensor]) -> Weights:
        """`weights` of a module with these parameters, on the CPU."""
        weights: Weights = {}
        for name, source in self.parameters:
            if source is None:
                outputs = len(weights[f"{name.removesuffix('bias')}weight"])
                precision = next(iter(weights.values())).dtype
                weights[name] = np.zeros(outputs, precision)
            else:
                weights[name] = tensors[source].detach().numpy()
        if self.time_first:
            name = next(iter(weights))
            weights[name] = np.roll(weights[name], -1, axis=1)
        return weights

    def gradients(self, to_weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Gradients to the field's weights as gradients to the parameters, by name; a parameter
        that serves twice gets the sum."""
        found: dict[str, np.ndarray] = {}
        for i, (name, source) in enumerate(self.parameters):
            if source is None:
                continue
            value = to_weights[name]
            if self.time_first and i == 0:
                value = np.roll(value, 1, axis=1)
            found[source] = found[source] + value if source in found else value
        return found


def translate(module: nn.Module, y: Tensor, *, survey: Survey | None = None) -> Translation:
    """Read `module`, a function of (t, y) or of y alone, for states shaped as `y`.

    Args:
        module: what to read. What has been read is remembered while the module stays as it is; the
            values of its parameters may change.
        y: a state, or a batch of them.
        survey: the module's, where it has just been made.

    Raises:
        UntranslatableError: it is more than a `VectorField` can say.
    """
    survey = surveyed(module) if survey is None else survey
    shape = (tuple(y.shape[1:]) if y.ndim > 1 else tuple(y.shape), y.dtype)
    known = _cache.setdefault(module, {})
    # What is refused stays so: a module that counts its calls would be read at each of them.
    frame, whole = (survey.frame, shape), (survey.frame, survey.settings, shape)
    found = known.get(frame) or known.get(whole)
    if found is None:
        if len(known) >= _MOST_KNOWN:
            known.clear()
        try:
            result = _read(module, survey, y)
            _compared(module, result, y)
        except UntranslatableError as refused:
            found = known[frame] = _Found(refused, survey.parts)
        else:
            found = known[whole] = _Found(result, survey.parts)
    if isinstance(found.result, UntranslatableError):
        raise found.result
    return found.result


def takes_time(module: nn.Module) -> bool:
    """Whether the module's forward is a function of (t, y) and not of y alone."""
    needed = [
        each
        for each in inspect.signature(module.forward).parameters.values()
        if each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) != 1


def value_of(module: nn.Module, t: Any, y: Tensor) -> Tensor:
    """The module's value at (t, y)."""
    value: Tensor = module(t, y) if takes_time(module) else module(y)
    return value


class _Found(NamedTuple):
    """What came of reading a module, and its parts, so that their ids stay theirs. (Not the module
    itself: it would live for ever.)"""

    result: Translation | UntranslatableError
    parts: tuple[nn.Module, ...]


_cache: weakref.WeakKeyDictionary[nn.Module, dict[Any, _Found]] = weakref.WeakKeyDictionary()
_MOST_KNOWN = 16


def _attributes(module: nn.Module) -> dict[tuple[int, str], tuple[Any, int]]:
    """Attributes that users set, with the length of those that grow."""
    return {
        (id(each), name): (value, len(value) if isinstance(value, (list, dict, set)) else 0)
        for each in module.modules()
        for name, value in vars(each).items()
        if not name.startswith("_")
    }


def _undo(
    module: nn.Module,
    before: Mapping[tuple[int, str], tuple[Any, int]],
) -> str | None:
    """The name of an attribute that has changed since `before`, if any; what can be is put back."""
    owners = {id(each): each for each in module.modules()}
    changed = None
    for key, (value, length) in _attributes(module).items():
        old, old_length = before.get(key, (None, 0))
        if value is old and length == old_length:
            continue
        changed = key[1]
        if value is not old and key in before:
            setattr(owners[key[0]], key[1], old)
        elif isinstance(value, list):
            del value[old_length:]
    return changed


@dataclass(frozen=True)
class _State:
    """The state on its way through the layers. `lifted`: with a channel axis of length one."""

    layers: tuple[Layer, ...] = ()
    sources: tuple[str | None, ...] = ()
    time: str = ""  # "first" or "last" where it has been joined
    lifted: bool = False


class _Time:
    """t itself, and (`column`) t as one more feature or channel of the state."""

    def __init__(self, column: bool = False) -> None:
        self.column = column


class _Column:
    """One feature or channel of the state, of use for its shape; `ones`: filled with ones."""

    def __init__(self, ones: bool = False) -> None:
        self.ones = ones


class _Sizes:
    """The state's shape, or a length of it."""


def _read(module: nn.Module, survey: Survey, y: Tensor) -> Translation:
    if survey.hooked:
        raise UntranslatableError(module, "It has hooks")
    if type(module) is FieldModule:
        field = module.field
        if tuple(y.shape[1:]) != field.state_shape:
            raise UntranslatableError(module, f"Its states are (batch, *{field.state_shape})")
        return Translation(field, tuple((name, name) for name in field.weight_shapes()))
    interpreter = _Interpreter(module, y)
    if type(module) in _LAYERS:
        state = interpreter.called(module, _State())
    else:
        before = _attributes(module)
        try:
            graph = torch.fx.Tracer().trace(module)
        except Exception as error:  # torch.fx raises all kinds where control flow meets a proxy
            _undo(module, before)
            raise UntranslatableError(module, f"torch.fx cannot trace it ({error})") from error
        changed = _undo(module, before)
        if changed is not None:
            raise UntranslatableError(module, f"Its forward changes self.{changed}")
        state = interpreter.run(graph)
    weighted = [each for each in state.layers if not isinstance(each, Activation)]
    if not weighted:
        raise UntranslatableError(module, "It has no Linear and no Conv")
    first = weighted[0]
    if isinstance(first, Conv):
        shape = tuple(y.shape[-1:] if first.axes == 1 else y.shape[-3:])
    else:
        shape = tuple(y.shape[-1:])
    try:
        field = VectorField(shape, state.layers, bool(state.time))
    except PyNODEError as error:
        raise UntranslatableError(module, f"No VectorField is like it ({error})") from error
    pairs = zip(field.weight_shapes(), state.sources, strict=True)
    return Translation(field, tuple(pairs), state.time == "first")


class _Interpreter:
    """Follows abstract values through a graph."""

    def __init__(self, module: nn.Module, y: Tensor) -> None:
        self._module, self._rank = module, y.ndim
        self._parameters = {id(p): name for name, p in module.named_parameters()}

    def run(self, graph: torch.fx.Graph) -> _State:
        """The state that the graph returns."""
        values: dict[torch.fx.Node, Any] = {}
        inputs = [node for node in graph.nodes if node.op == "placeholder" and not node.args]
        roles: list[Any] = [_State()] if len(inputs) == 1 else [_Time(), _State()]
        if len(inputs) > 2:
            self._refuse(f"It takes {len(inputs)} arguments")
        for node in graph.nodes:
            if node.op == "placeholder":
                values[node] = roles[inputs.index(node)] if node in inputs else node.args[0]
            elif node.op == "output":
                (result,) = node.args
                found = values[result] if isinstance(result, torch.fx.Node) else None
                if not isinstance(found, _State) or found.lifted:
                    self._refuse("It does not return the state's slope")
                return found
            else:
                args, keywords = torch.fx.node.map_arg(
                    (node.args, dict(node.kwargs)), lambda each: values[each]
                )
                values[node] = self._applied(node, args, dict(keywords))
        raise AssertionError("a graph without output")

    def _applied(self, node: torch.fx.Node, args: Any, keywords: dict[str, Any]) -> Any:
        if node.op == "call_module":
            return self.called(self._module.get_submodule(str(node.target)), args[0])
        if node.op == "get_attr":
            self._refuse(f"It uses self.{node.target} outside a layer")
        operation = _OPERATIONS.get(node.target)
        result = None if operation is None else operation(self, args, keywords)
        if result is None:
            name = getattr(node.target, "__name__", node.target)
            self._refuse(f"It calls {name}, or calls it in a way that is not known here")
        return result

    def called(self, layer: nn.Module, state: Any) -> _State:
        """`state` after a module."""
        if isinstance(layer, nn.Identity) and isinstance(state, _State):
            return state
        if not isinstance(state, _State):
            self._refuse(f"It feeds {type(layer).__name__} something other than the state")
        reader = _LAYERS.get(type(layer))
        read = None if reader is None else reader(layer)
        if read is None:
            self._refuse(f"It has a layer {layer}")
        if isinstance(read, Activation):
            return self.followed(state, read)
        lifted = state.lifted or self._rank == 3
        if isinstance(read, Conv) and read.axes == 1 and not lifted:
            self._refuse("Its Conv1d takes the batch for channels")
        if isinstance(read, Conv) and read.axes == 2 and self._rank not in (3, 4):
            self._refuse("Its Conv2d takes no such state")
        sources = [self._parameters.get(id(each)) for each in (layer.weight, layer.bias)]
        if sources[0] is None:
            self._refuse(f"The weight of {layer} is no parameter of the module")
        return self.followed(state, read, *sources)

    def followed(self, state: _State, layer: Layer, *sources: str | None) -> _State:
        """`state` after one more layer."""
        return _State((*state.layers, layer), (*state.sources, *sources), state.time, state.lifted)

    def _refuse(self, reason: str) -> NoReturn:
        raise UntranslatableError(self._module, reason)


def _linear(layer: nn.Linear) -> Layer:
    return Dense(layer.in_features, layer.out_features)


def _convolution(layer: nn.Conv1d | nn.Conv2d) -> Layer | None:
    sizes, axes = set(layer.kernel_size), len(layer.kernel_size)
    (size,) = sizes if len(sizes) == 1 else (0,)
    same = layer.padding == "same" or layer.padding == (size // 2,) * axes
    plain = (
        same
        and set(layer.stride) == {1}
        and set(layer.dilation) == {1}
        and layer.groups == 1
        and layer.padding_mode == "zeros"
    )
    if size % 2 == 0 or not plain:
        return None
    return Conv(layer.in_channels, layer.out_channels, size, 2 if axes == 2 else 1)


def _activation(name: ActivationName, **expected: Any) -> Callable[[nn.Module], Activation | None]:
    """The activation, where the module's settings are those that it stands for."""

    def read(layer: nn.Module) -> Activation | None:
        fits = all(getattr(layer, key) == value for key, value in expected.items())
        return Activation(name) if fits else None

    return read


#: Modules of exactly these types (a subclass may do anything) and how they read.
_LAYERS: Mapping[type, Callable[[Any], Layer | None]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.ReLU: _activation("relu"),
    nn.Tanh: _activation("tanh"),
    nn.Softplus: _activation("softplus", beta=1.0, threshold=20.0),
    nn.Sigmoid: _activation("sigmoid"),
    nn.GELU: _activation("gelu", approximate="none"),
    nn.ELU: _activation("elu", alpha=1.0),
    nn.SiLU: _activation("silu"),
}


def _elementwise(name: ActivationName) -> Callable[..., Any]:
    def apply(interpreter: _Interpreter, args: Any, keywords: dict[str, Any]) -> Any:
        keywords.pop("inplace", None)
        if keywords or len(args) != 1 or not isinstance(args[0], _State):
            return None
        return interpreter.followed(args[0], Activation(name))

    return apply


def _cat(interpreter: _Interpreter, args: Any, keywords: dict[str, Any]) -> Any:
    parts, axis = args[0], keywords.get("dim", args[1] if len(args) > 1 else 0)
    if len(parts) != 2 or axis not in (1, -1):
        return None
    for state, time, order in ((parts[0], parts[1], "last"), (parts[1], parts[0], "first")):
        if isinstance(state, _State) and isinstance(time, _Time) and time.column:
            if state.layers or state.time:
                return None  # the field knows time in its first layer only
            return _State((), (), order, state.lifted)
    return None


def _multiplied(interpreter: _Interpreter, args: Any, keywords: dict[str, Any]) -> Any:
    kinds = {type(each) for each in args}
    ones = [each for each in args if isinstance(each, _Column) and each.ones]
    return _Time(column=True) if kinds == {_Time, _Column} and ones else None


def _item(interpreter: _Interpreter, args: Any, keywords: dict[str, Any]) -> Any:
    value, index = args
    if isinstance(value, _Sizes):
        return value
    if not isinstance(value, _State) or not isinstance(index, tuple) or len(index) < 2:
        return None
    everything, second, *rest = index
    if everything not in (slice(None), ...) or any(each != slice(None) for each in rest):
        return None
    if second is None and everything is not ...:
        return _State(value.layers, value.sources, value.time, lifted=True)
    if second == 0 and value.lifted:
        return _State(value.layers, value.sources, value.time, lifted=False)
    if second in (slice(None, 1), slice(0, 1)) and not value.layers:
        return _Column()
    return None


def _lifted(interpreter: _Interpreter, args: Any, keywords: dict[str, Any]) -> Any:
    if len(args) == 2 and args[1] == 1 and isinstance(args[0], _State) and not keywords:
        return _State(args[0].layers, args[0].sources, args[0].time, not args[0].lifted)
    return None


def _ones(interpreter: _Interpreter, args: Any, keywords: dict[str, Any]) -> Any:
    return _Column(ones=True) if isinstance(args[0], _Column) and not keywords else None


def _filled(interpreter: _Interpreter, args: Any, keywords: dict[str, Any]) -> Any:
    fits = isinstance(args[0], _Column) and len(args) == 2 and isinstance(args[1], _Time)
    return _Time(column=True) if fits else None


def _reshaped(interpreter: _Interpreter, args: Any, keywords: dict[str, Any]) -> Any:
    return args[0] if isinstance(args[0], _Time) and not args[0].column else None


def _expanded(interpreter: _Interpreter, args: Any, keywords: dict[str, Any]) -> Any:
    if not isinstance(args[0], _Time):
        return None
    if any(isinstance(each, _Column) for each in args[1:]):
        return _Time(column=True)
    # To (batch, 1, ...): the comparison with the module settles whether it is that.
    return _Time(column=len(args) > 2)


def _shape(interpreter: _Interpreter, args: Any, keywords: dict[str, Any]) -> Any:
    asks_shape = len(args) < 2 or args[1] == "shape" or isinstance(args[1], int)
    return _Sizes() if isinstance(args[0], _State) and asks_shape else None


#: Functions, operators and methods of tensors, and what becomes of the values.
_OPERATIONS: Mapping[Any, Callable[..., Any]] = {
    torch.tanh: _elementwise("tanh"),
    functional.tanh: _elementwise("tanh"),
    "tanh": _elementwise("tanh"),
    torch.relu: _elementwise("relu"),
    functional.relu: _elementwise("relu"),
    "relu": _elementwise("relu"),
    torch.sigmoid: _elementwise("sigmoid"),
    functional.sigmoid: _elementwise("sigmoid"),
    "sigmoid": _elementwise("sigmoid"),
    functional.softplus: _elementwise("softplus"),
    functional.gelu: _elementwise("gelu"),
    functional.elu: _elementwise("elu"),
    functional.silu: _elementwise("silu"),
    torch.cat: _cat,
    operator.mul: _multiplied,
    torch.mul: _multiplied,
    "mul": _multiplied,
    operator.getitem: _item,
    torch.unsqueeze: _lifted,
    "unsqueeze": _lifted,
    torch.squeeze: _lifted,
    "squeeze": _lifted,
    torch.ones_like: _ones,
    torch.full_like: _filled,
    "reshape": _reshaped,
    "view": _reshaped,
    "repeat": _expanded,
    "expand": _expanded,
    "expand_as": _expanded,
    getattr: _shape,
    "size": _shape,
}


def _compared(module: nn.Module, translation: Translation, y: Tensor) -> None:
    """Refuse a translation whose numbers are not the module's, at random states and times."""
    twin = FieldModule(translation.field)
    weights = translation.weights(module)
    twin.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()})
    twin = twin.to(y.dtype)
    random = torch.Generator().manual_seed(0)
    batched = y.ndim > len(translation.field.state_shape)
    shape = (2, *y.shape[1:]) if batched else y.shape
    with torch.no_grad():
        for moment in (0.3, -1.7):
            states = torch.randn(*shape, generator=random, dtype=y.dtype)
            time = torch.tensor(moment, dtype=y.dtype)
            try:
                expected = value_of(module, time, states)
            except Exception as error:  # the user's own code
                raise UntranslatableError(module, f"It fails at a test state ({error})") from error
            flat = states.reshape(-1, *translation.field.state_shape)
            got = twin(time, flat).reshape(states.shape)
            tolerance = 1e3 * torch.finfo(y.dtype).eps
            if not torch.allclose(got, expected, rtol=tolerance, atol=tolerance):
                raise UntranslatableError(module, "Its numbers are not those of what was read")
