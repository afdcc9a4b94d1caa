"""The zoo in timm's registry: import this once, then timm.create_model("cifar_resnet20", num_classes=100) works."""

import sys
from collections.abc import Callable
from typing import Any

from timm.models import register_model
from torch import nn

from pipeline.models.families import build
from pipeline.models.names import ZOO


def entrypoint(arch: str) -> Callable[..., nn.Module]:
    """The function that timm calls for a network of the zoo."""

    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise ValueError(f"{arch} has no pretrained weights")
        size = options.get("img_size", 32)
        return build(
            arch,
            num_classes=options.get("num_classes", 100),
            in_chans=options.get("in_chans", 3),
            image_size=(size, size) if isinstance(size, int) else tuple(size),
        )

    create.__name__ = create.__qualname__ = arch
    create.__module__ = __name__
    return create


__all__: list[str] = []  # register_model adds every name to it
for name in ZOO:
    setattr(sys.modules[__name__], name, register_model(entrypoint(name)))
