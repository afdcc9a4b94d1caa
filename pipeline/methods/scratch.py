"""Training without a teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.core.losses import cross_entropy
from pipeline.core.vocabulary import Batch, Leg, Losses, Nets, Network, Train


@dataclass(frozen=True)
class Scratch:
    """Cross-entropy alone; networks that are given besides a student are trained one after the other.

    label_smoothing: weight of the uniform law in the target.
    """

    label_smoothing: float

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        return {"student": Network(student)}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        for name in nets:
            yield Leg(learners=(name,))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        (student,) = leg.learners
        yield {student: {"ce": cross_entropy(nets[student](batch.x), batch.y, self.label_smoothing)}}


METHOD = Scratch
