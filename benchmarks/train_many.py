"""Seeds a minute, trained together and one by one.

One process, pinned to one core, one thread, or on a GPU. The two ways take turns, and what is
compared is the median of the ratios within a turn. Compilation is left out. Results are checked to
be the same.

    python benchmarks/train_many.py [--device gpu] [--seeds 16] [--iterations 100] [--repeats 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        # Before anything makes threads.
        os.sched_setaffinity(0, {arguments.core})
    import pynode_jl as pn

    backend = pn.get_backend("jax", arguments.device)
    spheres = pn.concentric_spheres(dim=2)
    paper, small = pn.Model(pn.ConvField1d(2), classes=2), pn.Model(pn.MLP(2, width=8), classes=2)
    cases = [(f"Sphere 2D, h = 1/{n}", paper, n, 128) for n in (2, 4, 8, 16)]
    cases += [(f"MLP 8 wide, batch 16, h = 1/{n}", small, n, 16) for n in (2, 16)]
    print("| | one by one, ms a seed | together, ms a seed | x one by one |\n|---|---|---|---|")
    for label, model, steps, batch in cases:
        recipes = [
            pn.Recipe(
                pn.Solver("Euler", dt=1 / steps),
                iterations=arguments.iterations,
                batch_size=batch,
                seed=seed,
            )
            for seed in range(arguments.seeds)
        ]
        print(in_turns(label, *ways(model, spheres, recipes, backend), arguments), flush=True)


def ways(
    model: Any, data: Any, recipes: list[Any], backend: Any
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """One by one, and together; both compiled."""
    import numpy as np

    import pynode_jl as pn

    def alone() -> list[Any]:
        return [pn.train(model, data, recipe, backend=backend) for recipe in recipes]

    def together() -> list[Any]:
        return pn.train_many(model, data, recipes, backend=backend)

    for one, other in zip(alone(), together(), strict=True):
        np.testing.assert_allclose(one.history.loss, other.history.loss, rtol=1e-3)
    return alone, together


def in_turns(
    label: str, alone: Callable[[], Any], together: Callable[[], Any], arguments: argparse.Namespace
) -> str:
    """A table's row: milliseconds of both ways for a seed, and the ratio."""
    seconds: list[list[float]] = [[], []]
    for _ in range(arguments.repeats):
        for spent, way in zip(seconds, (alone, together), strict=True):
            start = time.perf_counter()
            way()
            spent.append((time.perf_counter() - start) / arguments.seeds)
    ratio = statistics.median(a / b for a, b in zip(*seconds, strict=True))
    medians = [f"{1e3 * statistics.median(each):.1f}" for each in seconds]
    return f"| {' | '.join([label, *medians, f'{ratio:.2f}'])} |"


if __name__ == "__main__":
    main()
