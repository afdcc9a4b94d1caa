"""Knowledge distillation from one teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropy, distill


@dataclass(frozen=True)
class KD:
    """Distilling the knowledge in a neural network (Hinton, Vinyals, Dean 2015, arXiv 1503.02531).

    L = scale ((1 - alpha) CE + alpha tau^2 KL(teacher || student)).

    Deviation: the paper weights the two terms freely; the convex combination by alpha is the field's convention.
    scale: factor of the whole loss.  Set to the number of guides in a chain, it makes KD the control for methods that
    sum one such loss for each guide (DGKD).
    label_smoothing: weight of the uniform distribution in the target of CE; 0 in the paper.
    """

    temperature: float
    alpha: float
    scale: float
    label_smoothing: float

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student and the teacher."""
        return {"student": Network(student), "teacher": start["teacher"]}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg, in which the teacher guides the student."""
        yield Leg(learners=("student",), guides=("teacher",))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy and the teacher's term, in one update of the student."""
        z = nets["student"](batch.x)
        ce = cross_entropy(z, batch.y, self.label_smoothing)
        kd = distill(z, nets["teacher"](batch.x), self.temperature)
        yield {
            "student": {
                "ce": self.scale * (1 - self.alpha) * ce,
                "kd/teacher": self.scale * self.alpha * kd,
            }
        }


METHOD = KD
