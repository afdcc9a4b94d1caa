"""Teacher-assistant distillation: each network of the chain learns from the one before it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.core.losses import cross_entropy, distill
from pipeline.core.vocabulary import Batch, Leg, Losses, Nets, Network, Train


@dataclass(frozen=True)
class TAKD:
    """Improved knowledge distillation via teacher assistant (Mirzadeh et al. 2020, arXiv 1902.03393).

    L = (1 - lam) CE + lam tau^2 KL(predecessor || student), the predecessor being the last of the chain.

    The published code divides the KL by the number of classes, so its lam and tau mean something else.
    """

    temperature: float
    lam: float

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        predecessor = list(start)[-1]
        return {"student": Network(student), predecessor: start[predecessor]}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        yield Leg(learners=("student",), guides=tuple(name for name in nets if name != "student"))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        (predecessor,) = leg.guides
        z = nets["student"](batch.x)
        ce = cross_entropy(z, batch.y)
        kd = distill(z, nets[predecessor](batch.x), self.temperature)
        yield {"student": {"ce": (1 - self.lam) * ce, f"kd/{predecessor}": self.lam * kd}}


METHOD = TAKD
