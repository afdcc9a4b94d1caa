"""Parquet files in the Hugging Face layout: ROOT/**/SPLIT-00000-of-0000N.parquet, encoded images and labels."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.decode import decode, in_order, is_grey
from pipeline.data.source import Defaults, Manifest, Split
from pipeline.errors import DataError

PREFIXES = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
CHUNK = 2048  # rows of encoded images in memory at a time


class Parquet:
    """Shards of a split are read one after the other, a chunk of rows at a time.

    image_column: a struct with `bytes`, or binary; label_column: integers.  None: found, if there is only one.
    Class names: ROOT/classes.txt, one a line; else those in the files' metadata; else the labels themselves.
    An image is called FILE:ROW.  A set whose first image of every shard has no colour has one channel.
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
            raise DataError(f"{root} has no file train-*.parquet")
        first = self.shards["train"][0]
        self.image, self.label = columns(first, image_column, label_column)
        labels = {split: [self.read_labels(s) for s in shards] for split, shards in self.shards.items()}
        self.classes = class_names(root, first, self.label, labels["train"])
        for split, shards in self.shards.items():
            for shard, values in zip(shards, labels[split]):
                beyond = np.flatnonzero((values < 0) | (values >= len(self.classes)))
                if len(beyond):
                    row, top = beyond[0], len(self.classes) - 1
                    raise DataError(f"{shard}, row {row}: label {values[row]} is not in 0..{top}")
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
                raise DataError(f"{self.shards[split][0]}: split {split} has no image")
            names = [self.name(split, row) for row in self.kept[split]]
            self.splits[split] = Split(names, np.concatenate(parts)[self.kept[split]])

    def read_labels(self, shard: Path) -> np.ndarray:
        values = pl.scan_parquet(shard).select(self.label).collect()[self.label]
        if values.null_count():
            raise DataError(f"{shard}, row {values.is_null().arg_max()}: the label is null")
        return values.to_numpy().astype(np.int64)

    def first_is_grey(self, shard: Path) -> bool:
        encoded = next(iter(self.encoded(shard, 0, 1)), None)
        return encoded is None or is_grey(encoded or b"", f"{shard}:0")

    def encoded(self, shard: Path, start: int, n: int) -> list[bytes | None]:
        """The bytes of n images from a row on."""
        column = pl.col(self.image)
        is_struct = isinstance(pl.read_parquet_schema(shard)[self.image], pl.Struct)
        chosen = (column.struct.field("bytes") if is_struct else column).alias("bytes")
        return pl.scan_parquet(shard).slice(start, n).select(chosen).collect()["bytes"].to_list()

    def place(self, split: str, row: int) -> tuple[Path, int]:
        """The shard of a split's row, and the row within it."""
        k = int(np.searchsorted(self.starts[split], row, side="right")) - 1
        return self.shards[split][k], int(row - self.starts[split][k])

    def name(self, split: str, row: int) -> str:
        shard, within = self.place(split, row)
        return f"{shard.relative_to(self.root).as_posix()}:{within}"

    def items(self, split: str, rows: np.ndarray) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of rows (ascending), chunk by chunk of each shard."""
        for k, shard in enumerate(self.shards[split]):
            start, end = self.starts[split][k : k + 2]
            for low in range(start, end, CHUNK):
                high = min(low + CHUNK, end)
                wanted = rows[(rows >= low) & (rows < high)]
                if len(wanted):
                    content = self.encoded(shard, low - start, high - low)
                    yield from ((self.name(split, row), content[row - low] or b"") for row in wanted)

    def readable(self, split: str) -> np.ndarray:
        """Rows that can be decoded; the others are remembered with the reason."""
        kept = []
        for row, (name, content) in enumerate(self.items(split, self.kept[split])):
            try:
                decode(content, name, channels=self.channels)
                kept.append(row)
            except DataError as error:
                self.skipped.append((name, str(error)))
        return np.array(kept, dtype=np.int64)

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        def read(item: tuple[str, bytes]) -> np.ndarray:
            name, content = item
            return decode(content, name, channels=self.channels)

        yield from in_order(read, self.items(split, self.kept[split][rows]), self.workers)


def shards_of(root: Path, prefixes: tuple[str, ...]) -> list[Path]:
    """A split's files, in the order of their names."""
    files = sorted(root.rglob("*.parquet"))
    return [f for f in files if any(f.name.startswith((p + "-", p + ".")) for p in prefixes)]


def columns(file: Path, image: str | None, label: str | None) -> tuple[str, str]:
    """The columns of images and labels, as named or as found."""
    try:
        schema = pl.read_parquet_schema(file)
    except Exception as error:
        raise DataError(f"{file} is no parquet file: {str(error).splitlines()[0]}") from None
    images = [n for n, t in schema.items() if is_image(t)]
    labels = [n for n, t in schema.items() if t.is_integer()]
    found = []
    for key, named, candidates, what in (
        ("data.image_column", image, images, "images (a struct with `bytes`, or binary)"),
        ("data.label_column", label, labels, "integer labels"),
    ):
        if named is not None and named not in candidates:
            raise DataError(
                f"{file}: {key} {named!r} is no column of {what}; there are {', '.join(candidates) or 'none'}"
            )
        if named is None and len(candidates) != 1:
            said = f"several columns of {what}: {', '.join(candidates)}; name one in {key}"
            raise DataError(f"{file} has {said if candidates else f'no column of {what}'}")
        found.append(named or candidates[0])
    return found[0], found[1]


def is_image(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.Struct):
        return any(field.name == "bytes" for field in dtype.fields)
    return dtype == pl.Binary


def class_names(root: Path, file: Path, column: str, labels: list[np.ndarray]) -> list[str]:
    """Names by label: of classes.txt, of the metadata that Hugging Face writes, or the numbers."""
    if (root / "classes.txt").is_file():
        return (root / "classes.txt").read_text("utf-8").splitlines()
    try:
        said = json.loads(pl.read_parquet_metadata(file)["huggingface"])
        return [str(name) for name in said["info"]["features"][column]["names"]]
    except (KeyError, TypeError, ValueError):
        return [str(k) for k in range(1 + max(int(part.max(initial=0)) for part in labels))]
