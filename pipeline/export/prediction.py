"""Classification of image files with an exported student.

The module reads nothing but the exported folder and the images. It runs on ONNX Runtime and does not import torch, so
that the command starts fast.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pipeline.data.decode import decode
from pipeline.errors import DataError
from pipeline.export.session import open_session


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image, in descending order, with their probabilities."""

    image: str
    classes: list[str]
    probabilities: list[float]


class Predictor:
    """Classifies image files with an exported student.

    Args:
        folder: A folder that the stage `export` wrote.

    Raises:
        DataError: If the folder does not hold an exported student.
    """

    def __init__(self, folder: Path):
        try:
            config = json.loads((folder / "config.json").read_text())
            self.classes = (folder / "classes.txt").read_text("utf-8").splitlines()
        except OSError as error:
            raise DataError(f"{folder} holds no exported student ({error.strerror}): run `dvc repro export`") from None
        self.in_chans, height, width = config["pretrained_cfg"]["input_size"]
        self.size = (width, height)  # Pillow's order
        self.bleed = (1 - config["pretrained_cfg"]["crop_pct"]) / 2  # Pillow's word for the border that is cut off
        self.session = open_session(folder / "model.onnx")

    def __call__(self, file: Path, top: int) -> Prediction:
        """Return the ``top`` most probable classes of an image file.

        Raises:
            DataError: If the file cannot be decoded as an image.
        """
        pixels = decode(file, str(file), channels=self.in_chans)
        picture = Image.fromarray(pixels[:, :, 0] if self.in_chans == 1 else pixels)
        fitted = ImageOps.fit(picture, self.size, Image.Resampling.BILINEAR, bleed=self.bleed)
        image = np.asarray(fitted, dtype=np.float32).reshape(1, self.size[1], self.size[0], self.in_chans) / 255
        (z,) = self.session.run(None, {"image": np.ascontiguousarray(image.transpose(0, 3, 1, 2))})
        p = np.exp(z[0].astype(np.float64) - z[0].max())
        p /= p.sum()
        best = np.argsort(-p, kind="stable")[:top]
        return Prediction(str(file), [self.classes[c] for c in best], [round(float(p[c]), 6) for c in best])


def find_files(paths: list[Path]) -> Iterator[Path]:
    """Yield every file, and for a folder all files below it in sorted order, without hidden ones.

    Raises:
        DataError: If a path does not exist or a folder has no file.
    """
    for path in paths:
        if path.is_dir():
            files = sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
            if not files:
                raise DataError(f"{path} contains no files")
            yield from files
        elif path.is_file():
            yield path
        else:
            raise DataError(f"{path} does not exist")
