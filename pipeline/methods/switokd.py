"""Switchable online distillation: the teacher learns with the student, and pauses while it is too far ahead."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropy, distill


@dataclass(frozen=True)
class SwitOKD:
    """Switchable online knowledge distillation (Qian et al. 2022, arXiv 2209.04996).

    student: CE(s) + weight tau^2 KL(p_t || p_s)    in every batch
    teacher: CE(t) + weight tau^2 KL(p_s || p_t)    unless it is paused; a paused teacher keeps its weights

    It is paused for a batch if d > delta and t < s, where
      d = mean_b |p_s - p_t|_1,  s = mean_b |p_s - y|_1,  t = mean_b |p_t - y|_1,  delta = s - exp(-t / (s + t)) t,
    with the one-hot label y, p at temperature 1, and means over the global batch, so that all processes agree.
    weight and tau are 1 in the paper.

    Both networks start from random weights; of the run's teacher only the architecture is used.  As in the published
    code, one forward pass of each network in training mode serves the decision and both updates, and the BatchNorm
    statistics of a paused teacher go on.

    pause: False never pauses, which is mutual learning with simultaneous updates.
    standardise: standardise the logits of the KL terms (Sun et al. 2024, arXiv 2403.01427); not in the paper.
    """

    temperature: float
    standardise: bool
    weight: float
    pause: bool

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student and a teacher of the same architecture as the run's, both from random weights."""
        return {"student": Network(student), "teacher": Network(start["teacher"].arch)}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg, in which both learn together."""
        yield Leg(learners=("student", "teacher"))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """One update, of both networks or, while the teacher is paused, of the student alone."""
        z_s, z_t = nets["student"](batch.x), nets["teacher"](batch.x)
        paused = self.pause and self.is_too_far_ahead(z_s, z_t, batch)
        batch.note("teacher", "paused", float(paused))
        losses = {"student": {"ce": cross_entropy(z_s, batch.y), "kl/teacher": self.weight * self.kl(z_s, z_t)}}
        if not paused:
            losses["teacher"] = {"ce": cross_entropy(z_t, batch.y), "kl/student": self.weight * self.kl(z_t, z_s)}
        yield losses

    def kl(self, z: Tensor, z_from: Tensor) -> Tensor:
        """The KL term of a network that learns from another one, whose logits are detached."""
        return distill(z, z_from, self.temperature, standardise=self.standardise)

    def is_too_far_ahead(self, z_s: Tensor, z_t: Tensor, batch: Batch) -> bool:
        """Whether the teacher is paused, decided on the global batch.  z_s, z_t: [B, C] logits."""
        p_s, p_t = z_s.detach().softmax(1), z_t.detach().softmax(1)
        y = one_hot(batch.y, p_s.shape[1]).to(p_s.dtype)
        distances = torch.stack([(p_s - p_t).abs().sum(1), (p_s - y).abs().sum(1), (p_t - y).abs().sum(1)])
        d, s, t = batch.world.mean(distances.mean(1)).tolist()
        return t < s and d > s - math.exp(-t / (s + t)) * t


METHOD = SwitOKD
