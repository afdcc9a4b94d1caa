"""Residual networks of the CIFAR papers: three stages of 3x3 convolutions, halving the image and widening."""

from torch import Tensor, nn
from torch.nn.functional import relu

from pipeline.models.plain import initialise


def conv3(width_in: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width, 3, stride, 1, bias=False)


class Basic(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016a); a 1x1 convolution where the shape changes."""

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv3(width_in, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv3(width, width), nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.bn1(self.conv1(x)), inplace=True)
        h = self.bn2(self.conv2(h))
        h += self.shortcut(x)  # in place, as the activations are: fresh memory costs a CPU more than the sum itself
        return relu(h, inplace=True)


class PreActivated(nn.Module):
    """BatchNorm and ReLU before each convolution (He et al. 2016b), as wide networks have them."""

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width_in), conv3(width_in, width, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), conv3(width, width)
        self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False) if width_in != width else None

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.bn1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(h)
        h = self.conv2(relu(self.bn2(self.conv1(h)), inplace=True))
        h += shortcut
        return h


def stages(block: type[nn.Module], width_in: int, widths: tuple[int, ...], n: int) -> tuple[list[nn.Module], int]:
    """n blocks of each width; every stage but the first halves the image."""
    blocks = []
    for k, width in enumerate(widths):
        for j in range(n):
            blocks.append(block(width_in, width, 2 if k and not j else 1))
            width_in = width
    return blocks, width_in


def resnet(depth: int, stem: int, widths: tuple[int, ...], *, num_classes: int, in_chans: int, **_) -> nn.Module:
    """ResNet-depth, depth = 6 n + 2: stem, n blocks of each width, average pooling, linear head."""
    blocks, width = stages(Basic, stem, widths, (depth - 2) // 6)
    return initialise(
        nn.Sequential(
            nn.Sequential(conv3(in_chans, stem), nn.BatchNorm2d(stem), nn.ReLU(inplace=True)),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )
    )


def wrn(depth: int, k: int, *, num_classes: int, in_chans: int, **_) -> nn.Module:
    """WRN-depth-k (Zagoruyko and Komodakis 2016), depth = 6 n + 4: widths 16 k, 32 k, 64 k."""
    blocks, width = stages(PreActivated, 16, (16 * k, 32 * k, 64 * k), (depth - 4) // 6)
    return initialise(
        nn.Sequential(
            conv3(in_chans, 16),
            *blocks,
            nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )
    )
