"""Decode images of the formats below into arrays of pixels."""

import ctypes
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.data.class_names import regular, shown
from pipeline.errors import DataError, first_line

# Pillow knows more formats, and starts a program for some of them: Ghostscript for EPS, whatever the file is called.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 100_000_000
Image.MAX_IMAGE_PIXELS = None  # Pillow's own bound, which prints a warning before it is an error: see MAX_PIXELS
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what Pillow logs
# Pillow's modes without colour
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
CHUNK = 256
T = TypeVar("T")


def silence_pillow() -> None:
    """Let Pillow and its C library libtiff print nothing: an image is decoded, or an error names it."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with suppress(AttributeError, OSError):  # a Pillow that is built without libtiff
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


silence_pillow()


def is_grey(image: Path | bytes, name: str) -> bool:
    """Whether an image has no colour, according to its header. Raises DataError as `decode` does."""
    with open_image(image, name) as picture:
        return picture.mode in GREY


def decode(image: Path | bytes, name: str, *, channels: int) -> np.ndarray:
    """Decode an image into pixels [H, W, channels] uint8.

    image: a file, or its content.  name: what messages call the image.  channels: 1 (grey) or 3 (RGB).
    The EXIF orientation is applied. Values of 16 bits keep their upper 8. Transparent pixels are blended with black.
    Raises DataError, which names the image, if it is empty, too large, cannot be read or cannot be decoded.
    """
    with open_image(image, name) as picture:
        try:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            pixels = to_mode(upright, "L" if channels == 1 else "RGB")
            return np.asarray(pixels).reshape(pixels.height, pixels.width, channels)
        except Exception as error:  # decoders raise exceptions of many types for a damaged file
            raise undecodable(name, error) from None


def fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize an image so that its shorter side is `size` (bilinear, antialiased) and crop the centre.

    pixels: [H, W, C_in] uint8.  Returns [size, size, C_in] uint8.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)).reshape(size, size, -1)


def open_image(image: Path | bytes, name: str, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Open an image without decoding its pixels.

    formats: Pillow's names of the formats to try.
    Raises DataError as `decode` does, and TypeError if the image is neither a Path nor bytes.
    """
    if not isinstance(image, bytes | Path):
        raise TypeError(f"an image must be a Path or bytes, got {type(image).__name__}")
    size = len(image) if isinstance(image, bytes) else regular(image, shown(name)).st_size
    if size == 0:
        raise DataError(f"{shown(name)} is empty (zero bytes)")
    try:
        picture = Image.open(BytesIO(image) if isinstance(image, bytes) else image, formats=tuple(formats))
    except UnidentifiedImageError:
        known = ", ".join(formats)
        raise DataError(f"{shown(name)} is not an image, or its format is unknown: expected {known}") from None
    except OSError as error:
        if not error.errno:
            raise undecodable(name, error) from None
        raise DataError(f"{shown(name)} cannot be read: {error.strerror}") from None
    except Exception as error:
        raise undecodable(name, error) from None
    width, height = picture.size
    if 0 < width * height <= MAX_PIXELS:
        return picture
    picture.close()
    if width * height > MAX_PIXELS:
        raise DataError(f"{shown(name)} has {width}x{height} pixels; at most {MAX_PIXELS:,} pixels are decoded")
    raise DataError(f"{shown(name)} cannot be decoded: it has no pixels")


def undecodable(name: str, error: Exception) -> DataError:
    """The error for an image that a decoder refuses, in one line."""
    return DataError(f"{shown(name)} cannot be decoded: {shown(first_line(error))}")


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
