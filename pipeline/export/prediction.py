"""Asking an exported student about image files. Imports no torch: onnxruntime answers."""

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
    """The most probable classes of an image, with their probabilities."""

    image: str
    classes: list[str]
    probabilities: list[float]


class Predictor:
    """An exported folder. Raises DataError where it is none."""

    def __init__(self, folder: Path):
        try:
            config = json.loads((folder / "config.json").read_text())
            self.classes = (folder / "classes.txt").read_text("utf-8").splitlines()
        except OSError as error:
            raise DataError(f"{folder} holds no exported student ({error.strerror}): run `dvc repro export`") from None
        self.channels, *size = config["pretrained_cfg"]["input_size"]
        self.size = (size[1], size[0])  # width, height, as Pillow has them
        self.border = (1 - config["pretrained_cfg"]["crop_pct"]) / 2
        self.session = open_session(folder / "model.onnx")

    def __call__(self, file: Path, top: int) -> Prediction:
        """Raises DataError naming a file that is no image."""
        pixels = decode(file, str(file), channels=self.channels)
        picture = Image.fromarray(pixels[:, :, 0] if self.channels == 1 else pixels)
        fitted = ImageOps.fit(picture, self.size, Image.Resampling.BILINEAR, bleed=self.border)
        image = np.asarray(fitted, dtype=np.float32).reshape(1, self.size[1], self.size[0], self.channels) / 255
        (z,) = self.session.run(None, {"image": np.ascontiguousarray(image.transpose(0, 3, 1, 2))})
        p = np.exp(z[0].astype(np.float64) - z[0].max())
        p /= p.sum()
        best = np.argsort(-p, kind="stable")[:top]
        return Prediction(str(file), [self.classes[c] for c in best], [round(float(p[c]), 6) for c in best])


def files_of(paths: list[Path]) -> Iterator[Path]:
    """Files as they are; of a folder all files in it, sorted, without hidden ones. Raises DataError for neither."""
    for path in paths:
        if path.is_dir():
            own = sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
            if not own:
                raise DataError(f"{path} has no file in it")
            yield from own
        elif path.is_file():
            yield path
        else:
            raise DataError(f"there is no file {path}")
