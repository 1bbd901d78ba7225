"""Calibration of the verdict: how often is it wrong, over random models whose flow is known?

`python benchmarks/calibrate_verdicts.py` judges 1,200 linear models (tests/verdict_models.py:
dimension 1 to 5; stable, growing, oscillating, stiff, defective; explicit, implicit and adaptive
training solvers at all steps; 30 to 2,000 test samples) by the default swap. The truth is the
share of answers that the exact flow, a matrix exponential, changes of 100,000 samples. It prints
the table of docs/results.md and writes docs/calibration.png and docs/calibration.csv.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from calibration import ROOT, calibrate, decisive_solver, rates

from pynode_jl.backends import get_backend
from pynode_jl.diagnostics import SwapReport, swap

sys.path.insert(0, str(ROOT / "tests"))

from verdict_models import RandomModel, random_model

MARGIN = 0.03


def judged(seed: int) -> dict[str, object]:
    """One model's verdict beside the truth."""
    model = random_model(seed)
    begun = time.perf_counter()
    report = swap(model.trained, model.dataset, margin=MARGIN, backend=get_backend("jax"))
    verdict = report.verdict
    return {
        "seed": seed,
        "kind": model.kind,
        "dim": model.trained.model.field.size,
        "solver": model.trained.solver.label,
        "samples": verdict.samples,
        "rate": model.rate,
        "class_rate": model.class_rate,
        "finer_rate": finer_rate(model, report),
        "verdict": verdict.kind,
        "reason": verdict.reason,
        "seconds": time.perf_counter() - begun,
    }


def finer_rate(model: RandomModel, report: SwapReport) -> float:
    """The true rate under the finer solve that decided; nan where none did."""
    verdict, solver = report.verdict, decisive_solver(report)
    if verdict.reason not in ("finer", "class") or solver is None:
        return float("nan")
    trained = model.trained
    answers = get_backend("jax").evaluate(trained.model, trained.weights, model.pool, solver)
    changed = answers.predictions != model.answers
    if verdict.decisive_class is None:
        return float(changed.mean())
    return float(changed[model.pool_labels == verdict.decisive_class.class_].mean())


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """The three rates that the verdict is held to, each with its exact 95 % interval."""
    exceeds = rows["rate"] > MARGIN
    # Truly tied too: a class, or a solve nearer to the ODE, whose own true rate exceeds the margin.
    also = (rows["class_rate"] > MARGIN) | (rows["finer_rate"] > MARGIN)
    large = (rows["samples"] >= 1000) & ~rows["rate"].between(MARGIN / 2, 2 * MARGIN)
    asked = ~rows["verdict"].isin(["untrained", "overfitted", "failed", "non-finite"])
    called = rows["verdict"]
    cases = {
        "flips above the margin: called valid": (exceeds, called == "valid"),
        "flips within the margin: called tied": (~exceeds & ~also, called == "tied"),
        "the same, classes and finer solves disregarded": (~exceeds, called == "tied"),
        "n >= 1000, flips outside [margin/2, 2 margin]: undecided": (
            large & asked,
            called == "undecided",
        ),
    }
    return rates(cases, "so called")


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Shares of verdicts by true rate, for each number of test samples."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    asked = rows[rows["verdict"].isin(["valid", "undecided", "tied"])]
    sizes = sorted(asked["samples"].unique())
    edges = np.geomspace(0.001, 0.6, 10)
    colours = {"valid": "#009E73", "undecided": "#E0E0E0", "tied": "#D55E00"}
    figure, axes = plt.subplots(1, len(sizes), figsize=(2.3 * len(sizes), 2.9), sharey=True)
    for ax, size in zip(axes, sizes, strict=True):
        part = asked[asked["samples"] == size]
        rate = part["rate"].clip(edges[0] * 1.01, edges[-1] * 0.99)
        group = np.digitize(rate, edges) - 1
        bottom = np.zeros(len(edges) - 1)
        counts = np.bincount(group, minlength=len(edges) - 1)
        for kind, colour in colours.items():
            share = np.bincount(group[part["verdict"] == kind], minlength=len(edges) - 1)
            share = share / np.maximum(counts, 1)
            ax.bar(
                edges[:-1], share, np.diff(edges), bottom, align="edge", color=colour,
                edgecolor="white", linewidth=0.6, label=kind,
            )  # fmt: skip
            bottom += share
        ax.axvline(MARGIN, color="black", linewidth=1.2, linestyle="--", label="margin")
        ax.set_xscale("log")
        ax.set_xlim(edges[0], edges[-1])
        ax.set_ylim(0, 1)
        ax.set_xticks([0.001, 0.01, 0.1], ["0.1", "1", "10"])
        ax.set_title(f"n = {size}", fontsize=10)
        ax.set_xlabel("true share of flips, %", fontsize=9)
    axes[0].set_ylabel("share of models")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    made, folder = calibrate(judged, summary, 1200, "calibration.csv")
    draw(made, folder / "calibration.png")
