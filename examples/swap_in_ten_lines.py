"""Train a Neural ODE with a coarse solver, swap the solver, see the model break. Half a minute."""

import pynode_jl as pn

data = pn.concentric_spheres(dim=2, seed=0)
model = pn.Model(pn.ConvField1d(2), classes=2)
recipe = pn.Recipe(pn.Solver("Euler", dt=1 / 2), iterations=3000, optimizer=pn.Adam(3e-4))
trained = pn.train(model, data, recipe)

report = pn.swap(trained, data, ["Euler", "Midpoint", "RK4", "Tsit5:tol=1e-4"])
print(report.table[["label", "accuracy", "agreement", "state_error", "nf"]].to_string(index=False))
print(report.verdict.text)
