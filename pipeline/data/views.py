"""A split on the device, and augmented views of it as a function of (seed, epoch, index)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.core.counters import uniforms


class Views:
    """Images resident on the device, padded, and mirrored beside; a batch is one gather of rows of pixels.

    images: [N, H, W, D] uint8, or float32 in 0..255; labels: [N].  mean, std: one a channel, of pixels in 0..1.
    pad: pixels of zeros around an image, of which a random crop of its own size is taken; flip: mirror half of them.
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
    ):
        images = torch.as_tensor(np.array(images)) if isinstance(images, np.ndarray) else images
        _, height, width, depth = images.shape
        self.image_size, self.in_chans, self.num_classes = (height, width), depth, num_classes
        self.pad, self.flip, self.device = pad, flip, device
        self.labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
        self.mean = torch.as_tensor(mean, dtype=torch.float32)
        self.std = torch.as_tensor(std, dtype=torch.float32)
        # The images in black frames, and beside them their mirror images.
        sides = torch.zeros(1 + flip, len(images), height + 2 * pad, width + 2 * pad, depth, dtype=images.dtype)
        sides[0, :, pad : pad + height, pad : pad + width] = images
        sides[1:] = sides[0].flip(2)
        self.sides = sides.to(device)
        self.wide = width + 2 * pad
        self.per_image = (height + 2 * pad) * self.wide
        # Row k holds `width` pixels from pixel k on: any row of any crop is one of them, and none is copied.
        pixels = self.sides[..., 0].numel()
        self.rows = self.sides.as_strided((pixels - width + 1, width * depth), (depth, 1))
        # As long as an image: to multiply by three numbers in turn costs as much as the gather itself.
        self.scale = (1 / (255 * self.std)).repeat(height * width).to(device)
        self.shift = (self.mean / self.std).repeat(height * width).to(device)
        self.down = torch.arange(height, device=device) * self.wide

    def __len__(self) -> int:
        return len(self.labels)

    def ahead(self, index: Tensor) -> None:
        """Begin to read images that will be asked for next: nothing to do, they are here."""

    def __call__(self, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augmented, normalised images [B, D, H, W] float32.  index: [B], on any device."""
        index = index.to(self.device, non_blocking=True)
        draws = uniforms(seed, ("top", "left", "flip"), epoch, index)
        top, left = (draws[:2] * (2 * self.pad + 1)).to(torch.int64)
        if not self.flip:
            return self.gather(index, top, left)
        mirrored = draws[2] < 0.5
        # A crop's mirror image begins where the crop ends.
        return self.gather(index + len(self) * mirrored, top, torch.where(mirrored, 2 * self.pad - left, left))

    def plain(self, index: Tensor) -> Tensor:
        """Normalised images [B, D, H, W] float32, without augmentation."""
        middle = torch.full_like(index, self.pad)
        return self.gather(index, middle, middle)

    def gather(self, index: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Crops that begin at (top, left) of a padded image; from len(self) on, index is of the mirrored ones."""
        first = index * self.per_image + top * self.wide + left
        pixels = self.rows.index_select(0, (first[:, None] + self.down).reshape(-1))
        x = pixels.reshape(len(index), -1).to(torch.float32).mul_(self.scale).sub_(self.shift)
        return x.reshape(len(index), *self.image_size, self.in_chans).permute(0, 3, 1, 2)

    @property
    def images(self) -> Tensor:
        """[N, H, W, D], as they were given."""
        height, width = self.image_size
        return self.sides[0, :, self.pad : self.pad + height, self.pad : self.pad + width].cpu()

    def joined(self, images: Tensor, labels: Tensor) -> "Views":
        """These images and then others, [M, H, W, D] float32 in 0..255: their rows are len(self) and up."""
        return Views(
            torch.cat([self.images.to(torch.float32), images.to(torch.float32)]),
            torch.cat([self.labels.cpu(), labels.cpu()]),
            mean=self.mean,
            std=self.std,
            pad=self.pad,
            flip=self.flip,
            num_classes=self.num_classes,
            device=self.device,
        )
