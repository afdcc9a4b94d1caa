"""The frozen guides of a leg: what they say is kept in a store and asked for once."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.core.live import Live
from pipeline.core.logits import LogitStore, Memory
from pipeline.core.trainset import LegData
from pipeline.core.vocabulary import Leg, Network
from pipeline.core.world import Processes


class Guides:
    """Gives the frozen guides of each leg their places in the store, if there is one.

    order: what decides the batches of a leg besides its number, its rows and its epochs.
    """

    def __init__(self, networks: Mapping[str, Network], store: LogitStore | None, world: Processes, order: list[int]):
        self.networks, self.store, self.world, self.order = networks, store, world, order
        self.memories: list[Memory] = []

    def open(self, nets: Mapping[str, Live], number: int, leg: Leg, epochs: int, data: LegData) -> None:
        """Begin a leg."""
        self.memories = []
        for name in leg.guides:
            nets[name].guiding = True
        if epochs == 0:
            return
        rows = hashlib.sha256(data.rows.numpy().tobytes()).hexdigest()
        shape = (epochs, len(data.views), data.views.num_classes)
        for name in leg.guides:
            weights = self.networks[name].weights
            if self.networks[name].learns or weights is None:
                continue
            guide = [self.networks[name].arch, hashlib.sha256(weights.read_bytes()).hexdigest()]
            nets[name].memory = self.find(name, {"guide": guide, "rows": rows, "order": [*self.order, number]}, shape)
        self.memories = [memory for name in leg.guides if (memory := nets[name].memory)]

    def find(self, name: str, decides: dict, shape: tuple[int, int, int]) -> Memory | None:
        store = self.store
        return None if store is None else self.world.first(lambda: store.memory(name, decides, shape))

    def begin(self, x: Tensor, epoch: int, rows: Tensor) -> None:
        """Name the batch that the guides will be asked for."""
        for memory in self.memories:
            memory.begin(x, epoch, rows)

    def close(self, nets: Mapping[str, Live], leg: Leg) -> None:
        """End a leg."""
        self.memories = []
        for name in leg.guides:
            nets[name].memory = None
            nets[name].guiding = False


def usable(store: LogitStore | None, dtype: torch.dtype) -> LogitStore | None:
    """The store keeps float32 at most."""
    return store if dtype == torch.float32 else None
