"""A split in device memory, and its augmented views as a function of (seed, epoch, index)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.core.randomness import uniforms
from pipeline.data.augment import augment, erase


class Views:
    """Images that stay in device memory, padded, together with their mirror images.

    A batch is a single gather of rows of pixels, so augmentation runs on the device and needs no data loader.

    images: [N, H, W, C_in] uint8, or float32 in [0, 255].  labels: [N].  mean, std: per channel, for pixels in [0, 1].
    pad: pixels of zeros around an image; the augmentation crops a random window of the original size.
    flip: whether each image is mirrored with probability 1/2.  policy: of `augment`, or "none".
    erasing: probability of `erase`.
    """

    def __init__(
        self,
        images: np.ndarray | Tensor,
        labels: np.ndarray | Tensor,
        *,
        mean: Sequence[float] | Tensor,
        std: Sequence[float] | Tensor,
        pad: int,
        flip: bool,
        num_classes: int,
        device: torch.device,
        policy: str = "none",
        erasing: float = 0.0,
    ):
        self.policy, self.erasing = policy, erasing
        images = torch.as_tensor(np.array(images)) if isinstance(images, np.ndarray) else images
        _, height, width, channels = images.shape
        self.image_size, self.in_chans, self.num_classes = (height, width), channels, num_classes
        self.pad, self.flip, self.device = pad, flip, device
        self.labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
        self.mean = torch.as_tensor(mean, dtype=torch.float32)
        self.std = torch.as_tensor(std, dtype=torch.float32)
        # [0]: the padded images; [1], if flip: their mirror images.
        sides = torch.zeros(1 + flip, len(images), height + 2 * pad, width + 2 * pad, channels, dtype=images.dtype)
        sides[0, :, pad : pad + height, pad : pad + width] = images
        sides[1:] = sides[0].flip(2)
        self.sides = sides.to(device)
        self.wide = width + 2 * pad
        self.per_image = (height + 2 * pad) * self.wide
        # Row k views the `width` pixels from pixel k on, without a copy. Every row of every crop is one of these rows.
        pixels = self.sides[..., 0].numel()
        self.rows = self.sides.as_strided((pixels - width + 1, width * channels), (channels, 1))
        # Expanded to the size of an image, because broadcasting over the channels takes as long as the gather itself.
        self.scale = (1 / (255 * self.std)).repeat(height * width).to(device)
        self.shift = (self.mean / self.std).repeat(height * width).to(device)
        self.down = torch.arange(height, device=device) * self.wide

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def ahead(self, index: Tensor) -> None:
        """Start to load the images of the next batch. Does nothing, since all images are in memory."""

    def __call__(self, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augmented, normalised images [B, C_in, H, W] float32.  index: [B], on any device."""
        index = index.to(self.device, non_blocking=True)
        draws = uniforms(seed, ("top", "left", "flip"), epoch, index)
        top, left = (draws[:2] * (2 * self.pad + 1)).to(torch.int64)
        side = index
        if self.flip:
            mirrored = draws[2] < 0.5
            side = index + len(self) * mirrored
            left = torch.where(mirrored, 2 * self.pad - left, left)  # where the crop of the image ends
        pixels = self.gather(side, top, left)
        if self.policy != "none":
            images = pixels.reshape(len(index), *self.image_size, self.in_chans).permute(0, 3, 1, 2)
            images = augment(as_uint8(images), self.policy, seed=seed, epoch=epoch, index=index)
            pixels = images.permute(0, 2, 3, 1).reshape(len(index), -1)
        x = self.normalised(pixels)
        return erase(x, self.erasing, seed=seed, epoch=epoch, index=index) if self.erasing else x

    def plain(self, index: Tensor) -> Tensor:
        """Normalised images [B, C_in, H, W] float32, without augmentation.  index: [B], on the device."""
        middle = torch.full_like(index, self.pad)
        return self.normalised(self.gather(index, middle, middle))

    def gather(self, index: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Crops that start at (top, left) in the padded images, [B, H * W * C_in].

        index, top, left: [B].  Image len(self) + i is the mirror image of image i.
        """
        first = index * self.per_image + top * self.wide + left
        return self.rows.index_select(0, (first[:, None] + self.down).reshape(-1)).reshape(len(index), -1)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels [B, H * W * C_in] as normalised images [B, C_in, H, W] float32."""
        x = pixels.to(torch.float32).mul_(self.scale).sub_(self.shift)
        return x.reshape(len(x), *self.image_size, self.in_chans).permute(0, 3, 1, 2)

    @property
    def images(self) -> Tensor:
        """The original images [N, H, W, C_in], on the CPU."""
        height, width = self.image_size
        return self.sides[0, :, self.pad : self.pad + height, self.pad : self.pad + width].cpu()

    def joined(self, images: Tensor, labels: Tensor) -> "Views":
        """Views of these images followed by others, which get the rows from len(self) on.

        images: [M, H, W, C_in] float32 in [0, 255].  labels: [M].
        """
        return Views(
            torch.cat([self.images.to(torch.float32), images.to(torch.float32)]),
            torch.cat([self.labels.cpu(), labels.cpu()]),
            mean=self.mean,
            std=self.std,
            pad=self.pad,
            flip=self.flip,
            num_classes=self.num_classes,
            device=self.device,
            policy=self.policy,
            erasing=self.erasing,
        )


def as_uint8(images: Tensor) -> Tensor:
    """Pixels in [0, 255] as uint8; those of counterfactuals are fractions."""
    return images if images.dtype == torch.uint8 else images.round().clamp(0, 255).to(torch.uint8)
