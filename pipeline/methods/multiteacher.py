"""Distillation from several teachers, each of which has a weight for each image."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropies, cross_entropy, distill


@dataclass(frozen=True)
class MultiTeacher:
    """Multi-teacher distillation with one of four rules for the teachers' weights.

    L = ce_weight CE + kd_weight sum_k tau^2 / B sum_b w_k(b) KL(teacher_k || student),

    where w_k(b) is the weight of teacher k of K for image b.  It depends on predictions p at temperature 1 and gets no
    gradient.
      weights "average":    w_k = 1 / K  (AVER, the baseline in You et al. 2017);
      weights "entropy":    w_k = (1 - H(p_k) / sum_j H(p_j)) / (K - 1)  (EBKD, Kwon et al. 2020);
      weights "confidence": w_k = (1 - softmax_k(CE(p_k, y))) / (K - 1)  (CA-MKD, Zhang et al. 2022, arXiv 2201.00007);
      weights "filter":     w_k = 1 / K if p_k(y) > p_s(y), and 0 otherwise  (ClassroomKD 2024, arXiv 2409.20237).

    The weights of an image sum to 1, or to at most 1 for "filter", so that rules are compared at the same kd_weight.
    One teacher alone has weight 1.  "average" has the gradient of one KL term towards the mean of the teachers'
    softened probabilities: both losses differ by a constant.

    Deviations:
      - The published code of CA-MKD divides the sum over k by K once more, and does not divide EBKD's by K - 1.
      - Of CA-MKD this is the part on logits, without the one on features; of ClassroomKD it is the filter, without the
        adaptive temperatures.  ClassroomKD does not divide by K.
    standardise: standardise the logits of the KL terms.  label_smoothing: weight of the uniform distribution in the
    target of CE.
    """

    temperature: float
    standardise: bool
    weights: str
    ce_weight: float
    kd_weight: float
    label_smoothing: float

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student, and every network that the run starts from."""
        return {"student": Network(student), **start}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg, in which all teachers guide the student."""
        yield Leg(learners=("student",), guides=tuple(name for name in nets if name != "student"))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy and one term for each teacher, in one update of the student."""
        z = nets["student"](batch.x)
        z_ts = [nets[guide](batch.x) for guide in leg.guides]
        terms = {"ce": self.ce_weight * cross_entropy(z, batch.y, self.label_smoothing)}
        for guide, z_t, w in zip(leg.guides, z_ts, self.weigh(z, z_ts, batch.y)):
            kd = distill(z, z_t, self.temperature, standardise=self.standardise, weight=w)
            terms[f"kd/{guide}"] = self.kd_weight * kd
            batch.note("student", f"weight/{guide}", w.mean())
        yield {"student": terms}

    def weigh(self, z: Tensor, z_ts: list[Tensor], y: Tensor) -> Tensor:
        """The weight of each teacher for each image, detached.  z, z_ts: [B, C] logits.  Returns [K, B]."""
        n_teachers = len(z_ts)
        ce = torch.stack([cross_entropies(z_t, y) for z_t in z_ts])
        if self.weights == "filter":
            return (ce < cross_entropies(z, y)).to(ce.dtype) / n_teachers
        if self.weights == "average" or n_teachers == 1:
            return torch.full_like(ce, 1 / n_teachers)
        if self.weights == "entropy":
            return (1 - shares(torch.stack([entropy(z_t) for z_t in z_ts]))) / (n_teachers - 1)
        return (1 - ce.softmax(0)) / (n_teachers - 1)


def entropy(z: Tensor) -> Tensor:
    """Entropy of softmax(z) in nats, detached: [B, C] -> [B]."""
    log_p = log_softmax(z.detach(), dim=1)
    return -(log_p.exp() * log_p).sum(1)


def shares(h: Tensor) -> Tensor:
    """h_k / sum_j h_j for h >= 0; equal shares where all are zero: [K, B] -> [K, B]."""
    h = h + torch.finfo(h.dtype).tiny
    return h / h.sum(0)


METHOD = MultiTeacher
