"""Passes of small networks as CUDA graphs, because launches bound them: a pass is one launch instead of a hundred.

A graph replays the kernels that the network has launched for one batch, so results are the same bits. It reads and
writes the memory that it was captured with: weights and buffers stay where they are, and images are copied in.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pipeline.models.zoo import ZOO

WARM_UP = 3  # passes before a capture, in which libraries choose their kernels and allocate


def can_be_captured(arch: str, accelerator: Accelerator, *, alone: bool) -> bool:
    """Whether the passes of a network may be captured: a zoo's network, on a GPU, in one precision.

    timm's networks may draw or decide in their forward, and are large enough to fill a GPU.
    alone: this process trains the network without the others.
    """
    on_gpu = accelerator.device.type == "cuda"
    return on_gpu and alone and accelerator.mixed_precision == "no" and arch in ZOO


class Whole(nn.Module):
    """A network as a module of its own, whose forward is replaced by the graphs; the network keeps its own."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C]."""
        return self.network(x)


def capture_training(network: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Forward and backward of a network in training mode, for batches like x.  x: [B, C_in, H, W].

    The logits stay valid until the next call. BatchNorm's statistics are left as they were.
    """
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream")  # it is that of the capture, as intended
    before = [buffer.clone() for buffer in network.buffers()]
    graphed: Any = torch.cuda.make_graphed_callables(Whole(network), (torch.zeros_like(x),), num_warmup_iters=WARM_UP)
    for buffer, value in zip(network.buffers(), before):
        buffer.copy_(value)
    return graphed


def capture_pixels(network: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Forward of a frozen network in evaluation mode, and backward to the images, for batches like x.

    x: [B, C_in, H, W].  The logits stay valid until the next call.
    """
    sample = torch.zeros_like(x, requires_grad=True)
    graphed: Any = torch.cuda.make_graphed_callables(Whole(network), (sample,), num_warmup_iters=WARM_UP)
    return graphed


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
        with torch.cuda.graph(self.graph):
            self.z = network(self.x)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, C] of images [B, C_in, H, W]."""
        self.x.copy_(x)
        self.graph.replay()
        return self.z.clone()
