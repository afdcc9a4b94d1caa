"""Networks for phones in their form for small images, as the distillation literature has them."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from pipeline.models.plain import initialise


def conv_bn(width_in: int, width: int, size: int, stride: int = 1, groups: int = 1, *, act: bool = True):
    """Convolution, BatchNorm and, unless told otherwise, ReLU."""
    conv = nn.Conv2d(width_in, width, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), *([nn.ReLU(inplace=True)] if act else []))


class Inverted(nn.Module):
    """MobileNetV2's block: widen by 1x1, filter by depth, narrow by 1x1 without activation."""

    def __init__(self, width_in: int, width: int, stride: int, expand: int):
        super().__init__()
        wide = width_in * expand
        self.body = nn.Sequential(
            nn.Sequential(nn.Conv2d(width_in, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True)),
            nn.Sequential(
                nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU6(inplace=True),
            ),
            conv_bn(wide, width, 1, act=False),
        )
        self.is_residual = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.is_residual else self.body(x)


INVERTED = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenetv2(factor: float, *, num_classes: int, in_chans: int, **_) -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018) of a width factor; its second stage keeps the size of a 32x32 image."""
    width = int(32 * factor)
    blocks: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(in_chans, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6(inplace=True))
    ]
    for expand, out, n, stride in INVERTED:
        for j in range(n):
            blocks.append(Inverted(width, int(out * factor), stride if j == 0 else 1, expand))
            width = int(out * factor)
    head = nn.Sequential(nn.Conv2d(width, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6(inplace=True))
    return initialise(nn.Sequential(*blocks, head, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, num_classes)))


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of groups, so that the next grouped convolution sees all of them."""
    b, d, h, w = x.shape
    return x.reshape(b, groups, d // groups, h, w).transpose(1, 2).reshape(b, d, h, w)


class ShuffleUnit(nn.Module):
    """ShuffleNet's unit: grouped 1x1, shuffle, 3x3 by depth, grouped 1x1; a halving unit joins its pooled input."""

    def __init__(self, width_in: int, width: int, stride: int, groups: int):
        super().__init__()
        self.first = 1 if width_in == 24 else groups  # the stem is too narrow to be grouped
        self.is_halving = stride == 2
        out = width - width_in if self.is_halving else width
        mid = out // 4
        self.narrow = conv_bn(width_in, mid, 1, groups=self.first)
        self.depthwise = conv_bn(mid, mid, 3, stride, groups=mid)
        self.widen = conv_bn(mid, out, 1, groups=groups, act=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.widen(self.depthwise(shuffle(self.narrow(x), self.first)))
        if self.is_halving:
            return relu(torch.cat([h, nn.functional.avg_pool2d(x, 3, 2, 1)], 1), inplace=True)
        h += x
        return relu(h, inplace=True)


def shufflenetv1(groups: int, widths: tuple[int, ...], *, num_classes: int, in_chans: int, **_) -> nn.Module:
    """ShuffleNet (Zhang et al. 2018) with a 1x1 stem."""
    blocks: list[nn.Module] = [conv_bn(in_chans, 24, 1)]
    width_in = 24
    for width, n in zip(widths, (4, 8, 4)):
        for j in range(n):
            blocks.append(ShuffleUnit(width_in, width, 1 if j else 2, groups))
            width_in = width
    return initialise(nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width_in, num_classes)))


class SplitUnit(nn.Module):
    """ShuffleNetV2's unit: half of the channels pass, half are transformed; a halving unit transforms both."""

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.is_halving = stride == 2
        half = width // 2
        enters = width_in if self.is_halving else half
        self.right = nn.Sequential(
            conv_bn(enters, half, 1), conv_bn(half, half, 3, stride, half, act=False), conv_bn(half, half, 1)
        )
        if self.is_halving:
            self.left = nn.Sequential(
                conv_bn(width_in, width_in, 3, stride, width_in, act=False), conv_bn(width_in, half, 1)
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.is_halving:
            return shuffle(torch.cat([self.left(x), self.right(x)], 1), 2)
        left, right = x.chunk(2, dim=1)
        return shuffle(torch.cat([left, self.right(right)], 1), 2)


def shufflenetv2(widths: tuple[int, ...], last: int, *, num_classes: int, in_chans: int, **_) -> nn.Module:
    """ShuffleNetV2 (Ma et al. 2018) with a 1x1 stem."""
    blocks: list[nn.Module] = [conv_bn(in_chans, 24, 1)]
    width_in = 24
    for width, n in zip(widths, (4, 8, 4)):
        for j in range(n):
            blocks.append(SplitUnit(width_in, width, 1 if j else 2))
            width_in = width
    return initialise(
        nn.Sequential(
            *blocks, conv_bn(width_in, last, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, num_classes)
        )
    )
