"""A torch training loop around a Neural ODE whose solve and gradient run whole in the backend.

Pass "julia" as the first argument to train with Julia's solvers, where a Julia is set up, and a
solver's name as the second: `python examples/torch_training.py julia Vern7`. The default is the
JAX backend.
"""

import sys
import time

import torch

import pynode_jl as pn
from pynode_jl.dlpack import as_torch
from pynode_jl.torch import NeuralODE

backend, solver = [*sys.argv[1:], *("auto", "Tsit5")[len(sys.argv) - 1 :]]
data = pn.concentric_spheres(dim=2, seed=0)
x, labels = as_torch(data.x_train), as_torch(data.y_train).long()

torch.manual_seed(0)
node = NeuralODE(pn.MLP(2, width=32), pn.Solver(solver, rtol=1e-3, atol=1e-4), backend=backend)
model = torch.nn.Sequential(node, torch.nn.Linear(2, 2))
print(model)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
started = time.perf_counter()
for iteration in range(301):
    batch = torch.randint(0, len(x), (128,))
    loss = torch.nn.functional.cross_entropy(model(x[batch]), labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if iteration % 100 == 0:
        print(f"{iteration:4d}  loss {loss.item():.4f}  evaluations of the field {node.nfe}")
print(f"{time.perf_counter() - started:.1f} s, {node.where(x[:1])}")
