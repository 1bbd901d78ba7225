"""One coarse model, trained in Julia, under more than a hundred of Julia's explicit solvers.

Needs a Julia (docs/julia.md). Half a minute after `pynode-jl julia precompile`; without it each
solver is compiled when it is first met, which takes minutes.
"""

import time

import pynode_jl as pn
from pynode_jl.reporting.figures import swap_heatmap

begun = time.perf_counter()
julia = pn.get_backend("julia")
data = pn.concentric_spheres(dim=2, seed=0)
model = pn.Model(pn.ConvField1d(2), classes=2)
recipe = pn.Recipe(pn.Solver("Euler", dt=1 / 2), iterations=3000, optimizer=pn.Adam(3e-4))
trained = pn.train(model, data, recipe, backend=julia)
print(f"started and trained in {time.perf_counter() - begun:.1f} s")

known = set(julia.solvers())
solvers = [
    row.name
    for row in pn.catalogue(backend="julia", implicit=False)
    if row.fixed_step and row.name in known
]
begun = time.perf_counter()
report = pn.swap(trained, data, solvers, factors=(0.5, 1.0), backend=julia)
failed = report.table.loc[report.table["retcode"] != "Success", "label"]
print(f"{len(solvers)} solvers in {time.perf_counter() - begun:.1f} s")
print(f"failed: {', '.join(failed) or 'none'}")
print(report.verdict.text)
report.table.to_csv("zoo_swap.csv")
swap_heatmap({recipe.solver.label: report.table}, chance=0.5).savefig("zoo_swap.png")
