"""Views of a set that is decoded while it trains, and what `prepare` writes of such a set: no pixel, only names."""

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline.core.counters import uniforms
from pipeline.data.decode import decode
from pipeline.data.views import Views
from pipeline.errors import DataError

SCALE = (0.08, 1.0)  # area of a random crop, as a fraction of the image's
RATIO = (3 / 4, 4 / 3)  # of its width to its height
MARGIN = 0.875  # side of the middle crop that is tested on, as a fraction of the shorter side


class Streamed:
    """Images decoded by threads and cropped on the device: a random crop of random size and shape (Szegedy et al.
    2015, torchvision's RandomResizedCrop) to train on, the middle to test on.

    One draw decides a crop's size and shape; where it does not fit, it is cut to the image (torchvision draws again).
    files: name, size and mtime of each image, which may not have changed.  workers: threads; 0: none.
    """

    def __init__(
        self,
        root: Path,
        files: Any,
        labels: np.ndarray,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        image_size: tuple[int, int],
        flip: bool,
        num_classes: int,
        device: torch.device,
        workers: int,
    ):
        self.root = root
        self.names, self.sizes, self.mtimes = (files[c].to_list() for c in ("source", "size", "mtime"))
        self.labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
        self.image_size, self.in_chans, self.num_classes = image_size, len(mean), num_classes
        self.mean, self.std = (torch.as_tensor(v, dtype=torch.float32) for v in (mean, std))
        self.scale = (1 / (255 * self.std)).to(device).reshape(-1, 1, 1)
        self.shift = (self.mean / self.std).to(device).reshape(-1, 1, 1)
        self.flip, self.device = flip, device
        self.pool = ThreadPoolExecutor(workers) if workers else None
        self.waiting: dict[int, Future[Tensor]] = {}

    def __len__(self) -> int:
        return len(self.names)

    def ahead(self, index: Tensor) -> None:
        """Begin to decode images that will be asked for next."""
        if self.pool:
            self.waiting = {i: self.waiting.get(i) or self.pool.submit(self.ready, i) for i in index.tolist()}

    def ready(self, i: int) -> Tensor:
        """Decoded, in pinned memory for a GPU, which would be waited for to copy from any other."""
        pixels = self.decode(i)
        return pixels.pin_memory() if self.device.type == "cuda" else pixels

    def decode(self, i: int) -> Tensor:
        """Pixels [D, H, W] uint8. JPEG by torchvision's decoder, twice as fast as Pillow's, all else by Pillow."""
        from torchvision.io import ImageReadMode, decode_jpeg, read_file

        file = self.root / self.names[i]
        try:
            stat = file.stat()
        except OSError:
            raise DataError(f"{file} is gone since the manifest was written: write it anew") from None
        if (stat.st_size, stat.st_mtime_ns) != (self.sizes[i], self.mtimes[i]):
            raise DataError(f"{file} has changed since the manifest was written: write it anew")
        if file.suffix.lower() in (".jpg", ".jpeg"):
            try:
                pixels = decode_jpeg(read_file(str(file)), ImageReadMode.RGB, apply_exif_orientation=True)
                assert isinstance(pixels, Tensor)
                return pixels
            except RuntimeError:
                pass  # PNG under a false name, CMYK: Pillow knows, or says what is wrong
        return torch.from_numpy(decode(file, str(file), channels=self.in_chans).copy()).permute(2, 0, 1)

    def decoded(self, index: Tensor) -> list[Tensor]:
        rows = index.tolist()
        self.ahead(index)
        if not self.pool:
            return [self.ready(i).to(self.device, non_blocking=True) for i in rows]
        waiting, self.waiting = self.waiting, {}
        return [waiting[i].result().to(self.device, non_blocking=True) for i in rows]

    def __call__(self, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augmented, normalised images [B, D, H, W] float32.  index: [B]; on the CPU it costs a GPU no wait."""
        names = ("area", "ratio", "top", "left", "flip")
        draws = uniforms(seed, names, epoch, index).T.tolist()
        return torch.stack([self.random_crop(image, *draw) for image, draw in zip(self.decoded(index), draws)])

    def random_crop(self, image: Tensor, area: float, ratio: float, top: float, left: float, flip: float) -> Tensor:
        height, width = image.shape[1:]
        pixels = height * width * (SCALE[0] + (SCALE[1] - SCALE[0]) * area)
        shape = math.exp(math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * ratio)
        w = min(width, max(1, round(math.sqrt(pixels * shape))))
        h = min(height, max(1, round(math.sqrt(pixels / shape))))
        y, x = int(top * (height - h + 1)), int(left * (width - w + 1))
        crop = self.resized(image[:, y : y + h, x : x + w], self.image_size)
        return crop.flip(2) if self.flip and flip < 0.5 else crop

    def plain(self, index: Tensor) -> Tensor:
        """Normalised images [B, D, H, W] float32, without augmentation."""
        return torch.stack([self.middle(image) for image in self.decoded(index)])

    def middle(self, image: Tensor) -> Tensor:
        height, width = image.shape[1:]
        side = min(height / self.image_size[0], width / self.image_size[1]) * MARGIN
        h, w = (max(1, min(n, round(side * s))) for n, s in zip((height, width), self.image_size))
        y, x = (height - h) // 2, (width - w) // 2
        return self.resized(image[:, y : y + h, x : x + w], self.image_size)

    def resized(self, crop: Tensor, size: tuple[int, int]) -> Tensor:
        """A crop [D, h, w] in a size, antialiased, normalised."""
        x = interpolate(crop[None].float(), size, mode="bilinear", antialias=True, align_corners=False)[0]
        return x * self.scale - self.shift

    def joined(self, images: Tensor, labels: Tensor) -> "Joined":
        """These images and then others, [M, H, W, D] float32 in 0..255: their rows are len(self) and up."""
        return Joined(self, images, labels)


class Joined:
    """Streamed images, and after them others that are in memory and are mirrored at most."""

    def __init__(self, first: Streamed, images: Tensor, labels: Tensor):
        self.first, self.labels = first, torch.cat([first.labels, labels.to(first.device)])
        self.others = Views(
            images,
            labels,
            mean=first.mean,
            std=first.std,
            pad=0,
            flip=first.flip,
            num_classes=first.num_classes,
            device=first.device,
        )
        self.mean, self.std = first.mean, first.std
        self.image_size, self.in_chans, self.num_classes = first.image_size, first.in_chans, first.num_classes

    def __len__(self) -> int:
        return len(self.labels)

    def ahead(self, index: Tensor) -> None:
        self.first.ahead(index[index < len(self.first)])

    def __call__(self, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        n = len(self.first)
        x = torch.empty(len(index), self.in_chans, *self.image_size, device=self.first.device)
        for part, views, start in ((index < n, self.first, 0), (index >= n, self.others, n)):
            places = part.nonzero()[:, 0]
            if len(places):
                x[places.to(x.device, non_blocking=True)] = views(index[places] - start, seed=seed, epoch=epoch)
        return x

    def plain(self, index: Tensor) -> Tensor:
        raise NotImplementedError("nothing asks for them")

    def joined(self, images: Tensor, labels: Tensor) -> "Joined":
        raise NotImplementedError("a leg has extra images once")
