"""Online role change: the best student of each batch teaches the others, and the pivot learns from their errors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pipeline.core.losses import cross_entropies, cross_entropy, distill, mixed_cross_entropy
from pipeline.core.vocabulary import Batch, Leg, Losses, Nets, Network, Train

PIVOT = "pivot"


@dataclass(frozen=True)
class ORC:
    """Online role change: network group-based knowledge distillation (Choi et al. 2023, arXiv 2206.01186).

    Each batch, in the paper's order:
      promotion: the `promoted` students of least mean cross-entropy, before any update, become temporary teachers
      intensive: L_1 = mu CE(P(x~), y) + (1 - mu) CE(P(x~), y_F),  x~ = mu x + (1 - mu) x_F      updates the pivot P
      private:   L_P = (1 - beta) CE(T, y) + beta KD(T, P)                                       updates T
      group:     L_T = sum_i (1 - beta) CE(S_i, y) + beta (KD(S_i, T) + KD(S_i, P))              updates the others
    and the temporary teachers T are demoted.

    Where the paper as known is silent: the feedback x_F is drawn from the batch with probability in proportion to
    the students' mean loss (`feedback: loss`) or to how many of them err (`errors`); mu ~ Beta(mixup_alpha,
    mixup_alpha), one a batch; the students' forward for the election is the forward they are trained on; pivot and
    temporary teacher teach in evaluation mode, after their own update; `guidance: ensemble` is one KD term towards
    the mean of the teachers' logits.  With several temporary teachers the KD terms of L_T are summed.
    pivot_lr_scale is ours: at the students' learning rate the intensive teaching can spoil the pivot.

    teachings: which of intensive, private and group happen.  A student whose teaching is off gets plain
    cross-entropy; a pivot whose teaching is off stays frozen.
    group: name -> architecture of the students besides the student; None means the assistants' architectures.
    """

    beta: float
    temperature: float
    mixup_alpha: float
    pivot_lr_scale: float
    promoted: int
    feedback: str
    teachings: Mapping[str, bool]
    guidance: str
    group: Mapping[str, str] | None

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        if self.group is None:
            group = {name: network.arch for name, network in start.items() if name != "teacher"}
        else:
            group = self.group
        return {
            "student": Network(student),
            **{name: Network(arch) for name, arch in group.items()},
            PIVOT: replace(start["teacher"], lr_scale=self.pivot_lr_scale, learns=self.teachings["intensive"]),
        }

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        students = tuple(name for name in nets if name != PIVOT)
        if self.teachings["intensive"]:
            yield Leg(learners=(*students, PIVOT))
        else:
            yield Leg(learners=students, guides=(PIVOT,))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        x, y, beta, tau = batch.x, batch.y, self.beta, self.temperature
        students = [name for name in leg.learners if name != PIVOT]
        z = {s: nets[s](x) for s in students}
        loss = {s: cross_entropies(z[s], y) for s in students}
        temporary, others = self.elect(loss, batch)

        if self.teachings["intensive"]:
            mu = self.mixing(batch)
            x_f, y_f = self.draw_feedback(z, loss, batch)
            z_mix = nets[PIVOT](mu * x + (1 - mu) * x_f)
            yield {PIVOT: {"intensive": mixed_cross_entropy(z_mix, y, y_f, mu)}}

        z_pivot = nets[PIVOT].teach(x)  # nothing below updates the pivot: this serves both teachings

        if self.teachings["private"]:
            yield {
                t: {
                    "ce": (1 - beta) * cross_entropy(z[t], y),
                    "private": beta * distill(z[t], z_pivot, tau),
                }
                for t in temporary
            }
        else:
            yield {t: {"ce": cross_entropy(z[t], y)} for t in temporary}

        if not others:
            return
        if self.teachings["group"]:
            z_temporary = [nets[t].teach(x) for t in temporary]
            yield {
                s: {
                    "ce": (1 - beta) * cross_entropy(z[s], y),
                    **{term: beta * kd for term, kd in self.guide(z[s], z_temporary, z_pivot).items()},
                }
                for s in others
            }
        else:
            yield {s: {"ce": cross_entropy(z[s], y)} for s in others}

    def elect(self, loss: Mapping[str, Tensor], batch: Batch) -> tuple[list[str], list[str]]:
        """Temporary teachers and the others, by mean loss over the global batch; ties go to the first named."""
        means = batch.world.mean(torch.stack([loss[s].mean() for s in loss])).tolist()
        ranked = [s for _, s in sorted(zip(means, loss), key=lambda pair: pair[0])]
        temporary, others = ranked[: self.promoted], ranked[self.promoted :]
        for s in loss:
            batch.note(s, "promoted", float(s in temporary))
        return temporary, others

    def mixing(self, batch: Batch) -> float:
        """mu ~ Beta(mixup_alpha, mixup_alpha)."""
        seed = int(torch.randint(2**62, (), generator=batch.draw))
        return float(np.random.default_rng(seed).beta(self.mixup_alpha, self.mixup_alpha))

    def draw_feedback(self, z: Mapping[str, Tensor], loss: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """As many images as the batch has, from the global batch, by how badly the students do on them."""
        if self.feedback == "loss":
            weight = torch.stack([loss[s] for s in loss]).mean(0)
        else:
            weight = torch.stack([(z[s].argmax(1) != batch.y).to(z[s].dtype) for s in z]).mean(0)
        world = batch.world
        drawn = draw_in_proportion(world.gather(weight), batch.draw)
        x_f, y_f = world.gather(batch.x)[drawn], world.gather(batch.y)[drawn]
        n_classes = next(iter(z.values())).shape[1]
        batch.note(PIVOT, "feedback", one_hot(y_f, n_classes).sum(0))
        return world.mine(x_f), world.mine(y_f)

    def guide(self, z_s: Tensor, z_temporary: list[Tensor], z_pivot: Tensor) -> dict[str, Tensor]:
        """The KD terms of the group teaching."""
        tau = self.temperature
        if self.guidance == "ensemble":
            return {"group/ensemble": distill(z_s, torch.stack([*z_temporary, z_pivot]).mean(0), tau)}
        temporary = torch.stack([distill(z_s, z_t, tau) for z_t in z_temporary]).sum()
        return {"group/temporary": temporary, "group/pivot": distill(z_s, z_pivot, tau)}


def draw_in_proportion(weight: Tensor, draw: torch.Generator) -> Tensor:
    """B indices drawn with replacement, P(b) = weight[b] / sum(weight); uniform where all weights are zero.

    weight: [B], not negative.  Inverse of the distribution function, so that nothing waits for the device.
    """
    weight = weight.double()
    weight = torch.where(weight.sum() > 0, weight, torch.ones_like(weight))
    share = weight.cumsum(0) / weight.sum()
    u = torch.rand(len(weight), generator=draw, dtype=torch.float64).to(weight.device, non_blocking=True)
    return torch.searchsorted(share, u, right=True).clamp_(max=len(weight) - 1)


METHOD = ORC
