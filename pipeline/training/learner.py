"""What every learner of a run can do, of whatever kind: a network, or an estimator of scikit-learn."""

from typing import Protocol

from torch import Tensor, nn

from pipeline.storage.logit_cache import CachedLogits
from pipeline.training.cost import Passes

State = dict[str, Tensor]


class Learner(Protocol):
    """A learner (`interface.Net`) that can be validated, checkpointed and saved.

    module: what answers in evaluation mode.  guiding: whether it teaches in the current leg.
    passes: images that have passed through it (pipeline.training.cost).  cached_logits: of a frozen network.
    """

    differentiable: bool
    passes: Passes
    guiding: bool
    cached_logits: CachedLogits | None

    @property
    def module(self) -> nn.Module:
        """What answers in evaluation mode."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, C] as a learner."""
        ...

    def teach(self, x: Tensor, *, mode: str = "eval") -> Tensor:
        """Logits [B, C] as a teacher.  mode: of a network that also learns."""
        ...

    def forward_eval(self, x: Tensor) -> Tensor:
        """Logits [B, C] in evaluation mode, which `passes` does not count."""
        ...

    def weights(self) -> State:
        """Everything that training has decided, as tensors on the CPU."""
        ...

    def load(self, weights: State) -> None:
        """Load what `weights` returned."""
        ...
