"""Faster inference for frozen networks: BatchNorm folded into the preceding convolution.

In evaluation mode, BatchNorm is an affine map with fixed coefficients, so the convolution before it can absorb it into
its weight and bias. The folded network computes the same function up to rounding, with fewer passes over memory.
"""

from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse


def fold(network: nn.Module) -> nn.Module:
    """Return a copy of `network` in evaluation mode with its BatchNorms folded into the convolutions before them.

    The copy is in `torch.channels_last` format. The weights of `network` stay as they are; `network` itself is set to
    evaluation mode. Folding needs a forward that `torch.fx` can trace, in which no convolution is called more than once
    (the other call would see the folded weights, too). Otherwise `network` itself is returned.
    """
    try:
        folded: Any = fuse(network.eval()).to(memory_format=torch.channels_last)
    except Exception:  # a forward that cannot be traced may raise an exception of any type
        return network
    calls = [node.target for node in folded.graph.nodes if is_convolution(folded, node)]
    return folded if len(calls) == len(set(calls)) else network


def is_convolution(network: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node of a traced network calls an `nn.Conv2d`."""
    return node.op == "call_module" and isinstance(network.get_submodule(str(node.target)), nn.Conv2d)
