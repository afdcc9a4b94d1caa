"""Losses on logits. Every one is float32 or wider and in nats; a teacher is detached here and nowhere else."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(z: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean over the batch of -log softmax(z)[y].

    z: [B, C] logits; y: [B] labels.  Returns a scalar.  label_smoothing in [0, 1) mixes y with the uniform law.
    """
    return F.cross_entropy(z, y, label_smoothing=label_smoothing)


def cross_entropies(z: Tensor, y: Tensor) -> Tensor:
    """-log softmax(z)[y] of each image, detached: [B].  What elections and feedback are decided by."""
    return F.cross_entropy(z.detach(), y, reduction="none")


def distill(z_s: Tensor, z_t: Tensor, tau: float) -> Tensor:
    """Temperature-scaled KL from teacher to student (Hinton et al. 2015).

    tau^2 / B * sum_b KL(softmax(z_t / tau) || softmax(z_s / tau)).  tau^2 keeps gradients on the scale of
    cross-entropy as tau grows.  The sum over classes is not divided by their number (published code that uses
    KLDivLoss's "mean" divides by it).  The teacher is detached: no gradient reaches z_t.

    z_s, z_t: [B, C] logits.  Returns a scalar.  Raises ValueError if tau <= 0.
    """
    if tau <= 0:
        raise ValueError(f"temperature must be > 0, got {tau}")
    return tau**2 * F.kl_div(
        F.log_softmax(z_s / tau, dim=1),
        F.log_softmax(z_t.detach() / tau, dim=1),
        log_target=True,
        reduction="batchmean",
    )


def distill_mean(z_s: Tensor, z_ts: list[Tensor], tau: float) -> Tensor:
    """`distill` towards the mean of several teachers' softened probabilities (AVER).

    z_s: [B, C] logits; z_ts: the teachers' logits, each [B, C].  Returns a scalar.
    """
    p = torch.stack([F.log_softmax(z_t.detach() / tau, dim=1) for z_t in z_ts])
    return distill(z_s, tau * mean_log(p), tau)


def mean_log(log_p: Tensor) -> Tensor:
    """log of the mean of probabilities over the first axis, from their logarithms: [K, B, C] -> [B, C]."""
    return torch.logsumexp(log_p, dim=0) - math.log(len(log_p))


def mixed_cross_entropy(z: Tensor, y: Tensor, y_f: Tensor, lam: float) -> Tensor:
    """lam CE(z, y) + (1 - lam) CE(z, y_f): the loss of mixup (Zhang et al. 2018), ORC's L_1.

    z: [B, C] logits of lam x + (1 - lam) x_f; y, y_f: [B] labels; lam in [0, 1].  Returns a scalar.
    """
    return lam * F.cross_entropy(z, y) + (1 - lam) * F.cross_entropy(z, y_f)
