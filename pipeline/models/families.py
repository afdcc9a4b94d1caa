"""The zoo's families of networks for small images. Imports no timm, whose import costs seconds.

Every builder takes num_classes and in_chans and works for any image that its poolings leave something of.
"""

from torch import nn


def plain(layers: str, *, num_classes: int, in_chans: int) -> nn.Module:
    """A plain network: 3x3 convolution, BatchNorm, ReLU for each number; M: 2x2 max-pooling; G: global
    average pooling; then a linear head.
    """
    modules: list[nn.Module] = []
    width = in_chans
    for token in layers.split():
        if token == "M":
            modules.append(nn.MaxPool2d(2))
        elif token == "G":
            modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        else:
            modules += [
                nn.Conv2d(width, int(token), 3, padding=1, bias=False),
                nn.BatchNorm2d(int(token)),
                nn.ReLU(inplace=True),
            ]
            width = int(token)
    network = nn.Sequential(*modules, nn.Linear(width, num_classes))
    initialise(network)
    return network


def initialise(network: nn.Module) -> None:
    """He's normal initialisation of convolutions by fan-out; BatchNorm at 1 and 0; linear layers as torch has them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
