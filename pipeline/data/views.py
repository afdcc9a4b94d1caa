"""A split on the device, and augmented views of it as a function of (seed, epoch, index)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad as pad_tensor

from pipeline.core.counters import uniforms


class Views:
    """Images resident on the device as padded rows; a batch is one gather.

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
        images = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
        self.images = images
        _, height, width, depth = images.shape
        self.image_size, self.in_chans, self.num_classes = (height, width), depth, num_classes
        self.pad, self.flip, self.device = pad, flip, device
        self.labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
        self.mean = torch.as_tensor(mean, dtype=torch.float32)
        self.std = torch.as_tensor(std, dtype=torch.float32)
        self.wide = width + 2 * pad
        padded = pad_tensor(images, (0, 0, pad, pad, pad, pad))
        self.rows = padded.reshape(-1, depth).to(device)
        self.per_image = (height + 2 * pad) * self.wide
        # As long as an image: to multiply by three numbers in turn costs as much as the gather itself.
        self.scale = (1 / (255 * self.std)).repeat(height * width).to(device)
        self.shift = (self.mean / self.std).repeat(height * width).to(device)
        kind = torch.int32 if len(self.rows) < 2**31 else torch.int64  # a gather by shorter numbers is quicker
        self.down = torch.arange(height, device=device, dtype=kind)[None, :, None] * self.wide
        self.along = torch.arange(width, device=device, dtype=kind)[None, None, :]
        self.backwards = width - 1 - self.along

    def __len__(self) -> int:
        return len(self.labels)

    def ahead(self, index: Tensor) -> None:
        """Begin to read images that will be asked for next: nothing to do, they are here."""

    def __call__(self, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augmented, normalised images [B, D, H, W] float32."""
        span = 2 * self.pad + 1
        draws = uniforms(seed, ("top", "left", "flip"), epoch, index)
        top, left = (draws[:2] * span).to(self.along.dtype)
        along = self.along
        if self.flip:
            along = torch.where(draws[2][:, None, None] < 0.5, self.backwards, along)
        return self.gather(index, top, left, along)

    def plain(self, index: Tensor) -> Tensor:
        """Normalised images [B, D, H, W] float32, without augmentation."""
        middle = torch.full_like(index, self.pad, dtype=self.along.dtype)
        return self.gather(index, middle, middle, self.along)

    def gather(self, index: Tensor, top: Tensor, left: Tensor, along: Tensor) -> Tensor:
        first = index.to(self.along.dtype) * self.per_image + top * self.wide + left
        pixels = self.rows.index_select(0, (first[:, None, None] + self.down + along).reshape(-1))
        x = pixels.reshape(len(index), -1).to(torch.float32).mul_(self.scale).sub_(self.shift)
        return x.reshape(len(index), *self.image_size, self.in_chans).permute(0, 3, 1, 2)

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
