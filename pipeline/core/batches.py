"""What a step trains on: the order of an epoch and each batch, as functions of counters."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.core.counters import hash64
from pipeline.core.trainset import LegData
from pipeline.core.vocabulary import Batch, Note
from pipeline.core.world import Processes


@dataclass(frozen=True)
class Batches:
    """The batches of one seed. size: of the global batch."""

    seed: int
    size: int
    world: Processes
    dtype: torch.dtype

    def order(self, leg: int, epoch: int, rows: Tensor) -> Tensor:
        """The rows of an epoch in their order."""
        draw = torch.Generator().manual_seed(hash64(self.seed, "order", leg, epoch))
        return rows[torch.randperm(len(rows), generator=draw)]

    def mine(self, order: Tensor, step: int) -> Tensor:
        """This process's rows of a step's."""
        return self.world.mine(order[step * self.size : (step + 1) * self.size])

    def __call__(self, data: LegData, rows: Tensor, at: tuple[int, int, int], note: Note) -> Batch:
        """Those rows, augmented.  at: leg, epoch and step."""
        # Layers that draw (dropout) use torch's own generator: it too is a function of counters.
        torch.manual_seed(hash64(self.seed, "layers", *at, self.world.rank))
        index = rows.to(self.world.device, non_blocking=True)
        return Batch(
            x=data.views(rows, seed=self.seed, epoch=at[1]).to(self.dtype),
            y=data.views.labels[index],
            index=index,
            draw=torch.Generator().manual_seed(hash64(self.seed, "draw", *at)),
            world=self.world,
            note=note,
        )
