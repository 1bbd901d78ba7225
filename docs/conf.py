"""Sphinx's settings: `make docs` builds docs/_build/html, which opens from disk without a network.

Nothing is fetched: no other project's index, fonts or scripts. Formulas are MathML, which browsers
draw by themselves.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import roles
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import pending_xref

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import generated_pages  # noqa: E402

import pynode_jl  # noqa: E402

project = "pynode_jl"
author = "The pynode_jl authors"
copyright = f"2026, {author}"
release = version = pynode_jl.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "reference/generated", "**/.ipynb_checkpoints"]
#: Single backticks in docstrings: a link to a public name, code elsewhere.
default_role = "name"
#: A prime, as in y', is no closing quote.
smartquotes = False

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
#: Headings get GitHub's anchors, so that one link serves both readers.
myst_heading_anchors = 4

#: "force" runs the tutorials at each build; DOCS_NOTEBOOKS=off shows them without output.
nb_execution_mode = os.environ.get("DOCS_NOTEBOOKS", "force")
nb_execution_timeout = 300
#: Threads that wait for each other cost ten times more than they gain where cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")
#: A second build finds what JAX compiled in the first.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HERE / "_build" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
nb_execution_raise_on_error = True
nb_merge_streams = True
#: No widgets: their scripts would come from a network.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autoclass_content = "class"
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
python_use_unqualified_type_names = True
add_module_names = False
#: With them the navigation of every page would hold every name of the API.
toc_object_entries = False
maximum_signature_line_length = 88

html_theme = "furo"
html_title = "pynode_jl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("tables.js", {"defer": "defer"})]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"sidebar_hide_name": False, "navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
copybutton_remove_prompts = True


html_math_renderer = "mathml"


def _inline_formula(translator: Any, node: Any) -> None:
    translator.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _block_formula(translator: Any, node: Any) -> None:
    translator.body.append(f'<div class="formula">{tex2mathml(node.astext())}</div>')
    raise nodes.SkipNode


def _name(role: str, raw: str, text: str, *_: Any) -> tuple[list[Any], list[Any]]:
    code = nodes.literal(raw, text, classes=["xref", "py", "py-obj"])
    target = generated_pages.targets().get(text)
    if target is None:
        return [code], []
    link = pending_xref(raw, code, refdomain="py", reftype="obj", reftarget=target)
    link["refexplicit"] = True
    return [link], []


def _shapes(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Escape the star of a shape such as (n, *state), which is emphasis in reStructuredText."""
    for i, line in enumerate(lines):
        lines[i] = line if line.lstrip().startswith((">>>", "...")) else generated_pages.rst(line)


def _skip(app: Any, what: str, name: str, *_: Any) -> bool | None:
    """Leave out what scikit-learn adds to estimators for its own routing."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Any) -> None:
    """Draw formulas as MathML, and write the pages that are made from the code."""
    roles.register_local_role("name", _name)
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_block_formula, None))
    app.connect("autodoc-process-docstring", _shapes, priority=100)
    app.connect("autodoc-skip-member", _skip)
    app.connect("builder-inited", lambda app: generated_pages.write(HERE / "reference"))
