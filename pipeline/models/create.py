"""Create any network by name: the zoo's own are built here, all others by `timm.create_model`.

Networks of the zoo do not import timm.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ParamsError, first_line
from pipeline.models.families import build
from pipeline.models.names import ZOO, known, nearest
from pipeline.models.weights import load_weights


def create(
    arch: str,
    *,
    num_classes: int,
    in_chans: int,
    image_size: tuple[int, int],
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    new_head: bool = False,
) -> nn.Module:
    """Create a network in training mode. Its initial weights are drawn from PyTorch's default generator.

    arch: the name of a network in the zoo or in timm.  image_size: height and width in pixels.
    pretrained: load timm's pretrained weights, which timm downloads. Their head is kept only if it has `num_classes`
    outputs.  checkpoint: a file of weights to load (safetensors, or a PyTorch file read with `weights_only`). Names
    and shapes must match, or be those of the field's published networks (pipeline.models.published).
    new_head: a head of the checkpoint for another number of classes is reported and left out.

    Raises ParamsError if the name is unknown, if the network does not support the image size, or if the pretrained
    weights cannot be loaded, and DataError if those in the file cannot.
    """
    if arch in ZOO:
        if pretrained:
            raise ParamsError(f"{arch} has no pretrained weights: set a checkpoint instead")
        network = create_own(arch, num_classes, in_chans, image_size)
    else:
        network = create_timm(arch, num_classes, in_chans, image_size, pretrained)
    if checkpoint is not None:
        note = load_weights(network, Path(checkpoint), arch, new_head=new_head)
        if note is not None:
            print(note)
    return network


def create_own(arch: str, num_classes: int, in_chans: int, image_size: tuple[int, int]) -> nn.Module:
    """Create a network of the zoo. Raises ParamsError if the images are too small for it."""
    try:
        network = build(arch, num_classes=num_classes, in_chans=in_chans, image_size=image_size)
        forward_zeros(network, in_chans, image_size)
    except (RuntimeError, ValueError) as error:
        failed = f"{arch} cannot be created for images of {image_size[1]}x{image_size[0]}x{in_chans}"
        raise ParamsError(f"{failed}: {first_line(error)}") from None
    return network


def create_timm(arch: str, num_classes: int, in_chans: int, image_size: tuple[int, int], pretrained: bool) -> nn.Module:
    """Create a network of timm. An architecture with a fixed input size is built for `image_size`.

    Raises ParamsError as `create` does.
    """
    if not known(arch):
        near = nearest(arch)
        raise ParamsError(f"unknown network {arch!r}" + (f"; nearest: {', '.join(near)}" if near else ""))
    import timm

    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans}
    failed = f"{arch} cannot be created for images of {image_size[1]}x{image_size[0]}x{in_chans}"
    try:
        try:
            network = timm.create_model(arch, img_size=image_size, **options)
            options["img_size"] = image_size
        except TypeError as error:  # a fully convolutional network has no such argument
            if "img_size" not in str(error):
                raise
            network = timm.create_model(arch, **options)
        logits = forward_zeros(network, in_chans, image_size)
    except Exception as error:  # timm raises AssertionError, RuntimeError, ZeroDivisionError and others
        raise ParamsError(f"{failed}: {first_line(error)}") from None
    if logits.shape != (1, num_classes):
        raise ParamsError(f"{failed}: its output has shape {tuple(logits.shape)}, not (1, {num_classes})")
    if not pretrained:
        return network
    try:
        return timm.create_model(arch, pretrained=True, **options)
    except Exception as error:  # the hub and the file formats raise many types
        raise ParamsError(f"{arch}: the pretrained weights cannot be loaded: {first_line(error)}") from None


def forward_zeros(network: nn.Module, in_chans: int, image_size: tuple[int, int]) -> Tensor:
    """Return the output for one image of zeros.

    Some networks can be created for an image size that they do not support and fail only in the forward pass.
    """
    network.eval()
    with torch.no_grad():
        output = network(torch.zeros(1, in_chans, *image_size))
    network.train()
    return output


def new_head(arch: str, num_classes: int) -> str | None:
    """Return a message if the pretrained head does not have `num_classes` outputs, None if it does.

    timm replaces a mismatched head without a warning, so the caller has to report it.
    """
    import timm

    cfg = timm.get_pretrained_cfg(arch)
    if cfg is None or cfg.num_classes == num_classes:
        return None
    return f"{arch}: the pretrained head has {cfg.num_classes} classes, but the data have {num_classes}"
