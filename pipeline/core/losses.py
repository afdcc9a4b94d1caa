"""Losses on logits, in nats and in float32 or wider. Teachers are detached here and nowhere else."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(z: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the labels: the mean over the batch of -log softmax(z)[y].

    z: [B, C] logits.  y: [B] labels.  label_smoothing: weight in [0, 1) of the uniform distribution in the target.
    Returns a scalar.
    """
    return F.cross_entropy(z, y, label_smoothing=label_smoothing)


def cross_entropies(z: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each image, -log softmax(z)[y], detached: for decisions, not for training.

    z: [B, C] logits.  y: [B] labels.  Returns [B].
    """
    return F.cross_entropy(z.detach(), y, reduction="none")


def distill(z_s: Tensor, z_t: Tensor, tau: float) -> Tensor:
    """Temperature-scaled KL divergence from teacher to student (Hinton et al. 2015).

    tau^2 / B * sum_b KL(softmax(z_t / tau) || softmax(z_s / tau)).  The factor tau^2 keeps gradients on the scale of
    cross-entropy as tau grows.  The sum over classes is not divided by the number of classes; published code that
    uses KLDivLoss with its default reduction "mean" does divide by it.  The teacher is detached: no gradient
    reaches z_t.

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
    """`distill` with the mean of several teachers' softened probabilities as the target (AVER).

    z_s: [B, C] logits.  z_ts: logits of each teacher, [B, C].  Returns a scalar.  Raises ValueError if tau <= 0.
    """
    p = torch.stack([F.log_softmax(z_t.detach() / tau, dim=1) for z_t in z_ts])
    return distill(z_s, tau * mean_log(p), tau)


def mean_log(log_p: Tensor) -> Tensor:
    """Log of the mean probability over the first axis, computed from log-probabilities: [K, B, C] -> [B, C]."""
    return torch.logsumexp(log_p, dim=0) - math.log(len(log_p))


def mixed_cross_entropy(z: Tensor, y: Tensor, y_f: Tensor, lam: float) -> Tensor:
    """Mixup's loss, lam CE(z, y) + (1 - lam) CE(z, y_f) (Zhang et al. 2018): L_1 in ORC.

    z: [B, C] logits of lam x + (1 - lam) x_f.  y, y_f: [B] labels.  lam: in [0, 1].  Returns a scalar.
    """
    return lam * F.cross_entropy(z, y) + (1 - lam) * F.cross_entropy(z, y_f)
