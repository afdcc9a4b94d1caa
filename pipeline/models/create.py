"""The one door to any network: the zoo's without timm, every other through timm.create_model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ParamsError
from pipeline.models.families import build
from pipeline.models.names import ZOO, known, nearest

WRAPPERS = ("state_dict", "model", "module", "model_state_dict")  # where files keep their weights


def create(
    arch: str,
    *,
    num_classes: int,
    in_chans: int,
    image_size: tuple[int, int],
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
) -> nn.Module:
    """A network by name, its initial weights drawn from torch's generator.

    arch: a name of the zoo or of timm.  image_size: height and width, for networks that must know it.
    pretrained: timm's own weights (downloaded by timm); their head is kept only if it has num_classes.
    checkpoint: a file of weights (safetensors, or torch read with weights_only), all of which must fit.
    Raises ParamsError: an unknown name, an image the network cannot take, weights that do not fit.
    """
    if arch in ZOO:
        if pretrained:
            raise ParamsError(f"{arch} has no pretrained weights; give a checkpoint")
        network = build(arch, num_classes=num_classes, in_chans=in_chans, image_size=image_size)
    else:
        network = create_timm(arch, num_classes, in_chans, image_size, pretrained)
    if checkpoint is not None:
        load_checkpoint(network, Path(checkpoint), arch)
    return network


def create_timm(arch: str, num_classes: int, in_chans: int, image_size: tuple[int, int], pretrained: bool) -> nn.Module:
    """A network of timm's; one that has a fixed image size is told it."""
    if not known(arch):
        near = nearest(arch)
        raise ParamsError(f"unknown network {arch!r}" + (f"; nearest: {', '.join(near)}" if near else ""))
    import timm

    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans}
    what = f"{arch} cannot be made for images of {image_size[1]}x{image_size[0]}x{in_chans}"
    try:
        try:
            network = timm.create_model(arch, img_size=image_size, **options)
            options["img_size"] = image_size
        except TypeError as error:  # a convolutional network, which takes any image
            if "img_size" not in str(error):
                raise
            network = timm.create_model(arch, **options)
        answer = tried(network, in_chans, image_size)
    except Exception as error:  # timm asserts, raises and divides by zero
        raise ParamsError(f"{what}: {first_line(error)}") from None
    if answer.shape != (1, num_classes):
        raise ParamsError(f"{what}: it answers {tuple(answer.shape)}, not logits of {num_classes} classes")
    if not pretrained:
        return network
    try:
        return timm.create_model(arch, pretrained=True, **options)
    except Exception as error:  # the hub's and the file's, of many kinds
        raise ParamsError(f"{arch}: its pretrained weights cannot be loaded: {first_line(error)}") from None


def tried(network: nn.Module, in_chans: int, image_size: tuple[int, int]) -> Tensor:
    """The answer to an image of zeros: some networks fail only there at a size that they cannot take."""
    network.eval()
    with torch.no_grad():
        answer = network(torch.zeros(1, in_chans, *image_size))
    network.train()
    return answer


def new_head(arch: str, num_classes: int) -> str | None:
    """What must be said of a pretrained network whose head has other classes than the data. None: the head fits.

    timm drops such a head in silence.
    """
    import timm

    cfg = timm.get_pretrained_cfg(arch)
    if cfg is None or cfg.num_classes == num_classes:
        return None
    return f"{arch}: the pretrained head has {cfg.num_classes} classes, the data have {num_classes}"


def first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def load_checkpoint(network: nn.Module, file: Path, arch: str) -> None:
    """Load weights that must fit in every name and shape; nothing is left at random in silence."""
    given, wanted = read_weights(file), network.state_dict()
    for name, value in wanted.items():
        if name in given and given[name].shape != value.shape:
            raise ParamsError(
                f"{file}: {name} has shape {tuple(given[name].shape)}, but {arch} here needs {tuple(value.shape)}"
            )
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    if missing or unexpected:
        raise ParamsError(
            f"{file} does not hold {arch}: {len(missing)} tensors are missing ({', '.join(missing[:3]) or '-'}), "
            f"{len(unexpected)} are unexpected ({', '.join(unexpected[:3]) or '-'})"
        )
    network.load_state_dict(given)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file, out of its wrappers and without DDP's prefix."""
    if not file.is_file():
        raise ParamsError(f"there is no checkpoint {file}")
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
        raise ParamsError(f"{file} holds no mapping of tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}
