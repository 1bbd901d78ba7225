"""Updates by torch's own optimisers, which go on from the moments of a `TrainState`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pynode_jl.backends._optimizers import SGD, Adam, Optimizer, RMSprop


def updates(
    settings: Optimizer,
    weights: dict[str, Tensor],
    mu: dict[str, Tensor],
    nu: dict[str, Tensor],
    iteration: int,
) -> Callable[[Sequence[Tensor], float], bool]:
    """Return ``(gradients, rate) -> whether they were finite``, which updates in place if so.

    Args:
        settings: the optimiser; its rate is that of each call.
        weights: what is updated, by name.
        mu, nu: the moments, in the same names; they go on in place.
        iteration: how many updates were made.
    """
    parameters = [each.requires_grad_() for each in weights.values()]
    optimizer = _torch_optimizer(settings, parameters)
    for name, weight in weights.items():
        step = torch.tensor(float(iteration))
        optimizer.state[weight] = {
            Adam: {"step": step, "exp_avg": mu[name], "exp_avg_sq": nu[name]},
            SGD: {"momentum_buffer": mu[name]},
            RMSprop: {"step": step, "square_avg": nu[name], "momentum_buffer": mu[name]},
        }[type(settings)]

    def update(gradients: Sequence[Tensor], rate: float) -> bool:
        if not all(bool(torch.isfinite(each).all()) for each in gradients):
            return False
        if settings.clip_norm is not None:
            norm = torch.linalg.vector_norm(
                torch.stack([torch.linalg.vector_norm(each) for each in gradients])
            )
            if not torch.isfinite(norm):
                return False
            if norm >= settings.clip_norm:
                gradients = [each / norm * settings.clip_norm for each in gradients]
        for weight, gradient in zip(parameters, gradients, strict=True):
            weight.grad = gradient
        if settings.weight_decay:
            with torch.no_grad():
                for weight in parameters:
                    weight.mul_(1 - rate * settings.weight_decay)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return True

    return update


def _torch_optimizer(settings: Optimizer, parameters: list[Tensor]) -> torch.optim.Optimizer:
    match settings:
        case Adam(b1=b1, b2=b2, eps=eps):
            return torch.optim.Adam(parameters, lr=settings.learning_rate, betas=(b1, b2), eps=eps)
        case SGD(momentum=momentum, nesterov=nesterov):
            return torch.optim.SGD(
                parameters, lr=settings.learning_rate, momentum=momentum, nesterov=nesterov
            )
        case RMSprop(decay=decay, eps=eps, momentum=momentum):
            return torch.optim.RMSprop(
                parameters, lr=settings.learning_rate, alpha=decay, eps=eps, momentum=momentum
            )
    raise NotImplementedError(settings.name)
