"""Losses on logits, in nats and in float32 or wider. Teachers are detached here and nowhere else."""

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


def distill(z_s: Tensor, z_t: Tensor, tau: float, *, standardise: bool = False, weight: Tensor | None = None) -> Tensor:
    """Temperature-scaled KL divergence from teacher to student (Hinton et al. 2015).

    tau^2 / B * sum_b w_b KL(softmax(z_t / tau) || softmax(z_s / tau)).  The factor tau^2 keeps gradients on the scale
    of cross-entropy as tau grows.  The sum over classes is not divided by the number of classes; published code that
    uses KLDivLoss with its default reduction "mean" does divide by it.  The teacher is detached: no gradient
    reaches z_t.

    z_s, z_t: [B, C] logits.  standardise: `standardised` logits of both.  weight: [B] weights w_b of the images; None
    weights each by 1.  Returns a scalar.  Raises ValueError if tau <= 0.
    """
    log_s, log_t = softened(z_s, z_t, tau, standardise=standardise)
    return tau**2 * kl_divergence(log_s, log_t, weight)


def softened(z_s: Tensor, z_t: Tensor, tau: float, *, standardise: bool = False) -> tuple[Tensor, Tensor]:
    """Log-probabilities log softmax(z / tau) of student and teacher, [B, C] each. The teacher is detached.

    Raises ValueError if tau <= 0.
    """
    if tau <= 0:
        raise ValueError(f"temperature must be > 0, got {tau}")
    z_t = z_t.detach()
    if standardise:
        z_s, z_t = standardised(z_s), standardised(z_t)
    return F.log_softmax(z_s / tau, dim=1), F.log_softmax(z_t / tau, dim=1)


def standardised(z: Tensor) -> Tensor:
    """Logits with mean 0 and standard deviation 1 over the classes of each image (Sun et al. 2024, arXiv 2403.01427).

    (z - mean_c z) / (std_c z + 1e-7), where std divides by C - 1, as in the published code.  No standardised logit
    exceeds (C - 1) / sqrt(C), which bounds the teacher's confidence.  With two classes only the order of the logits
    remains, and the gradient is zero.

    z: [B, C].  Returns [B, C].
    """
    return (z - z.mean(1, keepdim=True)) / (z.std(1, keepdim=True) + 1e-7)


def kl_divergence(log_s: Tensor, log_t: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted mean over the batch of KL(p_t || p_s): 1 / B sum_b w_b sum_c p_t (log p_t - log p_s).

    log_s, log_t: [B, C] log-probabilities.  weight: [B]; None weights each image by 1.  Returns a scalar.
    """
    if weight is None:
        return F.kl_div(log_s, log_t, log_target=True, reduction="batchmean")
    return (weight[:, None] * F.kl_div(log_s, log_t, log_target=True, reduction="none")).sum() / len(log_s)


def mixed_cross_entropy(z: Tensor, y: Tensor, y_f: Tensor, lam: float) -> Tensor:
    """Mixup's loss, lam CE(z, y) + (1 - lam) CE(z, y_f) (Zhang et al. 2018): L_1 in ORC.

    z: [B, C] logits of lam x + (1 - lam) x_f.  y, y_f: [B] labels.  lam: in [0, 1].  Returns a scalar.
    """
    return lam * F.cross_entropy(z, y) + (1 - lam) * F.cross_entropy(z, y_f)
