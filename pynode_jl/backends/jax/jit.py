"""`jax.jit` as all kernels here want it, and a bound on what they hold of the system."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np

# Every kernel, with the number of its last compilation.
_KERNELS: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
# Compiled code lies in memory maps, of which Linux gives a process 65,530. Beyond them XLA crashes:
# seen after some 2,000 compilations. They are counted after so many, and dropped at this share.
_BETWEEN_COUNTS = 16
_MOST_OF_THE_MAPS = 0.7
_compilations = itertools.count(1)
# A compiled solve takes some 3 to 6 MB of memory, so that there is a bound on their number. Those
# of the kernels whose last compilation is longest ago are dropped first.
_MOST_PROGRAMS = 128
_AFTER_A_DROP = 96
# What stands for a compilation that JAX has not timed.
_TINY = 1e-9


def jitted(
    function: Callable[..., Any], *, emitters: bool = False, donated: int | None = None
) -> Callable[..., Any]:
    """`jax.jit`; on the CPU with XLA's fusion emitters or without, where it knows that option.

    They take a third of the compilation and gain a few per cent of speed with relu and
    convolutions; a tanh of a matrix product they make eight times as fast, without which LLVM does
    not vectorise it. `donated` is the argument whose memory the results take over.
    """
    options = {} if emitters else _without_emitters()
    kernel = jax.jit(function, compiler_options=options, donate_argnums=donated)
    _KERNELS[kernel] = 0
    return kernel


def run(kernel: Any, *arguments: Any) -> tuple[Any, float]:
    """Run a kernel; return its result, and the seconds of compilation for this call; 0 if none."""
    before = kernel._cache_size()
    _clock.spans = []
    result = kernel(*arguments)
    jax.tree.leaves(result)[0].block_until_ready()  # and so are all others: they come together
    compiled = 0.0
    if kernel._cache_size() > before:
        compiled = max(sum(stop - start for start, stop in _clock.spans), _TINY)
        _KERNELS[kernel] = number = next(_compilations)
        drop_oldest(_MOST_PROGRAMS, _AFTER_A_DROP)
        if number % _BETWEEN_COUNTS == 0:
            drop_compiled(_MOST_OF_THE_MAPS)
    return result, compiled


def drop_oldest(most: int, after: int) -> None:
    """Drop the programs of the kernels compiled longest ago, if there are more than `most` in all.

    At most `after` are left.
    """
    sizes = {kernel: kernel._cache_size() for kernel in list(_KERNELS)}
    held = sum(sizes.values())
    if held <= most:
        return
    for kernel in sorted(sizes, key=lambda each: _KERNELS.get(each, 0)):
        if held <= after:
            return
        if sizes[kernel]:
            kernel.clear_cache()
            held -= sizes[kernel]


class _Clock(threading.local):
    """The spans of time that JAX spent in tracing and compiling, in this thread."""

    spans: list[tuple[float, float]]

    def __init__(self) -> None:
        self.spans = []

    def note(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            stop = time.perf_counter()
            start = stop - duration_secs
            # Inner functions come first: their spans lie within that of the outer one.
            self.spans = [span for span in self.spans if span[0] < start]
            self.spans.append((start, stop))


_clock = _Clock()
jax.monitoring.register_event_duration_secs_listener(_clock.note)


def drop_compiled(most: float) -> bool:
    """Drop what the kernels have compiled, if that is more than a share of the system's maps.

    They compile again when they run again.

    Returns:
        Whether it was dropped.
    """
    try:
        limit = int(Path("/proc/sys/vm/max_map_count").read_text(encoding="ascii"))
        with open("/proc/self/maps", "rb") as maps:
            held = sum(1 for _ in maps)
    except OSError:  # not Linux
        return False
    if held <= most * limit:
        return False
    for kernel in list(_KERNELS):
        kernel.clear_cache()
    return True


@cache
def _without_emitters() -> dict[str, bool]:
    options = {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda x: x, compiler_options=options)(np.float32(0))
    except Exception:  # XLA's options come and go, and it has no error class for a missing one
        return {}
    return options
