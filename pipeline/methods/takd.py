"""Teacher-assistant distillation: each network in the chain learns from its predecessor."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropy, distill


@dataclass(frozen=True)
class TAKD:
    """Improved knowledge distillation via teacher assistant (Mirzadeh et al. 2020, arXiv 1902.03393).

    L = (1 - lam) CE + lam tau^2 KL(predecessor || student),

    where the predecessor is the last network of the chain before the student.

    Deviation from the published code: the code divides the KL by the number of classes, so its values of lam and tau
    are not comparable with these.
    standardise: standardise the logits of the KD term (Sun et al. 2024, arXiv 2403.01427); not in the paper.
    """

    temperature: float
    standardise: bool
    lam: float

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student and its predecessor, the last network of `start`."""
        predecessor = list(start)[-1]
        return {"student": Network(student), predecessor: start[predecessor]}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg, in which the predecessor guides the student."""
        yield Leg(learners=("student",), guides=tuple(name for name in nets if name != "student"))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy and the predecessor's term, in one update of the student."""
        (predecessor,) = leg.guides
        z = nets["student"](batch.x)
        ce = cross_entropy(z, batch.y)
        kd = distill(z, nets[predecessor](batch.x), self.temperature, standardise=self.standardise)
        yield {"student": {"ce": (1 - self.lam) * ce, f"kd/{predecessor}": self.lam * kd}}


METHOD = TAKD
