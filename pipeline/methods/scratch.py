"""Training without a teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropy


@dataclass(frozen=True)
class Scratch:
    """Cross-entropy alone. With several networks, each is trained in its own leg, one after the other.

    ce_weight: weight of cross-entropy. A search may raise the loss weights of methods with a teacher, and for SGD the
    size of a loss is a learning rate; with this weight it gives training without a teacher the same chance.
    label_smoothing: weight of the uniform distribution in the target.
    """

    ce_weight: float
    label_smoothing: float

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student alone."""
        return {"student": Network(student)}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg for each network."""
        for name in nets:
            yield Leg(learners=(name,))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy of the learner, in one update."""
        (student,) = leg.learners
        ce = cross_entropy(nets[student](batch.x), batch.y, self.label_smoothing)
        yield {student: {"ce": self.ce_weight * ce}}


METHOD = Scratch
