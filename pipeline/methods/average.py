"""One distillation term towards the average of a chain: the control for methods with a term per guide."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.core.losses import cross_entropy, distill_mean
from pipeline.core.vocabulary import Batch, Leg, Losses, Nets, Network, Train


@dataclass(frozen=True)
class Average:
    """The averaged ensemble of teachers (AVER, as compared with in You et al. 2017).

    L = scale ((1 - alpha) CE + alpha tau^2 KL(mean_g softmax(z_g / tau) || softmax(z / tau))).
    """

    temperature: float
    alpha: float
    scale: float

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        return {"student": Network(student), **start}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        yield Leg(learners=("student",), guides=tuple(name for name in nets if name != "student"))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        z = nets["student"](batch.x)
        ce = cross_entropy(z, batch.y)
        kd = distill_mean(z, [nets[guide](batch.x) for guide in leg.guides], self.temperature)
        yield {
            "student": {
                "ce": self.scale * (1 - self.alpha) * ce,
                "kd/average": self.scale * self.alpha * kd,
            }
        }


METHOD = Average
