"""The bounds on Julia packages: each holds from the oldest set of versions that was tried to the
newest, and no further down. No registry is asked."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pynode_jl.backends.julia import _names, _process
from pynode_jl.solvers import info

ROOT = Path(__file__).parents[3]
TESTED = _names.tested_sets()
Version = tuple[int, int, int]


def bounds(project: str) -> dict[str, str]:
    found: dict[str, str] = tomllib.loads((ROOT / project).read_text())["compat"]
    return {name: bound for name, bound in found.items() if name != "julia"}


def wanted() -> dict[str, str]:
    """What `pynode-jl julia install` asks juliapkg for."""
    asked = json.loads((Path(_process.__file__).with_name("juliapkg.json")).read_text())
    return {name: about["version"] for name, about in asked["packages"].items()}


def parsed(text: str) -> Version:
    numbers = [int(part) for part in text.split(".")]
    first, second, third = (*numbers, 0, 0, 0)[:3]
    return first, second, third


def admits(bound: str, version: str) -> bool:
    """Julia's caret rule, for each part of a bound: up to the first number that is not zero."""
    return any(_within(parsed(part.strip()), parsed(version)) for part in bound.split(","))


def _within(low: Version, version: Version) -> bool:
    leading = next((i for i, number in enumerate(low) if number), 2)
    return low <= version and version[: leading + 1] == low[: leading + 1]


@pytest.mark.parametrize(
    ("bound", "version", "inside"),
    [
        ("1.4", "1.4.0", True),
        ("1.4", "1.5.2", True),
        ("1.4", "1.3.9", False),
        ("1.4", "2.0.0", False),
        ("0.7", "0.7.12", True),
        ("0.7", "0.8.0", False),
        ("3.87, 4, 5", "5.12.0", True),
        ("3.87, 4, 5", "6.0.0", False),
    ],
)
def test_the_caret_rule(bound: str, version: str, inside: bool) -> None:
    assert admits(bound, version) == inside


@pytest.mark.parametrize("name", TESTED)
@pytest.mark.parametrize(
    "bounded",
    [bounds("Project.toml"), bounds("julia/Project.toml"), wanted()],
    ids=["Project.toml", "julia/Project.toml", "juliapkg.json"],
)
def test_bounds_admit_what_was_tried(bounded: dict[str, str], name: str) -> None:
    versions = TESTED[name].versions
    checked = {package for package in bounded if package in versions}
    assert checked or name == "newest"  # which holds none of the optional packages
    refused = {p: (bounded[p], versions[p]) for p in checked if not admits(bounded[p], versions[p])}
    assert not refused


def test_bounds_admit_nothing_older() -> None:
    """Of the solvers' packages; of others SemVer is believed, down to their first major version."""
    for package, bound in (bounds("Project.toml") | bounds("julia/Project.toml")).items():
        tried = [each.versions[package] for each in TESTED.values() if package in each.versions]
        if package.startswith(("OrdinaryDiffEq", "LinearSolve", "Lux", "SciMLSens", "DiffEqFlux")):
            if not tried:
                assert package == "LuxCUDA"  # for a GPU, which these sets were not tried with
                continue
            oldest = min(map(parsed, tried))
            low = parsed(bound.partition(",")[0])
            assert low[:2] == oldest[:2], package


def test_bounds_agree() -> None:
    root, package = bounds("Project.toml"), bounds("julia/Project.toml")
    for name, bound in wanted().items():
        assert root[name] == bound
        assert package[name] == bound


def test_what_is_needed_is_bounded() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "julia/Project.toml").read_text())
    needed = {*project["deps"], *project["weakdeps"], *project["extras"]}
    assert needed == set(bounds("julia/Project.toml"))


def test_names_of_newer_versions_are_in_the_newest_set() -> None:
    for name, version in _names.SINCE.items():
        library = str(info(name).sublibrary)
        newest = TESTED["newest"].versions[library]
        assert parsed(version) <= parsed(newest), (name, version, newest)
        assert parsed(version) > parsed(TESTED["gradients"].versions[library])


def test_sources_name_no_other_version() -> None:
    """The tested sets stand in one file: the guide does not repeat them and go stale."""
    text = (ROOT / "docs/julia.md").read_text()
    for version in re.findall(r"OrdinaryDiffEqCore (\d+\.\d+)", text):
        assert any(s.versions["OrdinaryDiffEqCore"].startswith(version) for s in TESTED.values())
