"""Distillation from the average of a chain: the control for methods with one term for each guide."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropy, distill_mean


@dataclass(frozen=True)
class Average:
    """Distillation from an averaged ensemble of teachers (AVER, the baseline in You et al. 2017).

    L = ce_weight CE + kd_weight tau^2 KL(mean_g softmax(z_g / tau) || softmax(z / tau)),

    with the mean over all guides g.  label_smoothing: weight of the uniform distribution in the target of CE.
    """

    temperature: float
    ce_weight: float
    kd_weight: float
    label_smoothing: float

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student and every network of the chain."""
        return {"student": Network(student), **start}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg, in which the whole chain guides the student."""
        yield Leg(learners=("student",), guides=tuple(name for name in nets if name != "student"))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy and one term for the guides' mean, in one update of the student."""
        z = nets["student"](batch.x)
        ce = cross_entropy(z, batch.y, self.label_smoothing)
        kd = distill_mean(z, [nets[guide](batch.x) for guide in leg.guides], self.temperature)
        yield {
            "student": {
                "ce": self.ce_weight * ce,
                "kd/average": self.kd_weight * kd,
            }
        }


METHOD = Average
