"""Passes of small networks as CUDA graphs, because launches bound them: a pass is one launch instead of a hundred.

A graph replays the kernels that the network has launched for one batch, so results are the same bits. It reads and
writes the memory that it was captured with: weights and buffers stay where they are, and images are copied in.
"""

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pipeline.core.interface import Network
from pipeline.models.names import ZOO

WARM_UP = 3  # passes before a capture, in which libraries choose their kernels and allocate


def can_be_captured(network: Network, accelerator: Accelerator, *, alone: bool) -> bool:
    """Whether the passes of a network may be captured: a zoo's network, on a GPU, in fp32 or tf32.

    timm's networks may draw or decide in their forward, and graphs do not hold what several processes exchange.
    alone: this process trains without the others.
    """
    on_gpu = accelerator.device.type == "cuda"
    shared = network.learns and not (network.independent or alone) and accelerator.num_processes > 1
    return on_gpu and not shared and accelerator.mixed_precision == "no" and network.arch in ZOO


class Whole(nn.Module):
    """A network as a module of its own, whose forward is replaced by the graphs; the network keeps its own."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C]."""
        return self.network(x)


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


def capture_training(network: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Forward and backward of a network in training mode, for batches like x.  x: [B, C_in, H, W].

    BatchNorm's statistics are left as they were.
    """
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream")  # it is that of the capture, as intended
    before = [buffer.clone() for buffer in network.buffers()]
    with without_collection():
        graphed: Any = torch.cuda.make_graphed_callables(
            Whole(network), (torch.zeros_like(x),), num_warmup_iters=WARM_UP
        )
    for buffer, value in zip(network.buffers(), before):
        buffer.copy_(value)
    return lambda x: graphed(x).clone()  # the graph's own logits are overwritten by the next batch


def capture_pixels(network: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Forward of a frozen network in evaluation mode, and backward to the images, for batches like x.

    x: [B, C_in, H, W].
    """
    sample = torch.zeros_like(x, requires_grad=True)
    with without_collection():
        graphed: Any = torch.cuda.make_graphed_callables(Whole(network), (sample,), num_warmup_iters=WARM_UP)
    return lambda x: graphed(x).clone()


class CapturedForward:
    """The forward of a network without gradients, for batches like x.

    network: in evaluation mode.  x: [B, C_in, H, W].
    """

    def __init__(self, network: Callable[[Tensor], Tensor], x: Tensor):
        self.x, self.graph = torch.zeros_like(x), torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                network(self.x)
        torch.cuda.current_stream().wait_stream(stream)
        with without_collection(), torch.cuda.graph(self.graph):
            self.z = network(self.x)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, C] of images [B, C_in, H, W]."""
        self.x.copy_(x)
        self.graph.replay()
        return self.z.clone()
