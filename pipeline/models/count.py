"""The cost of a network: parameters, multiply-adds (MACs) and inference latency."""

import statistics
import time

import torch
from torch import Tensor, nn


def parameters(network: nn.Module) -> int:
    """Number of trainable values. BatchNorm's running statistics are buffers and do not count."""
    return sum(p.numel() for p in network.parameters())


def macs(network: nn.Module, in_chans: int, image_size: tuple[int, int]) -> int:
    """Multiply-adds of the convolutions and linear layers for one image, as the literature counts them.

    image_size: height and width in pixels.  Biases, normalisation, activations, pooling and the matrix products of
    attention are not counted. The training mode of every module is restored.
    """
    total = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, Tensor)
        if isinstance(module, nn.Linear):
            total += out.numel() * weight.shape[1]
        else:  # weight: [C_out, C_in / groups, *kernel], one product per weight and output position
            total += out.numel() * weight[0].numel()

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, kinds)]
    modes = [(m, m.training) for m in network.modules()]
    like = next(network.parameters())
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, in_chans, *image_size, device=like.device, dtype=like.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    return total


def latency(network: nn.Module, in_chans: int, image_size: tuple[int, int], batch: int, repeats: int = 15) -> float:
    """Median time of a forward pass in milliseconds, in evaluation mode.

    image_size: height and width in pixels.  batch: images per forward pass.  repeats: timed forward passes, after two
    warm-up passes. PyTorch's current number of threads is used, and the training mode of every module is restored.
    """
    like = next(network.parameters())
    x = torch.zeros(batch, in_chans, *image_size, device=like.device, dtype=like.dtype)
    modes = [(m, m.training) for m in network.modules()]
    seconds = []
    try:
        network.eval()
        with torch.inference_mode():
            for _ in range(repeats + 2):
                begun = time.perf_counter()
                network(x)
                if x.is_cuda:
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - begun)
    finally:
        for module, training in modes:
            module.training = training
    return 1000 * statistics.median(seconds[2:])  # the first two passes are warm-up
