"""One coarse model, trained in Julia, under more than a hundred of Julia's explicit solvers.

Needs a Julia (docs/julia.md). Minutes: each solver is compiled when it is first met.
"""

import pynode_jl as pn
from pynode_jl.figures import swap_heatmap

julia = pn.get_backend("julia")
data = pn.concentric_spheres(dim=2, seed=0)
model = pn.Model(pn.ConvField1d(2), classes=2)
recipe = pn.Recipe(pn.Solver("Euler", dt=1 / 2), iterations=3000, optimizer=pn.Adam(3e-4))
trained = pn.train(model, data, recipe, backend=julia)

solvers = []
for row in pn.catalogue(backend="julia", implicit=False):
    # Exponential methods take the exponential of a matrix over the whole batch: hours.
    if row.name not in julia.solvers() or not row.fixed_step or "exponential" in row.family:
        continue
    try:
        julia.evaluate(model, trained.weights, data.x_test[:2], pn.Solver(row.name, dt=1 / 2))
    except pn.PyNODEError as error:
        print(f"left out: {error}")
    else:
        solvers.append(row.name)

report = pn.swap(trained, data, solvers, factors=(0.5, 1.0), backend=julia)
print(report.verdict.text)
report.table.to_csv("zoo_swap.csv")
swap_heatmap({recipe.solver.label: report.table}, chance=0.5).savefig("zoo_swap.png")
