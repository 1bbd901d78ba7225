"""Sentences made from what step adapters find. Nothing reads them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynode_jl.training.step_adaptation._step_adapter import Validation


def validation_text(validation: Validation) -> str:
    """Return a validation in one or two sentences, with its figures."""
    if validation.shift is not None:
        return _shifted(validation)
    counted = validation.lost if validation.flips is None else validation.flips
    what = "lost" if validation.flips is None else "changed"
    text = (
        f"{counted} of {validation.samples} held-out answers under {validation.solver.label} are"
        f" {what} by the ODE ({validation.test_solver.label}): at most {validation.bound:.1%} of"
        f" all are, with {validation.confidence:.0%} confidence"
    )
    text = f"passed: {text}." if validation.passed else f"NOT passed: {text}; the margin is"
    if not validation.passed:
        text += f" {validation.margin:.1%}."
    if not validation.passed and validation.samples < validation.needed:
        text += (
            f" So few cannot pass: {validation.needed} samples must be held out, even if no answer"
            " changes."
        )
    if validation.solver != validation.trained_with:
        text += f" It was trained with {validation.trained_with.label} and tightened at the end."
    return text


def _shifted(validation: Validation) -> str:
    """Return the validation of answers that are numbers."""
    unit = f" {validation.unit}"
    text = (
        f"the ODE ({validation.test_solver.label}) shifts {validation.samples} held-out answers"
        f" under {validation.solver.label} by {validation.shift:.3g}{unit}: at most"
        f" {validation.bound:.3g} with {validation.confidence:.0%} confidence; the margin is"
        f" {validation.margin:.3g}."
    )
    text = f"passed: {text}" if validation.passed else f"NOT passed: {text}"
    if validation.solver != validation.trained_with:
        text += f" It was trained with {validation.trained_with.label} and tightened at the end."
    return text
