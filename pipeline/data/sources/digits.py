"""scikit-learn's handwritten digits: 1,797 images of 8x8 that need no network. The default."""

import gzip
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pipeline.data.source import Defaults, Manifest, Split
from pipeline.data.split import stratified
from pipeline.errors import DataError

N_TEST = 997


class Digits:
    """Ten classes, grey. The test images are the same whatever data.seed is."""

    manifest: Manifest | None = None
    defaults = Defaults(limit=400, validation=400, pad=1, flip=False)

    def __init__(self):
        values = np.loadtxt(archive(), delimiter=",", dtype=np.int64)
        pixels, labels = values[:, :-1], values[:, -1]
        self.pixels = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        self.skipped: list[tuple[str, str]] = []
        self.classes = [str(digit) for digit in range(10)]
        test = stratified(labels, N_TEST, "digits", "test")
        self.rows = {"train": np.setdiff1d(np.arange(len(labels)), test), "test": test}
        self.splits = {
            split: Split([f"digits.csv.gz:{row + 1}" for row in rows], labels[rows])
            for split, rows in self.rows.items()
        }

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        yield from self.pixels[self.rows[split][rows]]


def archive() -> gzip.GzipFile:
    """The file inside the installed package, opened without importing it: that takes a second."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("data.source digits needs scikit-learn, which is not installed")
    return gzip.open(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz")  # type: ignore[return-value]
