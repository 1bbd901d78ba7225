"""Vega-Lite's scripts, as one text: made by vl-convert once, and kept in the cache folder."""

from __future__ import annotations

import functools
import importlib.metadata
from importlib.util import find_spec

from pynode_jl._io import cache_folder, make_folder, read_json, write_json
from pynode_jl.errors import InputError, OutputError

_PACKAGE = "vl-convert-python"
_GLOBAL = "window.vegaEmbed = vegaEmbed;"


@functools.cache
def vega_script() -> str | None:
    """Return a script that defines `vegaEmbed`, with Vega and Vega-Lite in it; None without it.

    Making it takes seconds, and it is the same for one version of vl-convert: so it is kept.

    Example:
        >>> from pynode_jl.reporting.html import vega_script
        >>> (vega_script() or "vegaEmbed").count("</script")
        0
    """
    if find_spec("vl_convert") is None:
        return None
    version = importlib.metadata.version(_PACKAGE)
    kept = cache_folder() / f"vega-{version}.json"
    try:
        script = read_json(kept).get("script")
    except InputError:
        script = None
    if not isinstance(script, str):
        import vl_convert

        # Within strings alone: there the two are the same.
        script = vl_convert.javascript_bundle(_GLOBAL).replace("</script", "<\\/script")
        try:
            make_folder(kept.parent)
            write_json(kept, {"script": script})
        except OutputError:
            pass  # a home without a cache: made anew in each process
    return script
