"""Moving an input by gradient: the one optimizer that a method may ask for, since it trains no network."""

from collections.abc import Callable

import torch
from torch import Tensor

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


def descend(objective: Objective, x: Tensor, *, steps: int, step_size: float, low: Tensor, high: Tensor) -> Tensor:
    """Minimise a loss of each image by Adam on its pixels; an image that has arrived moves no further.

    objective: x [B, D, H, W] -> (loss [B], arrived [B] bool).  low, high: bounds that broadcast to x; every iterate
    is clamped to them.  Images do not influence each other: Adam works on each pixel by itself.
    Returns the moved images, [B, D, H, W], detached.
    """
    moved = x.detach().clone().requires_grad_(True)
    adam = torch.optim.Adam([moved], lr=step_size)
    for _ in range(steps):
        before = moved.detach().clone()
        loss, arrived = objective(moved)
        if bool(arrived.all()):
            break
        (moved.grad,) = torch.autograd.grad(loss.sum(), moved)
        adam.step()
        with torch.no_grad():
            moved.copy_(torch.where(arrived[:, None, None, None], before, moved.clamp(low, high)))
    return moved.detach()
