"""All processes of a run as one: the only place where ranks agree on anything."""

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

T = TypeVar("T")


@cache
def patient() -> Any:
    """All ranks, as a group in which the first waits for the last as long as it takes."""
    return dist.new_group(backend="gloo", timeout=timedelta(days=365))


class Processes:
    """The ranks of an Accelerator (`vocabulary.World`). With one process every call is the identity."""

    def __init__(self, accelerator: Accelerator):
        self.rank = accelerator.process_index
        self.size = accelerator.num_processes
        self.device = accelerator.device
        if self.size > 1:
            patient()  # made while all are there: one that dies later ends the waiting

    @classmethod
    def alone(cls, accelerator: Accelerator) -> "Processes":
        """This process, for what it does without the others."""
        world = cls(accelerator)
        world.rank, world.size = 0, 1
        return world

    def mean(self, value: Tensor) -> Tensor:
        value = value.detach().clone()
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def gather(self, value: Tensor) -> Tensor:
        value = value.detach()
        if self.size == 1:
            return value
        parts = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(parts, value.contiguous())
        return torch.cat(parts)

    def mine(self, value: Tensor) -> Tensor:
        local = len(value) // self.size
        return value[self.rank * local : (self.rank + 1) * local]

    def share(self, items: int) -> range:
        return range(self.rank, items, self.size)

    def join(self, parts: list[Any], *, patiently: bool = False) -> list[Any]:
        if self.size == 1:
            return parts
        everyone: list[list[Any]] = [[] for _ in range(self.size)]
        dist.all_gather_object(everyone, parts, group=patient() if patiently else None)
        total = sum(len(part) for part in everyone)
        return [everyone[k % self.size][k // self.size] for k in range(total)]

    def everyone(self, value: Any) -> list[Any]:
        """The value of each rank, in their order, on all of them."""
        values: list[Any] = [value]
        if self.size > 1:
            values = [None] * self.size
            dist.all_gather_object(values, value)
        return values

    def largest(self, *values: float) -> list[float]:
        """The largest of each value over the ranks."""
        largest = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1:
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return largest.tolist()

    def patiently(self, work: Callable[[], object]) -> None:
        """work() on rank 0; the others wait for its end, however long it takes."""
        if self.rank == 0:
            work()
        self.join([], patiently=True)

    def is_lost(self, error: RuntimeError) -> bool:
        """Whether it says that another process has gone."""
        return self.size > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error))

    def spread(self, tensors: list[Tensor]) -> None:
        """Rank 0's tensors into those of the other ranks."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def first(self, make: Callable[[], T | None]) -> T | None:
        """make() on every rank, on rank 0 before the others; None everywhere if it is None there."""
        made = make() if self.rank == 0 else None
        (there,) = self.agree([made is not None])
        return make() if there and self.rank > 0 else made

    def agree(self, values: list[Any]) -> list[Any]:
        """Rank 0's values, on every rank."""
        if self.size > 1:
            dist.broadcast_object_list(values)
        return values
