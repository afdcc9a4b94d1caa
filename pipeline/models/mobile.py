"""MobileNetV2 and ShuffleNet for small images, in the variants that the distillation literature uses."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from pipeline.models.plain import initialise


def conv_bn(width_in: int, width: int, size: int, stride: int = 1, groups: int = 1, *, act: bool = True):
    """Convolution with "same" padding, BatchNorm and, if `act`, ReLU.  size: side of the square kernel, odd."""
    conv = nn.Conv2d(width_in, width, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), *([nn.ReLU(inplace=True)] if act else []))


class Inverted(nn.Module):
    """Inverted residual block of MobileNetV2: 1x1 expansion, 3x3 depthwise convolution, 1x1 linear projection.

    expand: the expansion factor. The shortcut exists only where stride and width leave the shape unchanged.
    """

    def __init__(self, width_in: int, width: int, stride: int, expand: int):
        super().__init__()
        wide = width_in * expand
        self.body = nn.Sequential(
            nn.Sequential(nn.Conv2d(width_in, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)),
            nn.Sequential(
                nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(inplace=True),
            ),
            conv_bn(wide, width, 1, act=False),
        )
        self.is_residual = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in, H, W] -> [B, width, H / stride, W / stride]."""
        return x + self.body(x) if self.is_residual else self.body(x)


# expansion factor, width, number of blocks, stride of the first block
INVERTED = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenetv2(factor: float, *, num_classes: int, in_chans: int, **_) -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018).

    factor: multiplier of all widths except that of the last 1x1 convolution, 1280. Deviation for 32x32 images: the
    second stage has stride 1 instead of 2.
    """
    width = int(32 * factor)
    blocks: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(in_chans, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    ]
    for expand, out, n, stride in INVERTED:
        for j in range(n):
            blocks.append(Inverted(width, int(out * factor), stride if j == 0 else 1, expand))
            width = int(out * factor)
    head = nn.Sequential(nn.Conv2d(width, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU(inplace=True))
    return initialise(nn.Sequential(*blocks, head, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, num_classes)))


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` groups, so that each group of the next convolution sees all of them.

    x: [B, C, H, W], where `groups` divides C.  Returns the same shape.
    """
    b, c, h, w = x.shape
    return x.reshape(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class ShuffleUnit(nn.Module):
    """ShuffleNet unit: grouped 1x1 convolution, channel shuffle, 3x3 depthwise convolution, grouped 1x1 convolution.

    A unit of stride 1 adds its input. A unit of stride 2 halves the image and concatenates its average-pooled input.
    """

    def __init__(self, width_in: int, width: int, stride: int, groups: int):
        super().__init__()
        self.first = 1 if width_in == 24 else groups  # after the stem of 24 channels, which the paper does not group
        self.is_halving = stride == 2
        out = width - width_in if self.is_halving else width
        mid = out // 4
        self.narrow = conv_bn(width_in, mid, 1, groups=self.first)
        self.depthwise = conv_bn(mid, mid, 3, stride, groups=mid)
        self.widen = conv_bn(mid, out, 1, groups=groups, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in, H, W] -> [B, width, H / stride, W / stride]."""
        h = self.widen(self.depthwise(shuffle(self.narrow(x), self.first)))
        if self.is_halving:
            return relu(torch.cat([h, nn.functional.avg_pool2d(x, 3, 2, 1)], 1), inplace=True)
        h += x
        return relu(h, inplace=True)


def shufflenetv1(groups: int, widths: tuple[int, ...], *, num_classes: int, in_chans: int, **_) -> nn.Module:
    """ShuffleNet (Zhang et al. 2018).

    groups: of the 1x1 convolutions.  widths: of the three stages. Deviation for small images: the stem is a 1x1
    convolution of stride 1 without pooling.
    """
    blocks: list[nn.Module] = [conv_bn(in_chans, 24, 1)]
    width_in = 24
    for width, n in zip(widths, (4, 8, 4)):
        for j in range(n):
            blocks.append(ShuffleUnit(width_in, width, 1 if j else 2, groups))
            width_in = width
    return initialise(nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width_in, num_classes)))


class SplitUnit(nn.Module):
    """ShuffleNetV2 unit.

    With stride 1, half of the channels pass unchanged and the other half are transformed. With stride 2, two branches
    transform all channels and halve the image. The halves are concatenated and shuffled.
    """

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.is_halving = stride == 2
        half = width // 2
        branch_in = width_in if self.is_halving else half
        self.right = nn.Sequential(
            conv_bn(branch_in, half, 1), conv_bn(half, half, 3, stride, half, act=False), conv_bn(half, half, 1)
        )
        if self.is_halving:
            self.left = nn.Sequential(
                conv_bn(width_in, width_in, 3, stride, width_in, act=False), conv_bn(width_in, half, 1)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in, H, W] -> [B, width, H / stride, W / stride]."""
        if self.is_halving:
            return shuffle(torch.cat([self.left(x), self.right(x)], 1), 2)
        left, right = x.chunk(2, dim=1)
        return shuffle(torch.cat([left, self.right(right)], 1), 2)


def shufflenetv2(widths: tuple[int, ...], last: int, *, num_classes: int, in_chans: int, **_) -> nn.Module:
    """ShuffleNetV2 (Ma et al. 2018).

    widths: of the three stages.  last: width of the last 1x1 convolution. Deviation for small images: the stem is a 1x1
    convolution of stride 1 without pooling.
    """
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
