"""What several test files share: the JAX backend, torch twins of fields, and an order report.

Nothing heavy is imported at the top, so that the files that need neither JAX nor torch stay fast.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from pynode_jl.fields import VectorField, Weights

# What one worker or process of a test has compiled the others find. Workers inherit the folder.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="pynode_jl-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# No example has a deadline: some compile, and the machines are shared. A submission is tested with
# the same examples each time: `.ci/run` sets CI.
hypothesis.settings.register_profile(
    "shared",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
hypothesis.settings.load_profile("shared")

# Tests that leave the backend open mean the JAX one; Julia's ask for it by name.
os.environ["PYNODE_BACKEND"] = "jax"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests share a process, for their fixtures' and compilations' sake, and all that
    start Julia do. (xdist 3.8 passes over its own groups under pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = Path(nodeid.partition("::")[0]).stem
            return "julia" if name.startswith("test_julia") else name

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names that hold an address: each worker would have others, and xdist none to run."""
    unstable = [each.nodeid for each in items if " at 0x" in each.nodeid]
    if unstable:
        raise pytest.UsageError(f"give these tests ids: {', '.join(unstable)}")


@pytest.fixture(autouse=True, scope="module")
def _room_for_compiled_code() -> Iterator[None]:
    """Drop what JAX has compiled where a process nears the system's limit of memory maps: the
    oracles' functions too, which the backend does not know of."""
    yield
    if "jax" in sys.modules:
        import jax

        from pynode_jl.backends.jax.jit import drop_compiled

        if drop_compiled(0.3):
            jax.clear_caches()


@pytest.fixture(scope="session")
def backend() -> Any:
    from pynode_jl.backends.jax import JaxBackend

    return JaxBackend("cpu")


@pytest.fixture(scope="session")
def torch_twin() -> Callable[[VectorField, Weights], Any]:
    """Builder of a ``torch.nn.Module`` f(t, y) with a field's layers, weights and precision."""
    import torch

    from pynode_jl.fields import Activation, Dense

    torch.set_num_threads(1)
    activations = {
        "relu": torch.nn.ReLU,
        "tanh": torch.nn.Tanh,
        "softplus": torch.nn.Softplus,
        "sigmoid": torch.nn.Sigmoid,
        "gelu": torch.nn.GELU,
        "elu": torch.nn.ELU,
        "silu": torch.nn.SiLU,
    }

    def layer_twin(layer: Any) -> torch.nn.Module:
        if isinstance(layer, Activation):
            return activations[layer.name]()
        if isinstance(layer, Dense):
            return torch.nn.Linear(layer.inputs, layer.outputs)
        conv = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d}[layer.axes]
        return conv(layer.inputs, layer.outputs, layer.kernel, padding=layer.kernel // 2)

    class Twin(torch.nn.Module):
        def __init__(self, field: VectorField, weights: Weights) -> None:
            super().__init__()
            self.field = field
            # `layers.0.weight` and so on: our names are torch's own for this attribute.
            self.layers = torch.nn.Sequential(*map(layer_twin, field.layers))
            self.to(torch.from_numpy(next(iter(weights.values()))).dtype)
            self.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()})

        def forward(self, t: Any, y: Any) -> Any:
            along = any(isinstance(each, torch.nn.Conv1d) for each in self.layers)
            h = y[:, None] if along else y
            if self.field.time_dependent:
                time = torch.as_tensor(t, dtype=y.dtype).expand(h.shape[0], 1, *h.shape[2:])
                h = torch.cat([h, time], dim=1)
            h = self.layers(h)
            return h[:, 0] if along else h

    return Twin


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the solvers whose measured order is not the catalogue's, by name."""
    lines = {
        f"{key.removeprefix('order ')}: {value}"
        for reports in terminalreporter.stats.values()
        for report in reports
        for key, value in getattr(report, "user_properties", [])
        if key.startswith("order ")
    }
    if lines:
        terminalreporter.section("suspects: measured order, fixed steps, float64")
        for line in sorted(lines):
            terminalreporter.write_line(line)
