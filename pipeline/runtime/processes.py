"""The processes of a run: the only place where ranks communicate."""

import time
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
def group_without_timeout() -> Any:
    """A process group of all ranks in which the first waits for the last, however long that takes."""
    return dist.new_group(backend="gloo", timeout=timedelta(days=365))


class Processes:
    """The ranks of an Accelerator (`interface.World`). With one process every call is the identity."""

    def __init__(self, accelerator: Accelerator):
        self.rank = accelerator.process_index
        self.size = accelerator.num_processes
        self.device = accelerator.device
        if self.size > 1:
            group_without_timeout()  # created while all ranks are alive: a rank that dies later then ends the waiting

    @classmethod
    def single(cls, accelerator: Accelerator) -> "Processes":
        """This process alone, for work that it does without the other ranks."""
        processes = cls(accelerator)
        processes.rank, processes.size = 0, 1
        return processes

    def mean(self, value: Tensor) -> Tensor:
        """Mean over all ranks, equal on each of them; detached."""
        value = value.detach().clone()
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def gather(self, value: Tensor) -> Tensor:
        """The ranks' tensors [B_local, ...] concatenated to [B, ...]; detached."""
        value = value.detach()
        if self.size == 1:
            return value
        parts = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(parts, value.contiguous())
        return torch.cat(parts)

    def gather_with_gradient(self, value: Tensor) -> Tensor:
        """`gather`, with gradients to this rank's tensor, multiplied by the number of ranks."""
        if self.size == 1:
            return value
        local = value.clone()
        if local.requires_grad:
            local.register_hook(lambda gradient: self.size * gradient)
        parts = list(self.gather(value).split(len(value)))
        parts[self.rank] = local
        return torch.cat(parts)

    def local_shard(self, value: Tensor) -> Tensor:
        """This rank's part of a tensor of the global batch: the inverse of `gather`."""
        local = len(value) // self.size
        return value[self.rank * local : (self.rank + 1) * local]

    def rank_indices(self, n_items: int) -> range:
        """Indices in range(n_items) assigned to this rank."""
        return range(self.rank, n_items, self.size)

    def gather_objects(self, parts: list[Any], *, without_timeout: bool = False) -> list[Any]:
        """The ranks' results for their `rank_indices`, in the order of the indices."""
        if self.size == 1:
            return parts
        of_ranks: list[list[Any]] = [[] for _ in range(self.size)]
        dist.all_gather_object(of_ranks, parts, group=group_without_timeout() if without_timeout else None)
        total = sum(len(part) for part in of_ranks)
        return [of_ranks[k % self.size][k // self.size] for k in range(total)]

    def all_gather_object(self, value: Any) -> list[Any]:
        """The value of each rank, in the order of ranks, on all of them."""
        values: list[Any] = [value]
        if self.size > 1:
            values = [None] * self.size
            dist.all_gather_object(values, value)
        return values

    def max(self, *values: float) -> list[float]:
        """The maximum of each value over all ranks."""
        largest = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1:
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return largest.tolist()

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Copy the tensors of rank 0 into those of the other ranks, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def broadcast_objects(self, values: list[Any]) -> list[Any]:
        """The values of rank 0, on every rank."""
        if self.size > 1:
            dist.broadcast_object_list(values)
        return values

    def on_rank_0(self, work: Callable[[], object]) -> None:
        """work() on rank 0, while the other ranks wait for its end, however long that takes."""
        if self.rank == 0:
            work()
        self.gather_objects([], without_timeout=True)

    def rank_0_first(self, make: Callable[[], T | None]) -> T | None:
        """make() on rank 0, then on the other ranks; None on every rank if rank 0 made None."""
        made = make() if self.rank == 0 else None
        (exists,) = self.broadcast_objects([made is not None])
        return make() if exists and self.rank > 0 else made

    def is_lost_rank(self, error: RuntimeError) -> bool:
        """Whether an error says that another rank has ended."""
        return self.size > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error))


class AnyRank:
    """Whether any rank has a request for all of them, such as a signal or a checkpoint that is due.

    Asking makes the ranks wait for one another, so they ask after `seconds` at the latest, and where steps are short
    only after each `steps` steps.
    """

    def __init__(self, processes: Processes, seconds: float = 2.0, steps: int = 16):
        self.processes, self.seconds, self.steps = processes, seconds, steps
        self.count, self.ask_at = 0, 1
        self.since = time.perf_counter()

    def __call__(self, request: bool) -> bool:
        """Call once a step, on every rank.  request: this rank's."""
        if self.processes.size == 1:
            return request
        self.count += 1
        if self.count < self.ask_at:
            return False
        pace = (time.perf_counter() - self.since) / self.count
        requested, pace = self.processes.max(float(request), pace)
        self.ask_at = max(1, min(self.steps, int(self.seconds / pace)))
        self.count, self.since = 0, time.perf_counter()
        return requested > 0
