"""Fashion-MNIST, CIFAR-10 and CIFAR-100 through torchvision, downloaded once and checked by md5."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.source import Defaults, Manifest, Split
from pipeline.errors import DataError


class Vision:
    """One of torchvision's sets, in its own layout below data.root; files that are there are not fetched again.

    Its training and test images; validation is split off the training images.
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
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"data.root {root} holds no whole copy of {name}, and it cannot be downloaded: {reason}"
            ) from None
        self.skipped: list[tuple[str, str]] = []
        self.classes = list(parts["train"].classes)
        self.pixels = {split: np.asarray(part.data) for split, part in parts.items()}
        self.splits = {}
        for split, part in parts.items():
            labels = np.asarray(part.targets, dtype=np.int64)
            self.splits[split] = Split([f"{name}/{split}:{row}" for row in range(len(labels))], labels)

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        for row in rows:
            image = self.pixels[split][row]
            yield image if image.ndim == 3 else image[:, :, None]


def check_files(kind: Any, root: Path) -> None:
    """Refuse a file that is there with another md5: torchvision would use or replace it without a word."""
    from torchvision.datasets.utils import calculate_md5

    if hasattr(kind, "resources"):  # archives below raw/
        expected = [(root / kind.__name__ / "raw" / name, md5) for name, md5 in kind.resources]
    else:
        files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        expected = [(root / kind.base_folder / name, md5) for name, md5 in files]
    for file, md5 in expected:
        if file.is_file() and (found := calculate_md5(file)) != md5:
            raise DataError(f"{file} has md5 {found}, not {md5}: remove it to have it downloaded again")
