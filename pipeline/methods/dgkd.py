"""Densely guided distillation: every earlier network of the chain teaches; stochastic: some are dropped."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from pipeline.core.losses import cross_entropy, distill
from pipeline.core.vocabulary import Batch, Leg, Losses, Nets, Network, Train


@dataclass(frozen=True)
class DGKD:
    """Densely guided knowledge distillation using multiple teacher assistants (Son et al. 2021, arXiv 2009.08825).

    L = sum_j (1 - lam_j) CE + sum_j lam_j b_j tau^2 KL(guide_j || student)    over the teacher and its n assistants,

    which for one lam is the paper's (n + 1)(1 - lam) CE + lam (KD_teacher + sum_i b_i KD_i).
    b_i ~ Bernoulli(survival) per batch; survival = 1 is plain DGKD.  The teacher is always kept (the paper's
    equation); drop_teacher drops it too.  A dropped guide is not run.

    lam: one number, or guide -> number (the paper's lambda_1..lambda_n).
    normalise: "sum" is the equation; "mean" divides the whole loss by n + 1, since the sum is also a larger step.
    The published code differs: it weighs CE by (1 - lam) without n + 1, divides each KL by the number of classes,
    and drops exactly one of all guides, the teacher included.
    """

    temperature: float
    lam: float | Mapping[str, float]
    normalise: str
    survival: float
    drop_teacher: bool

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        return {"student": Network(student), **start}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        yield Leg(learners=("student",), guides=tuple(name for name in nets if name != "student"))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        lam = {g: self.lam[g] if isinstance(self.lam, Mapping) else self.lam for g in leg.guides}
        share = 1 if self.normalise == "sum" else 1 / len(leg.guides)
        z = nets["student"](batch.x)
        terms = {"ce": share * sum(1 - lam[g] for g in leg.guides) * cross_entropy(z, batch.y)}
        for g in self.surviving(leg.guides, batch):
            terms[f"kd/{g}"] = share * lam[g] * distill(z, nets[g](batch.x), self.temperature)
        yield {"student": terms}

    def surviving(self, guides: tuple[str, ...], batch: Batch) -> list[str]:
        """The guides that teach this batch; the same on every rank."""
        b = torch.rand(len(guides), generator=batch.draw) < self.survival
        kept = [g for g, survives in zip(guides, b.tolist()) if survives or (g == "teacher" and not self.drop_teacher)]
        for g in guides:
            batch.note("student", f"survived/{g}", float(g in kept))
        return kept


METHOD = DGKD
