"""An evolution strategy on pixels: optimise input images against a loss that has no gradient.

Why no library: cma and nevergrad search for one image at a time, in Python, so a hundred generations for thousands of
images would take hours. The functional searches of evotorch do work on batches, but they move a Gaussian whose
directions are dense, which rarely crosses two thresholds of a tree at once, and evotorch brings ray, pandas and
gymnasium with it.
"""

import math

import torch
from torch import Tensor

from pipeline.core.pixel_descent import Objective

REACH = 10.0  # initial scale of a step, and the largest factor of a candidate's own, in units of step_size
SHRINK = 0.9  # of the scale after a generation without success
MOST_PIXELS = 2**24  # of the candidates that are evaluated at once


def evolve(
    objective: Objective,
    x: Tensor,
    *,
    steps: int,
    step_size: float,
    low: Tensor,
    high: Tensor,
    draw: torch.Generator,
) -> Tensor:
    """Minimise the loss of each image by a (1 + lambda) evolution strategy. A converged image stops moving.

    In each generation an image has lambda = 2 (4 + floor(3 ln D)) candidates, twice as many as CMA-ES has for D pixels
    by default. Candidate k is the image plus scale * r_k * z_k * m_k, clamped to the bounds: r_k is log-uniform in
    [1/10, 10]; z_k is normal; m_k keeps all pixels for even k, else each with a probability that is log-uniform in
    [1/D, 1]. So there are small and large, dense and sparse steps in every generation: a smooth loss gains most from
    dense ones, a piecewise constant one, as of trees, from large ones in few pixels. The best candidate replaces the
    image if it is better, and scale becomes scale * sqrt(r_k); without success, scale becomes 0.9 scale.

    The candidates of all images share their draws, so images do not influence each other and a result does not depend
    on the images beside it.

    objective: maps images [n * B, C_in, H, W], n candidates of all B images, to (loss [n * B], converged [n * B] bool).
    x: [B, C_in, H, W] initial images.  steps: maximum number of generations.
    step_size: as of `descend`; scale begins with ten times that, and stays between a hundredth and a hundred times.
    low, high: bounds that broadcast to x.  draw: a CPU generator of the candidates.
    Returns the optimised images [B, C_in, H, W], detached.
    """
    n_images, n_pixels = len(x), x[0].numel()
    n_candidates = 2 * (4 + math.floor(3 * math.log(n_pixels)))
    at_once = max(1, MOST_PIXELS // max(1, x.numel()))
    images = torch.arange(n_images, device=x.device)
    best = x.detach().clone()
    scale = torch.full((n_images,), REACH * step_size, dtype=x.dtype, device=x.device)
    with torch.no_grad():
        loss, converged = objective(best)
        for _ in range(steps):
            if bool(converged.all()):
                break
            steps_drawn, r = (v.to(x.device, x.dtype) for v in candidates(n_candidates, n_pixels, draw))
            moves = scale[:, None] * steps_drawn[:, None]  # [lambda, B, D]
            moved = (best + moves.reshape(n_candidates, *x.shape)).clamp(low, high)
            parts = [objective(part.flatten(0, 1)) for part in moved.split(at_once)]
            losses = torch.cat([part[0] for part in parts]).reshape(n_candidates, n_images)
            reached = torch.cat([part[1] for part in parts]).reshape(n_candidates, n_images)
            k = losses.argmin(0)
            better = (losses[k, images] < loss) & ~converged
            best = torch.where(better[:, None, None, None], moved[k, images], best)
            loss = torch.where(better, losses[k, images], loss)
            converged = torch.where(better, reached[k, images], converged)
            scale = torch.where(better, scale * r[k].sqrt(), scale * SHRINK)
            scale = scale.clamp(step_size / 100, step_size * 100)
    return best


def candidates(n: int, n_pixels: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the steps of n candidates for scale 1, [n, n_pixels] float32, and the factor r of each, [n]."""
    z = torch.randn(n, n_pixels, generator=draw)
    kept = n_pixels ** -torch.rand(n, generator=draw)
    kept[::2] = 1.0
    z *= torch.rand(n, n_pixels, generator=draw) < kept[:, None]
    r = REACH ** (2 * torch.rand(n, generator=draw) - 1)
    return r[:, None] * z, r
