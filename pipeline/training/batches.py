"""Training batches: the order of an epoch and the content of each batch, as functions of counters."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.core.interface import Batch, Note
from pipeline.core.randomness import hash64
from pipeline.runtime.processes import Processes
from pipeline.training.guides import Guides
from pipeline.training.legs import PlannedLeg


@dataclass
class Batches:
    """The batches of one seed.

    size: images in the global batch.  compiled: networks are compiled, so CUDA graphs must be told when a step begins.
    guides: are told the rows of each batch, because their logits may come from the cache.
    """

    seed: int
    size: int
    processes: Processes
    dtype: torch.dtype
    guides: Guides
    compiled: bool = False
    cached_order: tuple[tuple[int, int], Tensor] | None = field(default=None, repr=False)

    def __call__(self, leg: PlannedLeg, epoch: int, step: int, note: Note, memory: dict[str, Tensor]) -> Batch:
        """This rank's part of a batch, augmented; the images of the next one are prefetched.

        note, memory: of the Batch.
        """
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()  # outputs of the last step's CUDA graphs may be overwritten now
        order = self.order(leg, epoch)
        rows = self.local_rows(order, step)
        at = (leg.number, epoch, step)
        # Layers that draw, such as dropout, use PyTorch's global generator: it too becomes a function of counters.
        torch.manual_seed(hash64(self.seed, "layers", *at, self.processes.rank))
        index = rows.to(self.processes.device, non_blocking=True)
        batch = Batch(
            x=leg.views(rows, seed=self.seed, epoch=epoch).to(self.dtype),
            y=leg.views.labels[index],
            index=index,
            epoch=epoch,
            draw=torch.Generator().manual_seed(hash64(self.seed, "draw", *at)),
            world=self.processes,
            note=note,
            memory=memory,
        )
        self.guides.begin_batch(batch.x, epoch, rows)
        leg.views.ahead(self.local_rows(order, step + 1))
        return batch

    def order(self, leg: PlannedLeg, epoch: int) -> Tensor:
        """The rows of a leg in the order of an epoch: [N]."""
        key = (leg.number, epoch)
        if self.cached_order is None or self.cached_order[0] != key:
            draw = torch.Generator().manual_seed(hash64(self.seed, "order", leg.number, epoch))
            self.cached_order = (key, leg.rows[torch.randperm(len(leg.rows), generator=draw)])
        return self.cached_order[1]

    def local_rows(self, order: Tensor, step: int) -> Tensor:
        """This rank's rows of a step."""
        return self.processes.local_shard(order[step * self.size : (step + 1) * self.size])
