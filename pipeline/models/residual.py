"""Residual networks for CIFAR: three stages of 3x3 convolutions; each later one halves the image and is wider."""

from torch import Tensor, nn
from torch.nn.functional import relu

from pipeline.models.plain import initialise


def conv3(width_in: int, width: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution with padding 1 and without bias."""
    return nn.Conv2d(width_in, width, 3, stride, 1, bias=False)


class Basic(nn.Module):
    """Basic residual block (He et al. 2016a): two 3x3 convolutions and a shortcut.

    The shortcut is the identity, or a 1x1 convolution with BatchNorm where the shape changes.
    """

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv3(width_in, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv3(width, width), nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in, H, W] -> [B, width, H / stride, W / stride]."""
        h = relu(self.bn1(self.conv1(x)), inplace=True)
        h = self.bn2(self.conv2(h))
        h += self.shortcut(x)  # in place: on a CPU, allocating memory for the sum takes longer than the sum
        return relu(h, inplace=True)


class PreActivated(nn.Module):
    """Pre-activation residual block (He et al. 2016b): BatchNorm and ReLU come before each 3x3 convolution."""

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width_in), conv3(width_in, width, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), conv3(width, width)
        self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False) if width_in != width else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in, H, W] -> [B, width, H / stride, W / stride]."""
        h = relu(self.bn1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(h)
        h = self.conv2(relu(self.bn2(self.conv1(h)), inplace=True))
        h += shortcut
        return h


def stages(block: type[nn.Module], width_in: int, widths: tuple[int, ...], n: int) -> tuple[list[nn.Module], int]:
    """Build n blocks of each width, and return them with the last width. Each stage but the first halves the image."""
    blocks = []
    for k, width in enumerate(widths):
        for j in range(n):
            blocks.append(block(width_in, width, 2 if k and not j else 1))
            width_in = width
    return blocks, width_in


def resnet(depth: int, stem: int, widths: tuple[int, ...], *, num_classes: int, in_chans: int, **_) -> nn.Module:
    """ResNet for CIFAR (He et al. 2016a), where depth = 6 n + 2.

    stem: width of the first convolution.  widths: of the three stages of n blocks. Average pooling and a linear head
    follow.
    """
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
    """Wide ResNet, WRN-depth-k (Zagoruyko and Komodakis 2016), where depth = 6 n + 4: widths 16 k, 32 k and 64 k."""
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
