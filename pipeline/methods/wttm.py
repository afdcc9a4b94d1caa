"""Transformed teacher matching: only the teacher is softened, by a power of its probabilities."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import log_softmax

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropy, kl_divergence


@dataclass(frozen=True)
class WTTM:
    """Knowledge distillation based on transformed teacher matching (Zheng and Yang 2024, arXiv 2402.11148).

    L = CE + beta / B sum_b U_b KL(q_t || p_s),  p = softmax(z),  q_t = p_t^gamma / U_b,  U_b = sum_c p_t(c)^gamma.

    u true: WTTM.  u false: TTM, which has U_b = 1 in front of the KL.  The power gamma is a temperature 1 / gamma of
    the teacher; the student stays at temperature 1, and no factor tau^2 compensates.  For gamma <= 1, U_b lies between
    1 and C^(1 - gamma) and is larger for a less certain teacher.
    """

    gamma: float
    beta: float
    u: bool

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student and the teacher."""
        return {"student": Network(student), "teacher": start["teacher"]}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg, in which the teacher guides the student."""
        yield Leg(learners=("student",), guides=("teacher",))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy and the teacher's term, in one update of the student."""
        z, z_t = nets["student"](batch.x), nets["teacher"](batch.x).detach()
        log_q = log_softmax(self.gamma * z_t, dim=1)  # softmax(z)^gamma, normalised, is softmax(gamma z)
        kd = kl_divergence(log_softmax(z, dim=1), log_q, self.power_sum(z_t) if self.u else None)
        yield {"student": {"ce": cross_entropy(z, batch.y), "kd/teacher": self.beta * kd}}

    def power_sum(self, z_t: Tensor) -> Tensor:
        """U_b = sum_c softmax(z_t)_c^gamma: [B, C] -> [B]."""
        return (self.gamma * log_softmax(z_t, dim=1)).logsumexp(1).exp()


METHOD = WTTM
