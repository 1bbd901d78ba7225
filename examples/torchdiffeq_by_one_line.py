"""torchdiffeq's first program, with one line changed: it fits a spiral, and may use any solver."""

import torch

from pynode_jl.torch import odeint  # was: from torchdiffeq import odeint

torch.manual_seed(0)
t = torch.linspace(0.0, 6.0, 60)
truth = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
y0 = torch.tensor([[2.0, 0.0]])
with torch.no_grad():
    target = odeint(lambda t, y: (y**3) @ truth, y0, t, method="dopri5")


class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(2, 50), torch.nn.Tanh(), torch.nn.Linear(50, 2)
        )

    def forward(self, t, y):
        return self.net(y)


field = Field()
optimizer = torch.optim.Adam(field.parameters(), lr=1e-2)
for iteration in range(201):
    begin = torch.randint(0, 50, (20,))
    batch = torch.stack([target[begin + i] for i in range(10)])
    predicted = odeint(field, batch[0], t[:10], rtol=1e-5, atol=1e-6)
    loss = (predicted - batch).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if iteration % 50 == 0:
        print(f"{iteration:4d}  loss {loss.item():.4f}")

for method in ("dopri5", "Vern7", "KenCarp4"):
    end = odeint(field, y0, t[:20], rtol=1e-6, atol=1e-8, method=method)[-1]
    print(f"{method:8s} ends at {end[0].tolist()}")
