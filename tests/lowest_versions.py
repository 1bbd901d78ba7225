"""The lowest versions that pyproject.toml allows, all at once: do they install, and does it run?

``python tests/lowest_versions.py [--python PATH] [--newest] [--torch]`` needs `uv` (pip install
uv). It builds the wheel, installs it outside this tree, with the lowest versions or the newest, and
runs the main job, the JAX front end and what the extras are for, but Julia. torch brings gigabytes
of CUDA along, and so only comes where it is asked for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

_CONFIG = """
backend = "jax"
[data]
n_train = 200
n_test = 40
[field]
channels = 4
[train]
solver = "Euler:dt=1/2"
iterations = 100
batch_size = 50
learning_rate = 0.01
"""
_PROGRAM = """
import jax.numpy as jnp, numpy as np
import pynode_jl as pn
from pynode_jl.jax import odeint
times = jnp.array([0.0, 1.0])
y = odeint(lambda y, t: -y, jnp.ones(1), times)
assert abs(float(y[-1, 0]) - np.exp(-1)) < 1e-4, y
data = pn.moons(n_train=100, n_test=40)
pn.digits()
print("front end, data: well")
"""
_OF_TORCH = """
import numpy as np, torch
import pynode_jl as pn
from torch import nn
from pynode_jl.torch import NeuralODE, odeint, swap

class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, t, y):
        return self.net(y)

torch.manual_seed(0)
field, y0, t = Field(), torch.randn(5, 2), torch.linspace(0.0, 1.0, 3)
ends = {name: odeint(field, y0, t, backend=name)[-1] for name in ("torch", "jax")}
torch.testing.assert_close(ends["torch"], ends["jax"], rtol=1e-4, atol=1e-5)
slopes = torch.func.jacrev(lambda y: odeint(field, y, t, method="rk4", backend="torch")[-1].sum(0))
assert slopes(y0).shape == (2, 5, 2)
data, head = pn.moons(n_train=100, n_test=200), nn.Linear(2, 2)
x, y = torch.tensor(data.x_train), torch.tensor(data.y_train).long()
model = torch.nn.Sequential(NeuralODE(field, "Euler:dt=1/2"), head)
rule = torch.optim.Adam(model.parameters(), lr=0.02)
for _ in range(60):
    rule.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    rule.step()
report = swap(field, head, data.x_test, data.y_test, solver="Euler:dt=1/2")
print("torch", torch.__version__, "numpy", np.__version__, report.verdict.text)
"""
# What the extras bring, but torch, which brings CUDA along, and Julia.
_EXTRAS = ("dask", "parquet", "images", "onnx", "pages")
_OF_EXTRAS = """
import onnx, pandas as pd, pooch
from distributed import Client, LocalCluster
import pynode_jl as pn
from pynode_jl.reporting.html import vega_script
from pynode_jl.sweeps import DaskExecutor, Sweep, export, run_sweep
if __name__ == "__main__":
    assert "vegaEmbed" in vega_script()
    data = pn.moons(n_train=100, n_test=40)
    recipe = pn.Recipe("Euler:dt=1/2", iterations=20, batch_size=50)
    trained = pn.train(pn.Model(pn.MLP(2, width=4), classes=2), data, recipe)
    for path in trained.to_onnx("onnx"):
        onnx.checker.check_model(onnx.load(path))
    sweep = Sweep(base=pn.Config.from_toml("run.toml"), grid={"seed": [0, 1]})
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            store = run_sweep(sweep, "sweep", executor=DaskExecutor(client))
    assert len(pd.read_parquet(export(store, "runs.parquet"))) == 2
    print("extras: well")
"""
_COMMANDS = (
    ["--version"],
    ["--help"],
    ["solvers", "show", "dopri5"],
    ["doctor"],
    ["init", "starter.toml"],
    ["train", "run.toml", "--out", "run"],
    ["swap", "run", "--solver", "RK4", "--solver", "KenCarp4", "--factor", "1"],
    ["certify", "run"],
    ["matrix", "run", "--solver", "RK4"],
    # So few samples can show no smaller margin.
    ["adapt", "run.toml", "--set", "train.iterations=60", "--set", "adapt.margin=0.5"],
    ["reproduce", "blindspot"],
)


def main() -> None:
    """Build, install, run; the first failure ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--newest", action="store_true", help="the newest versions instead")
    parser.add_argument("--torch", action="store_true", help="the extra torch, too: gigabytes")
    wanted = parser.parse_args()
    resolution = "highest" if wanted.newest else "lowest-direct"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        run = _runner(home)
        run("uv", "build", "--quiet", "--wheel", "--out-dir", str(home / "wheel"), str(ROOT))
        run("uv", "venv", "--quiet", "--python", wanted.python, str(home / "venv"))
        python = home / "venv" / "bin" / "python"
        (wheel,) = (home / "wheel").glob("*.whl")
        # Of a wheel given by its path all needs would count as another's, and be the newest.
        pins = ("--quiet", "--resolution", resolution, "--output-file", str(home / "pins.txt"))
        extras = (f"--extra={name}" for name in (*_EXTRAS, *["torch"] * wanted.torch))
        interpreter = ("--python", str(python))
        run("uv", "pip", "compile", *pins, *extras, *interpreter, str(ROOT / "pyproject.toml"))
        pinned = ("--requirement", str(home / "pins.txt"), str(wheel))
        run("uv", "pip", "install", "--quiet", *interpreter, *pinned)
        run("uv", "pip", "freeze", "--python", str(python))
        (home / "run.toml").write_text(_CONFIG)
        run(str(python), "-c", _PROGRAM)
        if wanted.torch:
            run(str(python), "-c", _OF_TORCH)
        for arguments in _COMMANDS:
            run(str(python.with_name("pynode-jl")), *arguments)
        (home / "extras.py").write_text(_OF_EXTRAS)
        run(str(python), "extras.py")


def _runner(home: Path):  # type: ignore[no-untyped-def]
    def run(*command: str) -> None:
        print("$", *command, flush=True)
        subprocess.run(command, cwd=home, check=True)

    return run


if __name__ == "__main__":
    main()
