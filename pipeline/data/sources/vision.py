"""Fashion-MNIST, CIFAR-10 and CIFAR-100 from torchvision, downloaded once and verified by their MD5 checksums."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.class_names import shown
from pipeline.data.source import Defaults, Manifest, Split
from pipeline.errors import DataError, first_line

EXTRACTED = {  # MD5 of the content of the archives of Fashion-MNIST, which torchvision does not check
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


class Vision:
    """A torchvision data set with its training and test images. The validation split is split off the former.

    name: "fashion_mnist", "cifar10" or "cifar100".  root: folder that holds the files in torchvision's layout; missing
    files are downloaded.
    Raises DataError if a file has another checksum, or if the data are incomplete and cannot be downloaded.
    """

    manifest: Manifest | None = None
    defaults = Defaults()

    def __init__(self, name: str, root: Path):
        from torchvision import datasets

        kind: Any = {
            "fashion_mnist": datasets.FashionMNIST,
            "cifar10": datasets.CIFAR10,
            "cifar100": datasets.CIFAR100,
        }[name]
        check_files(kind, root)
        try:
            parts = {split: kind(root, train=split == "train", download=True) for split in ("train", "test")}
        except (OSError, RuntimeError) as error:
            reason = shown(first_line(error))
            raise DataError(
                f"data.root: {shown(root)} has no complete copy of {name}, and the download failed: {reason}"
            ) from None
        self.skipped: list[tuple[str, str]] = []
        self.classes = list(parts["train"].classes)
        self.pixels = {split: np.asarray(part.data) for split, part in parts.items()}
        self.splits = {}
        for split, part in parts.items():
            labels = np.asarray(part.targets, dtype=np.int64)
            self.splits[split] = Split([f"{name}/{split}:{row}" for row in range(len(labels))], labels)

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the images at `rows` of a split: [H, W, C_in] uint8."""
        for row in rows:
            image = self.pixels[split][row]
            yield image if image.ndim == 3 else image[:, :, None]


def check_files(kind: Any, root: Path) -> None:
    """Raise DataError for a file with another MD5 checksum, which torchvision would silently use or replace.

    torchvision prefers files of Fashion-MNIST that an old version has written, of which no checksum is known.
    """
    from torchvision.datasets.utils import calculate_md5

    if hasattr(kind, "resources"):  # archives and extracted files below raw/
        folder = root / kind.__name__
        expected = [(folder / "raw" / name, md5) for name, md5 in (*kind.resources, *EXTRACTED.items())]
        for old in (kind.training_file, kind.test_file):
            if (file := folder / "processed" / old).is_file():
                raise DataError(f"{shown(file)} is of an old version of torchvision and cannot be verified: remove it")
    else:
        files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        expected = [(root / kind.base_folder / name, md5) for name, md5 in files]
    for file, md5 in expected:
        if file.is_file() and (found := calculate_md5(file)) != md5:
            raise DataError(f"{shown(file)} has MD5 {found}, expected {md5}: remove it to get the file again")
