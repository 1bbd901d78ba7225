"""Damaged, foreign and crafted files of a run: right values or an error of the package."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import damage
import kills
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from pynode_jl._io import digest
from pynode_jl.errors import PyNODEError, RunFolderError
from pynode_jl.runs import Config, Run
from pynode_jl.runs._checkpoint import arrays_digest

CASES = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return damage.make_run(tmp_path_factory.mktemp("runs") / "run", 3)


def test_damaged_files_load_right_values_or_are_refused(tmp_path: Path) -> None:
    found = damage.outcomes(CASES, 0, tmp_path)
    assert not [said for said in found if said.startswith("WRONG")]
    assert found["RunFolderError"] > CASES / 2
    assert sum(found.values()) == CASES


def test_every_bit_of_a_checkpoint_counts(run: Run) -> None:
    """Of 120 flipped bits among the numbers not one loads."""
    path = run.folder / "checkpoint.safetensors"
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    head = 8 + int.from_bytes(whole[:8], "little")
    try:
        for place in random.integers(head, len(whole), 120):
            torn = bytearray(whole)
            torn[place] ^= 1 << int(random.integers(8))
            path.write_bytes(torn)
            with pytest.raises(RunFolderError, match="fails its checksum"):
                _ = run.trained
    finally:
        path.write_bytes(whole)


# Checkpoints that were made to mislead, with checksums that fit

Facts = dict[str, Any]
Arrays = dict[str, np.ndarray]


def _set(*path: Any) -> Callable[[Facts, Arrays], None]:
    """Set a fact; the last of `path` is its value."""
    *keys, last, value = path

    def change(facts: Facts, arrays: Arrays) -> None:
        place: Any = facts
        for key in keys:
            place = place[key]
        place[last] = value

    return change


def _array(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[Facts, Arrays], None]:
    def changed(facts: Facts, arrays: Arrays) -> None:
        made = change(arrays.pop(name))
        if made is not None:
            arrays[name] = made

    return changed


_WEIGHT = "weights/head.bias"
_DEEP: Any = json.loads("[" * 500 + "]" * 500)
CRAFTED: dict[str, Callable[[Facts, Arrays], None]] = {
    **{f"iteration {value!r}": _set("iteration", value) for value in (-1, "3", 1e99, True, 21, 19)},
    **{f"iteration {value!r}": _set("iteration", value) for value in (None, 2**70, [20], 20.0)},
    **{f"retcode {value!r}": _set("retcode", value) for value in ("Nope", None, 3, [])},
    **{f"seconds {value!r}": _set("seconds", value) for value in ("x", None, {})},
    **{f"checks {value!r}": _set("checks", value) for value in (3, [3], {"a": 1}, [{}], None)},
    **{f"data {value!r}": _set("data", value) for value in (3, None, [])},
    "deep checks": _set("checks", _DEEP),
    **{f"control {value!r}": _set("control", value) for value in (None, 3, {}, "x", [])},
    "control's memory": _set("control", "memory", [1]),
    "control's solver": _set("control", "solver", {"name": "Eulr", "dt": 0.1}),
    "control's other solver": _set("control", "solver", {"name": "RK4", "dt": 0.1}),
    "control's odd solver": _set("control", "solver", {"name": ["Euler"], "dt": 0.1}),
    "control's step": _set("control", "solver", "dt", -0.25),
    "control's new key": _set("control", "more", 1),
    **{f"validation {value!r}": _set("validation", value) for value in (3, {}, "x")},
    "validation's bound": _set("validation", "bound", "low"),
    "a check's action": _set("checks", 0, "action", 3),
    "a check's solver": _set("checks", 0, "solver", None),
    "a check's flag": _set("checks", 0, "best", 1),
    "no weights": _array(_WEIGHT, lambda value: None),
    "no moment": _array("mu/head.bias", lambda value: None),
    "no history": _array("history/loss", lambda value: None),
    "NaN weights": _array(_WEIGHT, lambda value: value * np.nan),
    "infinite moments": _array("nu/head.bias", lambda value: value + np.inf),
    "negative moments": _array("nu/head.bias", lambda value: value - 1),
    "integer weights": _array(_WEIGHT, lambda value: value.astype(np.int32)),
    "half weights": _array(_WEIGHT, lambda value: value.astype(np.float16)),
    "longer weights": _array(_WEIGHT, lambda value: np.zeros(3, np.float32)),
    "longer moments": _array("mu/head.bias", lambda value: np.zeros(3, np.float32)),
    "a shorter history": _array("history/loss", lambda value: value[:-1]),
    "a NaN history": _array("history/loss", lambda value: value * np.nan),
    "a history of another type": _array("history/nf", lambda value: value.astype(np.float32)),
    "a flat history": _array("history/step", lambda value: value[None]),
    "negative counts": _array("history/nf", lambda value: -value),
    "another part": lambda facts, arrays: arrays.update({"other/x": np.zeros(1)}),
    "no part": lambda facts, arrays: arrays.update({"x": np.zeros(1)}),
    "kept weights of no check": lambda facts, arrays: (
        facts.update(checks=[{**each, "best": False} for each in facts["checks"]]),
        arrays.update({name.replace("weights", "kept"): v for name, v in arrays.items()}),
    ),
    "kept weights of another shape": lambda facts, arrays: arrays.update({"kept/x": np.zeros(1)}),
    **{
        f"no {name}": (lambda facts, arrays, name=name: facts.pop(name))
        for name in ("format", "iteration", "retcode", "control", "checks", "trained by")
    },
    "another format": _set("format", "pynode_jl checkpoint 4"),
    "another origin": _set("trained by", "recipe.seed", 4),
    "no origin": _set("trained by", 3),
}


@pytest.mark.parametrize("old", [False, True], ids=["sealed", "of version 0.1"])
def test_crafted_checkpoints_are_refused(run: Run, old: bool) -> None:
    path = run.folder / "checkpoint.safetensors"
    whole = path.read_bytes()
    with safe_open(path, framework="np") as file:
        text = file.metadata()["facts"]
        good = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    passed = []
    try:
        for case, change in CRAFTED.items():
            facts, arrays = json.loads(text), dict(good)
            if old:
                if case.startswith(("data", "no origin", "another origin", "no trained by")):
                    continue
                facts["format"] = "pynode_jl checkpoint 2"
            change(facts, arrays)
            if not old:
                facts["arrays"] = arrays_digest(arrays)
            sealed = json.dumps(facts)
            seal = {} if old else {"sha256": digest(sealed.encode())}
            save_file(arrays, path, {"facts": sealed, **seal})
            with suppress(PyNODEError):
                _ = run.trained
                passed.append(case)
    finally:
        path.write_bytes(whole)
    assert passed == []


def test_facts_that_are_no_facts_are_refused(run: Run) -> None:
    path = run.folder / "checkpoint.safetensors"
    whole = path.read_bytes()
    try:
        for metadata in (
            None,
            {},
            {"facts": ""},
            *({"facts": text} for text in ("3", "[]", "null", "{", "[" * 100_000)),
        ):
            save_file({"x": np.zeros(1)}, path, metadata)
            for use in (lambda: run.trained, lambda: run.recorded_fingerprint):
                with pytest.raises(RunFolderError, match="checkpoint"):
                    use()
    finally:
        path.write_bytes(whole)


def test_a_checkpoint_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe or a device would be read for ever."""
    run = Run.create(Config.from_dict(damage.CONFIG), tmp_path / "run")
    path = run.folder / "checkpoint.safetensors"
    for make in (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")):
        make()
        with pytest.raises(RunFolderError, match="regular file"):
            _ = run.trained
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_checkpoint_is_held_to_the_recipe_that_made_it(tmp_path: Path, run: Run) -> None:
    """Config.toml may be edited by hand: its weights are no other recipe's for that."""
    for changes, name in (
        ({"train.solver": "Euler:dt=1/8"}, "recipe.solver"),
        ({"train.learning_rate": 0.02}, "recipe.optimizer"),
        ({"model.t1": 2.0}, "model.t1"),
        ({"field.activation": "relu"}, "model.field"),
    ):
        other = Run.create(Config.from_dict(damage.CONFIG).changed(changes), tmp_path / name)
        checkpoint = (run.folder / "checkpoint.safetensors").read_bytes()
        (other.folder / "checkpoint.safetensors").write_bytes(checkpoint)
        with pytest.raises(RunFolderError, match=name):
            _ = other.trained


@pytest.mark.long
def test_many_kills_end_alike(tmp_path: Path) -> None:
    found = kills.outcomes(2, 0, tmp_path)
    assert not [said for said in found if "NOT EQUAL" in said]
