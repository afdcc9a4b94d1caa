"""Damaged and foreign images: `decode` returns an array of the promised shape, or raises a DataError of one line.

FUZZ=N in the environment mutates N images instead of 400.
"""

import logging
import os
import time
import warnings
from io import BytesIO

import numpy as np
import pytest
import torchvision.io  # noqa: F401  (its import would count as the time of the first image)
from PIL import Image

from pipeline.data.decode import decode, is_grey, silence_pillow
from pipeline.data.streaming import fast_jpeg
from pipeline.errors import DataError

N = int(os.environ.get("FUZZ", "400"))
LONGEST = 10  # seconds for one file
FOREIGN = ("EPS", "DDS", "AVIF", "ICO", "SPIDER", "BLP", "TGA", "PCX", "JPEG2000", "ICNS", "IM", "PDF", "SGI", "QOI")
EXIF = Image.Exif()
EXIF[0x0112] = 6


def encode(image: Image.Image, kind: str, **options) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def seeds() -> list[bytes]:
    """Valid images of every format, mode and compression."""
    draw = np.random.default_rng(0)
    rgb = Image.fromarray(draw.integers(0, 256, (24, 20, 3), dtype=np.uint8))
    deep = Image.fromarray(draw.integers(0, 2**16, (24, 20), dtype=np.uint16))
    found = []
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        found.append(encode(rgb.convert(mode), "PNG"))
    found += [encode(deep, "PNG"), encode(rgb, "PNG", exif=EXIF), encode(rgb.quantize(16), "PNG", transparency=3)]
    found += [encode(rgb, "PNG", save_all=True, append_images=[rgb.rotate(90)])]
    for mode in ("RGB", "L", "CMYK"):
        found.append(encode(rgb.convert(mode), "JPEG"))
    found += [encode(rgb, "JPEG", progressive=True, exif=EXIF), encode(rgb, "MPO", save_all=True, append_images=[rgb])]
    found += [encode(rgb, "WEBP"), encode(rgb.convert("RGBA"), "WEBP", lossless=True, exif=EXIF)]
    found += [encode(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)])]
    for mode in ("RGB", "L", "P", "1", "RGBA"):
        found.append(encode(rgb.convert(mode), "BMP"))
    found += [encode(rgb, "GIF"), encode(rgb.quantize(8), "GIF", transparency=1, save_all=True, append_images=[rgb])]
    for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found.append(encode(rgb, "TIFF", compression=packing))
    found += [encode(deep, "TIFF"), encode(rgb.convert("F"), "TIFF"), encode(rgb.convert("1"), "TIFF")]
    found += [encode(rgb.convert("1"), "TIFF", compression="group4"), encode(rgb.convert("CMYK"), "TIFF", exif=EXIF)]
    for mode in ("RGB", "L", "1"):
        found.append(encode(rgb.convert(mode), "PPM"))
    return [*found, encode(deep, "PPM")]


def mutated(content: bytes, others: list[bytes], draw: np.random.Generator) -> bytes:
    """Damage a file in one to three ways."""
    data = bytearray(content)
    for _ in range(draw.integers(1, 4)):
        size = max(1, len(data))
        a, b = sorted(int(v) for v in draw.integers(0, size, 2))
        match int(draw.integers(0, 8)):
            case 0 | 1:  # flip bytes anywhere
                for place in draw.integers(0, size, draw.integers(1, 12)):
                    if data:
                        data[place % len(data)] = int(draw.integers(0, 256))
            case 2 | 3:  # edit the header
                for place in draw.integers(0, min(size, 64), draw.integers(1, 4)):
                    if data:
                        data[place % len(data)] = int(draw.choice([0, 1, 2, 127, 128, 255, int(draw.integers(0, 256))]))
            case 4:  # truncate
                del data[b:]
            case 5:  # swap two chunks
                n = int(min(16, len(data) - b, b - a))
                data[a : a + n], data[b : b + n] = data[b : b + n], data[a : a + n]
            case 6:  # insert a part of another file
                other = others[int(draw.integers(0, len(others)))]
                data[a:a] = other[: int(draw.integers(0, len(other)))]
            case _:  # put a number where a size, a count or an offset may be
                number = int(draw.choice([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]))
                order = ("little", "big")[int(draw.integers(0, 2))]
                data[a : a + 4] = number.to_bytes(4, order)
    return bytes(data)


def check(content: bytes, channels: int = 3, name: str = "a\nb.png") -> bool:
    """Whether an image can be decoded. Fails unless the result is an array or a DataError of one line."""
    start = time.monotonic()
    try:
        pixels = decode(content, name, channels=channels)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == channels and pixels.size
        is_grey(content, name)
        decoded = True
    except DataError as error:
        assert len(str(error).splitlines()) == 1 and str(error).startswith(r"a\nb.png ") and str(error).isprintable()
        decoded = False
    if content[:2] == b"\xff\xd8":
        fast = fast_jpeg(content, name)
        assert fast is None or (fast.ndim == 3 and len(fast) == 3)
    assert time.monotonic() - start < LONGEST
    return decoded


@pytest.fixture
def strict(capfd):
    """Every warning that is not silenced is an error, and nothing may be printed, not even by a C library."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silence_pillow()
        yield
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""


@pytest.fixture
def unhandled(monkeypatch):
    """pytest's handlers of log records would hide that Python prints a record which nothing handles."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


@pytest.mark.parametrize("part", range(8))
def test_damaged_images_are_decoded_or_refused(strict, unhandled, part):
    valid, draw = seeds(), np.random.default_rng(part)
    decoded = 0
    for k in range(part, N, 8):
        content = mutated(valid[k % len(valid)], valid, draw)
        try:
            decoded += check(content, channels=1 + 2 * int(draw.integers(0, 2)))
        except BaseException as error:
            pytest.fail(f"image {k} ({len(content)} bytes, {content[:16]!r}): {type(error).__name__}: {error}")
    assert N < 100 or 0 < decoded < N // 8


def test_every_seed_is_decoded(strict):
    assert all(check(content) for content in seeds())


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_are_refused_whatever_the_file_is_called(strict, tmp_path, kind):
    image = Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8))
    try:
        special = {"SPIDER": image.convert("F"), "BLP": image.quantize(4)}
        content = encode(special.get(kind, image), kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow cannot write {kind}")
    for name in ("a.png", f"b.{kind.lower()}"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"is not an image, or its format is unknown: expected PNG, JPEG"):
            decode(tmp_path / name, name, channels=3)
