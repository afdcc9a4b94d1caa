"""Knowledge distillation from one teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.core.losses import cross_entropy, distill
from pipeline.core.vocabulary import Batch, Leg, Losses, Nets, Network, Train


@dataclass(frozen=True)
class KD:
    """Distilling the knowledge in a neural network (Hinton, Vinyals, Dean 2015, arXiv 1503.02531).

    L = scale ((1 - alpha) CE + alpha tau^2 KL(teacher || student)).

    The paper weights the two terms freely; alpha is the field's convention.  `scale` multiplies the whole loss: with
    the number of a chain's guides it is the control for methods that sum one such loss per guide (DGKD).
    """

    temperature: float
    alpha: float
    scale: float

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        return {"student": Network(student), "teacher": start["teacher"]}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        yield Leg(learners=("student",), guides=("teacher",))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        z = nets["student"](batch.x)
        ce = cross_entropy(z, batch.y)
        kd = distill(z, nets["teacher"](batch.x), self.temperature)
        yield {
            "student": {
                "ce": self.scale * (1 - self.alpha) * ce,
                "kd/teacher": self.scale * self.alpha * kd,
            }
        }


METHOD = KD
