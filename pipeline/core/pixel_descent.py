"""Gradient descent on pixels: optimise input images against a loss.

This is the one optimizer that a method may use directly, because it trains no network.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


def descend(objective: Objective, x: Tensor, *, steps: int, step_size: float, low: Tensor, high: Tensor) -> Tensor:
    """Minimise the loss of each image with Adam on its pixels. An image stops moving once it has converged.

    Images do not influence each other, because Adam updates every pixel separately.

    objective: maps images [B, C_in, H, W] to (loss [B], converged [B] bool).
    x: [B, C_in, H, W] initial images.  steps: maximum number of Adam steps.  step_size: Adam's learning rate.
    low, high: bounds that broadcast to x; every iterate is clamped to them.
    Returns the optimised images [B, C_in, H, W], detached.
    """
    moved = x.detach().clone().requires_grad_(True)
    adam = torch.optim.Adam([moved], lr=step_size)
    for _ in range(steps):
        before = moved.detach().clone()
        loss, converged = objective(moved)
        if bool(converged.all()):
            break
        (moved.grad,) = torch.autograd.grad(loss.sum(), moved)
        adam.step()
        with torch.no_grad():
            moved.copy_(torch.where(converged[:, None, None, None], before, moved.clamp(low, high)))
    return moved.detach()
