"""Create any network by name: the zoo's own are built here, all others by `timm.create_model`.

Networks of the zoo do not import timm.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ParamsError
from pipeline.models.families import build
from pipeline.models.names import ZOO, known, nearest

WRAPPERS = ("state_dict", "model", "module", "model_state_dict")  # keys under which files store a state dict


def create(
    arch: str,
    *,
    num_classes: int,
    in_chans: int,
    image_size: tuple[int, int],
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
) -> nn.Module:
    """Create a network in training mode. Its initial weights are drawn from PyTorch's default generator.

    arch: the name of a network in the zoo or in timm.  image_size: height and width in pixels.
    pretrained: load timm's pretrained weights, which timm downloads. Their head is kept only if it has `num_classes`
    outputs.  checkpoint: a file of weights to load (safetensors, or a PyTorch file read with `weights_only`). All names
    and shapes must match.

    Raises ParamsError if the name is unknown, if the network does not support the image size, or if the weights cannot
    be loaded.
    """
    if arch in ZOO:
        if pretrained:
            raise ParamsError(f"{arch} has no pretrained weights: set a checkpoint instead")
        network = build(arch, num_classes=num_classes, in_chans=in_chans, image_size=image_size)
    else:
        network = create_timm(arch, num_classes, in_chans, image_size, pretrained)
    if checkpoint is not None:
        load_checkpoint(network, Path(checkpoint), arch)
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


def first_line(error: Exception) -> str:
    """The first line of an exception's message, at most 200 characters; its type if it has no message."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def load_checkpoint(network: nn.Module, file: Path, arch: str) -> None:
    """Load the weights in `file` into `network`.

    Every name and every shape must match, so that no weight silently keeps its random initial value. Otherwise
    ParamsError is raised.
    """
    loaded, expected = read_weights(file), network.state_dict()
    for name, value in expected.items():
        if name in loaded and loaded[name].shape != value.shape:
            raise ParamsError(
                f"{file}: {name} has shape {tuple(loaded[name].shape)}, but {arch} needs {tuple(value.shape)}"
            )
    missing = [name for name in expected if name not in loaded]
    unexpected = [name for name in loaded if name not in expected]
    if missing or unexpected:
        raise ParamsError(
            f"{file} does not hold the weights of {arch}: "
            f"{len(missing)} tensors are missing ({', '.join(missing[:3]) or '-'}), "
            f"{len(unexpected)} are unexpected ({', '.join(unexpected[:3]) or '-'})"
        )
    network.load_state_dict(loaded)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read the state dict in a safetensors or PyTorch file.

    A state dict nested under one of `WRAPPERS` is unwrapped, and DDP's prefix `module.` is removed from the names.
    PyTorch files are read with `weights_only`, so they cannot execute code. Raises ParamsError if the file is missing,
    unreadable or holds anything but tensors.
    """
    if not file.is_file():
        raise ParamsError(f"checkpoint {file} does not exist")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ParamsError(f"{file} cannot be read as weights: {first_line(error)}") from None
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ParamsError(f"{file} does not hold a state dict: expected a mapping from names to tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}
