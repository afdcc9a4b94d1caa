"""Networks without shortcuts: one convolution after the other."""

from torch import nn


def plain(
    layers: str, has_bias: bool, *, num_classes: int, in_chans: int, image_size: tuple[int, int], **_
) -> nn.Module:
    """A plain network by its layers, then a linear head.

    A number: 3x3 convolution of that width, BatchNorm, ReLU.  M: 2x2 max-pooling.  G: global average pooling.
    Fn: the image as one vector, a hidden linear layer of n, ReLU.  has_bias: of the convolutions.
    """
    modules: list[nn.Module] = []
    width, (height, breadth), is_flat = in_chans, image_size, False

    def flatten() -> None:
        nonlocal width, is_flat
        modules.append(nn.Flatten())
        width, is_flat = width * height * breadth, True

    for token in layers.split():
        if token == "M":
            modules.append(nn.MaxPool2d(2))
            height, breadth = height // 2, breadth // 2
        elif token == "G":
            modules.append(nn.AdaptiveAvgPool2d(1))
            height = breadth = 1
        elif token.startswith("F"):
            if not is_flat:
                flatten()
            modules += [nn.Linear(width, int(token[1:])), nn.ReLU(inplace=True)]
            width = int(token[1:])
        else:
            conv = nn.Conv2d(width, int(token), 3, padding=1, bias=has_bias)
            modules += [conv, nn.BatchNorm2d(int(token)), nn.ReLU(inplace=True)]
            width = int(token)
    if not is_flat:
        flatten()
    return initialise(nn.Sequential(*modules, nn.Linear(width, num_classes)))


def vgg(layers: str, *, num_classes: int, in_chans: int, image_size: tuple[int, int], **_) -> nn.Module:
    """VGG (Simonyan and Zisserman 2015) with BatchNorm and one linear layer, for images of 32x32."""
    return plain(layers, True, num_classes=num_classes, in_chans=in_chans, image_size=image_size)


def initialise(network: nn.Module) -> nn.Module:
    """He's normal initialisation of convolutions by fan-out; BatchNorm at 1 and 0; linear layers as torch has them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    return network
