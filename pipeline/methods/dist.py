"""Distillation by correlation: the student keeps the teacher's relations between classes and between images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropy


@dataclass(frozen=True)
class DIST:
    """Knowledge distillation from a stronger teacher (Huang et al. 2022, arXiv 2205.10536).

    L = CE + beta tau^2 (1 - mean_b rho(p_s[b, :], p_t[b, :])) + gamma tau^2 (1 - mean_c rho(p_s[:, c], p_t[:, c])),

    where p = softmax(z / tau) is [B, C] and rho is Pearson's correlation.  The beta term is the paper's inter-class
    relation, over the classes of an image; the gamma term is its intra-class relation, over the images of the batch.

    As in the published code, rho has 1e-8 added to its denominator, so it is 0 where one side is constant.  With
    several processes, the intra-class relation is that of the global batch.
    """

    temperature: float
    beta: float
    gamma: float

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student and the teacher."""
        return {"student": Network(student), "teacher": start["teacher"]}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg, in which the teacher guides the student."""
        yield Leg(learners=("student",), guides=("teacher",))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy and both relations to the teacher, in one update of the student."""
        tau = self.temperature
        z = nets["student"](batch.x)
        p_s, p_t = (z / tau).softmax(1), (nets["teacher"](batch.x).detach() / tau).softmax(1)
        inter = 1 - pearson(p_s, p_t).mean()
        intra = 1 - pearson(batch.world.gather_with_gradient(p_s).T, batch.world.gather(p_t).T).mean()
        yield {
            "student": {
                "ce": cross_entropy(z, batch.y),
                "inter/teacher": self.beta * tau**2 * inter,
                "intra/teacher": self.gamma * tau**2 * intra,
            }
        }


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row of a with that of b: [N, M], [N, M] -> [N]."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)


METHOD = DIST
