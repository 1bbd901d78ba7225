"""`jax.jit` as all kernels here want it, and a bound on what they hold of the system."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import jax
import numpy as np

_KERNELS: WeakSet[Any] = WeakSet()
# Compiled code lies in memory maps, of which Linux gives a process 65,530. Beyond them XLA crashes:
# seen after some 2,000 compilations. They are counted after so many, and dropped at this share.
_BETWEEN_COUNTS = 16
_MOST_OF_THE_MAPS = 0.7
_compilations = itertools.count(1)
# A program is some 3 MB. Of those that have not run for longest, whole kernels are dropped.
_MOST_PROGRAMS = 128
_recent: OrderedDict[int, weakref.ref[Any]] = OrderedDict()  # kernels by id, the last used last
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
    _KERNELS.add(kernel)
    return kernel


def run(kernel: Any, *arguments: Any) -> tuple[Any, float]:
    """Run a kernel; return its result, and the seconds of compilation for this call; 0 if none."""
    before = kernel._cache_size()
    _timer.spans = []
    result = used(kernel)(*arguments)
    jax.tree.leaves(result)[0].block_until_ready()  # and so are all others: they come together
    compiled = 0.0
    if kernel._cache_size() > before:
        compiled = max(sum(stop - start for start, stop in _timer.spans), _TINY)
        drop_unused(_MOST_PROGRAMS)
    if compiled and next(_compilations) % _BETWEEN_COUNTS == 0:
        drop_compiled(_MOST_OF_THE_MAPS)
    return result, compiled


def used(kernel: Any) -> Any:
    """Return a kernel that is about to run, and note that."""
    key = id(kernel)
    _recent[key] = weakref.ref(kernel)
    _recent.move_to_end(key)
    return kernel


def drop_unused(most: int) -> None:
    """Drop compiled programs, those of the kernels used last being the last, down to so many."""
    total = sum(kernel._cache_size() for kernel in list(_KERNELS))
    while total > most and _recent:
        try:
            _, reference = _recent.popitem(last=False)
        except KeyError:  # another thread has it
            return
        kernel = reference()
        if kernel is not None:
            total -= kernel._cache_size()
            kernel.clear_cache()


class _CompilationTimer(threading.local):
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


_timer = _CompilationTimer()
jax.monitoring.register_event_duration_secs_listener(_timer.note)


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
