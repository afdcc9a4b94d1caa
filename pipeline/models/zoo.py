"""Register the zoo with timm.

After `import pipeline.models.zoo`, `timm.create_model("cifar_resnet20", num_classes=100)` works.
"""

import sys
from collections.abc import Callable
from typing import Any

from timm.models import build_model_with_cfg, register_model
from torch import nn

from pipeline.models.families import build
from pipeline.models.names import ZOO


def entrypoint(arch: str) -> Callable[..., nn.Module]:
    """Return the function that timm calls to create a network of the zoo.

    It raises ValueError if pretrained weights are requested without a configuration that says where they are.
    """

    def make(num_classes: int = 100, in_chans: int = 3, img_size: int | tuple[int, int] = 32) -> nn.Module:
        size = (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
        network = build(arch, num_classes=num_classes, in_chans=in_chans, image_size=size)
        network.num_classes = num_classes  # pyright: ignore[reportArgumentType]: timm reads it
        return network

    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained and not options.get("pretrained_cfg"):  # timm sets it for weights in a local folder or file
            raise ValueError(f"{arch} has no pretrained weights")
        return build_model_with_cfg(make, arch, pretrained, kwargs_filter=("global_pool",), **options)

    create.__name__ = create.__qualname__ = arch
    create.__module__ = __name__
    return create


__all__: list[str] = []  # `register_model` appends every name
for name in ZOO:
    setattr(sys.modules[__name__], name, register_model(entrypoint(name)))
