"""scikit-learn's handwritten digits, the default: 1,797 images of 8x8 pixels that need no download."""

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
    """Grey images of ten classes. The test split does not depend on `data.seed`."""

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
        """Yield the images at `rows` of a split: [8, 8, 1] uint8."""
        yield from self.pixels[self.rows[split][rows]]


def archive() -> gzip.GzipFile:
    """Open the data file inside the scikit-learn package without importing it, which takes a second.

    Raises DataError if scikit-learn is not installed.
    """
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("data.source: digits needs scikit-learn, which is not installed: run `uv sync`")
    return gzip.open(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz")  # type: ignore[return-value]
