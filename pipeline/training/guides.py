"""The frozen guides of a leg, whose logits come from the cache where they are known."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.core.interface import Network
from pipeline.runtime.processes import Processes
from pipeline.storage.logit_cache import CachedLogits, LogitCache
from pipeline.training.learner import Learner
from pipeline.training.legs import PlannedLeg


class Guides:
    """Gives the frozen guides of each leg their cached logits, if there is a cache.

    order: what decides the batches of a leg besides its number, its rows and its epochs: seed and batch size.
    """

    def __init__(
        self, networks: Mapping[str, Network], cache: LogitCache | None, processes: Processes, order: list[int]
    ):
        self.networks, self.cache, self.processes, self.order = networks, cache, processes, order
        self.cached: list[CachedLogits] = []

    def begin_leg(self, nets: Mapping[str, Learner], leg: PlannedLeg) -> None:
        """Open the cached logits of the leg's guides. A guide that some leg trains has none."""
        self.cached = []
        for name in leg.guides:
            nets[name].guiding = True
        if leg.epochs == 0:
            return
        rows = hashlib.sha256(leg.rows.numpy().tobytes()).hexdigest()
        shape = (leg.epochs, len(leg.views), leg.views.num_classes)
        for name in leg.guides:
            weights = self.networks[name].weights
            if self.networks[name].learns or weights is None:
                continue
            guide = [self.networks[name].arch, hashlib.sha256(weights.read_bytes()).hexdigest()]
            decides = {"guide": guide, "rows": rows, "order": [*self.order, leg.number]}
            nets[name].cached_logits = self.open(name, decides, shape)
        self.cached = [cached for name in leg.guides if (cached := nets[name].cached_logits)]

    def open(self, name: str, decides: dict, shape: tuple[int, int, int]) -> CachedLogits | None:
        """The cached logits of a guide, on every rank or on none."""
        cache = self.cache
        return None if cache is None else self.processes.rank_0_first(lambda: cache.open(name, decides, shape))

    def begin_batch(self, x: Tensor, epoch: int, rows: Tensor) -> None:
        """Announce the batch for which the guides' logits will be asked."""
        for cached in self.cached:
            cached.begin_batch(x, epoch, rows)

    def end_leg(self, nets: Mapping[str, Learner], leg: PlannedLeg) -> None:
        """Close the cached logits."""
        self.cached = []
        for name in leg.guides:
            nets[name].cached_logits = None
            nets[name].guiding = False


def usable(cache: LogitCache | None, dtype: torch.dtype) -> LogitCache | None:
    """The cache holds float32 at most, so a run in float64 does without."""
    return cache if dtype == torch.float32 else None
