"""A folder of images: ROOT/train/CLASS/*, with val/ (or validation/) and test/ beside train/ where there are any."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.data.decode import decode, in_order, is_grey
from pipeline.data.source import Defaults, Manifest, Split
from pipeline.errors import DataError

FOLDERS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}


class Folder:
    """JPEG, PNG, WebP, BMP and whatever else Pillow reads. Classes are the names of train's folders, sorted.

    A set without any colour image has one channel, any other three.  Hidden files are passed over.
    on_error "skip": every image is decoded once beforehand, and one that cannot be is left out.
    look False: the images' headers are not read, and they are taken to have colour.
    """

    manifest: Manifest | None = None
    defaults = Defaults()

    def __init__(self, root: Path, *, on_error: str, workers: int, look: bool = True):
        self.root, self.workers = root, workers
        if not root.is_dir():
            raise DataError(f"data.root: there is no folder {root}")
        found = {split: folder for split, names in FOLDERS.items() for n in names if (folder := root / n).is_dir()}
        if "train" not in found:
            raise DataError(f"{root} has no folder train with a folder for each class in it")
        self.classes = [folder.name for folder in class_folders(found["train"])]
        if not self.classes:
            raise DataError(f"{found['train']} has no folder of a class")
        self.files = {split: self.list_files(split, folder) for split, folder in found.items()}
        self.skipped: list[tuple[str, str]] = []
        if on_error == "skip":
            self.files = {split: self.readable(files) for split, files in self.files.items()}
        self.splits = {}
        for split, files in self.files.items():
            if not files:
                raise DataError(f"{found[split]} has no image")
            names = [file.relative_to(root).as_posix() for file, _ in files]
            self.splits[split] = Split(names, np.array([label for _, label in files], dtype=np.int64))
        everything = [file for files in self.files.values() for file, _ in files]
        self.channels = 1 if look and all(is_grey(file, str(file)) for file in everything) else 3

    def list_files(self, split: str, folder: Path) -> list[tuple[Path, int]]:
        """The images of a split and their labels, in the order of their paths."""
        files = []
        for place in class_folders(folder):
            if place.name not in self.classes:
                raise DataError(f"{place}: train has no class {place.name!r}")
            label = self.classes.index(place.name)
            own = sorted(f for f in place.rglob("*") if f.is_file() and not f.name.startswith("."))
            if not own:
                raise DataError(f"{place}: the class has no image")
            files += [(file, label) for file in own]
        return files

    def readable(self, files: list[tuple[Path, int]]) -> list[tuple[Path, int]]:
        """Those that can be decoded; the others are remembered with the reason."""
        kept = []
        for file, label in files:
            try:
                decode(file, str(file), channels=3)
                kept.append((file, label))
            except DataError as error:
                self.skipped.append((file.relative_to(self.root).as_posix(), str(error)))
        return kept

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        def read(row: int) -> np.ndarray:
            file = self.files[split][row][0]
            return decode(file, str(file), channels=self.channels)

        yield from in_order(read, rows.tolist(), self.workers)


def class_folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
