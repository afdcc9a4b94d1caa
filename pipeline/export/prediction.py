"""Classification of image files with an exported student.

The module reads nothing but the exported folder and the images. It runs on ONNX Runtime and does not import torch, so
that the command starts fast.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pipeline.data.class_names import read_class_names, regular, shown
from pipeline.data.decode import decode
from pipeline.data.sources.listing import below, kind
from pipeline.errors import DataError, first_line
from pipeline.export.session import open_session
from pipeline.storage.digests import NAME as MANIFEST
from pipeline.storage.digests import first_difference

LARGEST = 4096  # height and width that a model may have
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SUFFIXES += (".ppm", ".pgm", ".pbm", ".pnm")  # of image files, in lower case


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image, in descending order, with their probabilities."""

    image: str
    classes: list[str]
    probabilities: list[float]


@dataclass(frozen=True)
class Found:
    """What an argument of the command stands for.

    Args:
        files: The image files, sorted.
        skipped: The number of files that are no images by name.
        failed: An error for each folder that cannot be read.
    """

    files: list[Path]
    skipped: int
    failed: list[DataError]


class Predictor:
    """Classifies image files with an exported student.

    Args:
        folder: A folder that the stage `export` wrote.

    Raises:
        DataError: If the folder does not hold an exported student, or if one of its files is damaged.
    """

    def __init__(self, folder: Path):
        if not os.path.lexists(folder / "config.json"):
            reason = "No such file or directory"
            raise DataError(f"{shown(folder)} holds no exported student ({reason}): run `dvc repro export`")
        (self.in_chans, height, width), crop, num_classes = preprocessing(folder / "config.json")
        self.size = (width, height)  # Pillow's order
        self.bleed = (1 - crop) / 2  # Pillow's word for the border that is cut off
        self.classes = class_names(folder / "classes.txt")
        if len(self.classes) != num_classes:
            reason = f"it names {len(self.classes)} classes, but config.json {num_classes}"
            raise damaged(folder / "classes.txt", reason)
        if os.path.lexists(folder / MANIFEST) and (difference := first_difference(folder, complete=False)):
            raise DataError(f"{shown(folder)} is damaged ({shown(difference)}): run `dvc repro export`")
        self.file = folder / "model.onnx"
        self.session = session(self.file, [self.in_chans, height, width], num_classes)

    def __call__(self, file: Path, top: int) -> Prediction:
        """Return the ``top`` most probable classes of an image file.

        Raises:
            DataError: If the file cannot be decoded as an image.
        """
        pixels = decode(file, str(file), channels=self.in_chans)
        picture = Image.fromarray(pixels[:, :, 0] if self.in_chans == 1 else pixels)
        fitted = ImageOps.fit(picture, self.size, Image.Resampling.BILINEAR, bleed=self.bleed)
        image = np.asarray(fitted, dtype=np.float32).reshape(1, self.size[1], self.size[0], self.in_chans) / 255
        try:
            (z,) = self.session.run(None, {"image": np.ascontiguousarray(image.transpose(0, 3, 1, 2))})
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise damaged(self.file, first_line(error)) from None
        if z.shape != (1, len(self.classes)) or not np.isfinite(z).all():
            raise damaged(self.file, f"it returns no logits of {len(self.classes)} classes")
        p = np.exp(z[0].astype(np.float64) - z[0].max())
        p /= p.sum()
        best = np.argsort(-p, kind="stable")[:top]
        return Prediction(str(file), [self.classes[c] for c in best], [round(float(p[c]), 6) for c in best])


def damaged(file: Path, reason: str) -> DataError:
    """The error for a file of the exported student."""
    return DataError(f"{shown(file)} is damaged ({shown(reason)}): run `dvc repro export`")


def preprocessing(file: Path) -> tuple[list[int], float, int]:
    """Return the input size [C_in, H, W], the fraction that the crop keeps, and the number of classes.

    Args:
        file: config.json.

    Raises:
        DataError: If the file is damaged.
    """

    def refuse(constant: str) -> float:
        """Raise for NaN and the infinities, which are not JSON."""
        raise ValueError(f"{constant} is no number")

    try:
        regular(file, "it")
        config: Any = json.loads(file.read_bytes().decode(), parse_constant=refuse)
        entry = config["pretrained_cfg"]
        size, crop, num_classes = entry["input_size"], entry["crop_pct"], entry["num_classes"]
    except KeyError as error:
        raise damaged(file, f"it has no key {error}") from None
    except (OSError, TypeError, ValueError, RecursionError, DataError) as error:
        raise damaged(file, first_line(error)) from None
    whole = isinstance(size, list) and len(size) == 3 and all(type(n) is int and 1 <= n <= LARGEST for n in size)
    if not whole or size[0] not in (1, 3):
        raise damaged(file, f"input_size is not [1 or 3, height, width] up to {LARGEST}")
    if type(crop) not in (int, float) or not 0 < crop <= 1:
        raise damaged(file, "crop_pct is not in (0, 1]")
    if math.floor(min(size[1:]) * crop) < 1:
        raise damaged(file, "crop_pct leaves no pixel")
    if type(num_classes) is not int:
        raise damaged(file, "num_classes is no integer")
    return size, float(crop), num_classes


def class_names(file: Path) -> list[str]:
    """Return the lines of classes.txt.

    Raises:
        DataError: If the file is damaged.
    """
    try:
        return read_class_names(file)
    except DataError as error:
        raise damaged(file, str(error).removeprefix(shown(file)).lstrip(", ")) from None


def session(file: Path, size: list[int], num_classes: int) -> Any:
    """Open model.onnx.

    Args:
        file: The model.
        size: [C_in, H, W] of its input `image`.
        num_classes: The number of its logits.

    Raises:
        DataError: If the file is damaged, or is a model of another shape.
    """
    try:
        regular(file, "it")
        opened = open_session(file)
    except DataError as error:
        raise damaged(file, str(error).removeprefix(f"{file} ")) from None
    inputs = [(value.name, value.shape[1:]) for value in opened.get_inputs()]
    outputs = [value.shape[1:] for value in opened.get_outputs()]
    if inputs != [("image", size)] or outputs != [[num_classes]]:
        raise damaged(file, f"its input is not an image of shape {size}, or its output not {num_classes} logits")
    return opened


def find_images(path: Path) -> Found:
    """Return the file, or for a folder all image files below it in sorted order, without hidden ones.

    Raises:
        DataError: If the path does not exist, or if a folder has no image files.
    """
    if not os.path.isdir(path):
        try:
            path.lstat()
        except FileNotFoundError:
            raise DataError(f"{shown(path)} does not exist") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{shown(path)} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        return Found([path], 0, [])
    failed: list[DataError] = []
    found = [entry for entry in below(path, failed) if kind(entry) != "folder"]
    files = [Path(entry.path) for entry in found if entry.name.lower().endswith(SUFFIXES)]
    skipped = sum(1 for entry in found if not entry.name.lower().endswith(SUFFIXES) and kind(entry) == "file")
    if not files and not failed:
        none = f"images, but {skipped} other files" if skipped else "files"
        raise DataError(f"{shown(path)} contains no {none}")
    return Found(sorted(files), skipped, failed)
