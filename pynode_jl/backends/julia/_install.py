"""Setting Julia up through juliapkg: the one place that downloads, and only when asked to.

What is wanted stands in ``juliapkg.json`` beside this file. It lies too deep for juliapkg to find
by itself: one in a package's top folder would make every user of juliacall in the same Python
install all of this.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pynode_jl.backends.julia._discovery import EXE, PROJECT, julia_package
from pynode_jl.errors import BackendUnavailableError

_WANTED = Path(__file__).with_name("juliapkg.json")
_PYNODE = "b6a92657-4588-4b21-8d75-068b9aa61536"


def install(*, gpu: bool = False) -> str:
    """Have juliapkg install Julia, if none fits, and the packages; return the environment's folder.

    Args:
        gpu: LuxCUDA too.

    Raises:
        BackendUnavailableError: juliapkg is missing or told to stay offline, the environment is
            another one by environment variables, or the installation failed (the cause).
    """
    mine = [name for name in (EXE, PROJECT) if os.environ.get(name)]
    if mine:
        raise BackendUnavailableError(
            f"{' and '.join(mine)} set: that environment is yours, juliapkg is not asked."
            " Unset them, or add the packages to it yourself (`pynode-jl doctor` names them)."
        )
    try:
        import juliapkg
        from juliapkg.state import STATE
    except ImportError as error:
        raise BackendUnavailableError(
            "juliapkg is not installed. pip install 'pynode-jl[julia]'"
        ) from error
    if STATE["offline"]:
        raise BackendUnavailableError(
            "PYTHON_JULIAPKG_OFFLINE = yes: nothing can be installed. Unset it, or set Julia up by"
            " hand (`pynode-jl doctor` says how)."
        )
    require(gpu=gpu)
    try:
        juliapkg.resolve(force=True)
    except Exception as error:
        raise BackendUnavailableError(
            f"juliapkg could not install Julia and its packages: {error}. See its messages above;"
            " the same command goes on where it stopped."
        ) from error
    return str(juliapkg.project())


def require(*, gpu: bool = False) -> None:
    """Write what is wanted into juliapkg's own file of this Python environment."""
    from juliapkg import PkgSpec, add, require_julia

    wanted = json.loads(_WANTED.read_text(encoding="utf-8"))
    packages = wanted["packages"] | (wanted["gpu"] if gpu else {})
    require_julia(wanted["julia"])
    add(
        [
            PkgSpec("PyNODE", _PYNODE, dev=True, path=str(julia_package().resolve())),
            *(PkgSpec(name, **about) for name, about in packages.items()),
        ]
    )
