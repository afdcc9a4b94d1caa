"""Decoupled distillation: the teacher's confidence in the label, and its knowledge about the other classes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropy, kl_divergence, softened


@dataclass(frozen=True)
class DKD:
    """Decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679).

    L = CE + w tau^2 (alpha TCKD + beta NCKD)    with p = softmax(z / tau) and the label y:
      TCKD = KL(b_t || b_s),  b = (p_y, 1 - p_y): the target class against all others;
      NCKD = KL(q_t || q_s),  q_c = p_c / (1 - p_y) for c != y: the other classes among themselves.

    KL(p_t || p_s) = TCKD + (1 - p_t(y)) NCKD, so KD hides NCKD on images that the teacher is certain of (eq. 7).
    w = min(epoch / warmup_epochs, 1), as in the published code: epochs count from 1, so w is 1 / warmup_epochs in the
    first epoch and 1 from epoch warmup_epochs on.  warmup_epochs = 0 has w = 1.
    standardise: standardise the logits of both terms (Sun et al. 2024, arXiv 2403.01427); not in the paper.

    Deviation from the published code: it masks the target class by subtracting 1000 from its logit, which is exact
    only up to rounding; here the other classes are selected.
    """

    temperature: float
    standardise: bool
    alpha: float
    beta: float
    warmup_epochs: int

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student and the teacher."""
        return {"student": Network(student), "teacher": start["teacher"]}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg, in which the teacher guides the student."""
        yield Leg(learners=("student",), guides=("teacher",))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy and both terms of the teacher, in one update of the student."""
        z = nets["student"](batch.x)
        tckd, nckd = self.decoupled(z, nets["teacher"](batch.x), batch.y)
        w = min(batch.epoch / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0
        yield {
            "student": {
                "ce": cross_entropy(z, batch.y),
                "tckd/teacher": w * self.alpha * tckd,
                "nckd/teacher": w * self.beta * nckd,
            }
        }

    def decoupled(self, z_s: Tensor, z_t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """tau^2 TCKD and tau^2 NCKD, means over the batch.  z_s, z_t: [B, C] logits.  y: [B]."""
        log_s, log_t = softened(z_s, z_t, self.temperature, standardise=self.standardise)
        others = other_classes(y, z_s.shape[1])
        tckd = kl_divergence(binary(log_s, y, others), binary(log_t, y, others))
        nckd = kl_divergence(log_s.gather(1, others).log_softmax(1), log_t.gather(1, others).log_softmax(1))
        return self.temperature**2 * tckd, self.temperature**2 * nckd


def other_classes(y: Tensor, n_classes: int) -> Tensor:
    """The classes that are not the label, in ascending order: [B] -> [B, C - 1]."""
    k = torch.arange(n_classes - 1).to(y, non_blocking=True)
    return k + (k >= y[:, None])


def binary(log_p: Tensor, y: Tensor, others: Tensor) -> Tensor:
    """(log p_y, log(1 - p_y)) of log-probabilities [B, C]: [B, 2]."""
    return torch.stack([log_p.gather(1, y[:, None])[:, 0], log_p.gather(1, others).logsumexp(1)], dim=1)


METHOD = DKD
