"""Builders of the zoo's families of networks, under the names that `pipeline.models.names.ZOO` uses.

This module does not import timm, because that takes seconds.
"""

from torch import nn

from pipeline.models.mobile import mobilenetv2, shufflenetv1, shufflenetv2
from pipeline.models.names import ZOO
from pipeline.models.plain import plain, vgg
from pipeline.models.residual import resnet, wrn

FAMILIES = {
    "plain": plain,
    "vgg": vgg,
    "resnet": resnet,
    "wrn": wrn,
    "mobilenetv2": mobilenetv2,
    "shufflenetv1": shufflenetv1,
    "shufflenetv2": shufflenetv2,
}


def build(arch: str, *, num_classes: int, in_chans: int, image_size: tuple[int, int]) -> nn.Module:
    """Build a network of the zoo. Its initial weights are drawn from PyTorch's default generator.

    arch: a key of `ZOO`.  image_size: height and width in pixels.
    """
    family, arguments = ZOO[arch]
    return FAMILIES[family](*arguments, num_classes=num_classes, in_chans=in_chans, image_size=image_size)
