"""Densely guided distillation: every earlier network of the chain teaches; its stochastic variant drops some."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropy, distill


@dataclass(frozen=True)
class DGKD:
    """Densely guided knowledge distillation using multiple teacher assistants (Son et al. 2021, arXiv 2009.08825).

    L = sum_j (1 - lam_j) CE + sum_j lam_j b_j tau^2 KL(guide_j || student)    over the teacher and n assistants.

    With a single lam this is the paper's (n + 1)(1 - lam) CE + lam (KD_teacher + sum_i b_i KD_i).
    b_i ~ Bernoulli(survival) is drawn for each batch; survival = 1 is plain DGKD.  A dropped guide is not run.

    lam: one number, or guide -> number (the paper's lambda_1..lambda_n).
    normalise: "sum" is the paper's equation.  "mean" divides the whole loss by n + 1, because the sum also makes each
    update larger.
    drop_teacher: False always keeps the teacher, as in the paper's equation.  True may drop the teacher as well.

    standardise: standardise the logits of the KD terms (Sun et al. 2024, arXiv 2403.01427); not in the paper.

    Deviations from the published code: the code weights CE by (1 - lam) without the factor n + 1, divides each KL by
    the number of classes, and drops exactly one guide in each batch, possibly the teacher.
    """

    temperature: float
    standardise: bool
    lam: float | Mapping[str, float]
    normalise: str
    survival: float
    drop_teacher: bool

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student and every network of the chain."""
        return {"student": Network(student), **start}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg, in which the whole chain guides the student."""
        yield Leg(learners=("student",), guides=tuple(name for name in nets if name != "student"))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy and one term for each surviving guide, in one update of the student."""
        lam = {g: self.lam[g] if isinstance(self.lam, Mapping) else self.lam for g in leg.guides}
        factor = 1 if self.normalise == "sum" else 1 / len(leg.guides)
        z = nets["student"](batch.x)
        terms = {"ce": factor * sum(1 - lam[g] for g in leg.guides) * cross_entropy(z, batch.y)}
        for g in self.surviving(leg.guides, batch):
            kd = distill(z, nets[g](batch.x), self.temperature, standardise=self.standardise)
            terms[f"kd/{g}"] = factor * lam[g] * kd
        yield {"student": terms}

    def surviving(self, guides: tuple[str, ...], batch: Batch) -> list[str]:
        """Draw the guides that teach this batch, the same on every rank."""
        b = torch.rand(len(guides), generator=batch.draw) < self.survival
        kept = [g for g, survives in zip(guides, b.tolist()) if survives or (g == "teacher" and not self.drop_teacher)]
        for g in guides:
            batch.note("student", f"survived/{g}", float(g in kept))
        return kept


METHOD = DGKD
