"""Package images: solvers compiled once for all later processes, which then only load them.

Julia compiles a solver when it is first used: two seconds for an explicit one, twenty for some
implicit ones, in every process again. An image holds the solvers of one sub-library, for both
precisions and every right-hand side, since these are of one type (`Derivative` in
julia/src/fields.jl).
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from pynode_jl.backends.julia import _process
from pynode_jl.backends.julia._discovery import Environment, discover, julia_package
from pynode_jl.backends.julia._names import UNSOLVABLE
from pynode_jl.errors import BackendUnavailableError, InvalidValueError
from pynode_jl.solvers import SolverInfo, catalogue


class Image(NamedTuple):
    """What became of one sub-library: its solvers compiled, or the problem.

    `seconds` and `megabytes` are what it took.
    """

    library: str
    solvers: tuple[str, ...]
    seconds: float
    megabytes: float
    problem: str = ""


def solvers_by_library(wanted: Sequence[str] = ()) -> dict[str, tuple[SolverInfo, ...]]:
    """Return the solvers of a plain y' = f(t, y) by sub-library.

    Args:
        wanted: parts of family or sub-library names, or solvers' names; none: all of them.

    Raises:
        InvalidValueError: nothing is called so.
    """
    rows = [
        row
        for row in catalogue(backend="julia")
        if row.sublibrary and row.plain and row.name not in UNSOLVABLE
    ]
    kept = list(rows) if not wanted else []
    for each in wanted:
        exact = [row for row in rows if row.name == each]
        part = each.casefold()
        found = exact or [
            row
            for row in rows
            if part in row.family.casefold() or part in str(row.sublibrary).casefold()
        ]
        if not found:
            families = "; ".join(sorted({row.family for row in rows}))
            raise InvalidValueError(
                "wanted",
                each,
                f"a solver, a sub-library, or a part of one of: {families}",
                "Use one.",
            )
        kept += [row for row in found if row not in kept]
    libraries = sorted({str(row.sublibrary) for row in kept})
    return {name: tuple(row for row in kept if row.sublibrary == name) for name in libraries}


def build_images(libraries: dict[str, tuple[SolverInfo, ...]], *, jobs: int = 1) -> Iterator[Image]:
    """Compile images, `jobs` at a time, each in its own process (2 GB); yield each when done.

    `libraries` has the solvers of each sub-library, as `solvers_by_library` gives them.

    Raises:
        BackendUnavailableError: no Julia environment is set up.
    """
    place = _place()
    with ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(_built, place, name, rows) for name, rows in libraries.items()]
        for task in as_completed(tasks):
            yield task.result()


# Prints the names on its last line but one and the file on its last, once it is there.
_BUILD = f"""
({_process.LOAD})(popfirst!(ARGS))
library = popfirst!(ARGS)
solvers = Dict(name => parse(Bool, implicit) for (name, implicit) in split.(ARGS, '='))
names, file = PyNODE.build_image(library, solvers)
println(join(names, ' '))
println(file)
"""


def _built(place: Environment, library: str, rows: Sequence[SolverInfo]) -> Image:
    begun = time.perf_counter()
    done = subprocess.run(
        [
            place.exe,
            f"--project={place.project}",
            "--startup-file=no",
            "-e",
            _BUILD,
            str(julia_package()),
            library,
            *(f"{row.name}={str(row.takes_jacobian).lower()}" for row in rows),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begun
    *_, names, file = ["", "", *done.stdout.splitlines()]
    if done.returncode == 0:
        made = Path(file)
        size = sum(each.stat().st_size for each in made.parent.glob(f"{made.stem}.*"))
        return Image(library, tuple(names.split()), seconds, size / 1e6)
    return Image(library, (), seconds, 0.0, _process.first_line(RuntimeError(done.stderr)))


def _place() -> Environment:
    """Return the Julia and the project that juliacall would start."""
    found = discover()
    if not found.found:
        raise BackendUnavailableError(f"backend = 'julia': {found.text}")
    if found.exe:
        return Environment(found.exe, found.project)
    import juliapkg

    return Environment(juliapkg.executable(), juliapkg.project())
