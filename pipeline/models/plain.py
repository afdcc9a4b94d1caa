"""Plain networks without shortcuts, the VGG family, and the initialisation that the whole zoo shares."""

from torch import nn


def plain(
    layers: str, has_bias: bool, *, num_classes: int, in_chans: int, image_size: tuple[int, int], **_
) -> nn.Module:
    """Build a plain network from a list of layers, followed by a linear head.

    layers: tokens separated by spaces. A number n is a 3x3 convolution of width n with BatchNorm and ReLU; M is 2x2
    max-pooling; G is global average pooling; Fn flattens the image and adds a hidden linear layer of width n with ReLU.
    has_bias: whether the convolutions have a bias.  image_size: height and width in pixels.
    Raises ValueError if the images are too small for the layers.
    """
    modules: list[nn.Module] = []
    channels, (height, width), is_flat = in_chans, image_size, False

    def flatten() -> None:
        nonlocal channels, is_flat
        modules.append(nn.Flatten())
        channels, is_flat = channels * height * width, True

    for token in layers.split():
        if token == "M":
            if min(height, width) < 2:
                raise ValueError(f"after {len(modules)} layers {width}x{height} pixels are left, too few for pooling")
            modules.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        elif token == "G":
            modules.append(nn.AdaptiveAvgPool2d(1))
            height = width = 1
        elif token.startswith("F"):
            if not is_flat:
                flatten()
            modules += [nn.Linear(channels, int(token[1:])), nn.ReLU(inplace=True)]
            channels = int(token[1:])
        else:
            conv = nn.Conv2d(channels, int(token), 3, padding=1, bias=has_bias)
            modules += [conv, nn.BatchNorm2d(int(token)), nn.ReLU(inplace=True)]
            channels = int(token)
    if not is_flat:
        flatten()
    return initialise(nn.Sequential(*modules, nn.Linear(channels, num_classes)))


def vgg(layers: str, *, num_classes: int, in_chans: int, image_size: tuple[int, int], **_) -> nn.Module:
    """VGG (Simonyan and Zisserman 2015) for 32x32 images.  layers: as in `plain`.

    Deviations: BatchNorm after each convolution, and a single linear layer as the head.
    """
    return plain(layers, True, num_classes=num_classes, in_chans=in_chans, image_size=image_size)


def initialise(network: nn.Module) -> nn.Module:
    """Initialise a network in place and return it.

    Convolutions: He's normal initialisation by fan-out (He et al. 2015), biases 0. BatchNorm: weight 1, bias 0. Linear
    layers keep PyTorch's default.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    return network
