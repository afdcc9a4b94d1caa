"""A folder of images too large to copy or to read whole, known by its manifest: names, sizes and times of its files.

The manifest is a folder of three files that `python -m stages.manifest ROOT FOLDER` writes and data.root names:
root.txt (where the images are), classes.txt, and files.parquet (split, label, path, size in bytes, mtime in ns).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.decode import decode, in_order
from pipeline.data.source import Defaults, Manifest, Split
from pipeline.data.sources.folder import Folder
from pipeline.errors import DataError

SCHEMA = {"split": pl.String, "label": pl.Int64, "path": pl.String, "size": pl.Int64, "mtime": pl.Int64}


def write_manifest(root: Path, folder: Path, *, on_error: str) -> Folder:
    """List ROOT/train/CLASS/* (and val, test) in a folder. No image is read, unless on_error is "skip".

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
    """The images that a manifest lists. They have three channels.

    labelled_test: "test", or "validation" where the field tests on it (ImageNet's test labels are not public).
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
                f"data.root {folder} holds no manifest: `python -m stages.manifest IMAGES {folder}` writes it"
            ) from None
        if not self.root.is_dir():
            raise DataError(f"{folder / 'root.txt'}: there is no folder {self.root}")
        named = {split: frame for (split,), frame in files.partition_by("split", as_dict=True).items()}
        if "test" not in named and labelled_test in named:
            named["test"] = named.pop(labelled_test)
        self.splits = {
            str(split): Split(frame["path"].to_list(), frame["label"].to_numpy()) for split, frame in named.items()
        }
        self.manifest: Manifest | None = Manifest(
            self.root, {str(split): frame.select("size", "mtime") for split, frame in named.items()}
        )
        self.skipped: list[tuple[str, str]] = []

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        names = self.splits[split].names

        def read(row: int) -> np.ndarray:
            file = self.root / names[row]
            return decode(file, str(file), channels=3)

        yield from in_order(read, rows.tolist(), self.workers)
