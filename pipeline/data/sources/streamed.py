"""A folder of images that is too large to copy, described by a manifest of the names, sizes and times of its files.

The manifest is a folder that `python -m stages.manifest ROOT FOLDER` writes and `data.root` names. It contains root.txt
(the folder of the images), classes.txt, files.parquet (split, label, path, size in bytes, mtime in ns), and the digests
of these in manifest.json.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.class_names import read_class_names, regular, shown, write_class_names
from pipeline.data.decode import decode, map_in_order
from pipeline.data.prepared import OUTSIDE
from pipeline.data.source import Defaults, Manifest, Split
from pipeline.data.sources.folder import Folder
from pipeline.data.sources.listing import entries
from pipeline.data.sources.shards import guarded, schema_of
from pipeline.errors import DataError, is_disk_full
from pipeline.storage.atomic import replace_folder
from pipeline.storage.digests import NAME as MANIFEST
from pipeline.storage.digests import first_difference, write_digests

SCHEMA = {"split": pl.String, "label": pl.Int64, "path": pl.String, "size": pl.Int64, "mtime": pl.Int64}
SPLITS = ("train", "validation", "test")
FILES = ("root.txt", "classes.txt", "files.parquet", MANIFEST)


def write_manifest(root: Path, folder: Path, *, on_error: str) -> Folder:
    """Write the manifest of ROOT/train/CLASS/* (and val/, test/) to a folder, and return what was listed.

    A manifest that exists is replaced once the new one is complete.
    on_error: "skip" decodes every image and leaves out those that fail; with "fail", no image is read.
    Raises DataError as `Folder` does, and if the folder holds anything but a manifest.
    """
    target = Path(os.path.realpath(folder))
    if os.path.lexists(target) and (others := sorted({entry.name for entry in entries(target)} - set(FILES))):
        raise DataError(f"{shown(folder)} holds other files than a manifest, such as {shown(others[0])}: name another")
    found = Folder(root, on_error=on_error, workers=0, look=False)
    images = str(root.resolve())
    if images != images.strip() or images != shown(images):
        raise DataError(f"{shown(images)}: a manifest cannot name this folder: rename it")
    rows = []
    for split, files in found.files.items():
        for file, label in files:
            status = regular(file, shown(file))
            rows.append((split, label, file.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns))

    def fill(partial: Path) -> None:
        """Write the files and their digests."""
        (partial / "root.txt").write_text(f"{images}\n", "utf-8")
        write_class_names(partial / "classes.txt", found.classes)
        pl.DataFrame(rows, SCHEMA, orient="row").write_parquet(partial / "files.parquet", statistics=False)
        write_digests(partial)

    try:
        replace_folder(target, fill)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise DataError(f"{shown(folder)} cannot be written: {error.strerror}") from None
    return found


def read_manifest(folder: Path) -> tuple[Path, list[str], pl.DataFrame]:
    """The folder of the images, the class names, and the table of files, which has the columns of SCHEMA.

    Raises DataError if there is no manifest, or if a file of it is missing or damaged.
    """
    if not any(os.path.lexists(folder / name) for name in FILES):
        raise DataError(
            f"data.root: {shown(folder)} holds no manifest: "
            f"run `python -m stages.manifest IMAGES {shown(folder)}` to write it"
        )
    file = folder / FILES[0]
    try:
        regular(file, shown(file))
        root = file.read_bytes().decode().strip()
        if not root or root != shown(root):
            raise DataError("it names no folder")
        file = folder / FILES[1]
        classes = read_class_names(file)
        file = folder / FILES[2]
        schema_of(file)
        table = guarded(file, lambda: pl.read_parquet(file, glob=False, hive_partitioning=False))
    except UnicodeDecodeError:
        raise damaged(file, "it is not UTF-8") from None
    except OSError as error:
        raise damaged(file, str(error.strerror)) from None
    except DataError as error:
        reason = str(error).removeprefix(shown(file)).lstrip(", ").removeprefix("is damaged: ")
        raise damaged(file, reason) from None
    check_table(file, table, len(classes))
    if difference := first_difference(folder, complete=False):
        raise damaged(folder / MANIFEST, difference)
    return Path(root), classes, table.select(*SCHEMA)


def check_table(file: Path, table: pl.DataFrame, num_classes: int) -> None:
    """Raise DataError, which names the row, if the table of files is not one that `write_manifest` could write."""
    if dict(table.schema) != SCHEMA:
        raise damaged(file, f"its columns are not {', '.join(SCHEMA)}, or have other types")
    columns = {name: pl.col(name) for name in SCHEMA}
    for problem, rows in (
        ("a value is null", pl.any_horizontal(pl.all().is_null())),
        (f"the split is none of {', '.join(SPLITS)}", ~columns["split"].is_in(SPLITS)),
        (f"the label is not in 0..{num_classes - 1}", ~columns["label"].is_between(0, num_classes - 1)),
        ("the path leads out of the folder of the images", columns["path"].str.contains(OUTSIDE)),
        ("the size is negative", columns["size"] < 0),
    ):
        wrong = table.select(rows.alias("wrong"))["wrong"]
        if wrong.any():
            raise damaged(file, f"row {wrong.arg_max()}: {problem}")
    if "train" not in table["split"]:
        raise damaged(file, "it lists no training images")


def damaged(file: Path, reason: str) -> DataError:
    """The error for a file of a manifest."""
    return DataError(f"{shown(file)} is damaged ({reason}): run `python -m stages.manifest` again")


class Streamed:
    """The images that a manifest lists, with three channels.

    folder: the manifest.  defaults: what `auto` means.  workers: decoding threads; 0: none.
    labelled_test: the split to test on if the manifest has no test split: "validation" for ImageNet, whose test labels
    are not public.
    Raises DataError if there is no manifest, if it is damaged, or if there is no folder of images.
    """

    channels = 3

    def __init__(self, folder: Path, defaults: Defaults, *, workers: int, labelled_test: str = "test"):
        self.defaults, self.workers = defaults, workers
        self.root, self.classes, files = read_manifest(folder)
        if not os.path.isdir(self.root):
            raise DataError(f"{shown(folder / 'root.txt')}: there is no folder {self.root}")
        tables = {split: table for (split,), table in files.partition_by("split", as_dict=True).items()}
        if "test" not in tables and labelled_test in tables:
            tables["test"] = tables.pop(labelled_test)
        self.splits = {
            str(split): Split(table["path"].to_list(), table["label"].to_numpy()) for split, table in tables.items()
        }
        self.manifest: Manifest | None = Manifest(
            self.root, {str(split): table.select("size", "mtime") for split, table in tables.items()}
        )
        self.skipped: list[tuple[str, str]] = []

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the images at `rows` of a split: [H, W, 3] uint8. Raises DataError if one cannot be decoded."""
        names = self.splits[split].names

        def read(row: int) -> np.ndarray:
            """Decode an image."""
            file = self.root / names[row]
            return decode(file, str(file), channels=3)

        yield from map_in_order(read, rows.tolist(), self.workers)
