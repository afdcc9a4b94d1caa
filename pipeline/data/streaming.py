"""Views of a data set that is too large to copy, so that its images are decoded during training.

`prepare` writes the names of its images and no pixels.
"""

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline.core.randomness import uniforms
from pipeline.data.augment import augment, erase
from pipeline.data.class_names import regular, shown
from pipeline.data.decode import decode, open_image
from pipeline.data.views import Views, as_uint8
from pipeline.errors import DataError

SCALE = (0.08, 1.0)  # area of a random crop, as a fraction of the image's area
RATIO = (3 / 4, 4 / 3)  # aspect ratio of a random crop, width / height
MARGIN = 0.875  # size of the centre crop for testing, relative to the largest crop of its aspect ratio
REWRITE = "run `python -m stages.manifest` again"


class StreamedViews:
    """Images that threads decode and the device crops.

    Training uses a random crop of random size and aspect ratio (Szegedy et al. 2015; torchvision's
    `RandomResizedCrop`). Testing uses the centre crop. Unlike torchvision, which draws again if a crop does not fit,
    this class draws size and aspect ratio once and cuts the crop to the image.

    root: folder of the images.  files: table with columns `source` (path below root), `size` and `mtime`; a file that
    has changed since raises DataError when it is decoded.  labels: [N].  mean, std: per channel, for pixels in [0, 1].
    image_size: height and width of the views.  flip: whether each image is mirrored with probability 1/2.
    policy, erasing: of pipeline.data.augment, after crop and mirroring.
    workers: decoding threads; 0: the calling thread decodes.
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
        policy: str = "none",
        erasing: float = 0.0,
    ):
        self.policy, self.erasing = policy, erasing
        self.root = root
        self.names, self.sizes, self.mtimes = (files[c].to_list() for c in ("source", "size", "mtime"))
        self.labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
        self.image_size, self.in_chans, self.num_classes = image_size, len(mean), num_classes
        self.mean, self.std = (torch.as_tensor(v, dtype=torch.float32) for v in (mean, std))
        self.scale = (1 / (255 * self.std)).to(device).reshape(-1, 1, 1)
        self.shift = (self.mean / self.std).to(device).reshape(-1, 1, 1)
        self.flip, self.device = flip, device
        self.pool = ThreadPoolExecutor(workers) if workers else None
        self.pending: dict[int, Future[Tensor]] = {}

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def ahead(self, index: Tensor) -> None:
        """Start to decode the images of the next batch.  index: [B]."""
        if self.pool:
            self.pending = {i: self.pending.get(i) or self.pool.submit(self.decode, i) for i in index.tolist()}

    def decode(self, i: int) -> Tensor:
        """Decode an image into pixels [C_in, H, W] uint8.

        torchvision decodes JPEG files, twice as fast as Pillow, which decodes all others. Raises DataError if the file
        is missing, has changed or cannot be decoded.
        """
        file = self.root / self.names[i]
        name = shown(file)
        try:
            status = file.stat()
            if (status.st_size, status.st_mtime_ns) != (self.sizes[i], self.mtimes[i]):
                raise DataError(f"{name} has changed since the manifest was written: {REWRITE}")
            regular(file, name)
            content = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"{name} is missing, but the manifest lists it: {REWRITE}") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        pixels = fast_jpeg(content, name) if file.suffix.lower() in (".jpg", ".jpeg") else None
        if pixels is None:
            pixels = torch.from_numpy(decode(content, name, channels=self.in_chans).copy()).permute(2, 0, 1)
        return pixels

    def decoded(self, index: Tensor) -> list[Tensor]:
        """Images on the device, each [C_in, H, W] uint8 in its own size.  index: [B]."""
        rows = index.tolist()
        self.ahead(index)
        if not self.pool:
            return [self.on_device(self.decode(i)) for i in rows]
        pending, self.pending = self.pending, {}
        return [self.on_device(pending[i].result()) for i in rows]

    def on_device(self, pixels: Tensor) -> Tensor:
        """Copy an image to the device, to a GPU from pinned memory, so that the copy is asynchronous.

        Not by a decoding thread: while it allocates pinned memory, no CUDA graph can be captured.
        """
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        return pixels.to(self.device, non_blocking=True)

    def __call__(self, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augmented, normalised images [B, C_in, H, W] float32.  index: [B], on the CPU to avoid a synchronisation."""
        names = ("area", "ratio", "top", "left", "flip")
        draws = uniforms(seed, names, epoch, index).T.tolist()
        pixels = torch.stack([self.random_crop(image, *draw) for image, draw in zip(self.decoded(index), draws)])
        if self.policy != "none":
            pixels = augment(as_uint8(pixels), self.policy, seed=seed, epoch=epoch, index=index).float()
        x = self.normalised(pixels)
        return erase(x, self.erasing, seed=seed, epoch=epoch, index=index) if self.erasing else x

    def random_crop(self, image: Tensor, area: float, ratio: float, top: float, left: float, flip: float) -> Tensor:
        """Crop, resize and mirror an image [C_in, H, W] according to five draws from [0, 1).

        Returns [C_in, *image_size] float32 pixels.
        """
        height, width = image.shape[1:]
        pixels = height * width * (SCALE[0] + (SCALE[1] - SCALE[0]) * area)
        shape = math.exp(math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * ratio)
        w = min(width, max(1, round(math.sqrt(pixels * shape))))
        h = min(height, max(1, round(math.sqrt(pixels / shape))))
        y, x = int(top * (height - h + 1)), int(left * (width - w + 1))
        crop = self.resized(image[:, y : y + h, x : x + w], self.image_size)
        return crop.flip(2) if self.flip and flip < 0.5 else crop

    def plain(self, index: Tensor) -> Tensor:
        """Normalised centre crops [B, C_in, H, W] float32, without augmentation.  index: [B]."""
        return self.normalised(torch.stack([self.centre_crop(image) for image in self.decoded(index)]))

    def centre_crop(self, image: Tensor) -> Tensor:
        """Crop and resize the centre of an image [C_in, H, W].  Returns [C_in, *image_size] float32 pixels."""
        height, width = image.shape[1:]
        side = min(height / self.image_size[0], width / self.image_size[1]) * MARGIN
        h, w = (max(1, min(n, round(side * s))) for n, s in zip((height, width), self.image_size))
        y, x = (height - h) // 2, (width - w) // 2
        return self.resized(image[:, y : y + h, x : x + w], self.image_size)

    def resized(self, crop: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize a crop [C_in, h, w] to [C_in, *size] float32 (bilinear, antialiased)."""
        return interpolate(crop[None].float(), size, mode="bilinear", antialias=True, align_corners=False)[0]

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 255] as normalised images."""
        return pixels * self.scale - self.shift

    def joined(self, images: Tensor, labels: Tensor) -> "Joined":
        """Views of these images followed by others, which get the rows from len(self) on.

        images: [M, H, W, C_in] float32 in [0, 255].  labels: [M].
        """
        return Joined(self, images, labels)


def fast_jpeg(content: bytes, name: str) -> Tensor | None:
    """Decode the content of a JPEG file with torchvision: [3, H, W] uint8.

    Returns None for what torchvision cannot decode: CMYK, another format with this suffix, or a damaged file. Pillow
    decodes it, or its error says why not. Pillow reads the header first, because torchvision has no bound on the size.
    """
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        open_image(content, name, ("JPEG",)).close()
        encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        pixels = decode_jpeg(encoded, ImageReadMode.RGB, apply_exif_orientation=True)
    except Exception:
        return None
    assert isinstance(pixels, Tensor)
    return pixels


class Joined:
    """Streamed images followed by images in memory.

    The images in memory are mirrored but not cropped.  first: the streamed views.  images: [M, H, W, C_in] float32 in
    [0, 255].  labels: [M].
    """

    def __init__(self, first: StreamedViews, images: Tensor, labels: Tensor):
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
            policy=first.policy,
            erasing=first.erasing,
        )
        self.mean, self.std = first.mean, first.std
        self.image_size, self.in_chans, self.num_classes = first.image_size, first.in_chans, first.num_classes

    def __len__(self) -> int:
        """Number of images, streamed and in memory."""
        return len(self.labels)

    def ahead(self, index: Tensor) -> None:
        """Start to decode the streamed images of the next batch.  index: [B]."""
        self.first.ahead(index[index < len(self.first)])

    def __call__(self, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augmented, normalised images [B, C_in, H, W] float32.  index: [B]."""
        n = len(self.first)
        x = torch.empty(len(index), self.in_chans, *self.image_size, device=self.first.device)
        for part, views, start in ((index < n, self.first, 0), (index >= n, self.others, n)):
            places = part.nonzero()[:, 0]
            if len(places):
                x[places.to(x.device, non_blocking=True)] = views(index[places] - start, seed=seed, epoch=epoch)
        return x

    def plain(self, index: Tensor) -> Tensor:
        """Not implemented: no method uses joined images without augmentation."""
        raise NotImplementedError("joined streamed views have no plain images: use the streamed views themselves")

    def joined(self, images: Tensor, labels: Tensor) -> "Joined":
        """Not implemented: a leg has extra images only once."""
        raise NotImplementedError("joined streamed views cannot be joined again: join all extra images at once")
