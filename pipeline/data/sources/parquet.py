"""Parquet files in the Hugging Face layout, ROOT/**/SPLIT-00000-of-0000N.parquet, with encoded images and labels."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.decode import decode, is_grey, map_in_order
from pipeline.data.source import Defaults, Manifest, Split
from pipeline.errors import DataError

PREFIXES = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
CHUNK = 2048  # maximum number of encoded images in memory


class Parquet:
    """A data set in Parquet shards, which are read one after the other in chunks of rows.

    Class names are the lines of ROOT/classes.txt; without that file, those in the shards' metadata; else the labels
    themselves. An image is called FILE:ROW. All images have one channel if the first one of every shard is grey, else
    three.

    on_error: "skip" decodes every image once beforehand and leaves out those that fail; "fail" does not.
    workers: decoding threads; 0: none.
    image_column: a struct with a field `bytes`, or binary.  label_column: integers.  None selects the only column of
    that type.
    Raises DataError, which names the file and, if a label is at fault, the row.
    """

    manifest: Manifest | None = None
    defaults = Defaults()

    def __init__(
        self,
        root: Path,
        *,
        on_error: str,
        workers: int,
        image_column: str | None,
        label_column: str | None,
    ):
        self.root, self.workers = root, workers
        if not root.is_dir():
            raise DataError(f"data.root: there is no folder {root}")
        self.shards = {split: shards for split, p in PREFIXES.items() if (shards := shards_of(root, p))}
        if "train" not in self.shards:
            raise DataError(f"{root} has no file train-*.parquet: expected the Hugging Face layout")
        first = self.shards["train"][0]
        self.image, self.label = columns(first, image_column, label_column)
        labels = {split: [self.read_labels(s) for s in shards] for split, shards in self.shards.items()}
        self.classes = class_names(root, first, self.label, labels["train"])
        for split, shards in self.shards.items():
            for shard, values in zip(shards, labels[split]):
                invalid = np.flatnonzero((values < 0) | (values >= len(self.classes)))
                if len(invalid):
                    row, last = invalid[0], len(self.classes) - 1
                    raise DataError(f"{shard}, row {row}: label {values[row]} is not in 0..{last}")
        self.starts = {split: np.cumsum([0, *map(len, parts)]) for split, parts in labels.items()}
        self.skipped: list[tuple[str, str]] = []
        self.kept = {split: np.arange(self.starts[split][-1]) for split in self.shards}
        self.channels = 3
        self.channels = 1 if all(self.first_is_grey(s) for shards in self.shards.values() for s in shards) else 3
        if on_error == "skip":
            self.kept = {split: self.readable(split) for split in self.shards}
        self.splits = {}
        for split, parts in labels.items():
            if not len(self.kept[split]):
                raise DataError(f"{self.shards[split][0]}: split {split} has no images")
            names = [self.name(split, row) for row in self.kept[split]]
            self.splits[split] = Split(names, np.concatenate(parts)[self.kept[split]])

    def read_labels(self, shard: Path) -> np.ndarray:
        """The labels of a shard: [rows] int64. Raises DataError if one is null."""
        values = pl.scan_parquet(shard).select(self.label).collect()[self.label]
        if values.null_count():
            raise DataError(f"{shard}, row {values.is_null().arg_max()}: the label is null")
        return values.to_numpy().astype(np.int64)

    def first_is_grey(self, shard: Path) -> bool:
        """Whether the first image of a shard is grey; an empty shard counts as grey."""
        encoded = next(iter(self.encoded(shard, 0, 1)), None)
        return encoded is None or is_grey(encoded or b"", f"{shard}:0")

    def encoded(self, shard: Path, start: int, n: int) -> list[bytes | None]:
        """The encoded images of the `n` rows of a shard from `start` on."""
        column = pl.col(self.image)
        is_struct = isinstance(pl.read_parquet_schema(shard)[self.image], pl.Struct)
        chosen = (column.struct.field("bytes") if is_struct else column).alias("bytes")
        return pl.scan_parquet(shard).slice(start, n).select(chosen).collect()["bytes"].to_list()

    def place(self, split: str, row: int) -> tuple[Path, int]:
        """The shard that holds a row of a split, and the row's number within that shard."""
        k = int(np.searchsorted(self.starts[split], row, side="right")) - 1
        return self.shards[split][k], int(row - self.starts[split][k])

    def name(self, split: str, row: int) -> str:
        """FILE:ROW, which names an image in tables and messages."""
        shard, within = self.place(split, row)
        return f"{shard.relative_to(self.root).as_posix()}:{within}"

    def items(self, split: str, rows: np.ndarray) -> Iterator[tuple[str, bytes]]:
        """Yield name and encoded image of each of `rows` (ascending), reading one chunk of a shard at a time."""
        for k, shard in enumerate(self.shards[split]):
            start, end = self.starts[split][k : k + 2]
            for low in range(start, end, CHUNK):
                high = min(low + CHUNK, end)
                wanted = rows[(rows >= low) & (rows < high)]
                if len(wanted):
                    content = self.encoded(shard, low - start, high - low)
                    yield from ((self.name(split, row), content[row - low] or b"") for row in wanted)

    def readable(self, split: str) -> np.ndarray:
        """The rows whose images can be decoded. The others are added to `skipped` with the reason."""
        kept = []
        for row, (name, content) in enumerate(self.items(split, self.kept[split])):
            try:
                decode(content, name, channels=self.channels)
                kept.append(row)
            except DataError as error:
                self.skipped.append((name, str(error)))
        return np.array(kept, dtype=np.int64)

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the images at `rows` of a split: [H, W, C_in] uint8. Raises DataError if one cannot be decoded."""

        def read(item: tuple[str, bytes]) -> np.ndarray:
            name, content = item
            return decode(content, name, channels=self.channels)

        yield from map_in_order(read, self.items(split, self.kept[split][rows]), self.workers)


def shards_of(root: Path, prefixes: tuple[str, ...]) -> list[Path]:
    """The shards of a split, sorted by path.  prefixes: how the names of its files may begin."""
    files = sorted(root.rglob("*.parquet"))
    return [f for f in files if any(f.name.startswith((p + "-", p + ".")) for p in prefixes)]


def columns(file: Path, image: str | None, label: str | None) -> tuple[str, str]:
    """The names of the columns of images and labels.

    file: a shard.  image, label: the configured names; None selects the only column of the right type.
    Raises DataError if the file is not Parquet, or if a column is missing, has another type or is ambiguous.
    """
    try:
        schema = pl.read_parquet_schema(file)
    except Exception as error:
        raise DataError(f"{file} is not a Parquet file: {str(error).splitlines()[0]}") from None
    images = [n for n, t in schema.items() if is_image(t)]
    labels = [n for n, t in schema.items() if t.is_integer()]
    found = []
    for key, configured, candidates, kind in (
        ("data.image_column", image, images, "images (a struct with `bytes`, or binary)"),
        ("data.label_column", label, labels, "integer labels"),
    ):
        if configured is not None and configured not in candidates:
            raise DataError(
                f"{file}: {key} {configured!r} is not a column of {kind}; there are: {', '.join(candidates) or 'none'}"
            )
        if configured is None and len(candidates) != 1:
            several = f"several columns of {kind}: {', '.join(candidates)}; set {key} to one of them"
            raise DataError(f"{file} has {several if candidates else f'no column of {kind}'}")
        found.append(configured or candidates[0])
    return found[0], found[1]


def is_image(dtype: pl.DataType) -> bool:
    """Whether a column of this type can hold encoded images."""
    if isinstance(dtype, pl.Struct):
        return any(field.name == "bytes" for field in dtype.fields)
    return dtype == pl.Binary


def class_names(root: Path, file: Path, column: str, labels: list[np.ndarray]) -> list[str]:
    """Class names by label: from classes.txt, else from the metadata that Hugging Face writes, else the numbers.

    file: a shard.  column: of labels.  labels: of each training shard.
    """
    if (root / "classes.txt").is_file():
        return (root / "classes.txt").read_text("utf-8").splitlines()
    try:
        metadata = json.loads(pl.read_parquet_metadata(file)["huggingface"])
        return [str(name) for name in metadata["info"]["features"][column]["names"]]
    except (KeyError, TypeError, ValueError):
        return [str(k) for k in range(1 + max(int(part.max(initial=0)) for part in labels))]
