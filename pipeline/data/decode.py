"""From an encoded image to pixels, whatever its format."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import DataError

GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
CHUNK = 256
T = TypeVar("T")


def is_grey(image: Path | bytes, name: str) -> bool:
    """Whether an image has no colour, by its header."""
    with opened(image, name) as picture:
        return picture.mode in GREY


def decode(image: Path | bytes, name: str, *, channels: int) -> np.ndarray:
    """Pixels [H, W, channels] uint8.

    EXIF orientation is applied, 16 bits become 8 by dropping the lower ones, transparency lies on black.
    Raises DataError naming the image.
    """
    with opened(image, name) as picture:
        try:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            pixels = to_mode(upright, "L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{name} cannot be decoded: {error}") from None
    return np.asarray(pixels).reshape(pixels.height, pixels.width, channels)


def fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    """Pixels [H, W, D] as [size, size, D]: the shorter side scaled (bilinear, antialiased), the middle cut out."""
    if pixels.shape[:2] == (size, size):
        return pixels
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)).reshape(size, size, -1)


def opened(image: Path | bytes, name: str) -> Image.Image:
    try:
        if (isinstance(image, bytes) and not image) or (isinstance(image, Path) and image.stat().st_size == 0):
            raise DataError(f"{name} is empty (zero bytes)")
        return Image.open(BytesIO(image) if isinstance(image, bytes) else image)
    except UnidentifiedImageError:
        raise DataError(f"{name} is no image") from None
    except OSError as error:
        raise DataError(f"{name} cannot be {'read' if error.errno else 'decoded'}: {error}") from None
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be decoded: {error}") from None


def to_mode(picture: Image.Image, mode: str) -> Image.Image:
    """L or RGB. PIL's own conversion clips 16 bits at 255 and forgets transparency."""
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        picture = Image.fromarray(
            (values >> 8 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8)
        )
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return picture.convert("RGB").convert(mode) if mode == "L" and picture.mode == "P" else picture.convert(mode)


def in_order(work: Callable[[T], np.ndarray], items: Iterable[T], workers: int) -> Iterator[np.ndarray]:
    """work(item) for every item, in order; with workers > 0 so many threads do it (decoders release Python's lock)."""
    if workers == 0:
        yield from map(work, items)
        return
    remaining = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(islice(remaining, CHUNK)):  # no more than a chunk is ever in memory
            yield from pool.map(work, chunk)
