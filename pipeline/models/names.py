"""The names of all available networks, and the layers of those in the zoo.

This module imports neither torch nor timm, so that `stages.check` starts without delay.
"""

import re
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TINY = {  # for the 8x8 images of digits; the name is tiny_plain<convolutions>_<last width>
    "tiny_plain4_32": "16 16 M 32 32 G",
    "tiny_plain2_32": "16 M 32 G",
    "tiny_plain2_16": "8 M 16 G",
    "tiny_plain2_12": "6 M 12 G",
}
PLAIN = {  # the plain networks that TAKD and DGKD train on CIFAR-100
    2: "32 M 32 M",
    4: "32 32 M 64 64 M",
    6: "32 32 M 64 64 M 128 128",
    8: "32 32 M 64 64 M 128 128 M 256 256 M F64",
    10: "32 32 M 64 64 M 128 128 M 256 256 256 256 M F512",
}
VGG = {
    8: "64 M 128 M 256 M 512 512 G",
    13: "64 64 M 128 128 M 256 256 M 512 512 512 512 G",
}
MLP = {  # networks without convolutions, for rows of features; the name is mlp_<widths of the hidden layers>
    "mlp_32": "F32",
    "mlp_64": "F64",
    "mlp_64_64": "F64 F64",
    "mlp_256_256": "F256 F256",
}

# name -> (family, its arguments), which `pipeline.models.families.build` reads
ZOO: dict[str, tuple[str, tuple[Any, ...]]] = {
    **{name: ("plain", (layers, False)) for name, layers in TINY.items()},
    **{name: ("plain", (layers, True)) for name, layers in MLP.items()},
    **{f"cifar_plain{depth}": ("plain", (layers, True)) for depth, layers in PLAIN.items()},
    **{f"cifar_vgg{depth}": ("vgg", (layers,)) for depth, layers in VGG.items()},
    **{f"cifar_resnet{depth}": ("resnet", (depth, 16, (16, 32, 64))) for depth in (8, 14, 20, 26, 32, 44, 56, 110)},
    **{f"cifar_resnet{depth}x4": ("resnet", (depth, 32, (64, 128, 256))) for depth in (8, 32)},
    **{f"cifar_wrn_{depth}_{k}": ("wrn", (depth, k)) for depth in (16, 40) for k in (1, 2)},
    "cifar_mobilenetv2": ("mobilenetv2", (0.5,)),
    "cifar_shufflenetv1": ("shufflenetv1", (3, (240, 480, 960))),
    "cifar_shufflenetv2": ("shufflenetv2", ((116, 232, 464), 1024)),
}


def known(arch: str) -> bool:
    """Whether a network can be created by this name. timm's names may carry a tag, as in `resnet18.a1_in1k`."""
    return arch in ZOO or arch.split(".")[0] in timm_names()


def nearest(arch: str, n: int = 3) -> list[str]:
    """The `n` known names most similar to `arch`, best first, for messages about an unknown one."""
    return get_close_matches(arch, [*ZOO, *timm_names()], n=n, cutoff=0.5)


@cache
def timm_names() -> frozenset[str]:
    """The names that timm registers, parsed from its source files because importing it takes seconds."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    sources = (Path(spec.origin).parent / "models").glob("*.py")
    return frozenset(
        name for file in sources for name in re.findall(r"@register_model\s+def (\w+)\(", file.read_text("utf-8"))
    )
