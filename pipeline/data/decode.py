"""Decode images of any format that Pillow reads into arrays of pixels."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import DataError

# Pillow's modes without colour
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
CHUNK = 256
T = TypeVar("T")


def is_grey(image: Path | bytes, name: str) -> bool:
    """Whether an image has no colour, according to its header. Raises DataError as `decode` does."""
    with open_image(image, name) as picture:
        return picture.mode in GREY


def decode(image: Path | bytes, name: str, *, channels: int) -> np.ndarray:
    """Decode an image into pixels [H, W, channels] uint8.

    image: a file, or its content.  name: what messages call the image.  channels: 1 (grey) or 3 (RGB).
    The EXIF orientation is applied. Values of 16 bits keep their upper 8. Transparent pixels are blended with black.
    Raises DataError, which names the image, if it is empty, cannot be read or cannot be decoded.
    """
    with open_image(image, name) as picture:
        try:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            pixels = to_mode(upright, "L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{name} cannot be decoded: {error}") from None
    return np.asarray(pixels).reshape(pixels.height, pixels.width, channels)


def fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize an image so that its shorter side is `size` (bilinear, antialiased) and crop the centre.

    pixels: [H, W, C_in] uint8.  Returns [size, size, C_in] uint8.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)).reshape(size, size, -1)


def open_image(image: Path | bytes, name: str) -> Image.Image:
    """Open an image without decoding its pixels. Raises DataError as `decode` does."""
    try:
        if (isinstance(image, bytes) and not image) or (isinstance(image, Path) and image.stat().st_size == 0):
            raise DataError(f"{name} is empty (zero bytes)")
        return Image.open(BytesIO(image) if isinstance(image, bytes) else image)
    except UnidentifiedImageError:
        raise DataError(f"{name} is not an image, or its format is unknown to Pillow") from None
    except OSError as error:
        raise DataError(f"{name} cannot be {'read' if error.errno else 'decoded'}: {error}") from None
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be decoded: {error}") from None


def to_mode(picture: Image.Image, mode: str) -> Image.Image:
    """Convert an image to mode L or RGB.

    Pillow's own conversion clips 16-bit values at 255 and ignores transparency, so both are handled here.
    """
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        picture = Image.fromarray(
            (values >> 8 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8)
        )
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return picture.convert("RGB").convert(mode) if mode == "L" and picture.mode == "P" else picture.convert(mode)


def map_in_order(work: Callable[[T], np.ndarray], items: Iterable[T], workers: int) -> Iterator[np.ndarray]:
    """Yield work(item) for every item, in order.

    workers: threads that do the work, which helps because decoders release Python's global interpreter lock; 0: none.
    """
    if workers == 0:
        yield from map(work, items)
        return
    remaining = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(islice(remaining, CHUNK)):  # so that at most CHUNK results are in memory
            yield from pool.map(work, chunk)
