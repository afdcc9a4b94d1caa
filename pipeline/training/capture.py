"""Passes of small networks as CUDA graphs, because launches bound them: a pass is one launch instead of a hundred.

A graph replays the kernels that the network has launched for one batch, so results are the same bits. It reads and
writes the memory that it was captured with: weights and buffers stay where they are, and images are copied in.
"""

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pipeline.core.interface import Network
from pipeline.models.names import ZOO

WARM_UP = 3  # passes before a capture, in which libraries choose their kernels and allocate


def can_be_captured(network: Network, accelerator: Accelerator, *, alone: bool) -> bool:
    """Whether the passes of a network may be captured: a zoo's network, on a GPU.

    timm's networks may draw or decide in their forward, and graphs do not hold what several processes exchange.
    alone: this process trains without the others.
    """
    on_gpu = accelerator.device.type == "cuda"
    shared = network.learns and not (network.independent or alone) and accelerator.num_processes > 1
    return on_gpu and not shared and network.arch in ZOO


def autocast(precision: str) -> AbstractContextManager[Any]:
    """Autocast within a graph, which casts the weights in every batch: casts that are kept would become stale.

    A learner's forward also enters Accelerate's autocast, which keeps casts until the outermost one ends. In a capture
    this one is the outermost, and it ends with every pass; within another, only weights that are frozen are captured.

    precision: "no" or "bf16", as Accelerate names it.
    """
    return nullcontext() if precision == "no" else torch.autocast("cuda", torch.bfloat16, cache_enabled=False)


class Whole(nn.Module):
    """A network as a module of its own, whose forward is replaced by the graphs; the network keeps its own.

    precision: of `autocast`.
    """

    def __init__(self, network: nn.Module, precision: str):
        super().__init__()
        self.network, self.precision = network, precision

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C]; not in bf16."""
        with autocast(self.precision):
            z = self.network(x)
        return z.float() if z.dtype == torch.bfloat16 else z


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage collection within the context: before PyTorch 2.15, freeing an old graph invalidates a capture."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def capture_training(network: nn.Module, x: Tensor, precision: str) -> Callable[[Tensor], Tensor]:
    """Forward and backward of a network in training mode, for batches like x.

    x: [B, C_in, H, W].  precision: of `autocast`.  BatchNorm's statistics are left as they were.
    """
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream")  # it is that of the capture, as intended
    before = [buffer.clone() for buffer in network.buffers()]
    with without_collection():
        graphed: Any = torch.cuda.make_graphed_callables(
            Whole(network, precision), (torch.zeros_like(x),), num_warmup_iters=WARM_UP
        )
    for buffer, value in zip(network.buffers(), before):
        buffer.copy_(value)
    return lambda x: graphed(x).clone()  # the graph's own logits are overwritten by the next batch


def capture_pixels(network: nn.Module, x: Tensor, precision: str) -> Callable[[Tensor], Tensor]:
    """Forward of a frozen network in evaluation mode, and backward to the images, for batches like x.

    x: [B, C_in, H, W].  precision: of `autocast`.
    """
    sample, whole = torch.zeros_like(x, requires_grad=True), Whole(network, precision)
    with without_collection(), autocast(precision):  # the outer autocast keeps casts, which no graph may use
        graphed: Any = torch.cuda.make_graphed_callables(whole, (sample,), num_warmup_iters=WARM_UP)
    return lambda x: graphed(x).clone()


class CapturedForward:
    """The forward of a network without gradients, for batches like x.

    network: in evaluation mode.  x: [B, C_in, H, W].  precision: of `autocast`.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], x: Tensor, precision: str):
        self.x, self.graph = torch.zeros_like(x), torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), autocast(precision):
            for _ in range(WARM_UP):
                network(self.x)
        torch.cuda.current_stream().wait_stream(stream)
        with without_collection(), torch.cuda.graph(self.graph), autocast(precision):
            self.z = network(self.x)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, C] of images [B, C_in, H, W]."""
        self.x.copy_(x)
        self.graph.replay()
        return self.z.clone()
