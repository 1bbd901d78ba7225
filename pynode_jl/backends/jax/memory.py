"""Estimate peak memory before compilation, and reject batches that do not fit.

An estimate, for a compilation would take longer than the answer is worth: what XLA says of compiled
kernels is at most 1.2 times as much, and at least half (tests hold it to that).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pynode_jl.backends.jax import field_eval
from pynode_jl.backends.jax.batching import CPU_BYTES, OTHER_BYTES, batch_size
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy
from pynode_jl.errors import InvalidValueError
from pynode_jl.models import Model
from pynode_jl.solvers import Tableau

# Copies of its widest layer that a field and its derivative hold; of images' with Winograd's tiles.
_LAYERS, _IMAGE_LAYERS = 12, 24
# States that a step holds beyond its stages, forwards and backwards.
_STATES = 8


def training_bytes(
    model: Model,
    batch: int,
    n: int,
    tableau: Tableau,
    policy: CheckpointPolicy,
    itemsize: int,
    *,
    cpu: bool,
) -> int:
    """Bytes that training on batches of `batch` of `n` samples takes."""
    state = batch * model.field.size * itemsize
    weights = sum(int(np.prod(shape)) for shape in model.weight_shapes().values()) * itemsize
    data = n * int(np.prod(model.input_shape)) * itemsize
    states = (policy.held_states + 2 * tableau.stages + _STATES) * state
    return data + states + 8 * weights + _field_bytes(model, batch, tableau, itemsize, cpu)


def evaluation_bytes(
    model: Model, n: int, tableau: Tableau, padded_stages: int, itemsize: int, *, cpu: bool
) -> int:
    """Bytes that the solve of `n` samples as one batch takes."""
    state = n * model.field.size * itemsize
    states = (padded_stages + _STATES) * state
    return states + _field_bytes(model, n, tableau, itemsize, cpu)


def check_batch(
    argument: str, batch: int, needed: Callable[[int], int], device: Any, hint: str
) -> None:
    """Refuse a batch that the device has no memory for.

    Raises:
        InvalidValueError: it needs more than is free; the message has the largest that would fit.
    """
    free = free_bytes(device)
    if free is None or needed(batch) <= free:
        return
    # One by one: what is needed falls where a larger batch gets room for fewer steps.
    fitting = next((size for size in range(batch - 1, 0, -1) if needed(size) <= free), 0)
    allowed = f"at most {fitting}" if fitting else "nothing: not even one sample fits"
    raise InvalidValueError(
        argument,
        batch,
        f"{allowed}, by an estimate: {batch} need {_text(needed(batch))}, {_text(free)} are free",
        hint,
    )


def free_bytes(device: Any) -> int | None:
    """Memory that is free on `device`: a GPU's, or this machine's; None where nothing tells."""
    device = jax.devices()[0] if device is None else device
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))
    known = [free for free in (_machine(), _control_group()) if free is not None]
    return min(known, default=None)


def on_cpu(device: Any) -> bool:
    """Whether `device`, or JAX's default for None, is a CPU."""
    return (jax.default_backend() if device is None else device.platform) == "cpu"


def _field_bytes(model: Model, batch: int, tableau: Tableau, itemsize: int, cpu: bool) -> int:
    field = model.field
    sample = field_eval.widest(field) * itemsize
    at_once = (
        batch_size(batch, sample, CPU_BYTES if cpu else OTHER_BYTES)
        if field_eval.width(field)
        else batch
    )
    layers = (_IMAGE_LAYERS if field_eval.width(field) else _LAYERS) * at_once * sample
    if not tableau.explicit:
        # Newton's matrices, and a tangent of the widest layer for each of their columns.
        layers += batch * field.size * (4 * field.size * itemsize + sample)
    return layers


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(values["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in values else None


def _control_group() -> int | None:
    """Return what this container may still take (cgroup v2)."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = (
            (folder / name).read_text(encoding="ascii").strip()
            for name in ("memory.max", "memory.current")
        )
        return int(limit) - int(used)
    except (OSError, ValueError):  # no such control group, or no limit: "max"
        return None


def _text(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"
