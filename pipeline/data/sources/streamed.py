"""A folder of images that is too large to copy, described by a manifest of the names, sizes and times of its files.

The manifest is a folder that `python -m stages.manifest ROOT FOLDER` writes and `data.root` names. It contains root.txt
(the folder of the images), classes.txt, and files.parquet (split, label, path, size in bytes, mtime in ns).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.decode import decode, map_in_order
from pipeline.data.source import Defaults, Manifest, Split
from pipeline.data.sources.folder import Folder
from pipeline.errors import DataError

SCHEMA = {"split": pl.String, "label": pl.Int64, "path": pl.String, "size": pl.Int64, "mtime": pl.Int64}


def write_manifest(root: Path, folder: Path, *, on_error: str) -> Folder:
    """Write the manifest of ROOT/train/CLASS/* (and val/, test/) to a folder, and return what was listed.

    on_error: "skip" decodes every image and leaves out those that fail; with "fail", no image is read.
    Raises DataError as `Folder` does.
    """
    found = Folder(root, on_error=on_error, workers=0, look=False)
    rows = []
    for split, files in found.files.items():
        for file, label in files:
            stat = file.stat()
            rows.append((split, label, file.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "root.txt").write_text(f"{root.resolve()}\n")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in found.classes), "utf-8")
    pl.DataFrame(rows, SCHEMA, orient="row").write_parquet(folder / "files.parquet", statistics=False)
    return found


class Streamed:
    """The images that a manifest lists, with three channels.

    folder: the manifest.  defaults: what `auto` means.  workers: decoding threads; 0: none.
    labelled_test: the split to test on if the manifest has no test split: "validation" for ImageNet, whose test labels
    are not public.
    Raises DataError if there is no manifest, or no folder of images.
    """

    channels = 3

    def __init__(self, folder: Path, defaults: Defaults, *, workers: int, labelled_test: str = "test"):
        self.defaults, self.workers = defaults, workers
        try:
            self.root = Path((folder / "root.txt").read_text().strip())
            self.classes = (folder / "classes.txt").read_text("utf-8").splitlines()
            files = pl.read_parquet(folder / "files.parquet")
        except OSError:
            raise DataError(
                f"data.root: {folder} holds no manifest: run `python -m stages.manifest IMAGES {folder}` to write it"
            ) from None
        if not self.root.is_dir():
            raise DataError(f"{folder / 'root.txt'}: there is no folder {self.root}")
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
            file = self.root / names[row]
            return decode(file, str(file), channels=3)

        yield from map_in_order(read, rows.tolist(), self.workers)
