"""The scripts of docs/, which belong to no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any


def load_docs_script(name: str) -> Any:
    """Import docs/`name`.py under that name."""
    path = Path(__file__).parents[1] / "docs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
