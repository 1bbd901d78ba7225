"""``pynode-jl``: the group of all commands, in the order in which its help lists them."""

from __future__ import annotations

import platform
from typing import Annotated

import typer

from pynode_jl._version import __version__
from pynode_jl.cli._adapt import adapt, critical
from pynode_jl.cli._certify import certify
from pynode_jl.cli._commands import add_command, new_app
from pynode_jl.cli._doctor import doctor
from pynode_jl.cli._init import init
from pynode_jl.cli._julia import app as julia_app
from pynode_jl.cli._matrix import matrix
from pynode_jl.cli._reproduce import app as reproduce_app
from pynode_jl.cli._solvers import app as solvers_app
from pynode_jl.cli._solvers import zoo
from pynode_jl.cli._sweep import app as sweep_app
from pynode_jl.cli._train import quickstart, swap, train

app = new_app("")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        others = ", ".join(f"{name} {version(name)}" for name in ("jax", "numpy"))
        typer.echo(f"pynode-jl {__version__}, {others}, Python {platform.python_version()}")
        raise typer.Exit


@app.callback(
    epilog="Exit status: 0 done, 1 failed, 2 refused, 130 interrupted (143 by SIGTERM);"
    " with --check, 3 tied, 4 undecided, 5 no verdict. Results go to standard output, all else to"
    " standard error. PYNODE_BACKEND chooses a backend. `pynode-jl COMMAND -h` has examples."
)
def pynode(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print versions, and exit."
        ),
    ] = False,
) -> None:
    """Is a trained Neural ODE an ODE, or a ResNet tied to its solver?"""


add_command(app, quickstart, "pynode-jl quickstart", "pynode-jl quickstart --out /tmp/first")
add_command(
    app,
    init,
    "pynode-jl init",
    "pynode-jl init moons.toml --data moons --field mlp",
    "pynode-jl init plums.toml --data plums.csv",
    "pynode-jl init --schema > schema.json",
)
add_command(
    app,
    train,
    "pynode-jl train sphere.toml --out runs/sphere",
    "pynode-jl train sphere.toml --out runs/rk4 --set train.solver=RK4:dt=1/8",
)
add_command(
    app,
    swap,
    "pynode-jl swap runs/sphere",
    "pynode-jl swap runs/sphere --solver RK4 --solver Tsit5:rtol=1e-6,atol=1e-8 --factor 0.5",
    "pynode-jl swap runs/sphere --check --quiet --json > swap.json",
)
add_command(
    app,
    certify,
    "pynode-jl certify runs/sphere",
    "pynode-jl certify runs/sphere --check --quiet && echo an ODE",
)
add_command(
    app,
    adapt,
    "pynode-jl adapt sphere.toml --seeds 3",
    "pynode-jl adapt sphere.toml --controller paper --set adapt.every=25",
)
add_command(
    app,
    critical,
    "pynode-jl critical sphere.toml --coarse dt=1/2 --fine dt=1/64",
    "pynode-jl critical sphere.toml --set train.solver=Tsit5 --coarse tol=1e-1 --fine tol=1e-6",
)
add_command(
    app, matrix, "pynode-jl matrix runs/", "pynode-jl matrix runs/a runs/b --solver RK4 --zoo"
)
add_command(app, zoo, "pynode-jl zoo", "pynode-jl zoo --family verner --out orders.csv")
add_command(app, doctor, "pynode-jl doctor")
for _group, _name in (
    (solvers_app, "solvers"),
    (sweep_app, "sweep"),
    (reproduce_app, "reproduce"),
    (julia_app, "julia"),
):
    # Else it would be cut at so many characters.
    app.add_typer(_group, name=_name, short_help=_group.info.help)
