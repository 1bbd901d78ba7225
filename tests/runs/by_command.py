"""The command line of a large run of faults: how many, from which seed, and what came of them."""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

Outcomes = Callable[[int, int, Path], collections.Counter[str]]


def main(description: str | None, outcomes: Outcomes, option: str, default: int, bad: str) -> None:
    """Print how often each outcome came; exit with 1 if one has `bad` in it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(f"--{option}", type=int, default=default, dest="count")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = outcomes(arguments.count, arguments.seed, Path(folder))
    for said, count in found.most_common():
        print(f"{count:>6} {said}")
    sys.exit(any(bad in said for said in found))
