"""Knowledge distillation from one teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropy, distill


@dataclass(frozen=True)
class KD:
    """Distilling the knowledge in a neural network (Hinton, Vinyals, Dean 2015, arXiv 1503.02531).

    L = ce_weight CE + kd_weight tau^2 KL(teacher || student),

    with two free weights, as in the paper.  Code with one weight alpha has ce_weight = 1 - alpha, kd_weight = alpha.
    Both weights times the number of guides in a chain make KD the control for methods that sum one such loss for each
    guide (DGKD).
    standardise: standardise the logits of the KD term (Sun et al. 2024, arXiv 2403.01427); not in the paper.
    label_smoothing: weight of the uniform distribution in the target of CE; 0 in the paper.
    """

    temperature: float
    standardise: bool
    ce_weight: float
    kd_weight: float
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
        kd = distill(z, nets["teacher"](batch.x), self.temperature, standardise=self.standardise)
        yield {
            "student": {
                "ce": self.ce_weight * ce,
                "kd/teacher": self.kd_weight * kd,
            }
        }


METHOD = KD
