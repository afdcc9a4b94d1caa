"""TrivialAugment, RandAugment and random erasing as functions of (seed, epoch, index), by torchvision's own operations.

TrivialAugment (Müller and Hutter 2021), in its "wide" form: one operation for each image, of random strength.
RandAugment (Cubuk et al. 2020): two operations, of strength 9 of 30. Both draw from the same 14 operations, with
torchvision's ranges. Random erasing (Zhong et al. 2020): a rectangle of 2 to 33 % of the image becomes its mean colour.

Deviations: torchvision draws from a generator, here every draw is a function of counters; random erasing draws its
rectangle once and cuts it to the image, where torchvision draws again if it does not fit.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.core.randomness import uniforms

BINS = 31  # strengths
RAND_OPERATIONS, RAND_STRENGTH = 2, 9  # RandAugment's N and M
AREA = (0.02, 0.33)  # of an erased rectangle, as a fraction of the image
RATIO = (0.3, 3.3)  # of its width to its height
OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)


def augment(pixels: Tensor, policy: str, *, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Apply a policy to images.

    pixels: [B, C_in, H, W] uint8, C_in 1 or 3.  policy: "trivial" or "rand".  index: [B] of the images.
    Returns images of the same shape and type.
    """
    rounds = 1 if policy == "trivial" else RAND_OPERATIONS
    for k in range(rounds):
        names = (f"augment/{k}/operation", f"augment/{k}/strength", f"augment/{k}/sign")
        operation, strength, sign = uniforms(seed, names, epoch, index).cpu()
        operations = (operation * len(OPERATIONS)).to(torch.int64).tolist()
        bins = (strength * BINS).to(torch.int64).tolist() if policy == "trivial" else [RAND_STRENGTH] * len(index)
        signs = torch.where(sign < 0.5, -1, 1).tolist()
        alike: dict[tuple[str, int, int], list[int]] = {}
        for row, (chosen, bin_, sign_) in enumerate(zip(operations, bins, signs)):
            alike.setdefault((OPERATIONS[chosen], bin_, sign_), []).append(row)
        changed = pixels.clone()
        for (name, bin_, sign_), rows in alike.items():
            if name != "identity":
                at = torch.tensor(rows, device=pixels.device)
                changed[at] = operate(name, policy, pixels[at], bin_ / (BINS - 1), sign_)
        pixels = changed
    return pixels


def operate(name: str, policy: str, x: Tensor, strength: float, sign: int) -> Tensor:
    """Apply one operation to images [n, C_in, H, W] uint8.  strength: in [0, 1].  sign: of the change, 1 or -1."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as f

    wide = policy == "trivial"
    height, width = x.shape[-2:]
    shear = math.degrees(math.atan(sign * strength * (0.99 if wide else 0.3)))
    reach = 32.0 if wide else 150 / 331
    shift = [round(sign * strength * (reach if wide else reach * side)) for side in (width, height)]
    factor = 1 + sign * strength * (0.99 if wide else 0.9)

    def affine(translate: list[float], shears: list[float]) -> Tensor:
        return f.affine(
            x,
            angle=0.0,
            translate=translate,
            scale=1.0,
            shear=shears,
            interpolation=InterpolationMode.NEAREST,
            center=[0.0, 0.0] if any(shears) else None,
        )

    work: dict[str, Callable[[], Any]] = {
        "shear_x": lambda: affine([0, 0], [shear, 0.0]),
        "shear_y": lambda: affine([0, 0], [0.0, shear]),
        "translate_x": lambda: affine([shift[0], 0], [0.0, 0.0]),
        "translate_y": lambda: affine([0, shift[1]], [0.0, 0.0]),
        "rotate": lambda: f.rotate(x, sign * strength * (135.0 if wide else 30.0)),
        "brightness": lambda: f.adjust_brightness(x, factor),
        "color": lambda: f.adjust_saturation(x, factor),
        "contrast": lambda: f.adjust_contrast(x, factor),
        "sharpness": lambda: f.adjust_sharpness(x, factor),
        "posterize": lambda: f.posterize(x, 8 - round(strength * (6 if wide else 4))),
        "solarize": lambda: f.solarize(x, 255 * (1 - strength)),
        "autocontrast": lambda: f.autocontrast(x),
        "equalize": lambda: f.equalize(x),
    }
    return work[name]()


def erase(x: Tensor, probability: float, *, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Set a random rectangle of some normalised images to zero, the mean colour of the training images.

    x: [B, C_in, H, W].  probability: that an image has such a rectangle.  index: [B] of the images.
    """
    names = ("erase", "erase/area", "erase/ratio", "erase/top", "erase/left")
    chosen, area, ratio, top, left = uniforms(seed, names, epoch, index.to(x.device))
    height, width = x.shape[-2:]
    pixels = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area)
    shape = torch.exp(math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * ratio)
    h = torch.sqrt(pixels / shape).round().clamp(1, height)
    w = torch.sqrt(pixels * shape).round().clamp(1, width)
    y, x0 = (top * (height - h + 1)).floor(), (left * (width - w + 1)).floor()
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    inside = ((rows >= y[:, None]) & (rows < (y + h)[:, None]))[:, :, None]
    inside = inside & ((columns >= x0[:, None]) & (columns < (x0 + w)[:, None]))[:, None, :]
    return x.masked_fill((inside & (chosen < probability)[:, None, None])[:, None], 0.0)
