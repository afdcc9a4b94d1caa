"""Online role change: the best student of each batch teaches the others, and the pivot learns from their errors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropies, cross_entropy, distill, mixed_cross_entropy

PIVOT = "pivot"


@dataclass(frozen=True)
class ORC:
    """Online role change: network group-based knowledge distillation (Choi et al. 2023, arXiv 2206.01186).

    For each batch, in the paper's order:
      promotion: the `promoted` students with the lowest mean cross-entropy before any update become the temporary
                 teachers T
      intensive: L_1 = mu CE(P(x~), y) + (1 - mu) CE(P(x~), y_F),  x~ = mu x + (1 - mu) x_F      updates the pivot P
      private:   L_P = (1 - beta) CE(T, y) + beta KD(T, P)                                       updates T
      group:     L_T = sum_i (1 - beta) CE(S_i, y) + beta (KD(S_i, T) + KD(S_i, P))              updates the others
      demotion:  T become students again.

    Choices where the paper, as far as we know it, is silent:
      - The students are ranked by their cross-entropy on this batch (`elect: batch`), or by its exponential moving
        average over the batches so far, e <- m e + (1 - m) CE with m = elect_momentum (`elect: ema`), which depends
        less on the noise of one batch.  The average begins with the first batch.
      - The feedback (x_F, y_F) is drawn from the global batch with probability proportional to the students' mean loss
        (`feedback: loss`), to its exponential, P(b) = softmax(loss)_b (`softmax`), or to the number of students that
        misclassify the image (`errors`).
      - L_T sums its KD terms (`normalise: sum`), or takes beta times their mean (`mean`).
      - The other students start from random weights (`init: scratch`), or from the trained assistants of the same
        names in the chain that the run starts from (`init: assistants`).  The student starts from random weights.
      - One mu ~ Beta(mixup_alpha, mixup_alpha) is drawn for each batch.
      - The students' forward pass for the promotion is also the one that they are trained on.
      - The pivot and the temporary teachers teach after their own update. The pivot is in evaluation mode, as every
        trained teacher here; a temporary teacher is in training mode, in which it also learns (`teaching_mode: train`),
        or in evaluation mode (`eval`). In evaluation mode BatchNorm answers with running statistics, which lag behind
        the weights of a student that has just begun.
      - The pivot learns from mixtures and teaches on the images themselves. BatchNorm's running statistics, by which it
        teaches, follow the mixtures (`pivot_statistics: mixtures`), or stay those of the trained teacher (`teacher`).
      - `guidance: ensemble` is one KD term with the mean of the teachers' logits as the target.
      - With several temporary teachers, their KD terms in L_T are summed.
    Deviation: pivot_lr_scale is not in the paper.  At the students' learning rate, intensive teaching can make the
    pivot worse.

    standardise: standardise the logits of the KD terms (Sun et al. 2024, arXiv 2403.01427); not in the paper.
    feedback_only: the paper's ablation in which the pivot learns from the feedback alone: mu = 0, so that
    L_1 = CE(P(x_F), y_F).
    teachings: which of intensive, private and group teaching take place.  Without private or group teaching, the
    students concerned learn from cross-entropy alone.  Without intensive teaching, the pivot stays frozen.
    group: name -> architecture of the other students.  None (`auto` in params.yaml) uses the assistants' architectures.
    """

    beta: float
    temperature: float
    standardise: bool
    normalise: str
    mixup_alpha: float
    feedback_only: bool
    pivot_lr_scale: float
    pivot_statistics: str
    promoted: int
    elect: str
    elect_momentum: float
    feedback: str
    teachings: Mapping[str, bool]
    guidance: str
    teaching_mode: str
    init: str
    group: Mapping[str, str] | None

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student, the other students, and the teacher as the pivot.

        Raises ValueError if `init: assistants` finds no trained network of a student's name and architecture.
        """
        if self.group is None:
            group = {name: network.arch for name, network in start.items() if name != "teacher"}
        else:
            group = self.group
        return {
            "student": Network(student),
            **{name: self.other_student(name, arch, start) for name, arch in group.items()},
            PIVOT: replace(
                start["teacher"],
                learns=self.teachings["intensive"],
                lr_scale=self.pivot_lr_scale,
                keeps_statistics=self.pivot_statistics == "teacher",
            ),
        }

    def other_student(self, name: str, arch: str, start: Mapping[str, Network]) -> Network:
        """One of the other students, with random weights or with those of the trained assistant of its name."""
        if self.init == "scratch":
            return Network(arch)
        assistant = start.get(name)
        if assistant is None or assistant.weights is None or assistant.arch != arch:
            raise ValueError(f"init: assistants requires the weights of a trained {arch} named {name}")
        return replace(assistant, learns=True)

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg, in which all students learn together; the pivot learns too, or guides them."""
        students = tuple(name for name in nets if name != PIVOT)
        if self.teachings["intensive"]:
            yield Leg(learners=(*students, PIVOT))
        else:
            yield Leg(learners=students, guides=(PIVOT,))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Up to three updates: the pivot, then the temporary teachers, then the other students."""
        x, y, beta = batch.x, batch.y, self.beta
        students = [name for name in leg.learners if name != PIVOT]
        z = {s: nets[s](x) for s in students}
        loss = {s: cross_entropies(z[s], y) for s in students}
        temporary, others = self.promote(loss, batch)

        if self.teachings["intensive"]:
            mu = self.mixing(batch)
            x_f, y_f = self.draw_feedback(z, loss, batch)
            z_mix = nets[PIVOT](mu * x + (1 - mu) * x_f)
            yield {PIVOT: {"intensive": mixed_cross_entropy(z_mix, y, y_f, mu)}}

        z_pivot = nets[PIVOT].teach(x)  # no update of the pivot follows, so both teachings can use it

        if self.teachings["private"]:
            yield {
                t: {
                    "ce": (1 - beta) * cross_entropy(z[t], y),
                    "private": beta * self.kd(z[t], z_pivot),
                }
                for t in temporary
            }
        else:
            yield {t: {"ce": cross_entropy(z[t], y)} for t in temporary}

        if not others:
            return
        if self.teachings["group"]:
            z_temporary = [nets[t].teach(x, mode=self.teaching_mode) for t in temporary]
            n_terms = 1 if self.guidance == "ensemble" else len(temporary) + 1
            beta_kd = beta / n_terms if self.normalise == "mean" else beta
            yield {
                s: {
                    "ce": (1 - beta) * cross_entropy(z[s], y),
                    **{term: beta_kd * kd for term, kd in self.guide(z[s], z_temporary, z_pivot).items()},
                }
                for s in others
            }
        else:
            yield {s: {"ce": cross_entropy(z[s], y)} for s in others}

    def promote(self, loss: Mapping[str, Tensor], batch: Batch) -> tuple[list[str], list[str]]:
        """Split students into temporary teachers and others by mean loss on the global batch. Ties keep their order."""
        means = batch.world.mean(torch.stack([loss[s].mean() for s in loss]))
        if self.elect == "ema":
            m, average = self.elect_momentum, batch.memory.get("loss", means)
            means = batch.memory["loss"] = m * average + (1 - m) * means
        ranked = [s for _, s in sorted(zip(means.tolist(), loss), key=lambda pair: pair[0])]
        temporary, others = ranked[: self.promoted], ranked[self.promoted :]
        for s in loss:
            batch.note(s, "promoted", float(s in temporary))
        return temporary, others

    def mixing(self, batch: Batch) -> float:
        """Draw mu ~ Beta(mixup_alpha, mixup_alpha), the same on every rank. It is 0 with `feedback_only`."""
        seed = int(torch.randint(2**62, (), generator=batch.draw))  # drawn in any case: feedback is the same either way
        if self.feedback_only:
            return 0.0
        return float(np.random.default_rng(seed).beta(self.mixup_alpha, self.mixup_alpha))

    def draw_feedback(self, z: Mapping[str, Tensor], loss: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Draw as many images as the batch has from the global batch, favouring those that the students do badly on."""
        world = batch.world
        if self.feedback == "errors":
            weight = world.gather(torch.stack([(z[s].argmax(1) != batch.y).to(z[s].dtype) for s in z]).mean(0))
        else:
            weight = world.gather(torch.stack([loss[s] for s in loss]).mean(0))
        if self.feedback == "softmax":
            weight = weight.double().softmax(0)
        drawn = draw_in_proportion(weight, batch.draw)
        x_f, y_f = world.gather(batch.x)[drawn], world.gather(batch.y)[drawn]
        n_classes = next(iter(z.values())).shape[1]
        batch.note(PIVOT, "feedback", one_hot(y_f, n_classes).sum(0))
        return world.local_shard(x_f), world.local_shard(y_f)

    def guide(self, z_s: Tensor, z_temporary: list[Tensor], z_pivot: Tensor) -> dict[str, Tensor]:
        """The KD terms of group teaching for one student."""
        if self.guidance == "ensemble":
            return {"group/ensemble": self.kd(z_s, torch.stack([*z_temporary, z_pivot]).mean(0))}
        temporary = torch.stack([self.kd(z_s, z_t) for z_t in z_temporary]).sum()
        return {"group/temporary": temporary, "group/pivot": self.kd(z_s, z_pivot)}

    def kd(self, z_s: Tensor, z_t: Tensor) -> Tensor:
        """The KD term KD(student, teacher) of all teachings."""
        return distill(z_s, z_t, self.temperature, standardise=self.standardise)


def draw_in_proportion(weight: Tensor, draw: torch.Generator) -> Tensor:
    """Draw B indices with replacement, P(b) = weight[b] / sum(weight). If all weights are zero, draw uniformly.

    Inverts the cumulative distribution, so that the CPU need not wait for the GPU.

    weight: [B], not negative.  Returns [B] indices.
    """
    weight = weight.double()
    weight = torch.where(weight.sum() > 0, weight, torch.ones_like(weight))
    cumulative = weight.cumsum(0) / weight.sum()
    u = torch.rand(len(weight), generator=draw, dtype=torch.float64).to(weight.device, non_blocking=True)
    return torch.searchsorted(cumulative, u, right=True).clamp_(max=len(weight) - 1)


METHOD = ORC
