"""Plain arguments: what is taken, as what, and what is refused with which words."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from pynode_jl._validation import choice, real_number, whole_number
from pynode_jl.errors import InvalidValueError


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3)])
def test_integers_of_any_type_become_ints(value: Any) -> None:
    found = whole_number("n", value)
    assert (type(found), found) == (int, 3)


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2", None, np.bool_(True), [1], math.nan])
def test_what_is_no_count_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"n = .*: expected an integer of 1 or more"):
        whole_number("n", value)


def test_the_nearest_multiple_above_is_the_hint() -> None:
    assert whole_number("n", 8, 4, multiple_of=4) == 8
    with pytest.raises(InvalidValueError, match=r"a multiple of 4\. Pass n=12\."):
        whole_number("n", 9, 4, multiple_of=4)


@pytest.mark.parametrize("value", [0.25, np.float32(0.25), Fraction(1, 4)])
def test_reals_of_any_type_become_floats(value: Any) -> None:
    found = real_number("x", value, "", above=0, below=1)
    assert (type(found), found) == (float, 0.25)


@pytest.mark.parametrize("value", [0, 1, -1, math.nan, math.inf, 10**400, True, "0.5", None, 1j])
def test_limits_are_excluded_and_so_is_what_is_no_number(value: Any) -> None:
    with pytest.raises(
        InvalidValueError, match=r"x = .*: expected a number between 0 and 1\. Hint"
    ):
        real_number("x", value, "Hint.", above=0, below=1)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -(10**400)])
def test_without_limits_a_number_must_still_be_finite(value: float) -> None:
    with pytest.raises(InvalidValueError, match="expected a finite number"):
        real_number("x", value, "")
    assert real_number("x", -3, "") == -3.0


@pytest.mark.parametrize("value", ["c", "", None, 1, ["a"], np.array(["a", "b"])])
def test_a_choice_is_one_of_the_names(value: Any) -> None:
    assert choice("how", "b", ("a", "b")) == "b"
    with pytest.raises(InvalidValueError, match=r"how = .*: expected 'a' or 'b'\. Use how='a'"):
        choice("how", value, ("a", "b"))
