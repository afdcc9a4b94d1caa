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
    update larger.  "released" is the loss of the published code: CE is weighted by (1 - lam) without the factor n + 1
    (with several lam, by the mean of 1 - lam_j), and each KL is divided by the number of classes.
    drop: "bernoulli" draws each b_i on its own.  "one" drops exactly one guide in each batch, drawn uniformly, and does
    not use survival.
    drop_teacher: False always keeps the teacher, as in the paper's equation.  True may drop the teacher as well.

    standardise: standardise the logits of the KD terms (Sun et al. 2024, arXiv 2403.01427); not in the paper.

    Deviations from the published code: the defaults follow the paper; "released", "one" and drop_teacher = True are
    the code.  With "one", the only guide of a chain's first assistant is kept: the code would drop it in every batch,
    and with its default lam = 1 nothing would be left to learn from.
    """

    temperature: float
    standardise: bool
    lam: float | Mapping[str, float]
    normalise: str
    drop: str
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
        z = nets["student"](batch.x)
        n_guides, n_classes = len(leg.guides), z.shape[1]
        factors = {"sum": (1, 1), "mean": (1 / n_guides, 1 / n_guides), "released": (1 / n_guides, 1 / n_classes)}
        ce_factor, kd_factor = factors[self.normalise]
        terms = {"ce": ce_factor * sum(1 - lam[g] for g in leg.guides) * cross_entropy(z, batch.y)}
        for g in self.surviving(leg.guides, batch):
            kd = distill(z, nets[g](batch.x), self.temperature, standardise=self.standardise)
            terms[f"kd/{g}"] = kd_factor * lam[g] * kd
        yield {"student": terms}

    def surviving(self, guides: tuple[str, ...], batch: Batch) -> list[str]:
        """Draw the guides that teach this batch, the same on every rank."""
        droppable = [g for g in guides if g != "teacher" or self.drop_teacher]
        if self.drop == "bernoulli":
            b = torch.rand(len(guides), generator=batch.draw) < self.survival
            dropped = [g for g, survives in zip(guides, b.tolist()) if not survives and g in droppable]
        elif len(guides) > 1:
            dropped = [droppable[int(torch.randint(len(droppable), (), generator=batch.draw))]]
        else:
            dropped = []
        kept = [g for g in guides if g not in dropped]
        for g in guides:
            batch.note("student", f"survived/{g}", float(g in kept))
        return kept


METHOD = DGKD
