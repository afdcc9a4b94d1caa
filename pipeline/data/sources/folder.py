"""A folder of images: ROOT/train/CLASS/*, with optional splits val/ (or validation/) and test/ beside train/."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.data.class_names import check_class_name, shown
from pipeline.data.decode import decode, is_grey, map_in_order
from pipeline.data.source import Defaults, Manifest, Split
from pipeline.data.sources.listing import below, check_file_name, entries, kind
from pipeline.errors import DataError

FOLDERS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}


class Folder:
    """A folder of images in the formats of `decode`. The classes are the sorted names of the folders in train/.

    The images have one channel if all of them are grey, else three. Hidden files and folders, pipes and devices are
    ignored. A class folder and a file may be links, but links to folders inside a class folder are not followed.

    on_error: "skip" decodes every image once beforehand and leaves out those that fail; "fail" does not.
    workers: decoding threads; 0: none.  look: whether to read the images' headers; else, they are taken to be colour
    images.
    Raises DataError if the folder does not have the layout above, if a header cannot be read, or if all images of a
    class in train/ are left out.
    """

    manifest: Manifest | None = None
    defaults = Defaults()

    def __init__(self, root: Path, *, on_error: str, workers: int, look: bool = True):
        self.root, self.workers = root, workers
        if not os.path.isdir(root):
            raise DataError(f"data.root: there is no folder {shown(root)}")
        check_file_name(root)
        found: dict[str, Path] = {}
        for split, names in FOLDERS.items():
            folders = [folder for name in names if os.path.isdir(folder := root / name)]
            if len(folders) > 1:
                raise DataError(f"{shown(root)} has both {folders[0].name} and {folders[1].name}: remove one")
            if folders:
                found[split] = folders[0]
        expected = "expected train/CLASS/*, with one folder per class"
        if "train" not in found:
            raise DataError(f"{shown(root)} has no folder train: {expected}")
        self.classes = [folder.name for folder in class_folders(found["train"])]
        if not self.classes:
            raise DataError(f"{shown(found['train'])} has no class folders: {expected}")
        for name in self.classes:
            check_class_name(name, shown(found["train"] / name))
        self.files = {split: self.list_files(split, folder) for split, folder in found.items()}
        self.skipped: list[tuple[str, str]] = []
        if on_error == "skip":
            self.files = {split: self.readable(files) for split, files in self.files.items()}
            remaining = {label for _, label in self.files["train"]}
            for label, name in enumerate(self.classes):
                if label not in remaining:
                    raise DataError(f"{shown(found['train'] / name)}: no image of the class can be read")
        self.splits = {}
        for split, files in self.files.items():
            if not files:
                raise DataError(f"{shown(found[split])} has no images")
            names = [file.relative_to(root).as_posix() for file, _ in files]
            self.splits[split] = Split(names, np.array([label for _, label in files], dtype=np.int64))
        all_files = [file for files in self.files.values() for file, _ in files]
        self.channels = 1 if look and all(is_grey(file, str(file)) for file in all_files) else 3

    def list_files(self, split: str, folder: Path) -> list[tuple[Path, int]]:
        """The files of a split and their labels, sorted by path.

        Raises DataError for a class that is empty or that train/ does not have, and for a name that is not UTF-8.
        """
        files = []
        for class_folder in class_folders(folder):
            if class_folder.name not in self.classes:
                raise DataError(f"{shown(class_folder)}: train has no class '{shown(class_folder.name)}'")
            label = self.classes.index(class_folder.name)
            found = below(class_folder)
            images = sorted(Path(entry.path) for entry in found if kind(entry) in ("file", "broken"))
            if not images:
                raise DataError(f"{shown(class_folder)}: the class has no images")
            for file in images:
                check_file_name(file)
            files += [(file, label) for file in images]
        return files

    def readable(self, files: list[tuple[Path, int]]) -> list[tuple[Path, int]]:
        """The files that can be decoded. The others are added to `skipped` with the reason."""
        kept = []
        for file, label in files:
            try:
                decode(file, str(file), channels=3)
                kept.append((file, label))
            except DataError as error:
                self.skipped.append((file.relative_to(self.root).as_posix(), str(error)))
        return kept

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the images at `rows` of a split: [H, W, C_in] uint8. Raises DataError if one cannot be decoded."""

        def read(row: int) -> np.ndarray:
            file = self.files[split][row][0]
            return decode(file, str(file), channels=self.channels)

        yield from map_in_order(read, rows.tolist(), self.workers)


def class_folders(folder: Path) -> list[Path]:
    """The folders in a folder, and links to folders, sorted by path, without hidden ones.

    Raises DataError for a link that leads nowhere, or to a folder that holds this one and would be listed in circles.
    """
    visible = [entry for entry in entries(folder) if not entry.name.startswith(".")]
    for entry in visible:
        if kind(entry) == "broken":
            raise DataError(f"{shown(entry.path)} cannot be read: it is a link that leads nowhere")
        if entry.is_symlink() and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(entry.path)):
            raise DataError(f"{shown(entry.path)} is a link to a folder that contains it")
    return sorted(Path(entry.path) for entry in visible if kind(entry) == "folder")
