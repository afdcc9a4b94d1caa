"""Synthetic images in folders, and the `data` section of params.yaml that reads them."""

from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

FORMATS = ("jpg", "png", "webp", "bmp")


def section(source: str, root: Path, **changed) -> SimpleNamespace:
    keys = ("storage", "image_size", "limit", "validation", "image_column", "label_column", "label_noise")
    nulls = dict.fromkeys(keys)
    return SimpleNamespace(**nulls | {"source": source, "root": str(root), "seed": 0, "on_error": "fail"} | changed)


def picture(k: int, size=(12, 10), mode="RGB") -> Image.Image:
    draw = np.random.default_rng(k)
    return Image.fromarray(draw.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)).convert(mode)


def make_folder(root: Path, *, splits=("train", "val", "test"), n=12, sizes=((12, 10),), mode="RGB") -> Path:
    for s, split in enumerate(splits):
        for c, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for k in range(n):
                image = picture(1000 * s + 100 * c + k, sizes[k % len(sizes)], mode)
                suffix = FORMATS[k % len(FORMATS)] if mode == "RGB" else "png"  # WebP has no greyscale mode
                image.save(root / split / name / f"{k:02d}.{suffix}")
    return root


def encoded(image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
